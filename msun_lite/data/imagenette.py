"""Imagenette in the data folder: downloaded once, or unpacked from a local archive.

It ends up as `DATA_ROOT/imagenette/{train,val}/<wordnet id>/*.JPEG`, whole or not at all.
"""

import shutil
from pathlib import Path

from msun_lite.data.archives import unpack
from msun_lite.data.downloads import download
from msun_lite.data.fetching import OfficialFile, fetch_file, install, is_address, is_tar
from msun_lite.utils.errors import DataError, FailedDownload
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

OFFICIAL = OfficialFile(
    "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-320.tgz", "3df6f0d01a2c9592104656642f5e78a3"
)
"""The one of the data set's three archives that is downloaded: shorter side 320 px, 326 MB."""


def imagenette_folder(data_root: Path) -> Path:
    """Return the data set's folder, downloading it if it is not there yet.

    Raises:
        DataError: if it cannot be had.
        UserError: if it cannot be kept.
    """
    folder = data_root / "imagenette"
    install(folder, lambda part, downloads: _fill(part, [_official(downloads)]))
    return folder


def get_imagenette(data_root: Path, source: str) -> Path:
    """Put Imagenette into `data_root` from `source`: an archive, an address of one, or a folder of tars.

    Raises:
        DataError: if it is there already, or the source is missing, damaged or holds something else.
        UserError: if it cannot be kept.
    """
    folder = data_root / "imagenette"
    if folder.exists():
        raise DataError(f"{folder}: exists already; remove it to fetch the data again")
    install(folder, lambda part, downloads: _fill(part, _archives(source, downloads)))
    return folder


def _fill(part: Path, archives: list[Path]) -> None:
    """Unpack archives, find train/ and val/ in them, and move them into place."""
    unpacked = part / ".unpacked"
    for archive in progress(archives, desc="unpacking", unit="archive"):
        unpack(archive, unpacked)
    for path in list(_find_splits(unpacked).iterdir()):
        path.rename(part / path.name)
    shutil.rmtree(unpacked)


def _official(downloads: Path) -> Path:
    try:
        return fetch_file(OFFICIAL, downloads)
    except FailedDownload as error:
        hint = "with a local copy, run msun-lite data get_imagenette --source PATH_OR_URL"
        raise FailedDownload(f"{error}; {hint}") from None


def _archives(source: str, downloads: Path) -> list[Path]:
    if is_address(source):
        return [download(source, downloads)]
    archives = [Path(source)]
    if Path(source).is_dir():
        archives = sorted(path for path in Path(source).iterdir() if is_tar(path.name))
    if not archives:
        raise DataError(f"{source}: expected .tar, .tar.gz or .tgz files in this folder, found none")
    return archives


def _find_splits(folder: Path) -> Path:
    """Return the folder below `folder` that has both train/ and val/."""
    for train in sorted(folder.rglob("train")):
        if (train.parent / "val").is_dir():
            return train.parent
    raise DataError("imagenette: expected folders train/ and val/ in the source, found none")
