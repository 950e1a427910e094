"""The options of what images there are and how they are prepared, once: name, type, default, meaning."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from msun_lite.data.shard_patterns import PREFIX, expand
from msun_lite.utils.errors import UserError, within


@dataclass(kw_only=True)
class DataOptions:
    """Which images are trained and tested on, in which sizes, and how they are prepared."""

    scales: list[int] = (8, 32, 56)
    """Sizes in pixels that own a subnet, rising, two or more. Training sees each of them (mst, msun); vanilla uses the
    largest alone, so one is enough."""
    sizes: list[int] = tuple(range(8, 57, 4))
    """Sizes in pixels at which accuracy is measured."""

    data: str = "scenes"
    """scenes (built-in), imagenette (downloaded once), a folder with train/ and val/ class folders, or wds:PATTERN:
    WebDataset shards, a path or an http address with braces, or the folder of their manifest.json."""
    data_root: str = "data"
    """Folder that downloaded data sets are kept in."""
    shards_gb: float = 100.0
    """Gigabytes that shards from the web may take there; the least recently used make room."""
    scenes_train: int = 6000
    """Number of training scenes."""
    scenes_val: int = 2000
    """Number of validation scenes."""
    scenes_seed: int = 0
    """Seed of the scenes; runs with other training seeds see the same ones."""
    val_share: float | None = None
    """Of a folder without a split, train/ or class folders alone: share of each class's images that is kept for
    validation, such as 0.2; always the same images."""
    cache: bool = True
    """Decode all files once and keep them in memory, training images at most twice the largest scale,
    validation images at the size of their crop."""
    crop_min: float = 0.35
    """Smallest part of an image's area that a random training crop keeps."""
    crop_ratio: float = 1.0
    """Evaluation: side of the centre crop over the shorter side of the resized image (0.875 for 224 of 256)."""
    flip: bool = True
    """Mirror training images left to right at random."""
    randaugment: int | None = None
    """Magnitude, 0 to 30, of two random changes of every training image, of colours, contrast or shape (RandAugment,
    Cubuk et al., 2020, as torchvision has it); none by default."""
    mean: list[float] | None = None
    """Mean of red, green and blue, 0 to 1, as 0.5,0.5,0.5; that of the weights, or ImageNet's, by default."""
    std: list[float] | None = None
    """Standard deviation likewise."""
    max_bad_images: int = 10
    """Training stops when more images than this are unreadable; evaluation never leaves one out."""
    workers: int = 0
    """Processes that prepare images; 0 prepares them in the main process."""

    def __post_init__(self):
        self.scales, self.sizes = list(self.scales), list(self.sizes)

    @property
    def test_size(self) -> int:
        """Side in pixels of the centre crop that test images of every size are made from."""
        return max(self.scales[-1], self.sizes[-1])

    def check_data(self) -> None:
        """Raise a `UserError` for the first value that cannot work."""
        if self.data.startswith(PREFIX):
            expand(self.data.removeprefix(PREFIX))
        check_sizes(self.sizes)
        for name in ("scenes_train", "scenes_val", "shards_gb"):
            within(name, getattr(self, name), above=0)
        for name in ("workers", "max_bad_images"):
            within(name, getattr(self, name), least=0)
        within("scenes_seed", self.scenes_seed, least=0, below=2**63)
        within("crop_min", self.crop_min, above=0, most=1)
        within("crop_ratio", self.crop_ratio, above=0, most=1)
        if self.randaugment is not None:
            within("randaugment", self.randaugment, least=0, most=30)
        check_normalisation(self.mean, self.std)
        if self.val_share is not None:
            within("val_share", self.val_share, above=0, below=1)
            if not is_folder(self.data):
                raise UserError(f"val_share: expected none for {self.data}, which has a split, got {self.val_share}")


def is_folder(data: str) -> bool:
    """Return whether the data that an option names are class folders of the user's."""
    return data not in ("scenes", "imagenette") and not data.startswith(PREFIX)


def check_sizes(sizes: list[int]) -> None:
    """Raise a `UserError` unless `sizes` are positive and rising, one or more."""
    if not sizes or any(size < 1 for size in sizes) or sorted(set(sizes)) != list(sizes):
        raise UserError(f"sizes: expected rising positive numbers of pixels, got {list(sizes)}")


def check_normalisation(mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    """Raise a `UserError` unless a mean and a standard deviation are three numbers each, or None."""
    for name, values in (("mean", mean), ("std", std)):
        if values is not None and (len(values) != 3 or not all(map(math.isfinite, values))):
            raise UserError(f"{name}: expected three numbers, of red, green and blue in 0 to 1, got {values}")
    if std is not None and min(std) <= 0:
        raise UserError(f"std: expected three numbers above 0, got {std}")
