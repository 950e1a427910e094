"""What a network makes of images of a scale, found out without computing anything."""

import contextlib
import copy
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from msun_lite.utils.errors import UserError, first_line


def dry_run(network: nn.Module, scale: int, name: str) -> object:
    """Return what a network gives for one image of `scale`, on the device meta; nothing is computed.

    Args:
        name: what it is called in the message.

    Raises:
        UserError: if it cannot take images of this scale.
    """
    ghost = copy.deepcopy(network).to("meta").eval()
    try:
        with _nothing_computed():
            return ghost(torch.empty(1, 3, scale, scale))
    except Exception as error:  # whatever a network may refuse
        where = place_of(error, ghost)
        raise UserError(f"scales: {name} cannot take images of {scale} px{where}: {why(error)}") from None


@contextlib.contextmanager
def _nothing_computed() -> Iterator[None]:
    """Run networks on the device meta inside: what they make themselves, such as positions, is made there too."""
    with torch.no_grad(), torch.device("meta"):
        yield


def map_shape(f: nn.Module, scale: int) -> tuple[int, int]:
    """Return the side lengths (h, w) of f's output for one image of `scale`; nothing is computed.

    Raises:
        UserError: if f cannot take images of this scale, or gives anything but maps [B, C, h, w].
    """
    return tuple(_maps(f, scale).shape[-2:])


def count_classes(cnn: nn.Module, scale: int) -> int:
    """Return the length of a network's logits for one image of `scale`; nothing is computed.

    Raises:
        UserError: if it cannot take images of this scale, or gives anything but logits [B, classes].
    """
    name = type(cnn).__name__
    logits = dry_run(cnn, scale, name)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise UserError(f"model: expected logits [B, classes] of {name}, got {_shown(logits)}")
    return logits.shape[1]


def _maps(f: nn.Module, scale: int) -> Tensor:
    """Return f's output [1, C, h, w] for one image of `scale`, on the device meta; for errors see `map_shape`."""
    maps = dry_run(f, scale, "the lower layers")
    if not isinstance(maps, Tensor) or maps.ndim != 4:
        raise UserError(f"features: expected maps [B, C, h, w] of the lower layers, got {_shown(maps)}")
    return maps


def _shown(output: object) -> str:
    return str(list(output.shape)) if isinstance(output, Tensor) else f"a {type(output).__name__}"


TORCH = Path(torch.__file__).parent


def place_of(error: Exception, *networks: nn.Module) -> str:
    """Return ` at FILE:LINE in LAYER`: the last line of a layer's own code that led to an error; empty if none did."""
    names = {id(module): name for network in networks for name, module in network.named_modules()}
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        file, first = frame.f_code.co_filename, frame.f_code.co_varnames[:1]
        layer = id(frame.f_locals.get(*first)) if first else None
        if layer in names and Path(file).is_file() and not Path(file).is_relative_to(TORCH):
            return f" at {file}:{line}" + (f" in {names[layer]}" if names[layer] else "")
    return ""


def why(error: Exception) -> str:
    """Return the first line of what a network's forward raised on the device meta, where tensors have no values."""
    if "meta tensor" not in str(error):
        return first_line(error)
    return f"expected a forward that asks for shapes alone, not for a tensor's values ({first_line(error)})"
