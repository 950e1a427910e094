"""What is where in a set of shards: the manifest, and the scan of shards that have none.

A shard is an uncompressed tar of WebDataset: the members of a sample follow each other and share their name up to the
first dot of the last part; an image, and its class in `.cls` (or in `.json`, as "label" or "cls"). `manifest.json`
names the shards with their sizes and checksums, `index.npy` beside it says where in them each image is.
"""

import codecs
import hashlib
import io
import itertools
import json
import re
import tarfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from msun_lite.data.archives import members, open_tar, page_start
from msun_lite.runtime import IMAGE_ENDINGS
from msun_lite.utils.errors import DataError
from msun_lite.utils.files import atomic_write, checksum, write_text

VERSION = 1
MANIFEST, INDEX = "manifest.json", "index.npy"
SPLITS = ("train", "val")
COLUMNS = ("member", "label", "offset", "size")
IMAGES = tuple(sorted(IMAGE_ENDINGS))
PICKLES = ("pkl", "pickle", "pyd", "pth", "pt")
"""Members that other readers would unpickle: nothing that holds them can be trusted."""
MOST_CLASSES = 100_000
LABELS = ("cls", "json")
"""Members that hold a class, the first one that is there."""
NAMED = 5
"""Members of a sample that an error names."""
LONGEST_NAME = 255
LONGEST_LABEL = 1 << 20
"""Bytes of a .cls or .json member that are read at most."""


@dataclass(frozen=True)
class Shard:
    """One shard: its path below the set's folder, with /, and what it holds.

    `sha256` is None where it was never computed.
    """

    name: str
    split: str
    bytes: int
    sha256: str | None
    samples: int


@dataclass(frozen=True)
class ShardSet:
    """Shards of both splits.

    `samples` has a row for each image, in the order of the shards: `member` (name, bytes), `label`, `offset` and
    `size` of the image in its shard, in bytes.
    """

    classes: tuple[str, ...]
    shards: tuple[Shard, ...]
    samples: np.ndarray

    def only(self, wanted: Callable[[Shard], bool]) -> "ShardSet":
        """Return the set of some of the shards, in the same order."""
        kept = [wanted(shard) for shard in self.shards]
        rows = np.repeat(np.array(kept, bool), [shard.samples for shard in self.shards])
        shards = tuple(shard for shard, keep in zip(self.shards, kept, strict=True) if keep)
        return ShardSet(self.classes, shards, self.samples[rows])

    @cached_property
    def fingerprint(self) -> str:
        """Return a short hash of all names, labels and sizes, the same wherever the shards are."""
        digest = hashlib.sha256()
        for split in SPLITS:
            samples = self.only(lambda shard, split=split: shard.split == split).samples
            digest.update(f"{split} {len(samples)}\n".encode())
            digest.update(b"\n".join(samples["member"].tolist()))
            for column in ("label", "size"):
                digest.update(samples[column].astype("<i8").tobytes())
        return digest.hexdigest()[:16]


def _samples(rows: Sequence[tuple[bytes, int, int, int]]) -> np.ndarray:
    longest = max((len(row[0]) for row in rows), default=1)
    return np.array(list(rows), dtype=list(zip(COLUMNS, (f"S{longest}", "<i4", "<i8", "<i8"), strict=True)))


def join(scanned: Sequence[tuple[Shard, np.ndarray]], classes: tuple[str, ...] | None = None) -> ShardSet:
    """Return the set of scanned shards, sorted by name; without class names, the labels up to the largest are named.

    Raises:
        DataError: if there is no image in it.
    """
    scanned = sorted(scanned, key=lambda item: item[0].name)
    samples = np.concatenate([samples for _, samples in scanned])
    if not len(samples):
        raise DataError(f"{scanned[0][0].name}: expected images in the shards, found none")
    if classes is None:
        classes = tuple(str(label) for label in range(int(samples["label"].max()) + 1))
    return ShardSet(classes, tuple(shard for shard, _ in scanned), samples)


def scan(path: Path, name: str, split: str, sha256: bool = False, shown: str | None = None) -> tuple[Shard, np.ndarray]:
    """Return what a shard is and what it holds.

    Args:
        path: the file.
        name: its path below the set's folder.
        split: train or val.
        sha256: whether to compute its checksum.
        shown: what errors call it, where that is not the path.

    Raises:
        DataError: naming shard and member or key, for anything that is no shard as described above, pickles, and
            members that `archives.members` refuses.
    """
    shown = shown or str(path)
    with open_tar(path, shown, compressed=False) as tar:
        samples = _samples([_row(tar, shown, key, sample) for key, sample in _grouped(tar, shown) if _of_use(sample)])
    shard = Shard(name, split, path.stat().st_size, checksum(path) if sha256 else None, len(samples))
    return shard, samples


def _grouped(tar: tarfile.TarFile, shown: str) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """Yield each sample's key and its members by extension.

    Members of one key may stand apart. Where a name comes twice, as in archives that were joined, those that follow
    each other are a sample, as WebDataset has it.
    """
    found = list(_keyed(tar, shown))
    if len({(key, extension) for key, extension, _ in found}) == len(found):
        first = {key: place for place, (key, *_) in reversed(list(enumerate(found)))}
        found.sort(key=lambda item: first[item[0]])
    for key, group in itertools.groupby(found, key=lambda item: item[0]):
        sample = {}
        for _, extension, member in group:
            if extension in sample:
                raise DataError(f"{shown}: expected the member {member.name!r} once, found it twice")
            sample[extension] = member
        yield key, sample


def _keyed(tar: tarfile.TarFile, shown: str) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    """Yield the members of samples, each with its key and its extension as WebDataset parts them."""
    for member in members(tar, shown):
        parts = re.fullmatch(r"((?:.*/)?[^./]+)\.([^/]*)", member.name, re.DOTALL)
        if parts is None or member.isdir() or re.match(r"__[^/]*__($|/)", member.name):
            continue  # a folder, or WebDataset's own notes
        key, extension = parts[1], parts[2].lower()
        _refuse_pickle(tar, shown, member, extension)
        yield key, extension, member


def _of_use(sample: Collection[str]) -> bool:
    """Return whether there is an image or a class among the extensions: else it is a README or another note."""
    return any(extension.rpartition(".")[2] in (*IMAGES, *LABELS) for extension in sample)


def _refuse_pickle(tar: tarfile.TarFile, shown: str, member: tarfile.TarInfo, extension: str) -> None:
    last = extension.rpartition(".")[2]
    if last in PICKLES or (last == "npy" and re.search(rb"'\|?O'", tar.extractfile(member).read(1 << 16))):
        raise DataError(f"{shown}: refused the member {member.name!r}: pickled data can run programs")


def _row(tar: tarfile.TarFile, shown: str, key: str, sample: dict[str, tarfile.TarInfo]) -> tuple[bytes, int, int, int]:
    images = [member for extension, member in sample.items() if extension in IMAGES]
    if len(images) != 1:
        expected = f"expected one image (.jpg, .png and others) for the key {key!r}"
        raise DataError(f"{shown}: {expected}, got {_listed(sample)}{_if_dots(sample)}")
    name = images[0].name.encode("utf-8", "surrogateescape")
    if len(name) > LONGEST_NAME:
        raise DataError(f"{shown}: expected names of at most {LONGEST_NAME} bytes, got the key {key[:50]!r}...")
    return name, _label(tar, shown, key, sample), images[0].offset_data, images[0].size


def _label(tar: tarfile.TarFile, shown: str, key: str, sample: dict[str, tarfile.TarInfo]) -> int:
    """Return the class of a sample."""
    kind = next((kind for kind in LABELS if kind in sample), None)
    if kind is None:
        raise DataError(f"{shown}: expected a class (.cls or .json) for the key {key!r}, got {_listed(sample)}")
    text = tar.extractfile(sample[kind]).read(LONGEST_LABEL)
    label = {"cls": _cls_label, "json": _json_label}[kind](text)
    if type(label) is not int or not 0 <= label < MOST_CLASSES:
        expected = f"expected a class as a number from 0 to {MOST_CLASSES - 1}"
        raise DataError(f"{shown}: {expected} for the key {key!r}, got {label!r}")
    return label


def _listed(sample: Collection[str]) -> str:
    named = ", ".join(f".{extension}" for extension in itertools.islice(sample, NAMED))
    return f"{named}, ..." if len(sample) > NAMED else named


def _if_dots(sample: Collection[str]) -> str:
    """Return what may be wrong with the names of a sample without an image."""
    if any("." in extension and extension.rpartition(".")[2] in IMAGES for extension in sample):
        return ": a key ends at the first dot of a file's name, so write its other dots in another way, as _ say"
    return ""


def _cls_label(text: bytes) -> object:
    digits = text.removeprefix(codecs.BOM_UTF8).strip()
    return int(digits) if re.fullmatch(rb"\d{1,9}", digits) else text[:40]


def _json_label(text: bytes) -> object:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return text[:40]
    if not isinstance(content, dict):
        return content
    if "label" not in content and "cls" not in content:
        return f'no "label" or "cls" beside {", ".join(itertools.islice(content, NAMED)) or "nothing"} in its .json'
    return content.get("label", content.get("cls"))


def write_manifest(folder: Path, shards: ShardSet, skipped: Mapping[str, int] | None = None) -> None:
    """Write `index.npy`, and then `manifest.json`, into the set's folder; `skipped`: kind of file -> how many."""
    buffer = io.BytesIO()
    np.save(buffer, shards.samples, allow_pickle=False)
    with atomic_write(folder / INDEX) as file:
        file.write(buffer.getvalue())
    manifest = {
        "version": VERSION,
        "classes": shards.classes,
        **({"skipped": dict(skipped)} if skipped else {}),
        "shards": [asdict(shard) for shard in shards.shards],
        "index": {"bytes": buffer.tell(), "sha256": hashlib.sha256(buffer.getvalue()).hexdigest()},
    }
    write_text(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")


def read_folder(folder: Path) -> ShardSet:
    """Return the set that the manifest in its folder describes; see `read_manifest`."""
    path = folder / MANIFEST
    try:
        text = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: expected a manifest of shards: {error}") from None
    return read_manifest(text, str(path), lambda sha256, size: folder / INDEX)


def read_manifest(text: bytes, shown: str, find_index: Callable[[str, int], Path]) -> ShardSet:
    """Return the set that a manifest and its index describe.

    Args:
        text: the manifest.
        shown: what errors call it.
        find_index: gives the path of `index.npy`, told its sha256 and its size in bytes.

    Raises:
        DataError: if they are no manifest and index, or do not fit each other.
    """
    if page := page_start(text):
        raise DataError(f"{shown}: expected a manifest of msun-lite data make_shards, got {page}")
    try:
        manifest = json.loads(text)
        if manifest["version"] != VERSION:
            raise ValueError(f"version {manifest['version']}")
        shards = tuple(_checked(Shard(**entry)) for entry in manifest["shards"])
        if len({shard.name for shard in shards}) < len(shards):
            raise ValueError("one shard twice")
        sha256, size = _checked_sum(manifest["index"]["sha256"]), int(manifest["index"]["bytes"])
        content = find_index(sha256, size).read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError(f"another {INDEX} than it was written with")
        samples = np.load(io.BytesIO(content), allow_pickle=False)
        classes = tuple(str(label) for label in manifest["classes"])
        _check_samples(samples, shards, len(classes))
    except DataError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError, OSError) as error:
        what = f"{type(error).__name__}: {error}"
        raise DataError(f"{shown}: expected a manifest of msun-lite data make_shards, got {what}") from None
    return ShardSet(classes, shards, samples)


def _checked(shard: Shard) -> Shard:
    """Return a manifest's entry, or raise a `ValueError` for one that cannot be trusted."""
    path = PurePosixPath(shard.name)
    if path.is_absolute() or ".." in path.parts or not re.fullmatch(r"[^\\:]+\.tar", shard.name):
        raise ValueError(f"the shard name {shard.name!r}")
    if shard.split not in SPLITS:
        raise ValueError(f"the split {shard.split!r} of {shard.name}")
    _checked_sum(shard.sha256)
    if type(shard.bytes) is not int or type(shard.samples) is not int or shard.samples < 0:
        raise ValueError(f"bytes {shard.bytes!r} or samples {shard.samples!r} of {shard.name}")
    return shard


def _checked_sum(sha256: str) -> str:
    """Return a checksum, which will be a file's name, or raise a `ValueError` if it is none."""
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ValueError(f"the sha256 {sha256!r}")
    return sha256


def _check_samples(samples: np.ndarray, shards: Sequence[Shard], classes: int) -> None:
    """Raise a `ValueError` unless all images lie within their shards, and their labels within the classes."""
    counts = [shard.samples for shard in shards]
    if samples.dtype.names != COLUMNS or [samples.dtype[name].kind for name in COLUMNS] != list("Siii"):
        raise ValueError(f"columns {samples.dtype} in {INDEX}")
    if samples.ndim != 1 or len(samples) != sum(counts):
        raise ValueError(f"{len(samples)} images in {INDEX} for {sum(counts)} in the shards")
    ends = np.repeat(np.array([shard.bytes for shard in shards], np.int64), counts)
    inside = (samples["offset"] >= tarfile.BLOCKSIZE) & (samples["size"] >= 0)
    inside &= samples["size"] <= ends - samples["offset"]
    if not inside.all():
        raise ValueError(f"images outside of their shards in {INDEX}")
    if not ((samples["label"] >= 0) & (samples["label"] < classes)).all():
        raise ValueError(f"labels outside of the {classes} classes in {INDEX}")
