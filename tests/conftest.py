import io
import os
import tarfile

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the networks here are tiny: threads would only wait for each other

import pytest
import torch
from PIL import Image

from msun_lite.config import make_config
from tools.book import build

TINY = {
    "scales": [8, 16],
    "sizes": [8, 12, 16],
    "scenes_train": 40,
    "scenes_val": 20,
    "batch_size": 10,
    "epochs": 2,
    "precision": "fp32",
    "device": "cpu",
}


@pytest.fixture
def tiny(tmp_path):
    """Return a function that makes the smallest useful configuration, its run folder in a temporary place."""

    def make(**options):
        return make_config("quick", **{**TINY, "out": str(tmp_path / "run"), **options})

    return make


@pytest.fixture
def photos(tmp_path):
    """Return a class-folder tree of two classes: 12 training and 6 validation images of 20 x 24 pixels."""
    folder = tmp_path / "photos"
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 6), ("val", 3)):
        for label, name in enumerate(("cat", "dog")):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = torch.randint(0, 128, (20, 24, 3), generator=generator, dtype=torch.uint8) + 127 * label
                Image.fromarray(pixels.numpy()).save(folder / split / name / f"{index}.png")
    return folder


@pytest.fixture
def tar(tmp_path):
    """Return a function that packs {member name: bytes} into a tar file."""

    def pack(name, members):
        path = tmp_path / name
        with tarfile.open(path, "w:gz" if name.endswith("gz") else "w") as archive:
            for member, content in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return path

    return pack


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Build the whole book once, from scratch; return the folder of its pages."""
    out = tmp_path_factory.mktemp("book")
    assert build(out) == 0, "the book's build failed or warned"
    return out / "_build" / "html"
