"""Layers by the names that the plain CNN has for them, whether they are in a subnet or in the unified network.

A `model` is an `MSUN`, which itself stands on this file.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from msun_lite.backbones import Recipe, can_build, find_recipe
from msun_lite.errors import UserError, did_you_mean
from msun_lite.factories import is_factory
from msun_lite.norms import PerScale


def stages(model: nn.Module) -> tuple[str, ...]:
    """Return the last layers of the stages, in order: those of Eq. 2, five for the networks of Table I.

    Raises:
        UserError: if nothing says where this architecture's stages end.
    """
    found = _recipe(model).stages
    if not found:
        raise UserError(
            f"layer: nothing says where the stages of {model.spec['arch']} end, expected the name of a layer"
        )
    return found


def layers(model: nn.Module) -> tuple[str, ...]:
    """Return the layers to look at one by one, the last ones of the stages among them."""
    pattern = _recipe(model).layers
    if pattern is None:
        return stages(model)
    return tuple(name for name in _names(model, model.scales[-1]) if re.fullmatch(pattern, name))


def _recipe(model: nn.Module) -> Recipe:
    """Return the recipe of a model's network; one that knows no layers if the network has none."""
    arch = model.spec["arch"]
    return find_recipe(arch) if can_build(arch) and not is_factory(arch) else Recipe(build=None)


def located(model: nn.Module, layer: str, scale: int) -> str:
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
    for part in (f"subnets.{scale}", f"unified.{scale}" if model.unify == "none" else "unified"):
        found |= {name: f"{part}.{name}" for name, _ in model.get_submodule(part).named_modules() if name}
    return found


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
def as_found(network: nn.Module) -> Iterator[None]:
    """Give every module of a network its mode back, training or evaluation, whatever is done to them inside."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
