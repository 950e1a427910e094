"""A folder of images for each class, read so that no file vanishes without a word and none counts twice.

Classes and images come in the order of torchvision's `ImageFolder`, so that labels and fingerprints are the same. What
it does not do: hidden files and folders, as notebooks and operating systems leave them, are no classes and no images;
each folder and each file is read once a class, however many links lead to it; what is left out is counted.
"""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from msun_lite.runtime import IMAGE_ENDINGS
from msun_lite.utils.errors import DataError, printable

LITTER = {"__macosx", "@eadir", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
"""What systems leave in folders beside what begins with a dot."""

NAMED = 8
"""Kinds of skipped files that are named; all are counted."""

LINKED = "by links to what is read already"

LONGEST_ENDING = 10
"""Letters of a file's ending; with more it is just a dot in a name."""

Identity = tuple[int, int]
"""What tells a file or folder apart, whatever path leads to it: device and inode."""


@dataclass(frozen=True)
class ClassFolder:
    """The images of one split.

    Args:
        folder: where they are.
        classes: the names of the folders, sorted as text.
        samples: (path, label) of each image, class after class.
        skipped: kind of files that are left out -> how many.
    """

    folder: Path
    classes: list[str]
    samples: list[tuple[str, int]]
    skipped: Counter[str]


def read_class_folder(folder: Path) -> ClassFolder:
    """Return the images in the class folders of `folder`.

    Raises:
        DataError: if it or a folder in it cannot be read, it has no class folders, or one of them has no image.
    """
    skipped = Counter()
    try:
        names = _classes(folder, skipped)
        images = [images_below(folder / name, skipped) for name in names]
    except OSError as error:
        raise DataError(printable(f"{folder}: expected folders that can be read, got: {error}")) from None
    if not names:
        raise DataError(
            printable(f"{folder}: expected a folder of images for each class, found none{_beside(skipped)}")
        )
    if empty := [name for name, paths in zip(names, images, strict=True) if not paths]:
        more = f" and {len(empty) - 3} others" if len(empty) > 3 else ""
        where = f"{', '.join(empty[:3])}{more}{_beside(skipped)}"
        raise DataError(printable(f"{folder}: expected images in the folder of each class, found none in {where}"))
    samples = [(path, label) for label, paths in enumerate(images) for path in paths]
    return ClassFolder(folder, [printable(name) for name in names], samples, skipped)


def skipped_files(skipped: Counter[str]) -> str:
    """Return in words what was left out: `36 files skipped: 30 .heic, 6 .txt`; nothing if nothing was."""
    if not skipped:
        return ""
    kinds = sorted(skipped.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{count} {kind}" for kind, count in kinds[:NAMED]) + (", ..." if len(kinds) > NAMED else "")
    total = skipped.total()
    return f"{total} {'file' if total == 1 else 'files'} skipped: {named}"


def _beside(skipped: Counter[str]) -> str:
    return f"; {skipped_files(skipped)}" if skipped else ""


def _classes(folder: Path, skipped: Counter[str]) -> list[str]:
    above, names = _above(folder) | {_identity(folder)}, []
    for entry in _entries(folder):
        if not _is_folder(entry):
            skipped["outside of the class folders" if _is_image(entry.name) else _kind(entry.name)] += 1
        elif entry.is_symlink() and _identity(entry.path) in above:
            skipped[LINKED] += 1
        else:
            names.append(entry.name)
    return names


def images_below(top: Path, skipped: Counter[str]) -> list[str]:
    """Return the paths of all images below a folder, sorted by folder and name; count in `skipped` what is left out."""
    found, targets = _walk(top, skipped)
    taken = {_identity(path) for path in _paths(found)} if any(targets.values()) else set()
    for path, target in sorted(targets.items()):
        if target is not None and target in taken:
            skipped[LINKED] += 1
            continue
        taken.add(target)
        found[os.path.dirname(path)].append(os.path.basename(path))
    return _paths(found)


def _walk(top: Path, skipped: Counter[str]) -> tuple[dict[str, list[str]], dict[str, Identity | None]]:
    """Return folder -> names of the images in it, and path of a link -> what tells the image apart it leads to."""
    found, links, seen = {}, {}, _above(top)
    real, linked = [str(top)], []
    while real or linked:
        folder = real.pop() if real else linked.pop(0)  # links come last: they lead to what may be there without them
        identity = _identity(folder)
        if identity in seen:
            skipped[LINKED] += 1
            continue
        seen.add(identity)
        found[folder] = []
        for entry in _entries(folder):
            if _is_folder(entry):
                (linked if entry.is_symlink() else real).append(entry.path)
            elif not _is_image(entry.name):
                skipped[_kind(entry.name)] += 1
            elif not _is_file(entry):
                skipped["that are no plain files"] += 1
            elif entry.is_symlink():
                links[entry.path] = _target(entry)
            else:
                found[folder].append(entry.name)
    return found, links


def _paths(found: dict[str, list[str]]) -> list[str]:
    return [os.path.join(folder, name) for folder in sorted(found) for name in sorted(found[folder])]


def _entries(folder: str | Path) -> list[os.DirEntry]:
    """Return what is in a folder, sorted by name, without what is hidden."""
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not is_hidden(entry.name)), key=lambda entry: entry.name)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is none of the user's making."""
    return name.startswith(".") or name.lower() in LITTER


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_file(entry: os.DirEntry) -> bool:
    """Return whether this is a file, or a link that leads nowhere: reading it will name it."""
    try:
        return entry.is_file() or _target(entry) is None
    except OSError:
        return True


def _target(entry: os.DirEntry) -> Identity | None:
    try:
        status = entry.stat()  # known already, other than by os.stat
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_image(name: str) -> bool:
    return name.rpartition(".")[2].lower() in IMAGE_ENDINGS


def _kind(name: str) -> str:
    _, dot, ending = name.rpartition(".")
    if not dot or not ending or len(ending) > LONGEST_ENDING:
        return "without an ending"
    return printable(f".{ending.lower()}")


def _above(folder: Path) -> set[Identity]:
    """Return what tells the folders apart that `folder` is in, by its own path and by that of what it links to."""
    parents = {*Path(os.path.abspath(folder)).parents, *folder.resolve().parents}
    return {_identity(parent) for parent in parents}


def _identity(path: str | Path) -> Identity | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
