"""A data set's folder, made from files of the web or of this machine: verified, unpacked, whole or not there at all.

What an interruption leaves in NAME.part, half a file included, the next call goes on with.
"""

import gzip
import shutil
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from msun_lite.data.archives import page_in, unpack
from msun_lite.data.downloads import download
from msun_lite.utils.errors import DataError, UserError, first_line
from msun_lite.utils.files import checksum, empty, locked, whole_folder

ARCHIVES = ".archives"
"""Folder of a data set's downloaded files, until they are unpacked."""


@dataclass(frozen=True)
class OfficialFile:
    """A file that a data set is published as.

    Args:
        url: its address.
        md5: its checksum; None where none is published.
        into: folder within the set's that it is unpacked in, or, if it is no archive, copied to.
        member: the archive inside this one that is wanted; by default all of it is.
    """

    url: str
    md5: str | None
    into: str = "."
    member: str | None = None

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.url.rpartition("/")[2]


def install(folder: Path, fill: Callable[[Path, Path], None]) -> None:
    """Make a data set's folder, unless it is there: by one process, while the others of this machine wait.

    Args:
        folder: takes its name once it is whole.
        fill: puts the data set into the first folder that it is given; what it downloads goes into the second one.

    Raises:
        UserError: if the folder cannot be filled; and what `fill` raises.
    """
    if folder.exists():
        return
    with locked(folder.with_name(f".{folder.name}.lock")):
        if folder.exists():  # another process was faster
            return
        with whole_folder(folder) as part:
            downloads = part / ARCHIVES
            try:
                empty(part, keep=downloads)
                downloads.mkdir(exist_ok=True)
                fill(part, downloads)
                shutil.rmtree(downloads)
            except OSError as error:
                hint = "mend this and call again, to go on from here"
                raise UserError(f"{part}: cannot be filled: {error}; {hint}") from None


def is_address(source: str) -> bool:
    """Return whether a source of files is an address on the web, not a path."""
    return urlsplit(source).scheme in ("http", "https")


def fetch_file(file: OfficialFile, downloads: Path, source: str | None = None) -> Path:
    """Return where an official file is, verified.

    Args:
        file: which one.
        downloads: folder that it is downloaded into.
        source: folder or address that has it, in place of its official address.

    Raises:
        DataError: if it cannot be had, or is not the official one.
    """
    if source is None or is_address(source):
        url = file.url if source is None else f"{source.rstrip('/')}/{file.name}"
        return download(url, downloads, file.md5)
    path = Path(source) / file.name
    if not path.is_file():
        raise DataError(f"{path}: no such file, expected the official {file.name}")
    if file.md5 is not None and (found := checksum(path, "md5")) != file.md5:
        raise DataError(f"{path}: expected the official file with the md5 {file.md5}, got {found}")
    return path


def unpack_file(file: OfficialFile, path: Path, folder: Path) -> None:
    """Unpack an official file that lies at `path` into a data set's folder, or copy it there if it is no archive."""
    folder /= file.into
    folder.mkdir(parents=True, exist_ok=True)
    if file.member is not None:
        inner = folder / Path(file.member).name
        _take(path, file.member, inner)
        unpack(inner, folder)
        inner.unlink()
    elif is_tar(file.name):
        unpack(path, folder)
    elif file.name.endswith(".gz"):
        _gunzip(path, folder / file.name.removesuffix(".gz"))
    else:
        shutil.copyfile(path, folder / file.name)


def is_tar(name: str) -> bool:
    """Return whether a file's name says that it is a tar archive."""
    return name.endswith((".tar", ".tar.gz", ".tgz"))


def _take(archive: Path, member: str, to: Path) -> None:
    """Copy one file out of a zip archive."""
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(member) as inside, to.open("wb") as file:
            shutil.copyfileobj(inside, file)
    except (zipfile.BadZipFile, KeyError, zlib.error, EOFError, RuntimeError) as error:  # the last: what it cannot read
        expected = f"expected a whole zip archive with {member} in it"
        raise DataError(f"{archive}: {expected}, got: {page_in(archive) or first_line(error)}") from None


def _gunzip(packed: Path, to: Path) -> None:
    try:
        with gzip.open(packed) as inside, to.open("wb") as file:
            shutil.copyfileobj(inside, file)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{packed}: expected a whole gzip file, got: {page_in(packed) or first_line(error)}") from None
