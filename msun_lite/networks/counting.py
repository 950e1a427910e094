"""Parameters and FLOPs (2 x multiply-adds) of a network at each of its scales."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from msun_lite.model import MultiScaleUnifiedNetwork
from msun_lite.networks.size_norm import size_norms_of
from msun_lite.scales import resize_features

SIZES = 13
"""Sizes in the default grid, as in the paper."""


@dataclass(frozen=True)
class Cost:
    """What a part of a network costs for one image.

    Args:
        flops: 2 x multiply-adds.
        norm_outputs: numbers that BatchNorm layers put out.
    """

    flops: int
    norm_outputs: int

    @property
    def paper_unit(self) -> int:
        """The cost in the unit of the paper's tables."""
        return 4 * self.flops + 8 * self.norm_outputs

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.flops + other.flops, self.norm_outputs + other.norm_outputs)


def parameters(model: nn.Module) -> int:
    """Return the number of trainable parameters, and of the averages that BatchNorms have beyond one set each."""
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    sets = [norm.running_mean for norm in size_norms_of(model).values()]
    return trained + sum(2 * (kept.numel() - kept.shape[1]) for kept in sets)


def flops(model: MultiScaleUnifiedNetwork) -> dict[int, int]:
    """Return the FLOPs of one image of each scale through its subnet and the unified network: {scale: FLOPs}."""
    return {scale: (lower + upper).flops for scale, (lower, upper) in count(model).items()}


def flops_by_size(model: MultiScaleUnifiedNetwork, sizes: Sequence[int]) -> dict[int, dict[int, int]]:
    """Return the FLOPs of one image of each of the `sizes` through every subnet: {scale: {size: FLOPs}}."""
    ghost, router = _ghost(model), model.router
    counted = cache(lambda scale, side: sum(part.flops for part in _count_at(ghost, scale, side)))
    return {scale: {size: counted(scale, router.side(size, scale)) for size in sizes} for scale in model.scales}


def count(model: MultiScaleUnifiedNetwork, size: int | None = None) -> dict[int, tuple[Cost, Cost]]:
    """Return what f_i and g cost for one image at each scale: {scale: (f_i, g)}.

    Args:
        model: on any device; nothing is computed.
        size: of the image in pixels, which matters where `subnet_input` is native; that of each scale by default.
    """
    ghost, router = _ghost(model), model.router
    return {scale: _count_at(ghost, scale, router.side(size or scale, scale)) for scale in model.scales}


def _ghost(model: MultiScaleUnifiedNetwork) -> MultiScaleUnifiedNetwork:
    """Return a copy that computes nothing."""
    return copy.deepcopy(model).to("meta").eval()


@torch.no_grad()
def _count_at(ghost: MultiScaleUnifiedNetwork, scale: int, side: int) -> tuple[Cost, Cost]:
    """Return what f_i of a scale, which gets an image of `side` pixels, and g cost."""
    images, lower = torch.empty(1, 3, side, side, device="meta"), ghost.lower(scale)
    features, below = _count(ghost, lambda: lower(images))
    if ghost.unify != "native":
        features = resize_features(features, ghost.feature_shape)
    _, above = _count(ghost, lambda: ghost.classify(features, scale))
    return below, above


@torch.no_grad()
def native_flops(model: MultiScaleUnifiedNetwork, size: int) -> int:
    """Return the FLOPs of one image of `size` pixels through a plain CNN that gets it as it is, not resized."""
    ghost = _ghost(model)
    return _count(ghost, lambda: ghost.forward_native(torch.empty(1, 3, size, size, device="meta")))[1].flops


def _count(model: nn.Module, forward) -> tuple[Tensor, Cost]:
    outputs = []
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    hooks = [norm.register_forward_hook(lambda _, __, output: outputs.append(output.numel())) for norm in norms]
    with FlopCounterMode(display=False) as counter:
        result = forward()
    for hook in hooks:
        hook.remove()
    return result, Cost(counter.get_total_flops(), sum(outputs))


def size_grid(scales: Sequence[int]) -> list[int]:
    """Return 13 sizes from the smallest scale to the largest, evenly spaced (fewer if they are closer than that)."""
    first, last = scales[0], scales[-1]
    return sorted({round(first + step * (last - first) / (SIZES - 1)) for step in range(SIZES)})


def default_sizes(scales: Sequence[int]) -> list[int]:
    """Return the sizes to measure at where nothing says them: 13 between the scales, or from a seventh of the only one.

    With scales like the paper's 32, 128 and 224 px these are its sizes.
    """
    return size_grid(scales if len(scales) > 1 else (max(1, round(scales[0] / 7)), scales[0]))
