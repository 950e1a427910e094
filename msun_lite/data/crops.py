"""Random crops of images without their labels, from which BatchNorm's averages are taken."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from msun_lite.data.class_folders import images_below, skipped_files
from msun_lite.data.dataset import refuse_unreadable
from msun_lite.data.loaders import TrainView, derive_seed, make_loader, opened, to_float
from msun_lite.data.options import DataOptions
from msun_lite.data.sources import FileSource, ImageSource
from msun_lite.utils.errors import DataError, printable

BATCH = 128
"""Images a batch."""

LEAST_IMAGES = 2
"""Images that a batch must have: BatchNorm knows no variance of one, where its map is a single pixel."""


class Crops:
    """Batches of crops as in training, normalised, on a device; they can be gone through again and again.

    Args:
        source: the images; their labels are not looked at.
        options: how images are cropped, and how large.
        count: how many crops, each of another image; of fewer images, all.
        seed: of the choice and the crops.
        device: where they are wanted.
        normalisation: that of the network, see `to_float`.
        epoch: which of the epochs' crops: one that no training has seen.

    Raises:
        DataError: if an image is unreadable, or there are fewer than two.
    """

    def __init__(
        self,
        source: ImageSource,
        options: DataOptions,
        count: int,
        seed: int,
        device: torch.device,
        normalisation: dict,
        epoch: int = 0,
    ):
        self.device, self.normalisation = device, normalisation
        chosen = source.order(torch.Generator().manual_seed(derive_seed(seed, epoch)))[:count]
        if len(chosen) < LEAST_IMAGES:
            raise DataError(f"averages: expected at least {LEAST_IMAGES} images to take them from, got {len(chosen)}")
        parts = max(1, round(len(chosen) / BATCH))
        keys = [[(epoch, index) for index in chosen[part::parts]] for part in range(parts)]
        view = TrainView(source, options.test_size, seed, options.crop_min, options.flip)
        with opened(make_loader(view, options.workers, device.type, batch_sampler=keys)) as loaded:
            self._batches = list(loaded)
        refuse_unreadable([message for batch in self._batches for message in batch.bad])

    def __len__(self) -> int:
        return sum(len(batch.labels) for batch in self._batches)

    def __iter__(self) -> Iterator[Tensor]:
        for batch in self._batches:
            yield to_float(batch.images, self.device, self.normalisation)


def unlabelled(folder: Path) -> tuple[ImageSource, str]:
    """Return all images below a folder, whatever its folders are, and in words what was left out.

    Raises:
        DataError: if there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise DataError(printable(f"{folder}: no such folder of images"))
    skipped: Counter[str] = Counter()
    paths = images_below(folder, skipped)
    if not paths:
        raise DataError(printable(f"{folder}: expected images in it, found none"))
    return FileSource([(path, 0) for path in paths]), skipped_files(skipped)
