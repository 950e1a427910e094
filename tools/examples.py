"""Draw the pictures in examples/: a built-in scene at its full size, and the same scene made small.

    python tools/examples.py

The same pixels come out every time: a scene is a function of its number.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import resize, to_pil_image

from msun_lite.data.scenes import draw
from msun_lite.utils.cli import OneLineParser, parse
from msun_lite.utils.errors import one_line_errors
from msun_lite.utils.files import atomic_write
from msun_lite.utils.progress import note

FOLDER = Path(__file__).resolve().parents[1] / "examples"
SCENE = 24
"""Number of a validation scene, a fish, which no shipped network was trained on."""
LARGE, SMALL = 56, 12
"""Sides in pixels: the largest scale of `quick`, and a size at which the weave is gone."""


def pictures() -> dict[str, Tensor]:
    """Return the pictures by the names of their files: [3, H, W], uint8."""
    large = torch.from_numpy(draw(SCENE, LARGE, "val")).permute(2, 0, 1)
    return {f"fish-{LARGE}.png": large, f"fish-{SMALL}.png": resize(large, [SMALL], antialias=True)}


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parse(OneLineParser(description="Draw the pictures in examples/."), argv)
    FOLDER.mkdir(exist_ok=True)
    for name, picture in pictures().items():
        with atomic_write(FOLDER / name) as file:
            to_pil_image(picture).save(file, "PNG", optimize=True)
        note(str(FOLDER / name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
