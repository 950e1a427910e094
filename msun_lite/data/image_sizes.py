"""How large the images of a data set are, and which scales suit them."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from msun_lite.data.sources import ImageSource

SAMPLED = 500
"""Images whose headers are read."""

LARGEST = (56, 112, 168, 224)
"""Largest scales to choose from: a seventh and four sevenths of them are scales too, all of them multiples of 8."""

ENLARGED = 1.15
"""How many times as large as half of the images the largest scale may be."""


def shorter_sides(source: ImageSource) -> list[int]:
    """Return the shorter sides in pixels of a sample of a source's images, of those whose header can be read.

    There is none of images on the web: to look at them would be to download them.
    """
    if not source.near:
        return []
    sizes = [source.size(index) for index in source.sample(SAMPLED)]
    return [min(size) for size in sizes if size is not None]


def fitting_scales(sides: Sequence[int]) -> list[int]:
    """Return three scales for images of such shorter sides, in the proportions of the paper's: 1 to 4 to 7."""
    fitting = [side for side in LARGEST if side <= ENLARGED * median(sides)]
    largest = fitting[-1] if fitting else LARGEST[0]
    return [largest // 7, largest * 4 // 7, largest]


def sizes_line(name: str, sides: Sequence[int], scales: Sequence[int]) -> str:
    """Return in words how large images are, and which scales suit them if `scales`, more than one, are others."""
    bounds = (0, LARGEST[0], LARGEST[1], LARGEST[-1])
    shares = {high: sum(low < side <= high for side in sides) for low, high in pairwise(bounds)}
    parts = [f"{100 * count / len(sides):.0f} % to {high} px" for high, count in shares.items()]
    parts.append(f"{100 * (1 - sum(shares.values()) / len(sides)):.0f} % above")
    line = f"{name}: the shorter sides of {len(sides)} images are {min(sides)} to {max(sides)} px, half of them above "
    line += f"{median(sides):.0f}: {', '.join(parts)}"
    fitting = fitting_scales(sides)
    if len(scales) == 1 or list(scales) == fitting:
        return line
    return f"{line}; scales {','.join(map(str, fitting))} would suit them"
