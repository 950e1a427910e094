"""Normalisation per scale: private BatchNorm statistics and parameters inside shared layers.

Shared layers see features of every scale, and the features of two scales differ in mean and variance. A BatchNorm
that averages over all of them fits none exactly. As in RS-Nets (Wang et al., Resolution Switchable Networks, ECCV
2020), each scale may own the BatchNorms of g; the convolutions stay shared.
"""

import copy
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from msun_lite.errors import UserError

NORMS = ("shared", "per_scale")
"""Who owns the BatchNorms of the unified network: all scales together, or each its own."""


class NormPerScale(nn.ModuleDict):
    """One BatchNorm a scale in the place of one: the one of `scale` is used.

    Args:
        norm: the BatchNorm that each scale starts with a copy of.
        scales: in pixels.
    """

    def __init__(self, norm: nn.Module, scales: Sequence[int]):
        super().__init__({str(scale): copy.deepcopy(norm) for scale in scales})
        self.scale = scales[-1]

    def forward(self, features: Tensor) -> Tensor:
        """Return the features [B, C, h, w], normalised as those of the chosen scale."""
        return self[str(self.scale)](features)


def own_norms(network: nn.Module, scales: Sequence[int]) -> list[NormPerScale]:
    """Replace every BatchNorm in `network` by one a scale, and return the replacements.

    Raises:
        UserError: if it has none.
    """
    found = [name for name, module in network.named_modules() if isinstance(module, _BatchNorm)]
    if not found:
        raise UserError("norm: expected BatchNorm layers in the unified network to keep per scale, found none")
    for name in found:
        network.set_submodule(name, NormPerScale(network.get_submodule(name), scales))
    return [module for module in network.modules() if isinstance(module, NormPerScale)]
