"""One module a scale in the place of one: BatchNorms inside shared layers, or all of the deeper layers.

Shared layers see features of every scale, and the features of two scales differ in mean and variance. A BatchNorm
that averages over all of them fits none exactly. As in RS-Nets (Wang et al., Resolution Switchable Networks, ECCV
2020), each scale may own the BatchNorms of g; the convolutions stay shared.
"""

import copy
from collections.abc import Sequence

from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from msun_lite.utils.errors import UserError

NORMS = ("shared", "per_scale")
"""Who owns the BatchNorms of the unified network: all scales together, or each its own."""


class PerScale(nn.ModuleDict):
    """One module a scale in the place of one. `at_scale` says which is used.

    Args:
        owned: scale in pixels -> its module.
    """

    def __init__(self, owned: dict[int, nn.Module]):
        super().__init__({str(scale): module for scale, module in owned.items()})
        self.scale = next(iter(owned)) if len(owned) == 1 else None

    def forward(self, features: Tensor) -> Tensor:
        """Return what the module of the chosen scale makes of the features [B, C, h, w].

        Raises:
            UserError: if there are several and none was chosen.
        """
        if self.scale is None:
            expected = f"expected one of the scales {', '.join(self)} for layers that differ by scale, got none"
            raise UserError(f"scale: {expected}: call, compile or wrap the whole model rather than a part of it")
        return self[str(self.scale)](features)

    def at_scale(self, scale: int, place: int | Tensor) -> "PerScale":
        """Return what takes the module of `scale`, see the function of this name."""
        own = {str(scale): at_scale(self[str(scale)], scale, place)}
        return shallow_copy(self, scale=scale, _modules={**self._modules, **own})


def at_scale(network: nn.Module, scale: int, place: int | Tensor = 0) -> nn.Module:
    """Return `network` as one scale runs it: each layer in it with a method of this name takes what is of that scale.

    Only what one of them lies in is copied, without its tensors; all other layers and all hooks are the network's own.
    The network itself is not written to, so threads may run it at different scales at the same time.

    Args:
        network: whose layers differ by scale, or not.
        scale: in pixels.
        place: of the BatchNorms' averages, where they have several sets; a tensor of one number in a graph.
    """
    if hasattr(network, "at_scale"):
        return network.at_scale(scale, place)
    own = network._modules
    layers = {name: at_scale(layer, scale, place) if layer is not None else None for name, layer in own.items()}
    if all(layers[name] is layer for name, layer in own.items()):
        return network
    return shallow_copy(network, _modules=layers)


def shallow_copy(module: nn.Module, **changed: object) -> nn.Module:
    """Return a copy of a module that shares all but the attributes `changed` with it."""
    kind = type(module)
    if isinstance(module, fx.GraphModule):
        changed, kind = {**changed, "run": kind.forward}, _Graph
    copied = object.__new__(kind)
    vars(copied).update({**vars(module), **changed})
    return copied


class _Graph(nn.Module):
    """What runs as an fx.GraphModule does. torch.compile takes no copy of such a one that is made while it looks on."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.run(self, *inputs)


def norms_of(network: nn.Module) -> dict[str, _BatchNorm]:
    """Return the BatchNorms in `network` by name."""
    return {name: module for name, module in network.named_modules() if isinstance(module, _BatchNorm)}


def own_norms(network: nn.Module, scales: Sequence[int]) -> None:
    """Replace every BatchNorm in `network` by one a scale, each starting as a copy of it.

    Raises:
        UserError: if it has none.
    """
    found = norms_of(network)
    if not found:
        raise UserError("norm: expected BatchNorm layers to keep per scale, found none")
    for name, norm in found.items():
        network.set_submodule(name, PerScale({scale: copy.deepcopy(norm) for scale in scales}))
