"""Where the metrics of a run go: always to metrics.jsonl, with a table and curves of it; on request to TensorBoard and
Weights & Biases.

The names are the same in all three; the accuracy at 32 px is `top1/32` where a name stands for one number.
"""

import contextlib
import importlib.util
import time

import torch
from torch import Tensor

from msun_lite.config import TrainConfig
from msun_lite.results import RunFolder, flat_row
from msun_lite.train.objectives.objective import Terms
from msun_lite.utils.distributed import World
from msun_lite.utils.errors import UserError

PARTS = ("loss", "ce", "si", "kd")
"""The loss and its parts, see `objectives.objective.Terms`."""

DRAWN_SECONDS = 60
"""Seconds at least between two pictures of the curves; the last one is drawn when the training stops or ends."""

SUMS = (*PARTS, "correct", "images", "batches")
"""What is summed."""


def check_packages(config: TrainConfig) -> None:
    """Raise a `UserError` unless the packages are there that the metrics are to go to."""
    for package, wanted in (("tensorboard", config.tensorboard), ("wandb", config.wandb is not None)):
        if wanted and importlib.util.find_spec(package) is None:
            raise UserError(f"{package}: expected the package {package}, install msun-lite[{package}]")


class MetricsLog:
    """Takes one row of metrics after the other, from the first process alone; used as a context."""

    def __init__(self, config: TrainConfig, folder: RunFolder, world: World):
        self.config, self.folder, self.world = config, folder, world
        self._board = self._wandb = None
        self._drawn = time.monotonic()

    def __enter__(self) -> "MetricsLog":
        self._closing = contextlib.ExitStack()
        if self.world.first and self.config.tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # an extra

            self._board = self._closing.enter_context(SummaryWriter(str(self.folder.path / "tensorboard")))
        if self.world.first and self.config.wandb is not None:
            self._wandb = self._closing.enter_context(self._wandb_run())
        return self

    def _wandb_run(self):
        import wandb  # an extra

        id_file = self.folder.path / "wandb-id.txt"  # a run that goes on stays one run there, too
        if not id_file.exists():
            id_file.write_text(wandb.util.generate_id(), encoding="utf-8")
        return wandb.init(
            project=self.config.wandb,
            name=self.folder.path.name,
            id=id_file.read_text(encoding="utf-8"),
            resume="allow",
            dir=str(self.folder.path),
            config=vars(self.config),
        )

    def __exit__(self, *exception) -> None:
        self._closing.close()
        if self.world.first and exception[0] is None:  # the folder may be another's by then
            self._draw()

    def _draw(self) -> None:
        self.folder.write_curves()
        self._drawn = time.monotonic()

    def add(self, row: dict) -> None:
        """Log the metrics of one epoch; they belong to `row["step"]`."""
        if not self.world.first:
            return
        self.folder.append_metrics(row)
        if time.monotonic() - self._drawn > DRAWN_SECONDS:
            self._draw()
        numbers = flat_row(row)
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, row["step"])
        if self._wandb is not None:
            self._wandb.log(numbers, step=row["step"])


class Tally:
    """Sums of the loss and its parts over the batches of one process, on its device.

    Attributes:
        sums: [7] in double precision where the device has it, in the order of `SUMS`.
    """

    def __init__(self, device: torch.device):
        self.sums = torch.zeros(
            len(SUMS), dtype=torch.float32 if device.type == "mps" else torch.float64, device=device
        )
        self._not_finite = torch.full((), -1, device=device)

    def clear(self) -> None:
        """Begin a new epoch."""
        self.sums.zero_()

    def add(self, terms: Terms, images: int, share: float, step: int) -> None:
        """Add what was computed at `step` from `images` images, which are this `share` of the batch."""
        one = torch.ones((), device=self.sums.device)
        parts = [getattr(terms, name) * share for name in PARTS]
        values = (*parts, terms.correct, one * images, one * share)
        self.sums += torch.stack([value.detach().to(self.sums.dtype) for value in values])
        first = (self._not_finite < 0) & ~terms.loss.detach().isfinite()
        self._not_finite = torch.where(first, step, self._not_finite)

    def first_not_finite(self) -> int | None:
        """Return the first step whose loss was not finite, if there is one; this waits for the device."""
        step = int(self._not_finite)
        return step if step >= 0 else None


def means(sums: Tensor) -> dict[str, float]:
    """Return the mean loss and its parts a batch, the accuracy in percent, and the number of images."""
    named = dict(zip(SUMS, sums.tolist(), strict=True))
    per_batch = {name: named[name] / (named["batches"] or 1.0) for name in PARTS}
    return per_batch | {"accuracy": 100 * named["correct"] / (named["images"] or 1.0), "images": named["images"]}
