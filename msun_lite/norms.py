"""One module a scale in the place of one: BatchNorms inside shared layers, or all of the deeper layers.

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


class PerScale(nn.ModuleDict):
    """One module a scale in the place of one: the one of `scale` is used.

    Args:
        owned: scale in pixels -> its module, the largest scale last.
    """

    def __init__(self, owned: dict[int, nn.Module]):
        super().__init__({str(scale): module for scale, module in owned.items()})
        self.scale = list(owned)[-1]

    def forward(self, features: Tensor) -> Tensor:
        """Return what the module of the chosen scale makes of the features [B, C, h, w]."""
        return self[str(self.scale)](features)


def own_norms(network: nn.Module, scales: Sequence[int]) -> None:
    """Replace every BatchNorm in `network` by one a scale, each starting as a copy of it.

    Raises:
        UserError: if it has none.
    """
    found = [name for name, module in network.named_modules() if isinstance(module, _BatchNorm)]
    if not found:
        raise UserError("norm: expected BatchNorm layers in the unified network to keep per scale, found none")
    for name in found:
        norm = network.get_submodule(name)
        network.set_submodule(name, PerScale({scale: copy.deepcopy(norm) for scale in scales}))
