"""ImageNet's 1,000 classes: their WordNet ids in the order of every published network's logits, and words for them."""

import functools
from collections.abc import Sequence
from pathlib import Path

from torchvision.models import ResNet18_Weights

from msun_lite.data.imagenette import CLASS_NAMES


@functools.cache
def imagenet_classes() -> tuple[str, ...]:
    """Return the WordNet ids of ImageNet's 1,000 classes, in their standard order."""
    return tuple(Path(__file__).with_name("imagenet_classes.txt").read_text(encoding="utf-8").split())


def imagenet_words() -> tuple[str, ...]:
    """Return what the 1,000 classes are called, in the same order: each otherwise."""
    return tuple(ResNet18_Weights.DEFAULT.meta["categories"])


@functools.cache
def _by_id() -> dict[str, str]:
    return dict(zip(imagenet_classes(), imagenet_words(), strict=True)) | CLASS_NAMES


def in_words(classes: Sequence[str]) -> list[str]:
    """Return what classes are called: WordNet ids of ImageNet's classes in words, all others by their own names."""
    return [_by_id().get(name, name) for name in classes]
