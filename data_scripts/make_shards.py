"""Pack a folder with train/ and val/ class folders into WebDataset shards for `--data wds:OUT`.

msun-lite data make_shards FOLDER OUT                   # the files as they are
msun-lite data make_shards FOLDER OUT --size 256        # shorter side at most 256 px, JPEG of quality 95
msun-lite data make_shards --check OUT                  # do the shards still have their checksums?
msun-lite data make_shards --index PATTERN              # write the manifest of shards made elsewhere

The same folder gives the same bytes. Interrupted or killed, the same command goes on; OUT appears once it is whole.
"""

import hashlib
import io
import json
import multiprocessing
import os
import re
import signal
import sys
import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torchvision.transforms.v2.functional import resize, to_pil_image

from msun_lite.data.class_folders import skipped_files
from msun_lite.data.images import UnreadableImage, decode
from msun_lite.data.shard_index import (
    INDEX,
    MANIFEST,
    SPLITS,
    Shard,
    ShardSet,
    join,
    read_folder,
    scan,
    write_manifest,
)
from msun_lite.data.shard_patterns import PREFIX, expand, split_of
from msun_lite.data.splits import read_splits
from msun_lite.utils.cli import OneLineParser, parse
from msun_lite.utils.errors import DataError, UserError, one_line_errors, printable, within
from msun_lite.utils.files import atomic_write, checksum, whole_folder, write_text
from msun_lite.utils.progress import note, progress

QUALITY = 95
"""JPEG quality of images made smaller."""
NAMED = 10
"""Unreadable images that an error names; it counts all."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Plan:
    """What one shard will hold: `samples` are (path, label), the first with the number `first` in its split."""

    name: str
    split: str
    first: int
    samples: tuple[tuple[str, int], ...]
    size: int | None

    def digest(self) -> str:
        """Return a hash of all that the shard's bytes depend on; a file is taken for the same by size and time."""
        files = [(path, label, *_status(path)) for path, label in self.samples]
        return hashlib.sha256(repr((self.name, self.first, self.size, files)).encode()).hexdigest()


def _status(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0  # a dangling link: an unreadable image like others
    return status.st_size, status.st_mtime_ns


def plan_shards(
    folder: Path, images: int, size: int | None, val_share: float | None = None
) -> tuple[tuple[str, ...], list[Plan], Counter[str]]:
    """Return the class names of a folder, its shards of `images` each, and what kinds of files are skipped.

    Validation images stay in order. Training images are mixed, so that a shard has images of many classes, by a hash
    of their paths: the same on any machine, with any version.
    """
    train, val = read_splits(folder, val_share)
    plans = []
    for split, samples in zip(SPLITS, (sorted(train.samples, key=partial(_mixed, folder)), val.samples), strict=True):
        for number, first in enumerate(range(0, len(samples), images)):
            chosen = tuple(samples[first : first + images])
            plans.append(Plan(f"{split}-{number:06d}.tar", split, first, chosen, size))
    return tuple(train.classes), plans, train.skipped + val.skipped


def _mixed(folder: Path, sample: tuple[str, int]) -> str:
    relative = Path(sample[0]).relative_to(folder).as_posix()
    return hashlib.sha256(relative.encode("utf-8", "surrogateescape")).hexdigest()


def build_shard(folder: Path, plan: Plan) -> tuple[Shard, np.ndarray, list[str]]:
    """Write one shard, or keep the one that is there from the last time if it is still right.

    Returns:
        What it is, what it holds, and a message for each unreadable image, which it does not hold.
    """
    path, note = folder / plan.name, folder / f"{plan.name}.json"
    try:
        stored = json.loads(note.read_text(encoding="utf-8"))
        unreadable = stored["unreadable"]
        kept = stored["plan"] == plan.digest() and stored["sha256"] == checksum(path)
    except (OSError, ValueError, LookupError, TypeError):
        kept = False
    if not kept:
        unreadable = _write_shard(path, plan)
        content = {"plan": plan.digest(), "sha256": checksum(path), "unreadable": unreadable}
        write_text(note, json.dumps(content))
    return *scan(path, plan.name, plan.split, sha256=True), unreadable


def _write_shard(path: Path, plan: Plan) -> list[str]:
    """Write a shard; return a message for each image that cannot be decoded, and is left out."""
    unreadable = []
    with atomic_write(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number, (source, label) in enumerate(plan.samples, plan.first):
            try:
                content, extension = encode(Path(source), plan.size)
            except UnreadableImage as error:
                unreadable.append(str(error))
                continue
            key = f"{number:08d}_{re.sub('[^A-Za-z0-9_-]', '_', Path(source).stem)[:50]}"
            _add(tar, f"{key}.{extension}", content)
            _add(tar, f"{key}.cls", str(label).encode())
    return unreadable


def encode(path: Path, size: int | None) -> tuple[bytes, str]:
    """Return an image's file as it is, or as JPEG where its shorter side is above `size` pixels; and the extension.

    Raises:
        UnreadableImage: if it cannot be decoded.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableImage(printable(f"{path}: {error}")) from None
    image = decode(io.BytesIO(content), str(path))
    if size is None or min(image.shape[1:]) <= size:
        extension = path.suffix[1:].lower()
        return content, "jpg" if extension == "jpeg" else extension
    small = io.BytesIO()
    to_pil_image(resize(image, size)).save(small, "JPEG", quality=QUALITY)
    return small.getvalue(), "jpg"


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # time, owner and mode are constants
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def make_shards(
    folder: Path,
    out: Path,
    images: int,
    size: int | None,
    workers: int,
    skip_unreadable: bool,
    val_share: float | None = None,
) -> tuple[ShardSet, int]:
    """Write the shards of a folder and their manifest into the new folder `out`.

    Args:
        folder: has train/ and val/ class folders.
        out: must not exist.
        images: images a shard.
        size: pixels that the shorter side of an image keeps at most; None leaves the files as they are.
        workers: processes.
        skip_unreadable: whether to leave out images that cannot be decoded.
        val_share: see `splits.read_splits`.

    Returns:
        The set, and the number of images left out.

    Raises:
        DataError: if the folder cannot be used, or there are unreadable images that are not to be left out.
    """
    if out.exists():
        raise UserError(f"{out}: exists already; remove it to make it anew, or verify it with --check")
    classes, plans, skipped = plan_shards(folder, images, size, val_share)
    if skipped:
        note(f"{folder}: {skipped_files(skipped)}")
    with whole_folder(out) as part:
        built = in_parallel(partial(build_shard, part), plans, workers, "making shards")
        unreadable = [message for *_, messages in built for message in messages]
        if unreadable and not skip_unreadable:
            named = "; ".join(unreadable[:NAMED]) + ("; ..." if len(unreadable) > NAMED else "")
            raise DataError(f"{len(unreadable)} unreadable image(s), expected none or --skip_unreadable: {named}")
        shards = join([(shard, samples) for shard, samples, _ in built], classes)
        if unreadable:
            skipped["unreadable"] = len(unreadable)
        write_manifest(part, shards, skipped)
        wanted = {MANIFEST, INDEX, *(plan.name for plan in plans)}
        for stray in {path.name for path in part.iterdir()} - wanted:
            (part / stray).unlink()  # notes, and what an earlier call with other options has left
    return shards, len(unreadable)


def index_shards(pattern: str, workers: int) -> tuple[Path, ShardSet]:
    """Scan local shards and write their manifest into the folder they have in common."""
    base, names = expand(pattern.removeprefix(PREFIX))
    folder = Path(base)
    if "://" in base or not names:
        raise UserError(f"index: expected a pattern of shards on this machine, got {pattern!r}")
    if (folder / MANIFEST).exists():
        raise UserError(f"{folder / MANIFEST}: exists already; remove it to write it anew")
    found = in_parallel(partial(_scan, folder), names, workers, "scanning shards")
    write_manifest(folder, join(found))
    return folder, read_folder(folder)


def _scan(folder: Path, name: str) -> tuple[Shard, np.ndarray]:
    return scan(folder / name, name, split_of(name), sha256=True)


def check_shards(folder: Path, workers: int) -> ShardSet:
    """Return the set in a folder, or raise a `DataError` that names the shards that are not as they were made."""
    shards = read_folder(folder)
    sums = in_parallel(checksum, [folder / shard.name for shard in shards.shards], workers, "checking shards")
    if wrong := [shard.name for shard, found in zip(shards.shards, sums, strict=True) if shard.sha256 != found]:
        raise DataError(
            f"{folder}: {len(wrong)} shard(s) without the checksum in {MANIFEST}: {', '.join(wrong[:NAMED])}"
        )
    return shards


def in_parallel(function: Callable[..., Result], items: Sequence, workers: int, what: str) -> list[Result]:
    """Return what `function` returns for each item, in order, computed by `workers` processes under a progress bar."""
    with ProcessPoolExecutor(workers, initializer=_start_worker) as pool:
        try:
            tasks = [pool.submit(function, item) for item in items]
            for task in progress(as_completed(tasks), total=len(tasks), desc=what, unit="shard", leave=False):
                task.result()
        except BrokenProcessPool:
            raise UserError(
                f"{what}: a worker process was killed, maybe for want of memory; try fewer --workers"
            ) from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        return [task.result() for task in tasks]


def _start_worker() -> None:
    """Let the main process alone handle Ctrl-C, end when it is killed, and compute on one core."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _parser(prog: str | None) -> OneLineParser:
    parser = OneLineParser(prog=prog, description="Pack class folders into WebDataset shards.")
    parser.add_argument("folder", type=str | None, nargs="?", default=None, help="Has train/ and val/ class folders.")
    parser.add_argument("out", type=str | None, nargs="?", default=None, help="New folder for the shards.")
    parser.add_argument("--check", type=str | None, default=None, help="Folder of shards to verify, in place of both.")
    parser.add_argument(
        "--index", type=str | None, default=None, help="Shards to write a manifest for, in place of both."
    )
    parser.add_argument("--images_per_shard", type=int, default=4096, help="Images in each shard.")
    parser.add_argument(
        "--size", type=int | None, default=None, help="Shorter side in pixels that images keep at most."
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="Processes.")
    share_help = "Of a folder without a split: share of each class's images that is for validation."
    parser.add_argument("--val_share", type=float | None, default=None, help=share_help)
    parser.add_argument("--skip_unreadable", type=bool, default=False, help="Leave out images that cannot be decoded.")
    return parser


def _check_options(options) -> None:
    given = [options.out is not None, options.check is not None, options.index is not None]
    if sum(given) != 1 or (options.folder is None) != (options.out is None):
        raise UserError("expected FOLDER and OUT, or --check FOLDER, or --index PATTERN")
    for name in ("images_per_shard", "size", "workers"):
        if options[name] is not None:
            within(name, options[name], least=1)
    if options.val_share is not None:
        within("val_share", options.val_share, above=0, below=1)


@one_line_errors
def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    """Run the command; `prog` is what it was called by, the script itself by default."""
    options = parse(_parser(prog), argv)
    _check_options(options)
    left_out = 0
    if options.check is not None:
        folder = Path(options.check)
        shards = check_shards(folder, options.workers)
    elif options.index is not None:
        folder, shards = index_shards(options.index, options.workers)
    else:
        folder = Path(options.out)
        shards, left_out = make_shards(
            Path(options.folder),
            folder,
            options.images_per_shard,
            options.size,
            options.workers,
            options.skip_unreadable,
            options.val_share,
        )
    note(_summary(folder, shards) + (f"; {left_out} unreadable image(s) left out" if left_out else ""))
    return 0


def _summary(folder: Path, shards: ShardSet) -> str:
    counts = [sum(shard.samples for shard in shards.shards if shard.split == split) for split in SPLITS]
    return (
        f"{folder}: {counts[0]} training and {counts[1]} validation images of {len(shards.classes)} classes in "
        f"{len(shards.shards)} shards, fingerprint {shards.fingerprint}; use it with --data {PREFIX}{folder}"
    )


if __name__ == "__main__":
    sys.exit(main())
