"""What a network's certainty is worth: how well it is calibrated, and choosing the subnet by it, not by the size."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from msun_lite.evaluate.batches import normalised_batches
from msun_lite.networks import MSUN
from msun_lite.scales import resize
from msun_lite.utils.errors import UserError
from msun_lite.utils.precision import full_precision

BINS = 15
"""Bins of the calibration error, as in Guo et al. (2017)."""


@dataclass(frozen=True)
class Certainty:
    """How certain each subnet is of its answers, and whether they are right: [sizes, subnets, images] each.

    Args:
        confidence: the probability of the class that is answered, 0 to 1.
        entropy: of the probabilities, in nats.
        correct: whether the answer is the image's class.
        mixed_confidence, mixed_correct: [sizes, images], of the mean of the subnets' probabilities.
    """

    confidence: Tensor
    entropy: Tensor
    correct: Tensor
    mixed_confidence: Tensor
    mixed_correct: Tensor


@torch.no_grad()
@full_precision()
def measure_certainty(model: MSUN, loader: DataLoader, sizes: Sequence[int], device: torch.device) -> Certainty:
    """Return what every subnet answers at every size; of an image three numbers are kept, whatever the classes.

    Args:
        model: on `device`.
        loader: batches of centre crops, no smaller than the sizes.
        sizes: in pixels.
        device: where `model` is.

    Raises:
        DataError: if an image is unreadable.
    """
    parts = []
    for images, labels in normalised_batches(model, loader, device, "certainty"):
        parts.append([_answers(model, resize(images, size, model.antialias), labels) for size in sizes])
    by_kind = [[torch.cat(found, dim=-1) for found in zip(*rows, strict=True)] for rows in _kinds(parts)]
    return Certainty(*(torch.stack(rows).cpu() for rows in by_kind))


def _kinds(parts: list) -> list[list]:
    """Return [kind][batch][size] of [batch][size][kind]."""
    return [[[row[kind] for row in batch] for batch in parts] for kind in range(5)]


def _answers(model: MSUN, images: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    """Return what `Certainty` has of images of one size: [subnets, images] and [images]."""
    logits = torch.stack([model.forward_at(images, scale).float() for scale in model.scales])
    probabilities, logarithms = logits.softmax(2), logits.log_softmax(2)
    confidence, answer = probabilities.max(2)
    mixed_confidence, mixed_answer = probabilities.mean(0).max(1)
    entropy = -(probabilities * logarithms).sum(2)
    return confidence, entropy, answer == labels, mixed_confidence, mixed_answer == labels


def calibration_error(confidence: Tensor, correct: Tensor, bins: int = BINS) -> float:
    """Return the expected calibration error in percent (Guo et al., On Calibration of Modern Neural Networks, 2017).

    The mean distance of confidence and accuracy in `bins` equal parts of 0 to 1, weighted by their images.

    Args:
        confidence, correct: [images], see `Certainty`.
    """
    if not len(confidence):
        raise UserError("calibration: expected at least one image, got none")
    place = (confidence.double() * bins).ceil().long().clamp(1, bins) - 1
    gaps = torch.zeros(bins, dtype=torch.float64).index_add_(0, place, confidence.double() - correct.double())
    return 100 * float(gaps.abs().sum()) / len(confidence)


def least_entropy(certainty: Certainty) -> Tensor:
    """Return whether the answer of the subnet with the least entropy is right: [sizes, images]."""
    surest = certainty.entropy.argmin(1, keepdim=True)
    return certainty.correct.gather(1, surest).squeeze(1)


def cascade(confidence: Tensor, correct: Tensor, costs: Sequence[float], threshold: float) -> tuple[float, float]:
    """Return accuracy in percent and mean cost of asking the subnets in turn (Yang et al., RANet, CVPR 2020).

    The smallest is asked first, and the next one as long as the confidence is below `threshold`; the last one's answer
    stands. All that were asked are paid for.

    Args:
        confidence, correct: [subnets, images], the smallest scale first.
        costs: of an image through each subnet.
        threshold: 0 to 1; above 1, all subnets are asked.
    """
    last = len(confidence) - 1
    enough = confidence >= threshold
    stop = torch.where(enough.any(0), enough.int().argmax(0), last)
    paid = torch.tensor(costs, dtype=torch.float64).cumsum(0)[stop]
    right = correct.gather(0, stop[None])
    return 100 * float(right.double().mean()), float(paid.mean())
