"""A set of BatchNorm averages for each size of images, as images made smaller have other ones (Li et al., 2016)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from msun_lite.model import MultiScaleUnifiedNetwork
from msun_lite.per_scale import PerScale, shallow_copy
from msun_lite.utils.errors import UserError

AVERAGES = ("running_mean", "running_var")
"""What PyTorch calls the averages of a BatchNorm."""


class SizeNorm(nn.Module):
    """A BatchNorm with a set of averages for each size of images; all else, its weight and bias too, is that of all.

    Args:
        norm: the BatchNorm, of any class, whose place it takes and whose averages become those of every set.
        sizes: scale in pixels -> the sizes in pixels that have a set there.

    Buffers: `running_mean` and `running_var` [sets, C], those of the first scale first. All else that it keeps has the
    names that it has in the BatchNorm, so that weights are the same with such averages and without.
    """

    def __init__(self, norm: _BatchNorm, sizes: Mapping[int, Sequence[int]]):
        super().__init__()
        counts = [len(of_scale) for of_scale in sizes.values()]
        for name in AVERAGES:
            self.register_buffer(name, getattr(norm, name).detach().repeat(sum(counts), 1))
            setattr(norm, name, None)
        norm.num_batches_tracked, norm.track_running_stats = None, False  # a count of all sizes says nothing
        self.norm, self.training = norm, norm.training
        self.register_state_dict_post_hook(_without_prefix)
        self.register_load_state_dict_pre_hook(_with_prefix)
        self.firsts = {scale: sum(counts[:place]) for place, scale in enumerate(sizes)}

    def forward(self, features: Tensor) -> Tensor:
        """Refuse to guess which averages are meant: `at_scale` takes some.

        Raises:
            UserError: always.
        """
        expected = "expected a size for averages that differ by size, got none"
        raise UserError(f"averages: {expected}: call, compile or wrap the whole model rather than a part of it")

    def at_scale(self, scale: int, place: int | Tensor) -> _BatchNorm:
        """Return the BatchNorm with the averages at a `place` of those of a scale; in training these stay."""
        first = self.firsts[scale]
        chosen = {name: getattr(self, name)[first + place].flatten() for name in AVERAGES}
        return shallow_copy(self.norm, _buffers={**self.norm._buffers, **chosen})

    def with_one_set(self) -> _BatchNorm:
        """Return the BatchNorm, which is no longer this one's, with the averages of the last set."""
        for name in AVERAGES:
            setattr(self.norm, name, getattr(self, name)[-1].clone())
        self.norm.track_running_stats = True
        self.norm.num_batches_tracked = torch.zeros((), dtype=torch.long, device=self.running_mean.device)
        return self.norm


INSIDE = "norm."
"""What the names of the BatchNorm's own tensors begin with in a `SizeNorm`."""


def _without_prefix(norm: SizeNorm, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    for name in [name for name in state if name.startswith(prefix + INSIDE)]:
        state[prefix + name.removeprefix(prefix + INSIDE)] = state.pop(name)


def _with_prefix(norm: SizeNorm, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    own = {prefix + name for name in AVERAGES}
    for name in [name for name in state if name.startswith(prefix) and name not in own]:
        state[prefix + INSIDE + name.removeprefix(prefix)] = state.pop(name)


def size_norms_of(network: nn.Module) -> dict[str, SizeNorm]:
    """Return the `SizeNorm`s in `network` by name."""
    return {name: module for name, module in network.named_modules() if isinstance(module, SizeNorm)}


def set_averages(model: MultiScaleUnifiedNetwork, averages: Mapping[int, Sequence[int]]) -> None:
    """Give every BatchNorm of a model a set of averages for each size, all those that it has now.

    Args:
        model: has one set of averages.
        averages: scale -> sizes in pixels, for every scale.

    Raises:
        UserError: if a scale is missing, the model has such sets, or no BatchNorm that keeps averages.
    """
    if model.averages:
        raise UserError(f"averages: expected a network without averages of sizes, got {dict(model.averages)}")
    sizes = {int(scale): tuple(sizes) for scale, sizes in averages.items()}
    if list(sizes) != list(model.scales) or not all(sizes.values()):
        raise UserError(f"averages: expected sizes for each of the scales {list(model.scales)}, got {averages}")
    own = {name: sizes if model.private == "norms" else {int(name): sizes[int(name)]} for name in model.subnets}
    replaced = [_replace(f, own[name]) for name, f in model.subnets.items()]
    if not sum(replaced) + _replace(model.unified, sizes):
        raise UserError("averages: expected BatchNorm layers that keep averages, found none")
    model.averages = sizes


def _replace(network: nn.Module, sizes: Mapping[int, Sequence[int]]) -> int:
    """Replace every BatchNorm within `network` by a `SizeNorm`, and return how many there were.

    Args:
        network: no BatchNorm itself.
        sizes: scale -> the sizes that get a set of averages, for each scale that runs the network.
    """
    replaced = 0
    for name, layer in network.named_children():
        own = {int(name): sizes[int(name)]} if isinstance(network, PerScale) else sizes
        if not isinstance(layer, _BatchNorm):
            replaced += _replace(layer, own)
        elif layer.running_mean is not None:  # else it has the batch's in use, too
            setattr(network, name, SizeNorm(layer, own))
            replaced += 1
    return replaced
