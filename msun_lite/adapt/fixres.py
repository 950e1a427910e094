"""FixRes: classifier and last BatchNorm fitted to test-time crops of one size (Touvron et al., NeurIPS 2019)."""

import copy
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from msun_lite.networks import MSUN, classifiers
from msun_lite.per_scale import norms_of
from msun_lite.scales import resize
from msun_lite.utils.errors import UserError, one_of, within
from msun_lite.utils.precision import full_precision

PARTS = ("averages", "classifier", "both")
"""What is fitted: the averages of the last BatchNorm, the classifier, or both, which is FixRes."""

SHORTCUT = "downsample"
"""What torchvision and timm call a convolution in the shortcut of a residual block."""

RATE, OF_BATCH = 8e-3, 512
"""Learning rate for so many images a step; it is scaled linearly."""


@full_precision()
def fix_resolution(
    model: MSUN, batches: Iterable[tuple[Tensor, Tensor]], size: int, part: str = "both", epochs: int = 6
) -> MSUN:
    """Return a copy, ready for evaluation, fitted to images of `size`; all but the `part` of it stays bit for bit.

    The weight and bias of the BatchNorm stay too, and its averages move as in training. SGD with momentum 0.9 and
    weight decay 1e-4; the rate falls to a tenth after half of the epochs.

    Args:
        model: a trained network.
        batches: normalised centre crops [B, 3, L, L], as in testing, and labels [B], on the model's device; gone
            through once an epoch.
        size: in pixels; the images are made that small first, and go through the subnet that serves it.
        part: one of `PARTS`.
        epochs: passes over the images.

    Raises:
        UserError: for another part, or no epoch.
    """
    one_of("part", part, PARTS)
    within("epochs", epochs, least=1)
    fixed = copy.deepcopy(model).eval().requires_grad_(False)
    scale = fixed.router.scale(size)
    if part != "classifier":
        for norm in _last_norms(fixed, scale):
            norm.train()
    heads = [] if part == "averages" else [p for layer in classifiers(fixed) for p in layer.parameters()]
    for parameter in heads:
        parameter.requires_grad_(True)
    optimizer = torch.optim.SGD(heads, RATE, 0.9, weight_decay=1e-4) if heads else None
    for epoch in range(epochs):
        for images, labels in batches:
            if optimizer is not None:
                optimizer.param_groups[0]["lr"] = RATE * len(labels) / OF_BATCH * (0.1 if 2 * epoch >= epochs else 1)
            _step(fixed, resize(images, size, fixed.antialias), labels, scale, optimizer)
    return fixed.requires_grad_(True).eval()


def _step(model: MSUN, images: Tensor, labels: Tensor, scale: int, optimizer: torch.optim.SGD | None) -> None:
    with torch.set_grad_enabled(optimizer is not None):
        loss = F.cross_entropy(model.forward_at(images, scale), labels)
    if optimizer is not None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def _last_norms(model: MSUN, scale: int) -> list[_BatchNorm]:
    """Return the last BatchNorm that images of a scale pass, and that of the shortcut beside it where there is one.

    Raises:
        UserError: if they pass none.
    """
    passed: list[str] = []
    hooks = [
        norm.register_forward_hook(lambda *_, name=name: passed.append(name)) for name, norm in norms_of(model).items()
    ]
    parameter = next(model.parameters())
    model.forward_at(torch.zeros(1, 3, scale, scale, device=parameter.device, dtype=parameter.dtype), scale)
    for hook in hooks:
        hook.remove()
    if not passed:
        raise UserError("part: expected classifier for a network without BatchNorm, got one that moves its averages")
    beside = SHORTCUT in passed[-1].split(".")  # the shortcut of a residual block runs after what it goes around
    return [model.get_submodule(name) for name in passed[-2 if beside else -1 :]]
