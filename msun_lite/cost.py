"""Parameters and FLOPs of a model."""

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from msun_lite.model import MSUN


def parameters(model: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def flops(model: MSUN) -> dict[int, int]:
    """Return the FLOPs of one image through each subnet and the unified network: {scale: FLOPs}.

    FLOPs are 2 x multiply-adds of convolutions and linear layers, counted on the meta device: no
    memory, no arithmetic.
    """
    ghost = copy.deepcopy(model).to("meta").eval()
    counts = {}
    for scale in ghost.scales:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            ghost.forward_at(torch.empty(1, 3, scale, scale, device="meta"), scale)
        counts[scale] = counter.get_total_flops()
    return counts
