"""The central square of a photograph at every size, in floats: what the page's JavaScript computes, with torch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from msun_lite.scales import resize


def central_square(image: Tensor, crop_ratio: float, largest: int) -> Tensor:
    """Return the square that a network looks at, at most `largest` pixels wide: floats [1, 3, side, side], 0 to 255.

    The geometry is that of `runtime.ExportedModel.square`: a larger image is made smaller whole, then cropped. Values
    are not rounded on the way.

    Args:
        image: uint8 [3, H, W].
        crop_ratio: side of the square as a part of the image's shorter side.
        largest: in pixels.
    """
    height, width = image.shape[-2:]
    shorter, longer = sorted((height, width))
    side = max(1, round(crop_ratio * shorter))
    pixels = image[None].float()
    if side >= largest:
        side, reduced = largest, round(largest / crop_ratio)
        others = int(reduced * longer / shorter)
        shape = (others, reduced) if width <= height else (reduced, others)
        pixels = F.interpolate(pixels, shape, mode="bilinear", antialias=True)
    top, left = (round((length - side) / 2) for length in pixels.shape[-2:])
    return pixels[..., top : top + side, left : left + side]


def square_at(image: Tensor, crop_ratio: float, largest: int, size: int) -> Tensor:
    """Return the central square of an image uint8 [3, H, W] at a size: floats [1, 3, size, size], 0 to 255."""
    return resize(central_square(image, crop_ratio, largest), size)


def normalised(square: Tensor, spec: dict) -> Tensor:
    """Return a square with values 0 to 255 as the network that a model.json describes expects it."""
    mean, std = (torch.tensor(spec["normalisation"][name]).view(1, 3, 1, 1) * 255 for name in ("mean", "std"))
    return (square - mean) / std
