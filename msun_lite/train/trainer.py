"""The training loop, in one process or several, and where it can stop and go on."""

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from msun_lite.config import TrainConfig
from msun_lite.data import Batch, DataSet, TrainView, opened, to_float
from msun_lite.evaluate import evaluate_on
from msun_lite.networks import MSUN, load_state
from msun_lite.results import RunFolder
from msun_lite.train.averaging import moving_average
from msun_lite.train.batches import train_loader
from msun_lite.train.checkpoint import Checkpoints, check_position, random_state, set_random_state
from msun_lite.train.metrics import PARTS, MetricsLog, Tally, means
from msun_lite.train.objectives import find_objective
from msun_lite.train.schedule import learning_rate
from msun_lite.utils.cli import dump_yaml
from msun_lite.utils.distributed import ALONE, World
from msun_lite.utils.environment import environment
from msun_lite.utils.errors import CheckpointError, DataError, UserError, first_line
from msun_lite.utils.files import write_text
from msun_lite.utils.precision import arithmetic, pick_precision, strides_over_a_point
from msun_lite.utils.progress import progress
from msun_lite.utils.stopping import StopRequest

CHECK_STEPS = 10
"""Steps between two looks at what a GPU has computed, each of which waits for it."""

LEAST = 2
"""Images that a part of a batch must have: BatchNorm knows no variance of one, where its map is a single pixel."""


def _see_all_scales(model: MSUN) -> None:
    """Run the network once at each of its scales, its averages untouched."""
    model.eval()
    for scale in model.scales:
        model.forward_at(torch.zeros(1, 3, scale, scale), scale)
    model.train()


class Trainer:
    """One run's state: model, optimizer and the position in the epochs.

    Args:
        config: the run's options.
        data: the images; training needs at least one whole batch of them.
        model: the network that `config.method` trains; the same in all processes.
        folder: where checkpoints and metrics go.
        world: the processes that share every batch.
        title: what the progress bar calls the run; its method by default.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: DataSet,
        model: MSUN,
        folder: RunFolder,
        world: World = ALONE,
        title: str | None = None,
    ):
        self.config, self.data, self.folder, self.world = config, data, folder, world
        self.title = title or config.method
        self.device = world.pick_device(config.device)
        self.precision = self._pick_precision(model)
        self.env = environment(self.device, self.precision, world.size)  # now: the checkout may move on during the run
        self.model = model.to(self.device, memory_format=torch.channels_last)
        self.objective = world.wrap(find_objective(config.method)(self.model, config), self.device)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), config.peak_lr, config.momentum, weight_decay=config.weight_decay
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.average = None if config.ema is None else moving_average(self.model, config.ema)
        self.view = TrainView(data.train, config.scales[-1], config.seed, config.crop_min, config.flip)
        self.steps_per_epoch = len(data.train) // config.batch_size
        self._check_batch_size()
        self.checkpoints = Checkpoints(folder.checkpoint, folder.older_checkpoints, config.keep)
        self.bad_images = data.bad_images
        self.epoch = self.batch = 0
        self.seconds = self.epoch_seconds = self.waiting_seconds = 0.0
        self.best: dict | None = None
        self.row: dict | None = None  # the metrics of an epoch that is over, but not measured yet
        self.tally = Tally(self.device)

    def _pick_precision(self, model: MSUN) -> str:
        wanted = self.config.precision
        picked = pick_precision(wanted, self.device)
        if picked != "bf16" or self._trains_in_bf16(model):
            return picked
        if wanted == "bf16":
            raise UserError("precision: expected fp32 on a CPU for a network with strides over maps of 1 x 1, got bf16")
        self.world.say("trains in fp32: this network has strides over maps of 1 x 1, which bf16 gets wrong on CPUs")
        return "fp32"

    def _trains_in_bf16(self, model: MSUN) -> bool:
        """Return whether the network can be trained in bf16 here, in hardware or not."""
        return self.device.type != "cpu" or not strides_over_a_point(lambda: _see_all_scales(model), model)

    def _keep_precision(self, begun: str) -> None:
        """Go on in the precision that a run has `begun` in where `auto` finds another one on this device.

        Raises:
            CheckpointError: if another was asked for, or this device cannot do it.
        """
        there = begun == "fp32" or (begun == "bf16" and self._trains_in_bf16(self.model))
        if self.config.precision == "auto" and there and begun != self.precision:
            self.world.say(f"goes on in {begun}, as it began; a new run would train in {self.precision} here")
            self.precision = begun
        self._check_same("precision", begun, self.precision)

    def _check_batch_size(self) -> None:
        size, parts = self.config.batch_size, self.world.size * self.config.accumulate
        if self.steps_per_epoch == 0:
            raise DataError(f"batch_size: expected at most the {len(self.data.train)} training images, got {size}")
        if size % parts or size < LEAST * parts:
            raise UserError(
                f"batch_size: expected a multiple of {self.world.size} process(es) x accumulate "
                f"{self.config.accumulate}, two images each or more, got {size}"
            )

    @property
    def step(self) -> int:
        """Steps taken since the start of the run."""
        return self.epoch * self.steps_per_epoch + self.batch

    def disk_space(self) -> int:
        """Return the bytes that the run's files need: checkpoints, one more while it is written, and the weights."""
        weights = sum(value.numel() * value.element_size() for value in self.model.state_dict().values())
        copies = 2 if self.average is None else 3  # the momentum, the average
        return weights * (copies * (self.config.keep + 2) + 2)

    @property
    def trained(self) -> MSUN:
        """The network to measure and to save: the average of the weights where the run keeps one."""
        return self.model if self.average is None else self.average.module

    def fit(self, stop: StopRequest) -> bool:
        """Train to the end, or until asked to stop; a checkpoint is written either way.

        Returns:
            Whether the training is finished, and nobody has asked to stop.
        """
        total, left = self.config.epochs * self.steps_per_epoch, self.config.epochs - self.epoch
        begun = self.step
        loader = train_loader(self.view, self.config, self.epoch, self.batch, left, self.world)
        with (
            opened(loader) as batches,
            MetricsLog(self.config, self.folder, self.world) as metrics,
            stop.deferred(),
            progress(total=total, initial=self.step, unit="step", disable=not self.world.first) as bar,
        ):
            while self.epoch < self.config.epochs or self.row is not None:
                if self.row is None:
                    bar.set_description(f"{self.title} epoch {self.epoch + 1}/{self.config.epochs}")
                    if not self._run_epoch(batches, stop, bar, begun):
                        return False
                    self.row = self._end_epoch()
                metrics.add(self.row | self._measure(stop))
                self.row = None
                self.save()
            (asked,) = self.world.totals(stop.asked)  # in the last step: the measurement would take long
        return not asked

    def _run_epoch(self, batches: Iterator[Batch], stop: StopRequest, bar, begun: int) -> bool:
        """Train from the present batch to the end of the epoch; False if stopped, and saved, within it.

        A time limit lets every call, which has `begun` at some step, get on by a step at least.
        """
        self.model.train()
        saved, start = time.monotonic(), time.perf_counter()
        for _ in range(self.batch, self.steps_per_epoch):
            asked = stop.asked or (stop.out_of_time and self.step > begun)
            due = time.monotonic() - saved > 60 * self.config.checkpoint_minutes
            parts = [] if asked else [next(batches) for _ in range(self.config.accumulate)]
            self.waiting_seconds += time.perf_counter() - start
            unreadable = [message for part in parts for message in part.bad]
            images = [len(part.labels) for part in parts]
            asked, due, bad, small, total = self.world.totals(
                asked, due and self.world.first, len(unreadable), sum(count < LEAST for count in images), sum(images)
            )
            if asked or due:
                self.save()
                saved = time.monotonic()
            if asked:
                return False
            if bad:
                self._note_unreadable(unreadable)
            if not small:
                self.take_step(parts, total)
            elif bad:
                self.world.say(f"left out step {self.step + 1}: too few images of its batch can be read")
            self.batch += 1
            if self.step % CHECK_STEPS == 0:
                self._check_finite()
                bar.set_postfix(self._progress(), refresh=False)
            bar.update()
            now = time.perf_counter()
            self.epoch_seconds += now - start
            start = now
        return True

    def _note_unreadable(self, messages: list[str]) -> None:
        for message in sum(self.world.gather(messages), []):
            self.bad_images.add(message)

    def take_step(self, parts: list[Batch], total: int) -> None:
        """Take one step on this process's `parts` of a batch of `total` images."""
        rate = learning_rate(self.step, self.steps_per_epoch, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        for number, part in enumerate(parts, start=1):
            with self.world.keep_gradients(self.objective, apart=number < len(parts)):
                self._backward(part, len(part.labels) / total)
        if self.config.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.model)

    def _backward(self, part: Batch, share: float) -> None:
        """Add the gradients of one part of a batch, which has this `share` of its images."""
        images = to_float(part.images, self.device, self.model.spec["normalisation"])
        labels = part.labels.to(self.device, non_blocking=True)
        with arithmetic(self.precision, self.device):
            terms = self.objective(images, labels)
        # The gradients are averaged over the processes: times their number, the sum over all parts is the batch's mean.
        self.scaler.scale(terms.loss * (share * self.world.size)).backward()
        self.tally.add(terms, len(labels), share, self.step + 1)

    def _check_finite(self, weights: bool = False) -> None:
        """Stop all processes together if the loss of one, or one of the `weights`, is not finite any more."""
        steps = self.world.gather(self.tally.first_not_finite())
        found = {rank: step for rank, step in enumerate(steps) if step is not None}
        if found:
            rank = min(found, key=found.get)
            where = f" in process {rank}" if self.world.size > 1 else ""
            self._refuse(f"the loss is not finite at step {found[rank]}{where}")
        if weights and not all(bool(value.isfinite().all()) for value in self.model.state_dict().values()):
            self._refuse(f"a weight is not finite after step {self.step}")

    def _refuse(self, what: str) -> None:
        raise UserError(
            f"{self.folder.path}: {what}; the last checkpoint is kept. Expected a lower --lr or --clip_norm to help"
        )

    def _speed(self, images: float) -> dict[str, float]:
        """Return images a second over all processes, and the share of the time that was spent waiting for them."""
        seconds = max(self.epoch_seconds, 1e-9)
        return {"images_per_second": images / seconds, "data_wait": min(1.0, self.waiting_seconds / seconds)}

    def _progress(self) -> dict[str, str]:
        so_far = means(self.tally.sums)
        speed = self._speed(so_far["images"] * self.world.size)
        return {
            "loss": f"{so_far['loss']:.3f}",
            "accuracy": f"{so_far['accuracy']:.1f}%",
            "images/s": f"{speed['images_per_second']:.0f}",
            "data wait": f"{100 * speed['data_wait']:.0f}%",
        }

    def _end_epoch(self) -> dict:
        """Close the epoch and return its line of metrics.jsonl."""
        self._check_finite()
        over_all = means(self.world.sum(self.tally.sums))
        speed = self._speed(over_all["images"])
        row = {
            "epoch": self.epoch + 1,
            "step": self.step,
            "lr": self.optimizer.param_groups[0]["lr"],
            **{name: over_all[name] for name in PARTS},
            "train_top1": over_all["accuracy"],
            "seconds": round(self.epoch_seconds, 3),
            "images_per_second": round(speed["images_per_second"], 1),
            "data_wait": round(speed["data_wait"], 3),
        }
        self.seconds += self.epoch_seconds
        self.epoch, self.batch, self.epoch_seconds, self.waiting_seconds = self.epoch + 1, 0, 0.0, 0.0
        self.tally.clear()
        return row

    def _measure(self, stop: StopRequest) -> dict:
        """Measure the network if it is time to, keep it if it is the best so far, and return what was measured.

        This can take long, so a signal interrupts it, and the run goes on with measuring.
        """
        config = self.config
        if config.eval_epochs is None or self.epoch % config.eval_epochs:
            return {}
        self.save()
        with stop.at_once():
            record = evaluate_on(self.trained, self.data, config, self.device, self.world)
        if self.best is None or record["mean_top1"] > self.best["mean_top1"]:
            self.best = {"epoch": self.epoch, "mean_top1": record["mean_top1"]}
            self.world.on_first(self._keep_best)
        return {name: record[name] for name in ("mean_top1", "top1")}

    def _keep_best(self) -> None:
        self.folder.best.mkdir(exist_ok=True)
        self.trained.save(self.folder.best)
        write_text(self.folder.best / "config.yaml", dump_yaml(self.config))  # so that it can be measured

    def save(self) -> None:
        """Write the full state to the run folder's checkpoint.pt, unless something in it is not finite."""
        self._check_finite(weights=True)
        sums = self.world.sum(self.tally.sums)
        self.world.on_first(lambda: self._write(sums))

    def _write(self, sums: Tensor) -> None:
        self.folder.check_held()
        self.checkpoints.save(self._state(sums))

    def _state(self, sums: Tensor) -> dict:
        """Return what a checkpoint has; `sums` are those of the epoch so far, over all processes."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "step": self.step,
            "epoch": self.epoch,
            "batch": self.batch,
            "seconds": self.seconds,
            "epoch_seconds": self.epoch_seconds,
            "waiting_seconds": self.waiting_seconds,
            "best": self.best,
            "row": self.row,
            "sums": sums,
            "bad_images": list(self.bad_images.seen),
            "rng": random_state(self.device),
            "data": self.data.describe(),
            "precision": self.precision,
            "env": self.env,
        }

    def load(self) -> None:
        """Continue from the newest whole checkpoint of the run folder, which the first process reads for all.

        Raises:
            CheckpointError: if there is none, or it is not one of this run: of its model, data, precision and length.
        """
        path = self.folder.checkpoint
        state, damaged = self.world.on_first(self.checkpoints.load)
        for message in damaged:
            self.world.say(f"{message}; going on from the one before it")
        try:
            # Under another name, the same images are the same data: each job may have its own copy.
            self._check_same("data", state["data"] | {"name": self.data.name}, self.data.describe())
            self._keep_precision(state["precision"])
            check_position(state, self.config.epochs, self.steps_per_epoch)
            load_state(self.model, state["model"], path)
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            for name in ("epoch", "batch", "seconds", "epoch_seconds", "waiting_seconds", "best", "row"):
                setattr(self, name, state[name])
            before = state["env"]["processes"]
            if before != self.world.size:
                self.world.say(
                    f"goes on with {self.world.size} process(es) rather than {before}: not bit for bit the same"
                )
            self.env = {**state["env"], "processes": self.world.size}
            self.tally.sums.copy_(state["sums"] / self.world.size)
            self.bad_images.seen |= dict.fromkeys(state["bad_images"])
            set_random_state(state["rng"], self.device)
        except CheckpointError:
            raise
        except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
            got = f"{type(error).__name__}: {first_line(error)}"
            raise CheckpointError(f"{path}: expected a checkpoint of this training run, got {got}") from None
        if self.world.first:
            self.folder.drop_metrics_after(self.epoch if self.row is None else self.epoch - 1)

    def _check_same(self, name: str, stored: object, present: object) -> None:
        """Raise a `CheckpointError` if what the run began with is not what is here now."""
        if stored != present:
            raise CheckpointError(
                f"{self.folder.checkpoint}: cannot go on with another {name}: expected {stored}, got {present}"
            )
