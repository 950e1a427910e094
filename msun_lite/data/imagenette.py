"""Imagenette in the data folder: downloaded once, or unpacked from a local archive.

It ends up as `DATA_ROOT/imagenette/{train,val}/<wordnet id>/*.JPEG`, whole or not at all. What an interruption leaves
in imagenette.part, half an archive included, the next call goes on with.
"""

import hashlib
import shutil
import urllib.parse
from collections.abc import Callable
from pathlib import Path

from msun_lite.data.archives import unpack
from msun_lite.data.downloads import download
from msun_lite.utils.errors import DataError, FailedDownload, UserError
from msun_lite.utils.files import empty, locked, whole_folder
from msun_lite.utils.progress import progress

CLASS_NAMES = {
    "n01440764": "tench",
    "n02102040": "springer spaniel",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "petrol pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}
"""WordNet id -> what is called so."""

URL = "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-320.tgz"
"""The one of the data set's three archives that is downloaded: shorter side 320 px, 326 MB."""

MD5 = "3df6f0d01a2c9592104656642f5e78a3"
"""Its checksum."""


def imagenette_folder(data_root: Path) -> Path:
    """Return the data set's folder, downloading it if it is not there yet.

    Raises:
        DataError: if it cannot be had.
        UserError: if it cannot be kept.
    """
    folder = data_root / "imagenette"
    if folder.is_dir():
        return folder
    with locked(data_root / ".imagenette.lock"):
        if not folder.is_dir():  # else another process was faster
            _install(folder, lambda downloads: [_official(downloads)])
    return folder


def get_imagenette(data_root: Path, source: str) -> Path:
    """Put Imagenette into `data_root` from `source`: an archive, an address of one, or a folder of tars.

    Raises:
        DataError: if it is there already, or the source is missing, damaged or holds something else.
        UserError: if it cannot be kept.
    """
    folder = data_root / "imagenette"
    with locked(data_root / ".imagenette.lock"):
        if folder.exists():
            raise DataError(f"{folder}: exists already; remove it to fetch the data again")
        _install(folder, lambda downloads: _archives(source, downloads))
    return folder


def _install(folder: Path, find: Callable[[Path], list[Path]]) -> None:
    """Unpack archives, find train/ and val/ in them, and move them into place.

    Args:
        folder: takes its name once it is whole.
        find: returns the archives; what it downloads goes to the folder that it is given.
    """
    with whole_folder(folder) as part:
        downloads, unpacked = part / ".archives", part / ".unpacked"
        try:
            empty(part, keep=downloads)
            downloads.mkdir(exist_ok=True)
            for archive in progress(find(downloads), desc="unpacking", unit="archive"):
                unpack(archive, unpacked)
            for path in list(_find_splits(unpacked).iterdir()):
                path.rename(part / path.name)
            shutil.rmtree(unpacked)
            shutil.rmtree(downloads)
        except OSError as error:
            raise UserError(f"{part}: cannot be filled: {error}; mend this and call again") from None


def _official(downloads: Path) -> Path:
    try:
        return _download(URL, downloads, MD5)
    except FailedDownload as error:
        hint = "with a local copy, run data_scripts/get_imagenette.py --source PATH_OR_URL"
        raise FailedDownload(f"{error}; {hint}") from None


def _archives(source: str, downloads: Path) -> list[Path]:
    if urllib.parse.urlparse(source).scheme in ("http", "https"):
        return [_download(source, downloads)]
    archives = [Path(source)]
    if Path(source).is_dir():
        archives = sorted(path for path in Path(source).iterdir() if tarfile_name(path))
    if not archives:
        raise DataError(f"{source}: expected .tar, .tar.gz or .tgz files in this folder, found none")
    return archives


def tarfile_name(path: Path) -> bool:
    """Return whether a file's name says that it is a tar archive."""
    return path.name.endswith((".tar", ".tar.gz", ".tgz"))


def _download(url: str, folder: Path, md5: str | None = None) -> Path:
    # Named after its address: what has come of one file must not be gone on with by another of the same name.
    path = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{Path(urllib.parse.urlparse(url).path).name}"
    download(url, path, md5)
    return path


def _find_splits(folder: Path) -> Path:
    """Return the folder below `folder` that has both train/ and val/."""
    for train in sorted(folder.rglob("train")):
        if (train.parent / "val").is_dir():
            return train.parent
    raise DataError("imagenette: expected folders train/ and val/ in the source, found none")
