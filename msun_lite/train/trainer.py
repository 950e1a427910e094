"""The training loop, in one process or several, and where it can stop and go on."""

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torchvision.transforms import v2

from msun_lite.config import TrainConfig
from msun_lite.data import Batch, DataSet, TrainView, eval_loader, opened, part_of, to_float
from msun_lite.evaluate import evaluate_on, routed_accuracy
from msun_lite.networks import MSUN
from msun_lite.results import RunFolder
from msun_lite.train.batches import train_loader
from msun_lite.train.checkpoint import Checkpoints, random_state, set_random_state
from msun_lite.train.metrics import PARTS, MetricsLog, Tally, means
from msun_lite.train.objectives import find_objective
from msun_lite.train.objectives.objective import Objective
from msun_lite.train.precision import can_go_on_in, training_precision
from msun_lite.train.schedule import learning_rate
from msun_lite.train.state import TrainState
from msun_lite.utils.cli import dump_yaml
from msun_lite.utils.distributed import ALONE, World
from msun_lite.utils.environment import environment
from msun_lite.utils.errors import CheckpointError, DataError, UserError, first_line
from msun_lite.utils.files import write_text
from msun_lite.utils.precision import arithmetic
from msun_lite.utils.progress import progress
from msun_lite.utils.stopping import StopRequest

VALIDATED = 64
"""Images a batch where a part of the validation images is measured: no more than a small GPU trains on."""

CHECK_STEPS = 10
"""Steps between two looks at what a GPU has computed, each of which waits for it."""

LEAST = 2
"""Images that a part of a batch must have: BatchNorm knows no variance of one, where its map is a single pixel."""


class Trainer:
    """The loop of one run: epochs of steps, measured and saved on the way.

    Args:
        config: the run's options.
        data: the images; training needs at least one whole batch of them.
        model: the network that `config.method` trains; the same in all processes.
        folder: where checkpoints and metrics go.
        world: the processes that share every batch.
        title: what the progress bar calls the run; its method by default.
        make_objective: what makes the `Objective`, of the network, the options and the weights of classes; that of the
            method by default.

    Attributes:
        state: what is learnt, and where the run is.
        device, env: where it is trained, and with what.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: DataSet,
        model: MSUN,
        folder: RunFolder,
        world: World = ALONE,
        title: str | None = None,
        make_objective: Callable[[MSUN, TrainConfig, Tensor | None], Objective] | None = None,
    ):
        self.config, self.data, self.folder, self.world = config, data, folder, world
        self.title = title or config.method
        self.device = world.pick_device(config.device)
        self.precision = training_precision(config.precision, self.device, model, world.say)
        self.env = environment(self.device, self.precision, world.size)  # now: the checkout may move on during the run
        model = model.to(self.device, memory_format=torch.channels_last)
        objective = (make_objective or find_objective(config.method))(model, config, self._class_weights())
        steps, scaled = self._steps_per_epoch(), self.precision == "fp16"
        self.state = TrainState(model, config, steps, scaled, objective.own_parameters)
        self.objective = world.wrap(objective, self.device)
        crops = config.crop_min, config.flip, config.randaugment
        self.view = TrainView(data.train, config.scales[-1], config.seed, *crops)
        self.mixup = None if config.mixup is None else v2.MixUp(alpha=config.mixup, num_classes=len(data.classes))
        self.checkpoints = Checkpoints(folder.checkpoint, folder.older_checkpoints, config.keep)
        self.tally = Tally(self.device)

    def _steps_per_epoch(self) -> int:
        """Return how many whole batches there are, or raise a `UserError` if a batch cannot be shared out."""
        size, parts = self.config.batch_size, self.world.size * self.config.accumulate
        if len(self.data.train) < size:
            raise DataError(f"batch_size: expected at most the {len(self.data.train)} training images, got {size}")
        if size % parts or size < LEAST * parts:
            raise UserError(
                f"batch_size: expected a multiple of {self.world.size} process(es) x accumulate "
                f"{self.config.accumulate}, two images each or more, got {size}"
            )
        return len(self.data.train) // size

    def _class_weights(self) -> Tensor | None:
        """Return the weights that let every class count alike, whose mean over the images is 1; None if images do."""
        if self.config.class_weights == "none":
            return None
        counts = torch.tensor(self.data.train.labels).bincount(minlength=len(self.data.classes))
        if not counts.all():
            empty = self.data.classes[int(counts.argmin())]
            raise DataError(f"class_weights: expected training images of every class for balanced, got none of {empty}")
        return (counts.sum() / (len(counts) * counts)).to(self.device, torch.float32)

    def disk_space(self) -> int:
        """Return the bytes that the run's files need: checkpoints, one more while it is written, and the weights."""
        return self.state.weight_bytes * (self.state.copies * (self.config.keep + 2) + 2)

    def fit(self, stop: StopRequest) -> bool:
        """Train to the end, or until asked to stop; a checkpoint is written either way.

        Returns:
            Whether the training is finished, and nobody has asked to stop.
        """
        state, epochs = self.state, self.config.epochs
        begun, total = state.step, epochs * state.steps_per_epoch
        loader = train_loader(self.view, self.config, state.epoch, state.batch, epochs - state.epoch, self.world)
        with (
            opened(loader) as batches,
            MetricsLog(self.config, self.folder, self.world) as metrics,
            stop.deferred(),
            progress(total=total, initial=state.step, unit="step", disable=not self.world.first) as bar,
        ):
            while state.epoch < epochs or state.row is not None:
                if state.row is None:
                    bar.set_description(f"{self.title} epoch {state.epoch + 1}/{epochs}")
                    if not self._run_epoch(batches, stop, bar, begun):
                        return False
                    state.row = self._end_epoch()
                metrics.add(state.row | self._measure(stop))
                state.row = None
                self.save()
            (asked,) = self.world.totals(stop.asked)  # in the last step: the measurement would take long
        return not asked

    def _run_epoch(self, batches: Iterator[Batch], stop: StopRequest, bar, begun: int) -> bool:
        """Train from the present batch to the end of the epoch; False if stopped, and saved, within it.

        A time limit lets every call, which has `begun` at some step, get on by a step at least.
        """
        state = self.state
        state.model.train()
        saved, start = time.monotonic(), time.perf_counter()
        for _ in range(state.batch, state.steps_per_epoch):
            asked = stop.asked or (stop.out_of_time and state.step > begun)
            due = time.monotonic() - saved > 60 * self.config.checkpoint_minutes
            parts = [] if asked else [next(batches) for _ in range(self.config.accumulate)]
            state.waiting_seconds += time.perf_counter() - start
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
                self.world.say(f"left out step {state.step + 1}: too few images of its batch can be read")
            state.batch += 1
            if state.step % CHECK_STEPS == 0:
                self._check_finite()
                bar.set_postfix(self._progress(), refresh=False)
            bar.update()
            now = time.perf_counter()
            state.epoch_seconds += now - start
            start = now
        return True

    def _note_unreadable(self, messages: list[str]) -> None:
        for message in sum(self.world.gather(messages), []):
            self.data.bad_images.add(message)

    def take_step(self, parts: list[Batch], total: int) -> None:
        """Take one step on this process's `parts` of a batch of `total` images."""
        state = self.state
        rate = learning_rate(state.step, state.steps_per_epoch, self.config)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        state.optimizer.zero_grad(set_to_none=True)
        for number, part in enumerate(parts, start=1):
            with self.world.keep_gradients(self.objective, apart=number < len(parts)):
                self._backward(part, len(part.labels) / total)
        if self.config.clip_norm is not None:
            state.scaler.unscale_(state.optimizer)
            torch.nn.utils.clip_grad_norm_(state.model.parameters(), self.config.clip_norm)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        if state.average is not None:
            state.average.update_parameters(state.model)

    def _backward(self, part: Batch, share: float) -> None:
        """Add the gradients of one part of a batch, which has this `share` of its images."""
        images = to_float(part.images, self.device, self.state.model.spec["normalisation"])
        labels = part.labels.to(self.device, non_blocking=True)
        if self.mixup is not None:
            images, labels = self.mixup(images, labels)
        with arithmetic(self.precision, self.device):
            terms = self.objective(images, labels)
        # The gradients are averaged over the processes: times their number, the sum over all parts is the batch's mean.
        self.state.scaler.scale(terms.loss * (share * self.world.size)).backward()
        self.tally.add(terms, len(labels), share, self.state.step + 1)

    def _check_finite(self, weights: bool = False) -> None:
        """Stop all processes together if the loss of one, or one of the `weights`, is not finite any more."""
        steps = self.world.gather(self.tally.first_not_finite())
        found = {rank: step for rank, step in enumerate(steps) if step is not None}
        if found:
            rank = min(found, key=found.get)
            where = f" in process {rank}" if self.world.size > 1 else ""
            self._refuse(f"the loss is not finite at step {found[rank]}{where}")
        if weights and not self.state.is_finite():
            self._refuse(f"a weight is not finite after step {self.state.step}")

    def _refuse(self, what: str) -> None:
        raise UserError(
            f"{self.folder.path}: {what}; the last checkpoint is kept. Expected a lower --lr or --clip_norm to help"
        )

    def _speed(self, images: float) -> dict[str, float]:
        """Return images a second over all processes, and the share of the time that was spent waiting for them."""
        seconds = max(self.state.epoch_seconds, 1e-9)
        return {"images_per_second": images / seconds, "data_wait": min(1.0, self.state.waiting_seconds / seconds)}

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
        state = self.state
        over_all = means(self.world.sum(self.tally.sums))
        speed = self._speed(over_all["images"])
        row = {
            "epoch": state.epoch + 1,
            "step": state.step,
            "lr": state.optimizer.param_groups[0]["lr"],
            **{name: over_all[name] for name in PARTS},
            "train_top1": over_all["accuracy"],
            "seconds": round(state.epoch_seconds, 3),
            "images_per_second": round(speed["images_per_second"], 1),
            "data_wait": round(speed["data_wait"], 3),
        }
        state.end_epoch()
        self.tally.clear()
        return row | self._validate()

    def _validate(self) -> dict:
        """Return the accuracy in percent at the scales on some validation images; nothing where those are far away."""
        source, scales = self.data.val, self.config.scales
        if not self.config.eval_images or not source.near:
            return {}
        part = part_of(source, self.config.eval_images)
        loader = eval_loader(part, scales[-1], self.config.crop_ratio, VALIDATED, 0, self.world, self.device)
        top1 = routed_accuracy(self.state.trained, loader, scales, self.device, self.world)
        return {"val_top1": {str(size): round(value, 2) for size, value in top1.items()}}

    def _measure(self, stop: StopRequest) -> dict:
        """Measure the network if it is time to, keep it if it is the best so far, and return what was measured.

        This can take long, so a signal interrupts it, and the run goes on with measuring.
        """
        config, state = self.config, self.state
        if config.eval_epochs is None or state.epoch % config.eval_epochs:
            return {}
        self.save()
        with stop.at_once():
            record = evaluate_on(state.trained, self.data, config, self.device, self.world)
        if state.best is None or record["mean_top1"] > state.best["mean_top1"]:
            state.best = {"epoch": state.epoch, "mean_top1": record["mean_top1"]}
            self.world.on_first(self._keep_best)
        return {name: record[name] for name in ("mean_top1", "top1")}

    def _keep_best(self) -> None:
        self.folder.best.mkdir(exist_ok=True)
        self.state.trained.save(self.folder.best)
        write_text(self.folder.best / "config.yaml", dump_yaml(self.config))  # so that it can be measured

    def save(self) -> None:
        """Write the full state to the run folder's checkpoint.pt, unless something in it is not finite."""
        self._check_finite(weights=True)
        about = {
            "sums": self.world.sum(self.tally.sums),  # of the epoch so far, over all processes
            "bad_images": list(self.data.bad_images.seen),
            "rng": random_state(self.device),
            "data": self.data.describe(),
            "precision": self.precision,
            "env": self.env,
        }
        self.world.on_first(lambda: self._write(about))

    def _write(self, about: dict) -> None:
        self.folder.check_held()
        self.checkpoints.save({**self.state.stored(), **about})

    def load(self) -> None:
        """Continue from the newest whole checkpoint of the run folder, which the first process reads for all.

        Raises:
            CheckpointError: if there is none, or it is not one of this run: of its model, data, precision and length.
        """
        path = self.folder.checkpoint
        stored, damaged = self.world.on_first(self.checkpoints.load)
        for message in damaged:
            self.world.say(f"{message}; going on from the one before it")
        try:
            self._restore(stored)
        except CheckpointError:
            raise
        except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
            got = f"{type(error).__name__}: {first_line(error)}"
            raise CheckpointError(f"{path}: expected a checkpoint of this training run, got {got}") from None
        if self.world.first:
            self.folder.drop_metrics_after(self.state.epoch if self.state.row is None else self.state.epoch - 1)

    def _restore(self, stored: dict) -> None:
        """Go on from what a checkpoint holds."""
        # Under another name, the same images are the same data: each job may have its own copy.
        self._check_same("data", stored["data"] | {"name": self.data.name}, self.data.describe())
        self._keep_precision(stored["precision"])
        self.state.restore(stored, self.folder.checkpoint)
        before = stored["env"]["processes"]
        if before != self.world.size:
            self.world.say(f"goes on with {self.world.size} process(es) rather than {before}: not bit for bit the same")
        self.env = {**stored["env"], "processes": self.world.size}
        self.tally.sums.copy_(stored["sums"] / self.world.size)
        self.data.bad_images.seen |= dict.fromkeys(stored["bad_images"])
        set_random_state(stored["rng"], self.device)

    def _keep_precision(self, begun: str) -> None:
        """Go on in the precision that the run has `begun` in where `auto` finds another one on this device.

        Raises:
            CheckpointError: if another was asked for, or this device cannot do it.
        """
        possible = self.config.precision == "auto" and can_go_on_in(begun, self.device, self.state.model)
        if possible and begun != self.precision:
            self.world.say(f"goes on in {begun}, as it began; a new run would train in {self.precision} here")
            self.precision = begun
        self._check_same("precision", begun, self.precision)

    def _check_same(self, name: str, stored: object, present: object) -> None:
        """Raise a `CheckpointError` if what the run began with is not what is here now."""
        if stored != present:
            raise CheckpointError(
                f"{self.folder.checkpoint}: cannot go on with another {name}: expected {stored}, got {present}"
            )
