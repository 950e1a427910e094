"""The data sets of Table III, put into DATA_ROOT/NAME from their official files."""

from pathlib import Path

from msun_lite.data import fetch_file, install, unpack_file
from msun_lite.transfer.public_sets import SETS, read_set
from msun_lite.utils.errors import UserError


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
    if not folder.exists() and about.by_hand and (source is None or not about.files):
        raise UserError(f"{folder}: {about.title} cannot be downloaded: {about.by_hand}")

    def fill(part: Path, downloads: Path) -> None:
        paths = {file: fetch_file(file, downloads, source) for file in about.files}
        for file, path in paths.items():
            unpack_file(file, path, part)
        read_set(name, part)

    install(folder, fill)
    read_set(name, folder)
    return folder
