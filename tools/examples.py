"""Draw the pictures in examples/: a scene that no network was trained on, and the same made 12 px small.

python tools/examples.py
"""

from pathlib import Path

from torch import Tensor
from torchvision.transforms.v2.functional import resize, to_pil_image

from msun_lite.data.sources import SceneSource

FOLDER = Path(__file__).parents[1] / "examples"

HOUSE = 7
"""Number of the scene among those for validation."""

SIZES = (56, 12)
"""Of the pictures, in pixels; the first is the size that scenes are drawn at."""


def pictures() -> dict[str, Tensor]:
    """Return the pictures by the name of their file: uint8 [3, size, size]."""
    scene = SceneSource(HOUSE + 1, SIZES[0], "val", seed=0).read(HOUSE)
    return {f"house-{size}px.png": resize(scene, [size, size], antialias=True) for size in SIZES}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, image in pictures().items():
        to_pil_image(image).save(FOLDER / name)
