"""Data sets: drawn scenes, Imagenette, class folders, shards, and what is unreadable among their images."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor
from torchvision.transforms.v2.functional import resize

from msun_lite import scenes
from msun_lite.class_folders import skipped_files
from msun_lite.config import TrainConfig
from msun_lite.distributed import ALONE, World
from msun_lite.downloads import DownloadCache
from msun_lite.errors import DataError, UserError, shown
from msun_lite.files import listing_fingerprint
from msun_lite.image_sizes import shorter_sides, sizes_line
from msun_lite.imagenette import imagenette_folder
from msun_lite.images import UnreadableImage
from msun_lite.loaders import shorter_side
from msun_lite.memory import free_memory, in_gigabytes, processes_here
from msun_lite.progress import note, progress
from msun_lite.shard_index import SPLITS
from msun_lite.shard_patterns import PREFIX
from msun_lite.shards import ShardSource, open_shards
from msun_lite.sources import FileSource, ImageSource, MemorySource, SceneSource
from msun_lite.splits import read_splits

SAMPLED = 20
"""Images by which the memory for all is judged."""


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


def is_folder(data: str) -> bool:
    """Return whether the data that an option names are class folders of the user's."""
    return data not in ("scenes", "imagenette") and not data.startswith(PREFIX)


def fetch_data(config: TrainConfig) -> None:
    """Download what `config.data` names, if it is a data set that can be downloaded and is not there yet."""
    if config.data == "imagenette":
        imagenette_folder(Path(config.data_root))


def load_data(config: TrainConfig, train: bool = True, world: World = ALONE) -> DataSet:
    """Open the data set that `config.data` names, decoding it into memory when `config.cache` says so.

    Without `train` the training images are counted but not decoded, as evaluation wants it; of shards there need be
    none. Validation images that would not fit into memory are decoded whenever they are needed then. All processes of
    `world` call this, and the first one speaks for them.

    Raises:
        DataError: if it is missing, empty, its two splits differ in classes (of shards: if there are some in val
            alone, and `train`), or too many of the images to be held in memory are unreadable.
    """
    if config.data == "scenes":
        return _scenes(config, train)
    data = _shards(config, train, world) if config.data.startswith(PREFIX) else _folders(config, world)
    if train and (sides := world.on_first(lambda: shorter_sides(data.train))):
        world.say(sizes_line(data.name, sides, config.scales))
    if not config.cache:
        return data
    if train:
        world.on_first(lambda: check_memory(data, config))
    elif too_large := world.on_first(lambda: _too_large(data, config, train=False)):
        world.say(f"{too_large}; they are decoded whenever they are needed")
        return data
    return in_memory(data, config, train, world)


def _folders(config: TrainConfig, world: World) -> DataSet:
    folder = imagenette_folder(Path(config.data_root)) if config.data == "imagenette" else Path(config.data)
    train, val = read_splits(folder, config.val_share)
    name = "imagenette" if config.data == "imagenette" else shown(folder.resolve().name)
    if left_out := train.skipped + val.skipped:
        world.say(f"{name}: {skipped_files(left_out)}")
    if config.val_share is not None:
        world.say(f"{name}: {len(val.samples)} images are kept for validation, {len(train.samples)} are for training")
    elif val.folder.name != "val":
        world.say(f"{name}: the validation images are those in {val.folder.name}/")
    sources = FileSource(train.samples), FileSource(val.samples)
    paths = sorted(path for split in (train, val) for path, _ in split.samples)
    if config.val_share is not None:
        paths = [path for split in (train, val) for path, _ in split.samples]  # another share, another data set
    fingerprint = world.on_first(lambda: listing_fingerprint(folder, paths))  # a million questions to a file system
    return DataSet(name, tuple(train.classes), *sources, fingerprint, BadImages(config.max_bad_images, world))


def _shards(config: TrainConfig, train: bool, world: World) -> DataSet:
    cache = DownloadCache(Path(config.data_root) / "shards-cache", round(config.shards_gb * 1e9))
    shards, store = open_shards(config.data.removeprefix(PREFIX), cache, SPLITS if train else ("val",))
    sources = [ShardSource(shards.only(lambda shard, split=split: shard.split == split), store) for split in SPLITS]
    if train:
        _check_labels(config.data, *sources, shards.classes)
        if unused := sorted(set(range(len(shards.classes))) - set(sources[0].labels)):
            made = f"the labels make {len(shards.classes)} classes, 0 to {len(shards.classes) - 1}"
            world.say(f"{config.data}: {made}, but no training image has the label {_ranges(unused)}")
    bad_images = BadImages(config.max_bad_images, world)
    return DataSet(store.title, shards.classes, *sources, shards.fingerprint, bad_images)


def _check_labels(name: str, train: ImageSource, val: ImageSource, classes: Sequence[str]) -> None:
    """Raise a `DataError` for classes that are measured but never seen in training."""
    if extra := sorted(set(val.labels) - set(train.labels)):
        named = ", ".join(classes[label] for label in extra[:3])
        raise DataError(f"{name}: expected the classes of val in train too, got {len(extra)} in val alone ({named})")


def _ranges(numbers: Sequence[int]) -> str:
    """Return sorted numbers in words, `1, 3 to 5`; not all of them if they are many."""
    known = set(numbers)
    starts = [number for number in numbers if number - 1 not in known]
    ends = [number for number in numbers if number + 1 not in known]
    parts = [str(start) if start == end else f"{start} to {end}" for start, end in zip(starts, ends, strict=True)]
    return ", ".join(parts[:8]) + (", ..." if len(parts) > 8 else "")


def in_memory(data: DataSet, config: TrainConfig, train: bool, world: World = ALONE) -> DataSet:
    """Return the data set with its images decoded into memory, the training images only if asked to.

    Training images are kept at most twice the largest scale, validation images as their first resizing leaves them.

    Raises:
        DataError: if not all validation images can be read, or too few training images.
    """
    val_source, unreadable = _into_memory(data.val, "val", config, world)
    refuse_unreadable(unreadable)
    if not train:
        return replace(data, val=val_source)
    train_source, unreadable = _into_memory(data.train, "train", config, world)
    for message in unreadable:
        data.bad_images.add(message)
    return replace(data, train=train_source, val=val_source)


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


def _kept_side(config: TrainConfig, split: str) -> int:
    """Return the shorter side in pixels that images in memory have at most."""
    return 2 * config.scales[-1] if split == "train" else shorter_side(config.test_size, config.crop_ratio)


def check_memory(data: DataSet, config: TrainConfig) -> None:
    """Raise a `UserError` if what `in_memory` keeps for a training would not fit into the free memory."""
    if too_large := _too_large(data, config, train=True):
        raise UserError(f"{too_large}; --cache false decodes them whenever they are needed")


def _too_large(data: DataSet, config: TrainConfig, train: bool) -> str | None:
    """Return what to say if what `in_memory` keeps would not fit into the free memory, judging by a sample."""
    sources = {"val": data.val, **({"train": data.train} if train else {})}
    need = processes_here() * sum(_bytes(source, _kept_side(config, split)) for split, source in sources.items())
    free = free_memory()
    if free is None or need <= free:
        return None
    count = sum(map(len, sources.values()))
    taken = f"its {count} images, decoded, take about {in_gigabytes(need)} of memory"
    return f"{data.name}: {taken}, and {in_gigabytes(free)} are free"


def _bytes(source: ImageSource, at_most: int) -> int:
    """Return about how many bytes the images of a source take in memory, 0 for a few."""
    # From the start of shards, which may have to be downloaded; each of an archive of files is as near as the other.
    step = max(1, len(source) // SAMPLED) if isinstance(source, FileSource) else 1
    if len(source) < 5 * SAMPLED:
        return 0
    sampled = [_reduced(source, index, at_most) for index in range(0, SAMPLED * step, step)]
    sizes = [image.numel() for image in sampled if isinstance(image, Tensor)]
    return len(source) * sum(sizes) // len(sizes) if sizes else 0


def _reduced(source: ImageSource, index: int, at_most: int) -> Tensor | UnreadableImage:
    """Return an image, its shorter side reduced to `at_most` pixels if it is above; or why it cannot be read."""
    try:
        image = source.read(index)
    except UnreadableImage as error:
        return error
    return resize(image, at_most) if min(image.shape[1:]) > at_most else image


def _into_memory(source: ImageSource, split: str, config: TrainConfig, world: World) -> tuple[MemorySource, list[str]]:
    """Decode all images once, and reduce large ones; return the readable ones, and a message for each that is not."""
    at_most = _kept_side(config, split)

    images, labels, unreadable = [], [], []
    with ThreadPoolExecutor(max(config.workers, 2)) as pool:
        results = pool.map(lambda index: _reduced(source, index, at_most), range(len(source)))
        shown = {"desc": f"decoding {split}", "unit": "image", "leave": False, "disable": not world.first}
        bar = progress(results, total=len(source), **shown)
        try:
            for image, label in zip(bar, source.labels, strict=True):
                if isinstance(image, UnreadableImage):
                    unreadable.append(str(image))
                else:
                    images.append(image)
                    labels.append(label)
        except BaseException:  # else the pool would first try all that are left
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
    """Names and counts unreadable images, each once, and stops the run past a limit.

    Args:
        limit: how many there may be.
        world: the processes that each keep such a list of the same images; the first one prints.
    """

    def __init__(self, limit: int, world: World = ALONE):
        self.limit, self.world = limit, world
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
        if self.world.first:
            note(f"left out unreadable image {len(self.seen)} (limit {self.limit}): {message}")
