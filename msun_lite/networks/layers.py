"""Layers by the names that the plain CNN has for them, whether they are in a subnet or in the unified network.

A `model` is an `MSUN`, which itself stands on this file.
"""

import copy
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, fx, nn

from msun_lite.networks.backbones import Recipe, can_build, find_recipe
from msun_lite.networks.factories import is_factory
from msun_lite.per_scale import PerScale
from msun_lite.utils.errors import UserError, did_you_mean


def stages(model: nn.Module) -> tuple[str, ...]:
    """Return the last layers of the stages, in order: those of Eq. 2, five for the networks of Table I.

    Of a network of one's own they are the last of the recorded layers that give maps of one size, for each size.

    Raises:
        UserError: if nothing says where this architecture's stages end.
    """
    found = _recipe(model).stages or _last_of_each_size(model)
    if not found:
        raise UserError(
            f"layer: nothing says where the stages of {model.spec['arch']} end, expected the name of a layer"
        )
    return found


def layer_names(model: nn.Module) -> tuple[str, ...]:
    """Return the layers to look at one by one, the last ones of the stages among them."""
    pattern = _recipe(model).layers
    if pattern is None:
        return stages(model)
    return tuple(name for name in _names(model, model.scales[-1]) if re.fullmatch(pattern, name))


def _recipe(model: nn.Module) -> Recipe:
    """Return the recipe of a model's network; one that knows no layers if the network has none."""
    arch = model.spec["arch"]
    return find_recipe(arch) if can_build(arch) and not is_factory(arch) else Recipe(build=None)


def _last_of_each_size(model: nn.Module) -> tuple[str, ...]:
    """Return the last layer at each size of the map, of those that f and g call once; none if they are no graphs."""
    largest, found = model.scales[-1], {}
    ghost = copy.deepcopy(model).to("meta").eval()
    parts = [ghost.get_submodule(part) for part in _parts(ghost, largest)]
    if not all(isinstance(part, fx.GraphModule) for part in parts):
        return ()

    def note(name: str) -> Callable:
        def hook(_: nn.Module, inputs: tuple, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and output.shape[-1] > 1:
                found[output.shape[-1]] = name

        return hook

    for part in parts:
        called = Counter(node.target for node in part.graph.nodes if node.op == "call_module")
        for name in (name for name, times in called.items() if times == 1):
            part.get_submodule(name).register_forward_hook(note(name))
    with torch.no_grad(), torch.device("meta"):
        ghost.forward_at(torch.empty(1, 3, largest, largest), largest)
    return tuple(found.values())


def layer_path(model: nn.Module, layer: str, scale: int) -> str:
    """Return the name that a layer of the plain CNN has in `model.named_modules()`, in or above the subnet of `scale`.

    Raises:
        UserError: if there is no such layer.
    """
    names = _names(model, scale)
    if layer not in names:
        raise UserError(f"layer: {model.spec['arch']} has none called {layer!r}{did_you_mean(layer, names)}")
    return names[layer]


def _names(model: nn.Module, scale: int) -> dict[str, str]:
    """Return {plain name: name in the model} of all layers in and above the subnet of `scale`."""
    found = {}
    for part in _parts(model, scale):
        found |= {name: f"{part}.{name}" for name, _ in model.get_submodule(part).named_modules() if name}
    return found


def _parts(model: nn.Module, scale: int) -> tuple[str, str]:
    """Return the names of the subnet of `scale` and of what is above it."""
    return f"subnets.{scale}", f"unified.{scale}" if model.unify == "none" else "unified"


def classifiers(network: nn.Module) -> list[nn.Linear]:
    """Return the last linear layer of a network: one, or where nothing is shared one of each private g.

    Raises:
        UserError: if there is none.
    """
    unified = getattr(network, "unified", None)
    found = []
    for part in unified.values() if isinstance(unified, PerScale) else (network,):
        linear = [module for module in part.modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise UserError(f"expected a network with a linear classifier, got {type(network).__name__} without one")
        found.append(linear[-1])
    return found


@contextmanager
def penultimate(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the features [B, D] that the last linear layer gets: yields a list, one entry a forward.

    Raises:
        UserError: if the model has no linear layer.
    """
    kept: list[Tensor] = []
    handles = []
    try:
        for layer in classifiers(model):
            handles.append(
                layer.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0].detach().flatten(1)))
            )
        yield kept
    finally:
        for handle in handles:
            handle.remove()
