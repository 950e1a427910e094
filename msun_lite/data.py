"""Data sets and loaders: drawn scenes, Imagenette, class folders.

Every image is decoded once, cropped and flipped once, and leaves here as uint8 at the largest scale; the
engine makes the other scales from it on the device. What is random about an image depends on (seed, epoch,
index) alone, never on a worker or on what was read before: an interrupted epoch goes on exactly.
"""

import hashlib
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets.folder import ImageFolder
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import resize

from msun_lite import scenes
from msun_lite.config import TrainConfig
from msun_lite.errors import DataError
from msun_lite.imagenette import imagenette_folder
from msun_lite.progress import note, progress
from msun_lite.sources import FileSource, ImageSource, MemorySource, SceneSource, UnreadableImage


@dataclass(frozen=True)
class DataSet:
    """A data set ready for use, and what a record says of it."""

    name: str
    classes: tuple[str, ...]
    train: ImageSource
    val: ImageSource
    fingerprint: str
    bad_images: "BadImages"

    def describe(self) -> dict:
        """Return name, number of classes and of images, and fingerprint, as summary.json has them."""
        return {
            "name": self.name,
            "classes": len(self.classes),
            "train": len(self.train),
            "val": len(self.val),
            "fingerprint": self.fingerprint,
        }


def load_data(config: TrainConfig, train: bool = True) -> DataSet:
    """Open the data set that `config.data` names, decoding it into memory when `config.cache` says so.

    Without `train` the training images are counted but not decoded, as evaluation wants it.

    Raises:
        DataError: if it is missing, empty, its two splits differ in classes, or too many of the images
            to be held in memory are unreadable.
    """
    if config.data == "scenes":
        return _scenes(config, train)
    folder = imagenette_folder(Path(config.data_root)) if config.data == "imagenette" else Path(config.data)
    train_folder, val_folder = _class_folder(folder, "train"), _class_folder(folder, "val")
    if train_folder.classes != val_folder.classes:
        difference = _difference(train_folder, val_folder)
        raise DataError(f"{folder}: expected the same classes in train and val, {difference}")
    train_source, val_source = FileSource(train_folder.samples), FileSource(val_folder.samples)
    bad_images = BadImages(config.max_bad_images)
    if config.cache:
        val_source, unreadable = _into_memory(val_source, "val", config)
        refuse_unreadable(unreadable)
        if train:
            train_source, unreadable = _into_memory(train_source, "train", config, at_most=2 * config.scales[-1])
            for message in unreadable:
                bad_images.add(message)
    name = "imagenette" if config.data == "imagenette" else folder.resolve().name
    fingerprint = _fingerprint(folder, train_folder, val_folder)
    return DataSet(name, tuple(train_folder.classes), train_source, val_source, fingerprint, bad_images)


def _scenes(config: TrainConfig, train: bool) -> DataSet:
    seed = config.scenes_seed
    sources = {
        "train": SceneSource(config.scenes_train, config.scales[-1], "train", seed),
        "val": SceneSource(config.scenes_val, config.test_size, "val", seed),
    }
    digest = hashlib.sha256()
    for split, source in sources.items():
        if train or split == "val":
            _ = source.images  # drawn here and now, so that worker processes share them
        digest.update(repr((split, seed, source.size, len(source))).encode())
        digest.update(scenes.draw(0, source.size, split, seed).tobytes())
    fingerprint = digest.hexdigest()[:16]
    return DataSet("scenes", tuple(scenes.CLASSES), sources["train"], sources["val"], fingerprint, BadImages(limit=0))


def _class_folder(folder: Path, split: str) -> ImageFolder:
    """Return the class folders of one split, or raise a `DataError` that says what is missing."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such data folder; expected scenes, imagenette or a folder with train/ and val/")
    if not (folder / split).is_dir():
        raise DataError(f"{folder}: expected class folders under {split}/, found no {split}/")
    try:
        return ImageFolder(str(folder / split))
    except (OSError, RuntimeError) as error:
        raise DataError(f"{folder / split}: expected a folder of images for each class, got: {error}") from None


def _difference(train: ImageFolder, val: ImageFolder) -> str:
    missing = sorted(set(train.classes) - set(val.classes))
    extra = sorted(set(val.classes) - set(train.classes))
    parts = [f"{len(missing)} missing in val ({', '.join(missing[:3])})"] if missing else []
    parts += [f"{len(extra)} in val alone ({', '.join(extra[:3])})"] if extra else []
    return "got " + " and ".join(parts)


def _fingerprint(folder: Path, *splits: ImageFolder) -> str:
    """Return a short hash of all relative paths and file sizes: quick, and different for other data."""
    digest = hashlib.sha256()
    for path, _ in sorted(sample for split in splits for sample in split.samples):
        size = Path(path).stat().st_size if Path(path).exists() else "missing"
        digest.update(f"{Path(path).relative_to(folder).as_posix()} {size}\n".encode())
    return digest.hexdigest()[:16]


def _into_memory(
    source: FileSource, split: str, config: TrainConfig, at_most: int | None = None
) -> tuple[MemorySource, list[str]]:
    """Decode all files once; return the readable ones, and a message for each that is not.

    Images whose shorter side is above `at_most` pixels are reduced to it, to save memory.
    """

    def attempt(index: int) -> Tensor | UnreadableImage:
        try:
            image = source.read(index)
        except UnreadableImage as error:
            return error
        return resize(image, at_most) if at_most is not None and min(image.shape[1:]) > at_most else image

    images, labels, unreadable = [], [], []
    with ThreadPoolExecutor(max(config.workers, 2)) as pool:
        results = pool.map(attempt, range(len(source)))
        bar = progress(results, total=len(source), desc=f"decoding {split}", unit="image", leave=False)
        try:
            for image, label in zip(bar, source.labels, strict=True):
                if isinstance(image, UnreadableImage):
                    unreadable.append(str(image))
                else:
                    images.append(image)
                    labels.append(label)
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    if not images:
        raise DataError(f"{split}: expected images, not one of {len(source)} can be read: {unreadable[0]}")
    return MemorySource(images, labels), unreadable


def refuse_unreadable(messages: Sequence[str]) -> None:
    """Raise a `DataError` that counts and names the unreadable images of an evaluation, if there are any."""
    if messages:
        named = "; ".join(messages[:10]) + ("; ..." if len(messages) > 10 else "")
        raise DataError(f"{len(messages)} unreadable image(s) to evaluate, expected none: {named}")


class BadImages:
    """Names and counts unreadable images, each once, and stops the run past a limit."""

    def __init__(self, limit: int):
        self.limit = limit
        self.seen: dict[str, None] = {}

    def add(self, message: str) -> None:
        """Note one unreadable image; raise a `DataError` once there are more than `limit`."""
        if message in self.seen:
            return
        self.seen[message] = None
        if len(self.seen) > self.limit:
            raise DataError(
                f"{len(self.seen)} unreadable image(s), expected at most {self.limit}: {'; '.join(self.seen)}"
            )
        note(f"left out unreadable image {len(self.seen)} (limit {self.limit}): {message}")


class TrainView(Dataset):
    """Training images: random resized crop and flip, decided by (seed, epoch, index) alone.

    An item is addressed by (epoch, index) and is (uint8 [3, size, size], label), or the message of an
    unreadable image.
    """

    def __init__(self, source: ImageSource, size: int, seed: int, crop_min: float, flip: bool):
        self.source = source
        self.seed = seed
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(size, scale=(crop_min, 1.0), antialias=True),
                v2.RandomHorizontalFlip(0.5 if flip else 0.0),
            ]
        )

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int] | str:
        epoch, index = key
        try:
            image = self.source.read(index)
        except UnreadableImage as error:
            return str(error)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(_mix(self.seed, epoch, index))
            return self.transform(image), self.source.labels[index]


class EvalView(Dataset):
    """Evaluation images by the protocol: shorter side to size / crop_ratio, then the centre crop.

    An item is (uint8 [3, size, size], label), or the message of an unreadable image.
    """

    def __init__(self, source: ImageSource, size: int, crop_ratio: float):
        self.source = source
        shorter = round(size / crop_ratio)
        self.transform = v2.Compose([v2.Resize(shorter, antialias=True), v2.CenterCrop(size)])

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, int] | str:
        try:
            return self.transform(self.source.read(index)), self.source.labels[index]
        except UnreadableImage as error:
            return str(error)


@dataclass
class Batch:
    """Images [B, 3, L, L] uint8 and labels [B], with what was unreadable among them."""

    images: Tensor
    labels: Tensor
    bad: list[str]

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory; the loader calls this for GPUs."""
        return Batch(self.images.pin_memory(), self.labels.pin_memory(), self.bad)


def collate(items: list[tuple[Tensor, int] | str]) -> Batch:
    """Stack the readable items of a batch."""
    good = [item for item in items if not isinstance(item, str)]
    images = torch.stack([image for image, _ in good]) if good else torch.empty(0, 3, 1, 1, dtype=torch.uint8)
    labels = torch.tensor([label for _, label in good], dtype=torch.int64)
    return Batch(images, labels, [item for item in items if isinstance(item, str)])


class EpochSampler:
    """The shuffled batches of one epoch as lists of (epoch, index), from batch `start` on.

    The order depends on (seed, epoch) alone. The last, incomplete batch is left out: BatchNorm wants
    batches of one size, and every epoch leaves out other images.
    """

    def __init__(self, count: int, batch_size: int, seed: int, epoch: int, start: int = 0):
        self.count, self.batch_size, self.seed, self.epoch, self.start = count, batch_size, seed, epoch, start

    def __len__(self) -> int:
        return self.count // self.batch_size - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        generator = torch.Generator().manual_seed(_mix(self.seed, self.epoch))
        order = torch.randperm(self.count, generator=generator).tolist()
        for batch in range(self.start, self.count // self.batch_size):
            chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield [(self.epoch, index) for index in chosen]


def train_loader(view: TrainView, config: TrainConfig, epoch: int, start: int = 0) -> DataLoader:
    """Return the loader of one epoch's `Batch`es, from batch `start` on."""
    sampler = EpochSampler(len(view.source), config.batch_size, config.seed, epoch, start)
    return _loader(view, config.workers, batch_sampler=sampler)


def eval_loader(source: ImageSource, size: int, crop_ratio: float, batch_size: int, workers: int) -> DataLoader:
    """Return a loader of `Batch`es over all of `source` once, in order, centre-cropped to `size`."""
    return _loader(EvalView(source, size, crop_ratio), workers, batch_size=batch_size)


def _loader(view: Dataset, workers: int, **kwargs) -> DataLoader:
    # The generator of its own keeps the loader from drawing on the global one, which a checkpoint restores.
    generator = torch.Generator().manual_seed(0)
    pin = torch.cuda.is_available()
    return DataLoader(
        view,
        num_workers=workers,
        collate_fn=collate,
        generator=generator,
        pin_memory=pin,
        worker_init_fn=_ignore_interrupts,
        **kwargs,
    )


def _ignore_interrupts(worker: int) -> None:
    """Leave Ctrl-C, which a terminal sends to the workers too, to the main process: it stops cleanly."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _mix(*numbers: int) -> int:
    """Return one well-mixed 63-bit seed made of several non-negative numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
