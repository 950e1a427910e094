"""Networks of one's own by name: package.module:factory."""

import importlib
import inspect
from collections.abc import Callable

from torch import nn

from msun_lite.utils.errors import UserError, first_line

MOVED = dict.fromkeys(["msun_lite.backbones", "msun_lite.networks.backbones"], "msun_lite.networks.lite")
"""Where the networks are now, of modules that files written by earlier versions name."""


def is_factory(arch: str) -> bool:
    """Return whether an architecture is named as package.module:factory."""
    return ":" in arch


def find_factory(name: str) -> Callable[[int], nn.Module]:
    """Return what builds the network called package.module:factory, for a number of classes.

    The module is imported, which runs its code. The factory is called with `num_classes=N`; a class of networks that
    does not take it is called with nothing. Nothing else is ever called: a name may come from a file.

    Raises:
        UserError: if it cannot be imported, or does not take `num_classes`; or, from what is returned, if it fails or
            returns no network.
    """
    factory = _imported(name)
    options = _options(name, factory)

    def build(num_classes: int) -> nn.Module:
        given = dict.fromkeys(options, num_classes)
        call = f"{name}({', '.join(f'{option}={value}' for option, value in given.items())})"
        try:
            network = factory(**given)
        except Exception as error:  # it is not our code
            raise UserError(f"arch: {call} failed: {type(error).__name__}: {first_line(error)}") from None
        if not isinstance(network, nn.Module):
            raise UserError(f"arch: expected an nn.Module of {call}, got {type(network).__name__}")
        return network

    return build


def _imported(name: str) -> Callable:
    module, _, path = name.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), *path.split("."))):
        raise UserError(f"arch: expected package.module:factory, got {name!r}")
    try:
        found = importlib.import_module(MOVED.get(module, module))
    except Exception as error:  # its code may raise anything
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"arch: {name}: expected a module that can be imported from here, got {reason}") from None
    for part in path.split("."):
        if not hasattr(found, part):
            raise UserError(f"arch: {name}: {module} has no {path}")
        found = getattr(found, part)
    if not callable(found):
        raise UserError(f"arch: {name}: expected what builds a network, got {type(found).__name__}")
    return found


def _options(name: str, factory: Callable) -> tuple[str, ...]:
    """Return the names of the arguments that a factory is called with."""
    is_network = isinstance(factory, type) and issubclass(factory, nn.Module)
    for options in (("num_classes",), ()) if is_network else (("num_classes",),):
        try:
            inspect.signature(factory).bind(**dict.fromkeys(options, 1))
        except (TypeError, ValueError):  # it takes others, or does not say
            continue
        return options
    alone = "num_classes=N alone, or nothing" if is_network else "num_classes=N alone"
    raise UserError(f"arch: {name}: expected what can be called with {alone}, got {name}{_signature(factory)}")


def _signature(factory: Callable) -> str:
    try:
        return str(inspect.signature(factory))
    except (TypeError, ValueError):
        return "(...)"
