"""Files and folders that appear whole or not at all."""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from msun_lite.utils.errors import CheckpointError, DataError, FailedDownload, UserError


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the name `path` only once it is whole and on the disk; the umask says who may read it.

    Raises:
        UserError: if it cannot be written (a full disk, no permission); what was at `path` stays.
    """
    temporary = path.with_name(f"{_prefix(path)}{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        kept = "; the previous one is kept" if path.exists() else ""
        raise UserError(f"{path}: cannot be written: {error}{kept}") from None
    finally:
        with contextlib.suppress(OSError):  # what has kept it from being written is the news
            temporary.unlink(missing_ok=True)


def _prefix(path: Path) -> str:
    return f".{path.name}.part-"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Do what is inside while the other processes of this machine that want the same wait; `path` is the lock's file.

    Raises:
        UserError: if its folder cannot be made or written to.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise UserError(f"{path.parent}: cannot be written to: {error}") from None
    try:
        yield
    finally:
        lock.release()


def remove_parts(path: Path) -> None:
    """Remove the unfinished files that a kill left behind while `path` was being written."""
    for part in path.parent.glob(f"{_prefix(path)}*"):
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a small text file atomically, in UTF-8; bytes of file names that are none are escaped."""
    with atomic_write(path) as file:
        file.write(text.encode(errors="backslashreplace"))


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Let a folder grow as `NAME.part` beside `path`, and give it that name once it is whole.

    An interruption, a kill, a full disk or a failed download leaves what is there for the next call to go on with; any
    other `DataError` removes it.

    Raises:
        UserError: if it cannot be made.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        part.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{part}: the folder cannot be made: {error}") from None
    try:
        yield part
    except FailedDownload:
        raise
    except DataError:
        shutil.rmtree(part)
        raise
    try:
        part.rename(path)
    except OSError as error:
        raise UserError(f"{path}: {part} is whole but cannot take its name: {error}") from None


def empty(folder: Path, keep: Path) -> None:
    """Remove all that is in a folder but `keep`."""
    for path in folder.iterdir():
        if path != keep:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def listing_fingerprint(folder: Path, paths: Iterable[str | Path]) -> str:
    """Return a short hash of paths below `folder` and the files' sizes, in this order: quick, other for other data."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            size = os.stat(path).st_size
        except OSError:
            size = "missing"
        digest.update(f"{Path(path).relative_to(folder).as_posix()} {size}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def checksum(path: Path, algorithm: str = "sha256", advance: Callable[[int], object] = lambda count: None) -> str:
    """Return a file's checksum in hexadecimal digits; `advance` is told the bytes read, as they are.

    Raises:
        DataError: if it cannot be read.
    """
    digest = hashlib.new(algorithm)
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
                advance(len(chunk))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    return digest.hexdigest()


def check_output(path: str | None) -> None:
    """Raise a `UserError` if the file that a result shall go to cannot be made; None is no file."""
    if not path:
        return
    if os.path.isdir(path):
        raise UserError(f"{path}: expected a file in an existing folder, got a folder")
    try:
        with contextlib.suppress(FileNotFoundError):
            Path(path).lstat()
        with tempfile.TemporaryFile(dir=Path(path).absolute().parent):
            pass  # permissions alone do not tell whether a file can be made
    except OSError as error:
        raise UserError(f"{path}: expected a file in an existing folder, got: {error.strerror}") from None


def write_json(path: Path, content: dict) -> None:
    """Write `content` as indented JSON, atomically."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> dict:
    """Read a JSON object, or raise a `CheckpointError` that names the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: expected a JSON file, got: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content
