"""The training loop of one process, and where it can stop and go on."""

import math
import signal
import threading
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from msun_lite.checkpoint import load_checkpoint, save_checkpoint
from msun_lite.config import TrainConfig
from msun_lite.data import Batch, DataSet, TrainView, train_loader
from msun_lite.devices import arithmetic, pick_device, pick_precision, to_float
from msun_lite.errors import CheckpointError, DataError, UserError
from msun_lite.methods import Objective
from msun_lite.model import MSUN, load_state
from msun_lite.progress import progress
from msun_lite.records import RunFolder, environment

SUMS = ("loss", "ce", "si", "correct", "images", "batches")
"""What is summed over the batches of an epoch."""


def learning_rate(step: int, steps_per_epoch: int, config: TrainConfig) -> float:
    """Return the learning rate of a step: linear from 0.01 lr over the warm-up, then a cosine to 0.01 lr."""
    low, warmup = 0.01 * config.lr, config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return low + (config.lr - low) * step / warmup
    progress = (step - warmup) / max(1, config.epochs * steps_per_epoch - warmup)
    return low + (config.lr - low) * (1 + math.cos(math.pi * progress)) / 2


class StopRequest:
    """Says when to stop cleanly: after Ctrl-C (a second one stops at once) or after `minutes`."""

    def __init__(self, minutes: float | None):
        self.deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
        self.interrupted = False

    def __enter__(self) -> "StopRequest":
        self._main_thread = threading.current_thread() is threading.main_thread()
        if self._main_thread:
            self._previous = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *exception) -> None:
        if self._main_thread:
            signal.signal(signal.SIGINT, self._previous)

    def _interrupt(self, *_) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True

    def __bool__(self) -> bool:
        return self.interrupted or time.monotonic() > self.deadline


class Trainer:
    """One run's state: model, optimizer and the position in the epochs.

    Args:
        config: the run's options.
        data: the images; training needs at least one whole batch of them.
        model: the network that `config.method` trains.
        folder: where checkpoints and metrics go.
    """

    def __init__(self, config: TrainConfig, data: DataSet, model: MSUN, folder: RunFolder):
        self.config, self.data, self.folder = config, data, folder
        self.device = pick_device(config.device)
        self.precision = pick_precision(config.precision, self.device)
        self.env = environment(self.device, self.precision)  # now: the checkout may move on during the run
        self.model = model.to(self.device, memory_format=torch.channels_last)
        self.objective = Objective(self.model, config)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay
        )
        self.view = TrainView(data.train, config.scales[-1], config.seed, config.crop_min, config.flip)
        self.steps_per_epoch = len(data.train) // config.batch_size
        if self.steps_per_epoch == 0:
            raise DataError(
                f"batch_size: expected at most the {len(data.train)} training images, got {config.batch_size}"
            )
        self.bad_images = data.bad_images
        self.interrupted = False
        self.epoch = self.batch = 0
        self.seconds = self.epoch_seconds = 0.0
        self.sums = self._zero_sums()

    def _zero_sums(self) -> Tensor:
        double = torch.float32 if self.device.type == "mps" else torch.float64
        return torch.zeros(len(SUMS), dtype=double, device=self.device)

    @property
    def step(self) -> int:
        """Steps taken since the start of the run."""
        return self.epoch * self.steps_per_epoch + self.batch

    def fit(self) -> bool:
        """Train to the end, or until asked to stop; a checkpoint is written either way.

        Returns:
            Whether the run is finished. If not, `interrupted` tells Ctrl-C from the end of the time.
        """
        total = self.config.epochs * self.steps_per_epoch
        with StopRequest(self.config.max_minutes) as stop, progress(total=total, initial=self.step, unit="step") as bar:
            while self.epoch < self.config.epochs:
                bar.set_description(f"{self.config.method} epoch {self.epoch + 1}/{self.config.epochs}")
                finished_epoch = self._run_epoch(stop, bar)
                if finished_epoch:
                    self._end_epoch()
                self.interrupted = stop.interrupted
                if self.interrupted or (stop and self.epoch < self.config.epochs):
                    return False
        return True

    def _run_epoch(self, stop: StopRequest, bar) -> bool:
        """Train from the present batch to the end of the epoch; False if stopped, and saved, within it."""
        self.model.train()
        saved = time.monotonic()
        for batch in self._timed(train_loader(self.view, self.config, self.epoch, self.batch)):
            self._train_batch(batch)
            bar.update()
            if self.batch % 10 == 0:
                bar.set_postfix(self._progress(), refresh=False)
            whole = self.batch == self.steps_per_epoch
            if not whole and (stop or time.monotonic() - saved > 60 * self.config.checkpoint_minutes):
                self.save()
                saved = time.monotonic()
                if stop:
                    return False
        return True

    def _timed(self, loader) -> Iterator[Batch]:
        """Yield the loader's batches, adding the time from one to the next to the epoch's seconds."""
        start = time.perf_counter()
        for batch in loader:
            yield batch
            now = time.perf_counter()
            self.epoch_seconds += now - start
            start = now

    def _train_batch(self, batch: Batch) -> None:
        for message in batch.bad:
            self.bad_images.add(message)
        if len(batch.labels):
            self._step(batch)
        self.batch += 1

    def _step(self, batch: Batch) -> None:
        images = to_float(batch.images, self.device, self.model.spec["normalisation"])
        labels = batch.labels.to(self.device, non_blocking=True)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.steps_per_epoch, self.config)
        with arithmetic(self.precision, self.device):
            terms = self.objective(images, labels)
        self.optimizer.zero_grad(set_to_none=True)
        terms.loss.backward()
        if self.config.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimizer.step()
        one = torch.ones((), device=self.device)
        parts = (terms.loss, terms.ce, terms.si, terms.correct, one * len(labels), one)
        self.sums += torch.stack([part.detach().to(self.sums.dtype) for part in parts])

    def _means(self) -> dict[str, float]:
        """Return the epoch's means so far; stop the run if the loss is not finite any more."""
        sums = dict(zip(SUMS, self.sums.tolist(), strict=True))
        if not math.isfinite(sums["loss"]):
            raise UserError(
                f"{self.folder.path}: the loss is not finite by step {self.step}; the last checkpoint is kept. "
                "Expected a lower --lr or --clip_norm to help"
            )
        batches = max(sums["batches"], 1.0)
        means = {name: sums[name] / batches for name in ("loss", "ce", "si")}
        return means | {"accuracy": 100 * sums["correct"] / max(sums["images"], 1.0), "images": sums["images"]}

    def _progress(self) -> dict[str, str]:
        means = self._means()
        return {"loss": f"{means['loss']:.3f}", "accuracy": f"{means['accuracy']:.1f}%"}

    def _end_epoch(self) -> None:
        means = self._means()
        rate = self.optimizer.param_groups[0]["lr"]
        self.folder.append_metrics(
            {
                "epoch": self.epoch + 1,
                "step": self.step,
                "lr": rate,
                **{name: means[name] for name in ("loss", "ce", "si")},
                "train_top1": means["accuracy"],
                "seconds": round(self.epoch_seconds, 3),
                "images_per_second": round(means["images"] / max(self.epoch_seconds, 1e-9), 1),
            }
        )
        self.seconds += self.epoch_seconds
        self.epoch, self.batch, self.epoch_seconds = self.epoch + 1, 0, 0.0
        self.sums = self._zero_sums()
        self.save()

    def save(self) -> None:
        """Write the full state to the run folder's checkpoint.pt."""
        self._means()
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "batch": self.batch,
            "seconds": self.seconds,
            "epoch_seconds": self.epoch_seconds,
            "sums": self.sums,
            "bad_images": list(self.bad_images.seen),
            "rng": self._rng_state(),
            "data": self.data.describe(),
            "precision": self.precision,
            "env": self.env,
        }
        save_checkpoint(self.folder.checkpoint, state)

    def load(self) -> None:
        """Continue from the run folder's checkpoint.pt.

        Raises:
            CheckpointError: if it is damaged, or belongs to another model, data set or precision.
        """
        path = self.folder.checkpoint
        state = load_checkpoint(path)
        try:
            self._check_same("data", state["data"], self.data.describe())
            self._check_same("precision", state["precision"], self.precision)
            load_state(self.model, state["model"], path)
            self.optimizer.load_state_dict(state["optimizer"])
            for name in ("epoch", "batch", "seconds", "epoch_seconds", "env"):
                setattr(self, name, state[name])
            self.sums = self._zero_sums().copy_(state["sums"])
            self.bad_images.seen |= dict.fromkeys(state["bad_images"])
            self._set_rng_state(state["rng"])
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path}: expected a checkpoint of a training run, missing {error}") from None
        self.folder.drop_metrics_after(self.epoch)

    def _check_same(self, name: str, stored: object, present: object) -> None:
        """Raise a `CheckpointError` if what the run began with is not what is here now."""
        if stored != present:
            raise CheckpointError(
                f"{self.folder.checkpoint}: cannot go on with another {name}: expected {stored}, got {present}"
            )

    def _rng_state(self) -> dict[str, Tensor]:
        """Return the states of the random generators that the model may draw on."""
        state = {"cpu": torch.get_rng_state()}
        return state | ({"cuda": torch.cuda.get_rng_state(self.device)} if self.device.type == "cuda" else {})

    def _set_rng_state(self, state: dict[str, Tensor]) -> None:
        torch.set_rng_state(state["cpu"])
        if self.device.type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self.device)
