"""The files of the data sets of Table III: downloaded or taken from a folder, verified, unpacked.

A set ends up as DATA_ROOT/NAME, whole or not at all. What an interruption leaves in NAME.part, half a file included,
the next call goes on with.
"""

import gzip
import shutil
import zipfile
import zlib
from pathlib import Path
from urllib.parse import urlsplit

from msun_lite.data import download, page_in, tarfile_name, unpack
from msun_lite.transfer.public_sets import SETS, OfficialFile, TransferSet, read_set
from msun_lite.utils.errors import DataError, UserError, first_line
from msun_lite.utils.files import checksum, empty, whole_folder

ARCHIVES = ".archives"
"""Folder of a set's downloaded files, until they are unpacked."""


def fetch_set(name: str, root: Path, source: str | None = None) -> Path:
    """Put a named data set into the data folder, or check the one that is there; return its folder.

    Args:
        name: a key of `SETS`.
        root: the data folder.
        source: folder or address that has the official files, in place of the official addresses.

    Raises:
        DataError: if a file cannot be had, is not the official one, or the set is not complete then.
        UserError: for an unknown name, or a set that has to be put there by hand.
    """
    if name not in SETS:
        raise UserError(f"dataset: expected one of {', '.join(SETS)}, got {name!r}")
    about, folder = SETS[name], root / name
    if not folder.exists():
        if about.by_hand and (source is None or not about.files):
            raise UserError(f"{folder}: {about.title} cannot be downloaded: {about.by_hand}")
        with whole_folder(folder) as part:
            _collect(about, part, source)
            read_set(name, part)
            shutil.rmtree(part / ARCHIVES, ignore_errors=True)
    read_set(name, folder)
    return folder


def _collect(about: TransferSet, part: Path, source: str | None) -> None:
    """Get all files of a set and unpack them into `part`, from which all but downloaded files is removed first."""
    archives = part / ARCHIVES
    try:
        empty(part, keep=archives)
        archives.mkdir(exist_ok=True)
        paths = {file: _get(file, archives, source) for file in about.files}
        for file, path in paths.items():
            _unpack(file, path, part / file.into)
    except OSError as error:
        raise UserError(f"{part}: cannot be filled: {error}; mend this and call again, to go on from here") from None


def _get(file: OfficialFile, archives: Path, source: str | None) -> Path:
    """Return where an official file is, verified: downloaded into `archives`, or in the local folder `source`."""
    if source is None or urlsplit(source).scheme in ("http", "https"):
        url = file.url if source is None else f"{source.rstrip('/')}/{file.name}"
        download(url, archives / file.name, file.md5)
        return archives / file.name
    path = Path(source) / file.name
    if not path.is_file():
        raise DataError(f"{path}: no such file, expected the official {file.name}")
    if file.md5 is not None and (found := checksum(path, "md5")) != file.md5:
        raise DataError(f"{path}: expected the official file with the md5 {file.md5}, got {found}")
    return path


def _unpack(file: OfficialFile, path: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if file.member is not None:
        inner = folder / Path(file.member).name
        _take(path, file.member, inner)
        unpack(inner, folder)
        inner.unlink()
    elif tarfile_name(path):
        unpack(path, folder)
    elif path.suffix == ".gz":
        _gunzip(path, folder / path.stem)
    else:
        shutil.copyfile(path, folder / path.name)


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
