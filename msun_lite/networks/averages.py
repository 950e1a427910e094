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

from msun_lite.data import LEAST_IMAGES, check_sizes
from msun_lite.model import MultiScaleUnifiedNetwork
from msun_lite.networks.size_norm import AVERAGES, set_averages, size_norms_of
from msun_lite.per_scale import norms_of
from msun_lite.scales import resize
from msun_lite.utils.errors import UserError, within
from msun_lite.utils.precision import full_precision
from msun_lite.utils.progress import progress

Sets = dict[int, tuple[int, ...]]
"""scale -> the sizes that have a set of averages there."""


@torch.no_grad()
@full_precision()
def with_averages(
    model: MultiScaleUnifiedNetwork,
    batches: Iterable[Tensor],
    sizes: Sequence[int],
    share: float = 1.0,
    native: bool = False,
    keep: bool = False,
) -> MultiScaleUnifiedNetwork:
    """Return a copy, ready for evaluation, with BatchNorm averages of each size through the subnet that serves it.

    Args:
        model: a trained network; averages of sizes that it has already are replaced.
        batches: normalised images [B, 3, H, W] on the model's device, two or more each, no smaller than the sizes; as
            often as they are asked for.
        sizes: in pixels, rising. A scale that serves none of them gets averages of its own size.
        share: of these averages in the mixture with those that the model has.
        native: feed a plain CNN the small images as they are, as `forward_native` does.
        keep: the size of the largest scale, one of the sizes or not, has the averages that the model has, bit for bit.

    Raises:
        UserError: if there are no images or no BatchNorm, a batch of one image, a share outside 0 to 1, sizes that do
            not rise, or native feeding of several scales.
    """
    within("share", share, least=0, most=1)
    check_sizes(sizes)
    largest = model.scales[-1]
    if keep:
        sizes = sorted({*sizes, largest})
    probe = _with_one_set(model).eval()
    found = copy.deepcopy(probe)
    set_averages(found, _sets(probe, sizes))
    norms = size_norms_of(found)
    served = [(scale, place, size) for scale, own in found.averages.items() for place, size in enumerate(own)]
    served = [one for one in served if not keep or one[2] != largest]
    for scale, place, size in progress(served, desc="averages", unit="size", leave=False):
        for layer, own in _averages(probe, batches, size, scale, native).items():
            for name, value in own.items():
                kept = getattr(norms[layer], name)[norms[layer].firsts[scale] + place]
                kept.copy_(share * value + (1 - share) * kept)
    return found


def interpolated(model: MultiScaleUnifiedNetwork, sizes: Sequence[int]) -> MultiScaleUnifiedNetwork:
    """Return a copy of a network with averages at `sizes` in between those that it has, linear in the size's logarithm.

    Beyond the first and the last size that a scale has, the averages are those of these.

    Raises:
        UserError: if it has none, or for sizes that do not rise.
    """
    if not model.averages:
        raise UserError("averages: expected a network that has some for each size, see with_averages, got none")
    check_sizes(sizes)
    found = _with_one_set(model)
    set_averages(found, _sets(found, sizes))
    stored = size_norms_of(model)
    for layer, norm in size_norms_of(found).items():
        for scale, first in norm.firsts.items():
            for place, size in enumerate(found.averages[scale]):
                below, above, weight = _between(model.averages[scale], size)
                for name in AVERAGES:
                    known, start = getattr(stored[layer], name), stored[layer].firsts[scale]
                    getattr(norm, name)[first + place] = torch.lerp(known[start + below], known[start + above], weight)
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
    for name, norm in size_norms_of(plain).items():
        plain.set_submodule(name, norm.with_one_set())
    return plain


def _averages(
    probe: MultiScaleUnifiedNetwork, batches: Iterable[Tensor], size: int, scale: int, native: bool
) -> dict[str, dict[str, Tensor]]:
    """Return the averages of what each BatchNorm that serves `scale` gets for images of `size`: {layer: {name: [C]}}.

    Its batches are normalised by their own averages on the way, as in training.
    """
    norms = {name: norm for name, norm in norms_of(probe).items() if norm.running_mean is not None}
    for norm in norms.values():
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
        norm.train()
    seen = 0
    for images in batches:
        if len(images) < LEAST_IMAGES:
            raise UserError(f"averages: expected batches of at least {LEAST_IMAGES} images, got {len(images)}")
        small = resize(images, size, probe.antialias)
        _ = probe.forward_native(small) if native else probe.forward_at(small, scale)
        seen += len(images)
    if not seen:
        raise UserError("averages: expected images, which are gone through once a size, got none")
    passed = {layer: norm for layer, norm in norms.items() if norm.num_batches_tracked}
    return {layer: {name: getattr(norm, name) for name in AVERAGES} for layer, norm in passed.items()}
