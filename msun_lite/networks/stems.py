"""Cutting a CNN in two, and giving its lower part a stem for smaller images.

`cut` splits any traceable network at a named layer into f and g, which keep its layers under their own names: its
weights, also published ones, fit both unchanged. `choose_stem` decides which strides f gives up at a smaller scale, and
`fit_stem` does it.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.utils.flop_counter import FlopCounterMode

from msun_lite.scales import side_of
from msun_lite.shapes import _maps, _nothing_computed, map_shape
from msun_lite.utils.errors import UserError

STEMS = ("coarse", "fine")
"""What the paper leaves open: how finely the stems below the largest scale sample their image."""


Place = tuple[str, ...]
"""The layers that halve the map together: one, or the branches of one block."""


def strided_places(f: nn.Module, scale: int) -> list[Place]:
    """Return where f makes its map smaller, in the order of the forward, found on an image of `scale`.

    Layers with a stride that start from maps of the same size belong together: a block's main path and
    its shortcut.
    """
    ghost = copy.deepcopy(f).to("meta").eval()
    places: dict[int, list[str]] = {}

    def note(name: str) -> Callable:
        def hook(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            if _stride(layer) > 1 and output.shape[-1] < inputs[0].shape[-1]:
                places.setdefault(inputs[0].shape[-1], []).append(name)

        return hook

    for name, layer in ghost.named_modules():
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            layer.register_forward_hook(note(name))
    with _nothing_computed():
        ghost(torch.empty(1, 3, scale, scale))
    return [tuple(names) for _, names in sorted(places.items(), reverse=True)]


def _stride(layer: nn.Module) -> int:
    return layer.stride if isinstance(layer.stride, int) else layer.stride[0]


@dataclass(frozen=True)
class Stem:
    """How f differs at a smaller scale.

    Args:
        kernel: side of the first convolution's kernel.
        strides: layer name -> stride where it is another than f's; a pooling of stride 1 is left out.
    """

    kernel: int
    strides: dict[str, int]


def choose_stem(
    f: nn.Module,
    scale: int,
    largest: int,
    rule: str = "coarse",
    places: Sequence[Place] | None = None,
    kernels: tuple[int, int] | None = None,
    finer: bool = True,
) -> Stem:
    """Return the stem that fits f, made for images of `largest` pixels, to images of a smaller `scale`.

    To images of `largest` pixels f fits as it is.

    The paper: "substitute the large convolutions with smaller ones and discard some max-pooling layers". Places halve
    their stride one after the other until the map is nearest to the largest scale's (in ratio). `rule` says which go
    first. `coarse`: the last, which is the cheapest way to a map of that size, and none that would make f dearer than
    at the largest scale. `fine`: the first, at any cost, as in the authors' experiments, where the medium subnet costs
    more than the large one. The first kernel shrinks, most where all strides are given up.

    Args:
        places: where strides may be given up, in the order of the forward; by default wherever there are.
        kernels: side of the first kernel with all strides given up, and else; by default 4 and 2 less than f's, but at
            least 3.
        finer: whether a `coarse` stem may give a map finer than the largest scale's; where g runs on the map as it is,
            that would make g dearer.

    Raises:
        UserError: for an unknown rule, or if f cannot take images of these scales or has no convolution.
    """
    if rule not in STEMS:
        raise UserError(f"stems: expected one of {', '.join(STEMS)}, got {rule!r}")
    (limit, _), budget = map_shape(f, largest), _flops(f, largest)  # first: it refuses an impossible scale
    side = _first_convolution(f)[1].kernel_size[0]
    if scale == largest:
        return Stem(side, {})
    steps = [
        place
        for place in (strided_places(f, largest) if places is None else places)
        for _ in range(int(math.log2(max(_stride(f.get_submodule(name)) for name in place))))
    ]
    if rule == "coarse":
        steps.reverse()
    kernels = kernels or _default_kernels(side)
    chosen, nearest = None, math.inf
    for count in range(len(steps) + 1):
        stem = Stem(kernels[0 if count == len(steps) else 1], _strides_after(f, steps[:count]))
        ghost = fit_stem(copy.deepcopy(f).to("meta"), stem)
        side = map_shape(ghost, scale)[0]
        distance = abs(math.log(side / limit))
        cheap = _flops(ghost, scale) <= budget and (finer or side <= limit)
        if distance < nearest and (cheap or rule == "fine"):
            chosen, nearest = stem, distance
    return chosen


def choose_stems(
    f: nn.Module,
    scales: Sequence[int],
    stems: str | dict[int, Stem],
    places: Sequence[Place] | None = None,
    kernels: tuple[int, int] | None = None,
    finer: bool = True,
    subnet_input: str = "scale",
) -> dict[int, Stem]:
    """Return the stem of each scale below the largest: chosen by a rule, or as given.

    Args:
        stems: a rule, see `choose_stem`, as for the other arguments; or one stem for each scale but the largest.
        subnet_input: what the subnets get, which the stems are chosen for; see `scales.side_of`.

    Raises:
        UserError: if a stem is missing or one too many, if channels are not where `resize_features` expects them, or
            for an unknown input; or as `choose_stem` does.
    """
    smaller, largest = scales[:-1], scales[-1]
    sides = {scale: side_of(scale, scales, subnet_input) for scale in smaller}
    if isinstance(stems, str):
        chosen = {scale: choose_stem(f, side, largest, stems, places, kernels, finer) for scale, side in sides.items()}
    elif sorted(stems) != list(smaller):
        raise UserError(f"stems: expected one for each of the scales {list(smaller)}, got {sorted(stems)}")
    else:
        chosen = {scale: stems[scale] for scale in smaller}
    _check_layout(f, chosen, sides, largest)
    return chosen


def _check_layout(f: nn.Module, stems: dict[int, Stem], sides: dict[int, int], largest: int) -> None:
    """Raise a `UserError` unless f gives maps [B, C, h, w] with h = w, and the same C, for square images of all scales.

    Channels last would be stretched as if they were a side of the map.
    """
    fitted = {scale: fit_stem(copy.deepcopy(f).to("meta"), stem) for scale, stem in stems.items()}
    shapes = {scale: _maps(lower, sides[scale]).shape for scale, lower in fitted.items()}
    shapes[largest] = _maps(f, largest).shape
    for scale, (_, channels, height, width) in shapes.items():
        if height != width or channels != shapes[largest][1]:
            got = ", ".join(f"{list(shape)} at {scale} px" for scale, shape in shapes.items())
            raise UserError(f"features: expected maps [B, C, h, w] with one C, and h = w for square images, got {got}")


def _strides_after(f: nn.Module, steps: Sequence[Place]) -> dict[str, int]:
    """Return the strides of the layers named in `steps`, halved once for each time they are named."""
    strides = {}
    for name in (name for place in steps for name in place):
        strides[name] = strides.get(name, _stride(f.get_submodule(name))) // 2
    return strides


def _flops(f: nn.Module, scale: int) -> int:
    """Return the FLOPs of f for one image of `scale`, counted without computing anything."""
    ghost = copy.deepcopy(f).to("meta").eval()
    with FlopCounterMode(display=False) as counter, _nothing_computed():
        ghost(torch.empty(1, 3, scale, scale))
    return counter.get_total_flops()


def fit_stem(f: nn.Module, stem: Stem, resample: bool = False) -> nn.Module:
    """Give f another stem, in place, and return it.

    Args:
        resample: derive the first kernel's weights from f's (see `resample_kernel`) instead of starting afresh.

    Raises:
        UserError: if f has no such layers, or no convolution, or one of parametrized weights whose kernel changes.
    """
    for name, stride in stem.strides.items():
        try:
            _set_stride(f, name, stride)
        except AttributeError:
            raise UserError(f"stems: expected layers with a stride in f, got {name!r}") from None
    name, old = _first_convolution(f)
    if stem.kernel == old.kernel_size[0]:
        return f
    if is_parametrized(old):
        remedy = "call torch.nn.utils.parametrize.remove_parametrizations, or give stems that keep the kernel"
        raise UserError(
            f"stems: expected plain weights in {name}, whose kernel shrinks, got parametrized ones: {remedy}"
        )
    f.set_submodule(name, _resized(old, stem.kernel, resample))
    return f


def _resized(old: nn.Conv2d, side: int, resample: bool) -> nn.Conv2d:
    """Return a copy of a convolution with another side of its kernel, and the padding that keeps the map's size."""
    conv = copy.deepcopy(old)  # for all else: its class, which may treat the weights specially, groups, dilation, ...
    conv.kernel_size = (side, side)
    _set_padding(conv, tuple(dilation * (side // 2) for dilation in conv.dilation))
    weight = old.weight.new_empty(*old.weight.shape[:2], side, side)
    conv.weight = nn.Parameter(weight, requires_grad=old.weight.requires_grad)
    conv.reset_parameters()
    if not resample:
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        return conv
    with torch.no_grad():
        conv.weight.copy_(resample_kernel(old.weight, side))
        if old.bias is not None:
            conv.bias.copy_(old.bias)
    return conv


def _set_stride(f: nn.Module, name: str, stride: int) -> None:
    layer = f.get_submodule(name)
    if not isinstance(layer, nn.Conv2d):
        if stride == 1:
            f.set_submodule(name, nn.Identity())
        layer.stride = stride
        return
    layer.stride = (stride, stride)
    if not isinstance(layer.padding, str):  # a patchifying kernel has none, and would lose the border
        sides = zip(layer.padding, layer.kernel_size, strict=True)
        _set_padding(layer, tuple(max(padding, (side - stride) // 2) for padding, side in sides))


def _set_padding(conv: nn.Conv2d, padding: tuple[int, int]) -> None:
    conv.padding = padding
    # PyTorch reads it from here where it pads with anything but zeros: width first, each side of it.
    conv._reversed_padding_repeated_twice = [side for side in reversed(padding) for _ in range(2)]


def _first_convolution(f: nn.Module) -> tuple[str, nn.Conv2d]:
    for name, layer in f.named_modules():
        if isinstance(layer, nn.Conv2d):
            return name, layer
    raise UserError("stems: expected a convolution in the lower layers, whose kernel can shrink, got none")


def _default_kernels(side: int) -> tuple[int, int]:
    """Return the sides of the first kernel where all strides are given up, and else: 7 -> (3, 5), 4 -> (3, 4)."""
    if side < 3:
        return side, side
    return max(3, side - 4), max(3, side - 2) if side % 2 else side


@torch.no_grad()
def resample_kernel(weights: Tensor, side: int) -> Tensor:
    """Resample convolution weights [O, I, k, k] to [O, I, side, side] so that they answer to shrunken patches alike.

    Shrinking is linear, x' = B x. The weights w' that minimise `|B^T w' - w|^2` answer to x' as nearly as possible as w
    does to x: the pseudo-inverse resize of FlexiViT (Beyer et al., CVPR 2023), there for patch embeddings.
    """
    old = weights.shape[-1]
    basis = torch.eye(old * old, dtype=torch.float64, device=weights.device).view(-1, 1, old, old)
    shrink = F.interpolate(basis, (side, side), mode="bilinear", antialias=True).flatten(1)  # B^T [k^2, side^2]
    resampled = weights.double().flatten(2) @ torch.linalg.pinv(shrink).mT
    return resampled.view(*weights.shape[:2], side, side).to(weights.dtype)
