"""Data sets: drawn scenes, Imagenette, class folders, shards, and what is unreadable among their images."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from torch import Tensor
from torchvision.transforms.v2.functional import resize

from msun_lite.data import scenes
from msun_lite.data.class_folders import skipped_files
from msun_lite.data.dataset import BadImages, DataSet, refuse_unreadable
from msun_lite.data.downloads import DownloadCache
from msun_lite.data.image_sizes import shorter_sides, sizes_line
from msun_lite.data.imagenette import imagenette_folder
from msun_lite.data.images import UnreadableImage
from msun_lite.data.loaders import shorter_side
from msun_lite.data.options import DataOptions
from msun_lite.data.shard_index import SPLITS
from msun_lite.data.shard_patterns import PREFIX
from msun_lite.data.shards import ShardSource, open_shards
from msun_lite.data.sources import FileSource, ImageSource, MemorySource, SceneSource
from msun_lite.data.splits import read_splits
from msun_lite.utils.distributed import ALONE, World
from msun_lite.utils.errors import DataError, UserError, printable
from msun_lite.utils.files import listing_fingerprint
from msun_lite.utils.memory import free_memory, in_gigabytes, processes_here
from msun_lite.utils.progress import progress

SAMPLED = 20
"""Images by which the memory for all is judged."""


def fetch_data(options: DataOptions) -> None:
    """Download what `options.data` names, if it is a data set that can be downloaded and is not there yet."""
    if options.data == "imagenette":
        imagenette_folder(Path(options.data_root))


def load_data(options: DataOptions, train: bool = True, world: World = ALONE) -> DataSet:
    """Open the data set that `options.data` names, decoding it into memory when `options.cache` says so.

    Without `train` the training images are counted but not decoded, as evaluation wants it, and there need be none.
    Validation images that would not fit into memory are decoded whenever they are needed then. All processes of
    `world` call this, and the first one speaks for them.

    Raises:
        DataError: if it is missing, empty, its two splits differ in classes (of shards: if there are some in val
            alone, and `train`), or too many of the images to be held in memory are unreadable.
    """
    if options.data == "scenes":
        return _scenes(options, train)
    data = _shards(options, train, world) if options.data.startswith(PREFIX) else _folders(options, train, world)
    if train and (sides := world.on_first(lambda: shorter_sides(data.train))):
        world.say(sizes_line(data.name, sides, options.scales))
    if not options.cache:
        return data
    if train:
        world.on_first(lambda: check_memory(data, options))
    elif too_large := world.on_first(lambda: _too_large(data, options, train=False)):
        world.say(f"{too_large}; they are decoded whenever they are needed")
        return data
    return in_memory(data, options, train, world)


def _folders(options: DataOptions, needs_train: bool, world: World) -> DataSet:
    folder = imagenette_folder(Path(options.data_root)) if options.data == "imagenette" else Path(options.data)
    train, val = read_splits(folder, options.val_share, needs_train)
    name = "imagenette" if options.data == "imagenette" else printable(folder.resolve().name)
    if left_out := train.skipped + val.skipped:
        world.say(f"{name}: {skipped_files(left_out)}")
    if options.val_share is not None:
        world.say(f"{name}: {len(val.samples)} images are kept for validation, {len(train.samples)} are for training")
    elif val.folder.name != "val":
        world.say(f"{name}: the validation images are those in {val.folder.name}/")
    sources = FileSource(train.samples), FileSource(val.samples)
    paths = sorted(path for split in (train, val) for path, _ in split.samples)
    if options.val_share is not None:
        paths = [path for split in (train, val) for path, _ in split.samples]  # another share, another data set
    fingerprint = world.on_first(lambda: listing_fingerprint(folder, paths))  # a million questions to a file system
    return DataSet(name, tuple(train.classes), *sources, fingerprint, BadImages(options.max_bad_images, world))


def _shards(options: DataOptions, train: bool, world: World) -> DataSet:
    cache = DownloadCache(Path(options.data_root) / "shards-cache", round(options.shards_gb * 1e9))
    shards, store = open_shards(options.data.removeprefix(PREFIX), cache, SPLITS if train else ("val",))
    sources = [ShardSource(shards.only(lambda shard, split=split: shard.split == split), store) for split in SPLITS]
    if train:
        _check_labels(options.data, *sources, shards.classes)
        if unused := sorted(set(range(len(shards.classes))) - set(sources[0].labels)):
            made = f"the labels make {len(shards.classes)} classes, 0 to {len(shards.classes) - 1}"
            world.say(f"{options.data}: {made}, but no training image has the label {_ranges(unused)}")
    bad_images = BadImages(options.max_bad_images, world)
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


def in_memory(data: DataSet, options: DataOptions, train: bool, world: World = ALONE) -> DataSet:
    """Return the data set with its images decoded into memory, the training images only if asked to.

    Training images are kept at most twice the largest scale, validation images as their first resizing leaves them.

    Raises:
        DataError: if not all validation images can be read, or too few training images.
    """
    val_source, unreadable = _into_memory(data.val, "val", options, world)
    refuse_unreadable(unreadable)
    if not train:
        return replace(data, val=val_source)
    train_source, unreadable = _into_memory(data.train, "train", options, world)
    for message in unreadable:
        data.bad_images.add(message)
    return replace(data, train=train_source, val=val_source)


def _scenes(options: DataOptions, train: bool) -> DataSet:
    seed = options.scenes_seed
    sources = {
        "train": SceneSource(options.scenes_train, options.scales[-1], "train", seed),
        "val": SceneSource(options.scenes_val, options.test_size, "val", seed),
    }
    digest = hashlib.sha256()
    for split, source in sources.items():
        if train or split == "val":
            _ = source.images  # drawn here and now, so that worker processes share them
        digest.update(repr((split, seed, source.size, len(source))).encode())
        digest.update(scenes.draw(0, source.size, split, seed).tobytes())
    fingerprint = digest.hexdigest()[:16]
    return DataSet("scenes", tuple(scenes.CLASSES), sources["train"], sources["val"], fingerprint, BadImages(limit=0))


def _kept_side(options: DataOptions, split: str) -> int:
    """Return the shorter side in pixels that images in memory have at most."""
    return 2 * options.scales[-1] if split == "train" else shorter_side(options.test_size, options.crop_ratio)


def check_memory(data: DataSet, options: DataOptions) -> None:
    """Raise a `UserError` if what `in_memory` keeps for a training would not fit into the free memory."""
    if too_large := _too_large(data, options, train=True):
        raise UserError(f"{too_large}; --cache false decodes them whenever they are needed")


def _too_large(data: DataSet, options: DataOptions, train: bool) -> str | None:
    """Return what to say if what `in_memory` keeps would not fit into the free memory, judging by a sample."""
    sources = {"val": data.val, **({"train": data.train} if train else {})}
    need = processes_here() * sum(_bytes(source, _kept_side(options, split)) for split, source in sources.items())
    free = free_memory()
    if free is None or need <= free:
        return None
    count = sum(map(len, sources.values()))
    taken = f"its {count} images, decoded, take about {in_gigabytes(need)} of memory"
    return f"{data.name}: {taken}, and {in_gigabytes(free)} are free"


def _bytes(source: ImageSource, at_most: int) -> int:
    """Return about how many bytes the images of a source take in memory, 0 for a few."""
    if len(source) < 5 * SAMPLED:
        return 0
    sampled = [_reduced(source, index, at_most) for index in source.sample(SAMPLED)]
    sizes = [image.numel() for image in sampled if isinstance(image, Tensor)]
    return len(source) * sum(sizes) // len(sizes) if sizes else 0


def _reduced(source: ImageSource, index: int, at_most: int) -> Tensor | UnreadableImage:
    """Return an image, its shorter side reduced to `at_most` pixels if it is above; or why it cannot be read."""
    try:
        image = source.read(index)
    except UnreadableImage as error:
        return error
    return resize(image, at_most) if min(image.shape[1:]) > at_most else image


def _into_memory(source: ImageSource, split: str, options: DataOptions, world: World) -> tuple[MemorySource, list[str]]:
    """Decode all images once, and reduce large ones; return the readable ones, and a message for each that is not."""
    at_most = _kept_side(options, split)

    images, labels, unreadable = [], [], []
    with ThreadPoolExecutor(max(options.workers, 2)) as pool:
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
