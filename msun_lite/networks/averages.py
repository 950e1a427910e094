"""BatchNorm averages of each size of images, for any trained network; nothing else of it changes.

A network's averages are those of the images that it was trained on. Smaller images, made large again, are blurred, and
have others (Li et al., Revisiting Batch Normalization for Practical Domain Adaptation, 2016; Schneider et al.,
Improving Robustness Against Common Corruptions by Covariate Shift Adaptation, NeurIPS 2020).
"""

import copy
import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from msun_lite.model import MultiScaleUnifiedNetwork
from msun_lite.per_scale import SizeNorm, norms_of
from msun_lite.scales import resize
from msun_lite.utils.errors import UserError, within
from msun_lite.utils.precision import full_precision
from msun_lite.utils.progress import progress

Sets = dict[int, tuple[int, ...]]
"""scale -> the sizes that have a set of averages there."""


@torch.no_grad()
@full_precision()
def with_averages(
    model: MultiScaleUnifiedNetwork, batches: Iterable[Tensor], sizes: Sequence[int], share: float = 1.0
) -> MultiScaleUnifiedNetwork:
    """Return a copy, ready for evaluation, with BatchNorm averages of each size through the subnet that serves it.

    Args:
        model: a trained network; averages of sizes that it has already are replaced.
        batches: normalised images [B, 3, H, W] on the model's device, two or more each, no smaller than the sizes; as
            often as they are asked for.
        sizes: in pixels, rising. A scale that serves none of them gets averages of its own size.
        share: of these averages in the mixture with those that the model has.

    Raises:
        UserError: if there are no images or no BatchNorm, or a share outside 0 to 1.
    """
    within("share", share, least=0, most=1)
    probe = _with_one_set(model).eval()
    had = {name: (norm.running_mean.clone(), norm.running_var.clone()) for name, norm in norms_of(probe).items()}
    sets = _sets(probe, sizes)
    found = copy.deepcopy(probe)
    found.set_averages(sets)
    served = [(scale, place, size) for scale, of_scale in sets.items() for place, size in enumerate(of_scale)]
    for scale, place, size in progress(served, desc="averages", unit="size", leave=False):
        for name, own in _averages(probe, batches, size, scale).items():
            norm = found.get_submodule(name)
            kept = (norm.running_mean, norm.running_var)
            for averages, value, old in zip(kept, own, had[name], strict=True):
                averages[norm.firsts[scale] + place] = share * value + (1 - share) * old
    return found


def interpolated(model: MultiScaleUnifiedNetwork, sizes: Sequence[int]) -> MultiScaleUnifiedNetwork:
    """Return a copy of a network with averages at `sizes` in between those that it has, linear in the size's logarithm.

    Beyond the first and the last size that a scale has, the averages are those of these.

    Raises:
        UserError: if it has none.
    """
    if not model.averages:
        raise UserError("averages: expected a network that has some for each size, see with_averages, got none")
    found = _with_one_set(model)
    sets = _sets(found, sizes)
    found.set_averages(sets)
    for name, norm in norms_of(found).items():
        stored = model.get_submodule(name)
        for scale, first in norm.firsts.items():
            for place, size in enumerate(sets[scale]):
                below, above, weight = _between(model.averages[scale], size)
                for averages, known in (
                    (norm.running_mean, stored.running_mean),
                    (norm.running_var, stored.running_var),
                ):
                    ends = [known[stored.firsts[scale] + end] for end in (below, above)]
                    averages[first + place] = torch.lerp(*ends, weight)
    return found.eval()


def _between(known: Sequence[int], size: int) -> tuple[int, int, float]:
    """Return the places of the known sizes around a size, and how far it is from the one to the other."""
    above = sum(one < size for one in known)
    if above in (0, len(known)):
        end = min(above, len(known) - 1)
        return end, end, 0.0
    low, high = known[above - 1], known[above]
    return above - 1, above, math.log(size / low) / math.log(high / low)


def _sets(model: MultiScaleUnifiedNetwork, sizes: Sequence[int]) -> Sets:
    """Return the sizes that each scale serves; those of a scale that serves none are its own."""
    served = {scale: tuple(size for size in sizes if model.router.scale(size) == scale) for scale in model.scales}
    return {scale: of_scale or (scale,) for scale, of_scale in served.items()}


def _with_one_set(model: MultiScaleUnifiedNetwork) -> MultiScaleUnifiedNetwork:
    """Return a copy of a network whose BatchNorms have one set of averages each, of several the last one."""
    plain = copy.deepcopy(model)
    plain.averages = {}
    for name, norm in norms_of(plain).items():
        if isinstance(norm, SizeNorm):
            plain.set_submodule(name, norm.with_one_set())
    return plain


def _averages(
    probe: MultiScaleUnifiedNetwork, batches: Iterable[Tensor], size: int, scale: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return mean and variance of what each BatchNorm that serves `scale` gets for images of `size`, by name.

    Its batches are normalised by their own averages on the way, as in training.
    """
    norms = norms_of(probe)
    for norm in norms.values():
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
        norm.train()
    for images in batches:
        probe.forward_at(resize(images, size, probe.antialias), scale)
    found = {name: norm for name, norm in norms.items() if norm.num_batches_tracked}
    if not found:
        raise UserError("averages: expected images to take them from, got none")
    return {name: (norm.running_mean.clone(), norm.running_var.clone()) for name, norm in found.items()}
