"""The precision that a network is trained in: what is asked for, what the device can do, and what a run began with."""

from collections.abc import Callable

import torch

from msun_lite.networks import MSUN
from msun_lite.utils.errors import UserError
from msun_lite.utils.precision import pick_precision, strides_over_a_point


def training_precision(wanted: str, device: torch.device, model: MSUN, say: Callable[[str], None]) -> str:
    """Return `fp32`, `bf16` or `fp16`: the one that is wanted, or that `auto` finds.

    Raises:
        UserError: if the network cannot be trained in it.
    """
    picked = pick_precision(wanted, device)
    if picked != "bf16" or _trains_in_bf16(device, model):
        return picked
    if wanted == "bf16":
        raise UserError("precision: expected fp32 on a CPU for a network with strides over maps of 1 x 1, got bf16")
    say("trains in fp32: this network has strides over maps of 1 x 1, which bf16 gets wrong on CPUs")
    return "fp32"


def can_go_on_in(begun: str, device: torch.device, model: MSUN) -> bool:
    """Return whether a run that began in a precision can go on in it where `auto` would find another one."""
    return begun == "fp32" or (begun == "bf16" and _trains_in_bf16(device, model))


def _trains_in_bf16(device: torch.device, model: MSUN) -> bool:
    """Return whether the network can be trained in bf16 there, in hardware or not."""
    return device.type != "cpu" or not strides_over_a_point(lambda: _see_all_scales(model), model)


def _see_all_scales(model: MSUN) -> None:
    """Run the network once at each of its scales, its averages untouched."""
    model.eval()
    for scale in model.scales:
        model.forward_at(torch.zeros(1, 3, scale, scale), scale)
    model.train()
