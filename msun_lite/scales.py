"""Sizes, scales and the way between them.

A *size* is the side of an input image in pixels, a *scale* is a size that owns a subnet. This file holds the routing
rules (which scale serves which size, Eq. 6) and all resizing of images and features between sizes and scales, so that
training, testing and the figures can never disagree on it. The crops that it starts from are made before (in `loaders`,
and in `data.named` where images are kept in memory) and are always low-passed, whatever `antialias` says.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from msun_lite.utils.errors import UserError

SIZE_ROUTINGS = ("nearest", "ceil", "ratio")
"""The routing rules that look at the size alone, see `route`; and there is `upto:`, with sizes of one's own."""

UPTO, AT = "upto:", "at:"
"""What begins a rule that says the largest size of each subnet but the last, `upto:32,72`; and, instead of one of
`SUBNET_INPUTS`, the side in pixels that each of them gets, `at:128,144`."""

SUBNET_INPUTS = ("scale", "native", "largest")
"""What a subnet gets: images resized to its `scale`; at their own size, within the range that it serves (`native`); or
upsampled to the `largest` scale, as in multi-scale training."""


def check_scales(scales: Sequence[int], at_least: int = 2) -> tuple[int, ...]:
    """Return `scales` as a tuple if they are whole, positive, rising and at least `at_least` many.

    Raises:
        UserError: naming the scales and what is wrong with them.
    """
    try:
        scales = tuple(operator.index(scale) for scale in scales)
    except TypeError:
        raise UserError(f"scales: expected whole numbers of pixels, such as (32, 128, 224), got {scales!r}") from None
    if len(scales) < at_least:
        raise UserError(f"scales: expected at least {at_least}, got {list(scales)}")
    if any(scale < 1 for scale in scales):
        raise UserError(f"scales: expected positive numbers of pixels, got {list(scales)}")
    if any(a >= b for a, b in zip(scales, scales[1:], strict=False)):
        raise UserError(f"scales: expected rising numbers without repeats, got {list(scales)}")
    return scales


def route(size: int, scales: Sequence[int], routing: str = "nearest") -> int:
    """Return the scale whose subnet serves an image of `size` pixels.

    `nearest` is Eq. 6, `i = argmin_i |R(x) - R(x_i)|`, a tie going to the smaller (cheaper) scale;
    `ceil` takes the smallest scale that is not below the size, or the largest there is. `ratio` takes the scale whose
    ratio to the size is nearest to 1, up or down: Eq. 6 on logarithms, as enlarging 40 px to 64 blurs less than
    reducing it to 16 throws away. `upto:32,72` says it outright: the first of three up to 32 px, the second to 72.

    Raises:
        UserError: for any other rule; `oracle` cannot be decided from the size alone.
    """
    if routing == "nearest":
        return min(scales, key=lambda scale: (abs(size - scale), scale))
    if routing == "ceil":
        return min((scale for scale in scales if scale >= size), default=max(scales))
    if routing == "ratio":
        return min(scales, key=lambda scale: (max(size, scale) / min(size, scale), scale))
    check_routing(routing, scales)
    return scales[sum(size > bound for bound in _numbers(routing))]


def check_routing(routing: str, scales: Sequence[int], rules: Sequence[str] = SIZE_ROUTINGS) -> None:
    """Raise a `UserError` unless `routing` is one of the `rules`, or says the sizes of each subnet of these scales."""
    if routing in rules:
        return
    if not routing.startswith(UPTO):
        raise UserError(f"routing: expected one of {', '.join(rules)} or {UPTO}SIZES, got {routing!r}")
    bounds = _numbers(routing)
    between = all(low <= bound < high for low, bound, high in zip(scales, bounds, scales[1:], strict=False))
    if len(bounds) != len(scales) - 1 or not between:
        expected = f"the largest size of each subnet but the last, from its scale on, for scales {list(scales)}"
        raise UserError(f"routing: expected {UPTO} and {expected}, got {routing!r}")


def _numbers(rule: str) -> list[int]:
    words = rule.partition(":")[2].split(",")
    return [int(word) if word.isdecimal() else 0 for word in words]  # 0 is no size: refused


def served_sizes(scale: int, scales: Sequence[int], routing: str) -> range:
    """Return the sizes from the smallest to the largest of `scales` that `routing` sends to `scale`: a range."""
    served = [size for size in range(scales[0], scales[-1] + 1) if route(size, scales, routing) == scale]
    return range(served[0], served[-1] + 1)


def side_of(scale: int, scales: Sequence[int], subnet_input: str) -> int:
    """Return the side in pixels at which the subnet of `scale` gets an image of that scale.

    Raises:
        UserError: unless the input is one of `SUBNET_INPUTS`, or `at:` and a side for each of the scales but the last.
    """
    if subnet_input in SUBNET_INPUTS:
        return scales[-1] if subnet_input == "largest" else scale
    sides = [*_numbers(subnet_input), scales[-1]]
    if not subnet_input.startswith(AT) or len(sides) != len(scales) or not 0 < min(sides) <= max(sides) <= scales[-1]:
        own = f"{AT} and a side for each scale of {list(scales)} but the last, none larger than that"
        raise UserError(f"subnet_input: expected one of {', '.join(SUBNET_INPUTS)}, or {own}, got {subnet_input!r}")
    return sides[list(scales).index(scale)]


RESAMPLINGS = {
    "antialiased": {"mode": "bilinear", "antialias": True},
    "bilinear": {"mode": "bilinear"},
    "bicubic": {"mode": "bicubic", "antialias": True},
    "nearest": {"mode": "nearest-exact"},
    "area": {"mode": "area"},
}
"""Ways to make an image smaller, as `torch.nn.functional.interpolate` knows them.

`antialiased` low-passes the image first, as a camera or an image editor does, and so does `bicubic`; `bilinear` is what
the paper's experiments did.
"""


def resample(images: Tensor, size: int, resampling: str) -> Tensor:
    """Resize float images [B, 3, H, W] to [B, 3, size, size] in one of the ways of `RESAMPLINGS`.

    They keep their type; half precision is computed in single precision, as PyTorch has not all of them on CPUs.
    """
    if images.shape[-2:] == (size, size):
        return images
    if images.dtype in (torch.float16, torch.bfloat16):
        return resample(images.float(), size, resampling).to(images.dtype)
    try:
        return F.interpolate(images, (size, size), **RESAMPLINGS[resampling])
    except RuntimeError as error:
        # CUDA low-passes only as far as a block's shared memory goes: 941 px to 10 is beyond it.
        if not (images.is_cuda and "interpolation parameters" in str(error)):
            raise
        return F.interpolate(images.cpu(), (size, size), **RESAMPLINGS[resampling]).to(images.device)


def resize(images: Tensor, size: int, antialias: bool = True) -> Tensor:
    """Resize float images [B, 3, H, W] to [B, 3, size, size], bilinearly, low-passed first if `antialias`.

    `antialias` changes nothing when the image grows.
    """
    return resample(images, size, "antialiased" if antialias else "bilinear")


def resize_features(features: Tensor, shape: tuple[int, int]) -> Tensor:
    """Resize feature maps [B, C, h, w] to `[B, C, *shape]`, bilinearly, as Eq. 4 needs before g."""
    # A graph for maps of several shapes may not ask which one it has; of the same shape they are left as they are.
    if not torch.compiler.is_exporting() and features.shape[-2:] == shape:
        return features
    return F.interpolate(features, shape, mode="bilinear", align_corners=False)


def pyramid(images: Tensor, scales: Sequence[int], antialias: bool = True) -> dict[int, Tensor]:
    """Return the views {scale: x_i} of one batch [B, 3, H, W], each [B, 3, scale, scale]."""
    return {scale: resize(images, scale, antialias) for scale in scales}


def image_size(images: Tensor) -> int:
    """Return the size R(x) of images [..., H, W] that routing looks at: their shorter side, in pixels."""
    return min(torch.Size(images.shape[-2:]))


@dataclass(frozen=True)
class Router:
    """The way of images of any size to the subnet that serves them (Eqs. 5 and 6).

    Args:
        scales: in pixels, rising.
        routing: see `route`.
        antialias: low-pass images before making them smaller.
        subnet_input: one of `SUBNET_INPUTS`, or `at:` and sides.
        averages: scale -> the sizes that have averages of their own there, rising; none by default.
    """

    scales: Sequence[int]
    routing: str = "nearest"
    antialias: bool = True
    subnet_input: str = "scale"
    averages: Mapping[int, Sequence[int]] = field(default_factory=dict)

    def scale(self, size: int) -> int:
        """Return the scale that serves images of `size` pixels."""
        return route(size, self.scales, self.routing)

    def side(self, size: int, scale: int) -> int:
        """Return the side in pixels at which the subnet of `scale` gets images of `size` pixels."""
        if self.subnet_input == "native":
            served = served_sizes(scale, self.scales, self.routing)
            return min(max(size, served[0]), served[-1])
        return side_of(scale, self.scales, self.subnet_input)

    def place(self, size: int, scale: int) -> int:
        """Return which of the averages of `scale` images of `size` pixels have: those of the nearest size."""
        sizes = self.averages.get(scale, (scale,))
        return min(range(len(sizes)), key=lambda place: abs(sizes[place] - size))

    def fit(self, images: Tensor, scale: int) -> Tensor:
        """Return images [B, 3, H, W] of any size as the subnet of `scale` gets them: [B, 3, side, side]."""
        return resize(images, self.side(image_size(images), scale), self.antialias)

    def serve(self, images: Tensor | Sequence[Tensor], run: Callable[[Tensor, int, int], Tensor]) -> Tensor:
        """Return what `run` gives for images of any size.

        Args:
            images: a batch [B, 3, H, W], routed by its size; or a list of B images [3, H, W] of mixed sizes, which are
                grouped by what serves them, the results in the list's order.
            run: images [b, 3, side, side], scale, place -> results [b, ...]; see the methods of these names.

        Raises:
            UserError: for anything else.
        """
        _check_images(images)
        if isinstance(images, Tensor):
            scale, place = self._served_by(images)
            return run(self.fit(images, scale), scale, place)
        groups: dict[tuple[int, int, int], list[int]] = {}
        for position, image in enumerate(images):
            scale, place = self._served_by(image)
            groups.setdefault((scale, place, self.side(image_size(image), scale)), []).append(position)
        results = torch.cat(
            [
                run(torch.cat([self.fit(images[i][None], scale) for i in members]), scale, place)
                for (scale, place, _), members in groups.items()
            ]
        )
        order = torch.tensor([i for members in groups.values() for i in members], device=results.device)
        return results[order.argsort()]

    def _served_by(self, images: Tensor) -> tuple[int, int]:
        size = image_size(images)
        scale = self.scale(size)
        return scale, self.place(size, scale)


def _check_images(images: Tensor | Sequence[Tensor]) -> None:
    """Raise a `UserError` unless `images` are floats [B, 3, H, W], or a list of floats [3, H, W] on one device."""
    single = isinstance(images, Tensor)
    if not single and not isinstance(images, Sequence):
        raise UserError(f"images: expected a tensor [B, 3, H, W] or a list of [3, H, W], got {type(images).__name__}")
    for image in (images,) if single else images:
        if not isinstance(image, Tensor):
            raise UserError(f"images: expected tensors [3, H, W] in the list, got {type(image).__name__}")
        if not image.is_floating_point() or image.ndim != (4 if single else 3) or image.shape[-3] != 3:
            expected = "[B, 3, H, W]" if single else "[3, H, W] each"
            raise UserError(f"images: expected floats {expected}, got {image.dtype} {list(image.shape)}")
        if 0 in image.shape[-2:]:
            raise UserError(f"images: expected at least one pixel, got {list(image.shape)}")
    if not len(images):
        raise UserError("images: expected at least one, got none")
    if not single and len(devices := {str(image.device) for image in images}) > 1:
        raise UserError(f"images: expected all on one device, got {', '.join(sorted(devices))}")
