"""How a network that was given can be built again: by its name in torchvision or timm, by its class, by a factory."""

import copy
from collections.abc import Iterator

import torch
import torchvision
from torch import nn

from msun_lite.networks.backbones import TIMM, can_build, find_recipe, torchvision_names
from msun_lite.networks.factories import is_factory
from msun_lite.networks.tracing import trace
from msun_lite.utils.errors import UserError


def builder_of(network: nn.Module, split: str, scale: int, classes: int, factory: str | None = None) -> str:
    """Return the name that `backbones.find_recipe` builds the same network by; its class if there is none.

    What is found gives the same network: the same tensors by name and shape, the same layers, the same course to and
    from the layer `split`, and with the same weights the same logits of images of `scale`.

    Args:
        factory: the name to take, package.module:factory or one of an architecture; looked for by default.

    Raises:
        UserError: if what `factory` builds is another network.
    """
    for name in _candidates(network) if factory is None else (factory,):
        if (problem := _difference(network, name, split, scale, classes)) is None:
            return name
        if factory is not None:
            raise UserError(f"factory: expected what builds the network again, {factory} does not: {problem}")
    return class_name(type(network))


def class_name(kind: type) -> str:
    """Return a class's name, behind its module if that is a notebook or script, or if an architecture has that name."""
    module = f"{kind.__module__}." if kind.__module__ == "__main__" or can_build(kind.__name__) else ""
    return module + kind.__name__


def _candidates(network: nn.Module) -> Iterator[str]:
    """Yield the names that may build a network."""
    kind, config = type(network), getattr(network, "pretrained_cfg", None)
    if isinstance(config, dict) and config.get("architecture"):
        yield TIMM + ".".join(filter(None, (config["architecture"], config.get("tag"))))
    if kind.__module__.startswith("torchvision.models."):
        builders = {name: torchvision.models.get_model_builder(name) for name in torchvision_names()}
        yield from (name for name, builder in builders.items() if builder.__module__ == kind.__module__)
    if kind.__module__ != "__main__" and "<locals>" not in kind.__qualname__:
        yield f"{kind.__module__}:{kind.__qualname__}"


@torch.no_grad()
def _difference(network: nn.Module, name: str, split: str, scale: int, classes: int) -> str | None:
    """Return how what is built by a name differs from a network, None if it does not."""
    try:
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay what they were
            if not is_factory(name):
                with torch.device("meta"):  # quick, for there are many
                    if (problem := _other_layers(network, find_recipe(name).build(classes))) is not None:
                        return problem
            twin = find_recipe(name).build(classes)
    except (UserError, NotImplementedError) as error:
        return str(error)
    if (problem := _other_layers(network, twin)) is not None:
        return problem
    network = copy.deepcopy(network)
    if _course(network, split) != _course(twin, split):
        return "its forward takes another course"
    return _other_logits(network.eval(), twin.eval(), scale)


def _other_layers(network: nn.Module, twin: nn.Module) -> str | None:
    own, other = ({key: list(tensor.shape) for key, tensor in each.state_dict().items()} for each in (network, twin))
    for key in sorted(own.keys() | other.keys()):
        if own.get(key) != other.get(key):
            return f"{key}: expected {own.get(key, 'no such tensor')}, got {other.get(key, 'none')}"
    return None if repr(network) == repr(twin) else "its layers are others"


def _course(network: nn.Module, split: str) -> str:
    return trace(network, split).python_code("self").src


def _other_logits(network: nn.Module, twin: nn.Module, scale: int) -> str | None:
    tensor = next(network.parameters(), None)
    if tensor is None or tensor.is_meta:
        return None
    twin.to(tensor.device, tensor.dtype).load_state_dict(network.state_dict())
    images = torch.rand(2, 3, scale, scale, generator=torch.Generator().manual_seed(0)).to(tensor)
    same = torch.allclose(network(images), twin(images), rtol=1e-3, atol=1e-5, equal_nan=True)
    return None if same else "with the same weights it gives other logits"
