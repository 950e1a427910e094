"""What is summed over the batches of an epoch, without waiting for the device that computes it."""

import torch
from torch import Tensor

from msun_lite.methods import Terms

PARTS = ("loss", "ce", "si", "kd")
"""The loss and its parts, see `methods.Terms`."""

SUMS = (*PARTS, "correct", "images", "batches")
"""What is summed."""


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
    averages = {name: named[name] / (named["batches"] or 1.0) for name in PARTS}
    return averages | {"accuracy": 100 * named["correct"] / (named["images"] or 1.0), "images": named["images"]}
