"""An exported model for tests, and what is to be expected of it."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from msun_lite import MSUN
from msun_lite.predict import Prediction, predict
from tests.pictures import png16

BLOCKED = ("torch", "torchvision", "msun_lite", "onnx", "onnxscript", "scipy", "lazy_loader", "tqdm", "jsonargparse")
"""Packages that an exported model must not ask for."""

CROP_RATIO = 0.875

SIDES = (1, 7, 16, 20, 23, 24, 36, 40, 44, 51, 63, 64, 65, 100, 128, 224, 301, 448, 500, 600)
"""Of the images, in pixels: one of the two."""


@dataclass(frozen=True)
class Export:
    """A shipped model as it is exported, with images and what `predict` says of them.

    Args:
        folder: of the model.
        images: files of many sizes, formats and colour modes.
        expected: the answer to each, with all classes.
        environment: of a process that can import nothing of `BLOCKED`.
    """

    folder: Path
    images: list[Path]
    expected: list[Prediction]
    environment: dict[str, str]


def draw(width, height, seed):
    """Return an image as smooth as photographs are."""
    noise = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def save(image, path, kind):
    """Write one of the kinds of image files that people have."""
    if kind == "turned":
        tags = Image.Exif()
        tags[0x0112] = 6
        image.save(path.with_suffix(".jpg"), exif=tags)
    elif kind == "16 bits":
        path.with_suffix(".png").write_bytes(png16(np.asarray(image.convert("L")).astype(np.uint16) * 257))
    elif kind == "alpha":
        image.putalpha(image.convert("L"))
        image.save(path.with_suffix(".png"))
    else:
        image.convert(kind).save(path.with_suffix(".jpg" if kind == "CMYK" else ".png"))


def without_torch(folder):
    """Return the variables of a process that can import nothing of `BLOCKED`, written into a new folder."""
    folder.mkdir()
    lines = ["import sys", *(f"sys.modules[{name!r}] = None  # importing it raises an error" for name in BLOCKED)]
    (folder / "sitecustomize.py").write_text("\n".join(lines))
    return {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)}


def export(base):
    """Export the quick model into the empty folder `base`, beside images and what `predict` says of them."""
    model = MSUN.from_pretrained("quick-msun")
    folder = model.export(base / "model", "onnx", CROP_RATIO)
    (base / "images").mkdir()
    kinds = ("RGB", "turned", "L", "alpha", "16 bits", "P", "CMYK")
    for number, side in enumerate(SIDES):
        other = (side, side + side // 3, 2 * side)[number % 3]
        shape = (side, other) if number % 2 else (other, side)
        save(draw(*shape, number), base / "images" / f"{number:02d}", kinds[number % len(kinds)])
    images = sorted((base / "images").iterdir())
    expected = list(predict(model, images, model.spec["classes"], CROP_RATIO))
    return Export(folder, images, expected, without_torch(base / "blocked"))


ROUNDED = 0.01
"""How far a probability may be from `predict`'s where Pillow and torch make a photograph smaller: up to one level of
256 apart, at some of the pixels."""

COMPUTED = 1e-5
"""How far where both have the same pixels."""


def shares(answer):
    return dict(zip(answer["classes"], answer["confidences"], strict=True))


def assert_same(found, expected, largest):
    """Assert that an answer with all classes, as a dictionary, is that of `predict`."""
    expected = asdict(expected)
    for name in ("width", "height", "size", "scale"):
        assert found[name] == expected[name], expected["file"]
    assert found["classes"][0] == expected["classes"][0], expected["file"]
    tolerance = ROUNDED if found["size"] == largest else COMPUTED
    assert shares(found) == pytest.approx(shares(expected), abs=tolerance), expected["file"]
    assert list(found["confidences"]) == sorted(found["confidences"], reverse=True)
