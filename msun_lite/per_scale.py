"""One module a scale in the place of one: BatchNorms inside shared layers, or all of the deeper layers.

Shared layers see features of every scale, and the features of two scales differ in mean and variance. A BatchNorm
that averages over all of them fits none exactly. As in RS-Nets (Wang et al., Resolution Switchable Networks, ECCV
2020), each scale may own the BatchNorms of g; the convolutions stay shared. And a BatchNorm may have averages for each
size of images, as images made smaller have other ones (Li et al., Revisiting Batch Normalization, 2016).
"""

import copy
from collections.abc import Mapping, Sequence

import torch.nn.functional as F
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


class SizeNorm(_BatchNorm):
    """A BatchNorm with a set of averages for each size of images; its weight and bias are those of all sizes.

    Args:
        norm: the BatchNorm whose place it takes, whose averages become those of every set.
        sizes: scale in pixels -> the sizes in pixels that have a set there. `at_scale` says which is used.

    Buffers: `running_mean` and `running_var` [sets, C], those of the first scale first.
    """

    def __init__(self, norm: _BatchNorm, sizes: Mapping[int, Sequence[int]]):
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, track_running_stats=False)
        self.weight, self.bias, self.training = norm.weight, norm.bias, norm.training
        counts = [len(of_scale) for of_scale in sizes.values()]
        for name in ("running_mean", "running_var"):
            setattr(self, name, getattr(norm, name).detach().repeat(sum(counts), 1))
        self._one_set = type(norm)
        self.firsts = {scale: sum(counts[:place]) for place, scale in enumerate(sizes)}
        self.chosen: int | Tensor | None = None

    def with_one_set(self) -> _BatchNorm:
        """Return a BatchNorm as this one, with the averages of the last set."""
        norm = self._one_set(self.num_features, self.eps, self.momentum, self.affine).to(self.running_mean)
        norm.weight, norm.bias, norm.training = self.weight, self.bias, self.training
        norm.running_mean.copy_(self.running_mean[-1])
        norm.running_var.copy_(self.running_var[-1])
        return norm

    def _check_input_dim(self, features: Tensor) -> None:
        """What PyTorch's class asks of its children: nothing, as `forward` is our own."""

    def forward(self, features: Tensor) -> Tensor:
        """Return the features [B, C, h, w], normalised by the averages of the chosen set; in training by their own.

        Raises:
            UserError: if none was chosen.
        """
        if self.chosen is None:
            expected = "expected a size for averages that differ by size, got none"
            raise UserError(f"averages: {expected}: call, compile or wrap the whole model rather than a part of it")
        mean, variance = self.running_mean[self.chosen].flatten(), self.running_var[self.chosen].flatten()
        momentum = self.momentum or 0.0
        return F.batch_norm(features, mean, variance, self.weight, self.bias, self.training, momentum, self.eps)


def at_scale(network: nn.Module, scale: int, place: int | Tensor = 0) -> nn.Module:
    """Return `network` as one scale runs it: each `PerScale` and `SizeNorm` in it takes what is of that scale.

    Only what one of them lies in is copied, without its tensors; all other layers and all hooks are the network's own.
    The network itself is not written to, so threads may run it at different scales at the same time.

    Args:
        network: whose layers differ by scale, or not.
        scale: in pixels.
        place: of the set of averages among those of the scale, in each `SizeNorm`; a tensor of one number in a graph.
    """
    if isinstance(network, SizeNorm):
        return _shallow(network, chosen=network.firsts[scale] + place)
    if isinstance(network, PerScale):
        own = {str(scale): at_scale(network[str(scale)], scale, place)}
        return _shallow(network, scale=scale, _modules={**network._modules, **own})
    own = network._modules
    layers = {name: at_scale(layer, scale, place) if layer is not None else None for name, layer in own.items()}
    if all(layers[name] is layer for name, layer in own.items()):
        return network
    return _shallow(network, _modules=layers)


def _shallow(module: nn.Module, **changed: object) -> nn.Module:
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


def size_norms(network: nn.Module, sizes: Mapping[int, Sequence[int]]) -> int:
    """Replace every BatchNorm in `network` by a `SizeNorm`, and return how many there were.

    Args:
        network: no BatchNorm itself.
        sizes: scale -> the sizes that get a set of averages, for each scale that runs the network.
    """
    replaced = 0
    for name, layer in network.named_children():
        own = {int(name): sizes[int(name)]} if isinstance(network, PerScale) else sizes
        if isinstance(layer, _BatchNorm):
            setattr(network, name, SizeNorm(layer, own))
            replaced += 1
        else:
            replaced += size_norms(layer, own)
    return replaced
