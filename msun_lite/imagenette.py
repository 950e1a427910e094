"""Imagenette in the data folder: downloaded once, or unpacked from a local archive.

It ends up as `DATA_ROOT/imagenette/{train,val}/<wordnet id>/*.JPEG`, whole or not at all: everything is
unpacked in a folder beside it, which takes its name at the very end.
"""

import tempfile
import urllib.parse
from pathlib import Path

from torchvision.datasets import Imagenette
from torchvision.datasets.utils import download_url

from msun_lite.archives import unpack
from msun_lite.errors import DataError
from msun_lite.files import locked
from msun_lite.progress import progress

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

SIZE = "320px"
"""Which of the data set's three archives is downloaded: shorter side 320 px, 326 MB."""


def imagenette_folder(data_root: Path) -> Path:
    """Return the data set's folder, downloading it with torchvision if it is not there yet."""
    folder = data_root / "imagenette"
    if folder.is_dir():
        return folder
    with locked(data_root / ".imagenette.lock"):
        if not folder.is_dir():  # else another process was faster
            install(data_root, _torchvision_download)
    return folder


def get_imagenette(data_root: Path, source: str) -> Path:
    """Put Imagenette into `data_root` from `source`: an archive, an address of one, or a folder of tars.

    Raises:
        DataError: if it is there already, or the source is missing, damaged or holds something else.
    """
    if (data_root / "imagenette").exists():
        raise DataError(f"{data_root / 'imagenette'}: exists already; remove it to fetch the data again")
    return install(data_root, lambda folder: _unpack_source(source, folder))


def install(data_root: Path, fetch) -> Path:
    """Let `fetch(folder)` fill a temporary folder, find train/ and val/ in it, and move them into place."""
    folder = data_root / "imagenette"
    try:
        data_root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".imagenette-", dir=data_root) as temporary:
            fetch(Path(temporary))
            _find_splits(Path(temporary)).rename(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made: {error}") from None
    return folder


def _torchvision_download(folder: Path) -> None:
    try:
        Imagenette(str(folder), split="train", size=SIZE, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"imagenette: the download failed ({error}); with a local copy, "
            "run data_scripts/get_imagenette.py --source PATH_OR_URL"
        ) from None


def _unpack_source(source: str, folder: Path) -> None:
    if urllib.parse.urlparse(source).scheme in ("http", "https"):
        archives = [_download(source, folder)]
    elif Path(source).is_dir():
        archives = sorted(path for path in Path(source).iterdir() if tarfile_name(path))
    else:
        archives = [Path(source)]
    if not archives:
        raise DataError(f"{source}: expected .tar, .tar.gz or .tgz files in this folder, found none")
    for archive in progress(archives, desc="unpacking", unit="archive"):
        unpack(archive, folder / "unpacked")


def tarfile_name(path: Path) -> bool:
    """Return whether a file's name says that it is a tar archive."""
    return path.name.endswith((".tar", ".tar.gz", ".tgz"))


def _download(url: str, folder: Path) -> Path:
    name = Path(urllib.parse.urlparse(url).path).name or "archive.tgz"
    try:
        download_url(url, str(folder), filename=name)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{url}: the download failed: {error}") from None
    return folder / name


def _find_splits(folder: Path) -> Path:
    """Return the folder below `folder` that has both train/ and val/."""
    for train in sorted(folder.rglob("train")):
        if (train.parent / "val").is_dir():
            return train.parent
    raise DataError("imagenette: expected folders train/ and val/ in the source, found none")
