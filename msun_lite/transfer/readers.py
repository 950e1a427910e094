"""Readers of the data sets of Table III in their official layouts: folder -> class names, training and test images.

Any of them may raise anything for a folder that is not as it should be: `public_sets.read_set` makes one line of it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets

from msun_lite.data import FileSource, ImageSource, MemorySource

Splits = tuple[Sequence[str], ImageSource, ImageSource]
"""Class names, training images, test images."""

CALTECH_TEST = 30
"""Images of each class of Caltech-101 that are the test set, as in the paper."""

CALTECH_SEED = 0
"""Which they are; the same for all runs, whatever their seed."""


def _files(*parts) -> FileSource:
    """Return the images of one or more of torchvision's data sets, which were told to load nothing but the path."""
    samples = [part[index] for part in parts for index in range(len(part))]
    return FileSource([(path, int(label)) for path, label in samples])


def _pixels(images: Tensor, labels: Sequence[int]) -> MemorySource:
    """Return images [N, 3, H, W] of bytes, which stay in memory."""
    return MemorySource(list(images), [int(label) for label in labels])


def cifar(kind: type[datasets.CIFAR10]) -> Callable[[Path], Splits]:
    """Return the reader of CIFAR-10 or CIFAR-100, torchvision's class for it."""

    def read(folder: Path) -> Splits:
        parts = [kind(str(folder), train=train) for train in (True, False)]
        pixels = [torch.from_numpy(part.data).permute(0, 3, 1, 2) for part in parts]
        return parts[0].classes, *(_pixels(one, part.targets) for one, part in zip(pixels, parts, strict=True))

    return read


def stl10(folder: Path) -> Splits:
    """Read STL-10, its labelled images alone."""
    # torchvision reads it too, after a checksum of the unlabelled images, 2.8 GB that nothing here needs.
    inner = folder / "stl10_binary"

    def read(split: str) -> MemorySource:
        columns = np.fromfile(inner / f"{split}_X.bin", dtype=np.uint8).reshape(-1, 3, 96, 96)
        labels = np.fromfile(inner / f"{split}_y.bin", dtype=np.uint8) - 1
        return _pixels(torch.from_numpy(columns).transpose(2, 3), labels)

    return (inner / "class_names.txt").read_text(encoding="utf-8").split(), read("train"), read("test")


def fashion(folder: Path) -> Splits:
    """Read Fashion-MNIST, grey as three equal channels."""
    parts = [datasets.FashionMNIST(str(folder), train=train) for train in (True, False)]
    grey = [part.data[:, None].expand(-1, 3, -1, -1) for part in parts]
    return parts[0].classes, *(_pixels(one, part.targets) for one, part in zip(grey, parts, strict=True))


def caltech101(folder: Path) -> Splits:
    """Read Caltech-101: `CALTECH_TEST` random images of each class are the test set, the background is no class."""
    images = folder / "caltech101" / "101_ObjectCategories"
    classes = sorted(path.name for path in images.iterdir() if path.is_dir() and path.name != "BACKGROUND_Google")
    generator = torch.Generator().manual_seed(CALTECH_SEED)
    train, test = [], []
    for label, name in enumerate(classes):
        paths = sorted(str(path) for path in (images / name).glob("*.jpg"))
        order = torch.randperm(len(paths), generator=generator).tolist()
        test += [(paths[index], label) for index in sorted(order[:CALTECH_TEST])]
        train += [(paths[index], label) for index in sorted(order[CALTECH_TEST:])]
    return classes, FileSource(train), FileSource(test)


def flowers102(folder: Path) -> Splits:
    """Read Oxford 102 Flowers."""
    train, val, test = (datasets.Flowers102(str(folder), split, loader=str) for split in ("train", "val", "test"))
    return train.classes, _files(train, val), _files(test)


def pets(folder: Path) -> Splits:
    """Read the Oxford-IIIT pets."""
    # torchvision's reader decodes every image to say its label.
    inner, names = folder / "oxford-iiit-pet", {}

    def read(split: str) -> FileSource:
        samples = []
        for line in (inner / "annotations" / f"{split}.txt").read_text(encoding="utf-8").splitlines():
            image, number, *_ = line.split()
            names[int(number)] = image.rpartition("_")[0].replace("_", " ")
            samples.append((str(inner / "images" / f"{image}.jpg"), int(number) - 1))
        return FileSource(samples)

    train, test = read("trainval"), read("test")
    return [names[number] for number in sorted(names)], train, test


def stanford_cars(folder: Path) -> Splits:
    """Read the Stanford cars."""
    train, test = (datasets.StanfordCars(str(folder), split, loader=str) for split in ("train", "test"))
    return train.classes, *(_files(part) for part in (train, test))


def aircraft(folder: Path) -> Splits:
    """Read FGVC Aircraft, its classes the variants."""
    train, test = (datasets.FGVCAircraft(str(folder), split, loader=str) for split in ("trainval", "test"))
    return train.classes, _files(train), _files(test)


def dtd(folder: Path) -> Splits:
    """Read the first split of the Describable Textures."""
    train, val, test = (datasets.DTD(str(folder), split, partition=1, loader=str) for split in ("train", "val", "test"))
    return train.classes, _files(train, val), _files(test)


EMOTIONS = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
"""The classes of RAF-DB, in the order of its labels 1 to 7."""


def rafdb(folder: Path) -> Splits:
    """Read the basic emotions of RAF-DB, faces aligned, from its authors' folder `basic`."""
    basic = folder / "basic"
    samples: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
    labels = basic / "EmoLabel" / "list_patition_label.txt"  # their spelling
    for line in labels.read_text(encoding="utf-8").splitlines():
        image, label = line.split()
        name = f"{image.removesuffix('.jpg')}_aligned.jpg"
        samples[image.partition("_")[0]].append((str(basic / "Image" / "aligned" / name), int(label) - 1))
    return EMOTIONS, *(FileSource(part) for part in samples.values())
