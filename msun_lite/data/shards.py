"""Images in WebDataset shards, read one by one where the index says they are: `--data wds:PATTERN`.

    wds:/data/in1k                                              a folder with manifest.json
    wds:/data/in1k/{train-{000000..000145},val-{000000..000006}}.tar
    wds:https://host/in1k/{train,val}-{0000..0003}.tar

Every image has a number, whatever shard it is in. So an epoch is a list of numbers here as for any other source: each
image exactly once, for any number of ranks and workers, and a stopped epoch goes on exactly. Shards on the web are
downloaded whole when one of their images is needed.
"""

import contextlib
import io
from array import array
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from msun_lite.data.archives import is_member, page_start
from msun_lite.data.downloads import DownloadCache, MissingFile, read_url
from msun_lite.data.images import decode
from msun_lite.data.shard_index import (
    INDEX,
    MANIFEST,
    SPLITS,
    Shard,
    ShardSet,
    join,
    read_folder,
    read_manifest,
    scan,
    write_manifest,
)
from msun_lite.data.shard_patterns import PREFIX, expand, split_of
from msun_lite.data.sources import ImageSource
from msun_lite.runtime import image_size
from msun_lite.utils.errors import DataError
from msun_lite.utils.files import checksum
from msun_lite.utils.progress import progress

BLOCK = 16
"""Shards whose images are shuffled together: a pass over the data reads so many at a time."""
OPENINGS = 5
"""Times that a shard is opened which other processes remove at that moment, to make room."""


class LocalShards:
    """Shards in a folder of this machine."""

    def __init__(self, base: str):
        self.name, self.folder = base, Path(base)
        self.title = self.folder.resolve().name

    def read_set(self, names: Sequence[str]) -> ShardSet:
        """Return the named shards as the manifest describes them (all without names), or as a scan finds them."""
        if not self.folder.is_dir():
            raise DataError(f"{self.folder}: no such folder of shards")
        manifest = self.folder / MANIFEST
        if not names and not manifest.is_file():
            raise DataError(f"{manifest}: expected a manifest of shards, found none; {_hint(self.name)}")
        if manifest.is_file():
            shards = _chosen(read_folder(self.folder), names, str(manifest))
            self._check_files({shard.name: shard.bytes for shard in shards.shards})
            return shards
        self._check_files(dict.fromkeys(names))
        bar = progress(names, desc="scanning shards", unit="shard", leave=False)
        return join([scan(self.folder / name, name, split_of(name)) for name in bar])

    def _check_files(self, expected: dict[str, int | None]) -> None:
        """Raise a `DataError` unless all shards are there, each of its size in bytes if that is known."""
        missing = [name for name in expected if not (self.folder / name).is_file()]
        if missing:
            raise DataError(f"{self.folder / missing[0]}: no such shard, {len(missing)} of {len(expected)} are missing")
        for name, size in expected.items():
            found = (self.folder / name).stat().st_size
            if size not in (None, found):
                raise DataError(f"{self.folder / name}: expected {size} bytes as in {MANIFEST}, got {found}")

    def path(self, shard: Shard) -> Path:
        """Return where a shard is."""
        return self.folder / shard.name

    def discard(self, path: Path) -> bool:
        """Return that a file is not to be had anew: it is the user's."""
        return False


class WebShards:
    """Shards of a web server, kept in a folder of bounded size while they are in use."""

    def __init__(self, base: str, cache: DownloadCache):
        self.name, self.cache = base, cache
        self.title = base.rpartition("/")[2]

    def read_set(self, names: Sequence[str]) -> ShardSet:
        """Return the named shards as the manifest describes them (all without names), or as a scan finds them."""
        manifest = self._url(MANIFEST)
        try:
            text = read_url(manifest)
        except MissingFile as error:
            if not names:
                raise MissingFile(f"{error}; {_hint(self.name)}") from None
            text = None
        if text is None or (names and page_start(text)):
            shards = self._scanned(names)
        else:
            shards = _chosen(read_manifest(text, manifest, self._index), names, manifest)
        self._check_limit(shards)
        return shards

    def _index(self, sha256: str, size: int) -> Path:
        """Return the local copy of the index, fetched anew if its content has changed since it came."""
        path = self.cache.fetch(self._url(INDEX), sha256, size)
        if checksum(path) != sha256:
            path.unlink(missing_ok=True)
            path = self.cache.fetch(self._url(INDEX), sha256, size)
        return path

    def _scanned(self, names: Sequence[str]) -> ShardSet:
        """Return what is in shards without a manifest, each downloaded once; the answer is kept for the next time."""
        urls = [self._url(name) for name in names]
        folder = self.cache.folder / "scanned" / self.cache.place("\n".join(urls)).stem
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{folder}: the folder cannot be made: {error}") from None
        with FileLock(folder / ".lock"):
            if (folder / MANIFEST).is_file():
                with contextlib.suppress(DataError):  # damaged since: scanned once more
                    return read_folder(folder)
            bar = progress(names, desc="downloading and scanning shards", unit="shard", leave=False)
            shards = join([self._scan(name) for name in bar])
            write_manifest(folder, shards)
            for shard in shards.shards:
                with contextlib.suppress(FileNotFoundError):  # it had to make room for others
                    url = self._url(shard.name)
                    self.cache.place(url).rename(self.cache.place(url, shard.sha256))
        return read_folder(folder)

    def _scan(self, name: str) -> tuple[Shard, np.ndarray]:
        url = self._url(name)
        path = self.cache.fetch(url)
        try:
            return scan(path, name, split_of(name), sha256=True, shown=url)
        except DataError:
            path.unlink(missing_ok=True)  # the server may have a better one the next time
            raise

    def _check_limit(self, shards: ShardSet) -> None:
        """Refuse a limit so small that shards would be downloaded anew for almost every image."""
        needed = sum(sorted((shard.bytes for shard in shards.shards), reverse=True)[: 2 * BLOCK])
        if needed > self.cache.limit:
            raise DataError(
                f"shards_gb: expected at least {needed / 1e9:.3g}, for the {2 * BLOCK} largest shards of {self.name}, "
                f"got {self.cache.limit / 1e9:g}"
            )

    def path(self, shard: Shard) -> Path:
        """Return the local copy of a shard, downloaded if need be."""
        return self.cache.fetch(self._url(shard.name), shard.sha256, shard.bytes)

    def discard(self, path: Path) -> bool:
        """Remove a local copy that has been damaged since it came, and return that there can be a new one."""
        path.unlink(missing_ok=True)
        return True

    def _url(self, name: str) -> str:
        return f"{self.name}/{quote(name, safe='/%')}"


class ShardSource(ImageSource):
    """The images of one split, read from the shards where the index says they are.

    Args:
        shards: the split's shards.
        store: where they are.
    """

    def __init__(self, shards: ShardSet, store: LocalShards | WebShards):
        super().__init__(array("i", shards.samples["label"].tolist()))  # no objects: worker processes share it
        self.shards, self.samples, self.store = shards.shards, shards.samples, store
        self.near = isinstance(store, LocalShards)
        self._starts = np.cumsum([0] + [shard.samples for shard in self.shards])

    def read(self, index: int) -> Tensor:
        """Decode image `index`: uint8 [3, H, W].

        Raises:
            UnreadableImage: naming shard and member.
            DataError: if the shard is not there, cannot be had, or is another than the index was written for.
        """
        return decode(io.BytesIO(self._content(index)), self.name(index))

    def name(self, index: int) -> str:
        """Return the shard and the member that image `index` is."""
        shard, member = self._place(index)
        return f"{self.store.name}/{shard.name}: {member}"

    def size(self, index: int) -> tuple[int, int] | None:
        """Return width and height from the header of image `index`; None if it cannot be read."""
        return image_size(io.BytesIO(self._content(index)))

    def _place(self, index: int) -> tuple[Shard, str]:
        """Return the shard that image `index` is in, and its name there."""
        shard = self.shards[int(np.searchsorted(self._starts, index, side="right")) - 1]
        return shard, self.samples[index]["member"].decode("utf-8", "surrogateescape")

    def _content(self, index: int) -> bytes:
        """Return the file of image `index`."""
        _, _, offset, size = self.samples[index].item()
        return self._read_member(*self._place(index), offset, size)

    def _read_member(self, shard: Shard, name: str, offset: int, size: int) -> bytes:
        for opening in range(OPENINGS):
            path = self.store.path(shard)
            try:
                with path.open("rb") as file:
                    expected = is_member(file, name, offset, size)
                    file.seek(offset)
                    content = file.read(size)
            except FileNotFoundError:
                continue  # another process made room for its download just now
            except OSError as error:
                raise DataError(f"{path}: cannot be read: {error}") from None
            if expected and len(content) == size:
                return content
            if opening == 0 and self.store.discard(path):
                continue
            raise DataError(f"{self.store.name}/{shard.name}: expected {name} at byte {offset}, as {INDEX} has it")
        raise DataError(f"{path}: the shard is gone")

    def order(self, generator: torch.Generator) -> list[int]:
        """Return all indices once: the shards shuffled, and the images within blocks of `BLOCK` of them."""
        order = []
        for block in torch.randperm(len(self.shards), generator=generator).split(BLOCK):
            numbers = [torch.arange(self._starts[shard], self._starts[shard + 1]) for shard in block.tolist()]
            indices = torch.cat(numbers)
            order += indices[torch.randperm(len(indices), generator=generator)].tolist()
        return order


def open_shards(
    pattern: str, cache: DownloadCache, needed: Sequence[str] = SPLITS
) -> tuple[ShardSet, LocalShards | WebShards]:
    """Return the shards that a pattern names, and where they are.

    Raises:
        DataError: if one is missing, hostile or no shard, or there are no images of a split that is needed.
    """
    base, names = expand(pattern)
    store = WebShards(base, cache) if "://" in base else LocalShards(base)
    shards = store.read_set(names)
    for split in needed:
        if not any(shard.samples for shard in shards.shards if shard.split == split):
            expected = f"expected shards for {' and for '.join(needed)}"
            raise DataError(f"{PREFIX}{pattern}: {expected}, found no images for {split}")
    return shards, store


def _hint(base: str) -> str:
    example = "{train-{0000..0127},val-{0000..0007}}.tar"
    return f"shards without a manifest are named by a pattern such as '{PREFIX}{base}/{example}'"


def _chosen(shards: ShardSet, names: Sequence[str], manifest: str) -> ShardSet:
    """Return the named shards of a manifest, or all of them where none is named."""
    if unknown := sorted(set(names) - {shard.name for shard in shards.shards}):
        raise DataError(f"{manifest}: expected all shards of the pattern in it, {unknown[0]} is not")
    return shards.only(lambda shard, chosen=set(names): shard.name in chosen) if names else shards
