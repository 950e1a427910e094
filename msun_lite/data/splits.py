"""The training and the validation images of a folder: its two splits, or one divided in two."""

import hashlib
import os
from collections import Counter, defaultdict
from pathlib import Path

from msun_lite.data.class_folders import ClassFolder, is_hidden, read_class_folder
from msun_lite.utils.errors import DataError, UserError, printable

VALIDATION = ("val", "valid", "validation")
"""What the folder of the validation images may be called."""


def read_splits(
    folder: Path, val_share: float | None = None, needs_train: bool = True
) -> tuple[ClassFolder, ClassFolder]:
    """Return the training and the validation images of a folder with class folders.

    Args:
        folder: has `train/` and `val/` (or `valid/`, or `validation/`) with a folder of images for each class.
        val_share: for a folder that has no such split, but class folders (in itself, or in `train/`): the share of each
            class's images that is for validation. Which they are follows from their paths below the folder.
        needs_train: as a training does. Without, a folder that has no `train/` has no training images.

    Raises:
        DataError: if a split is missing or empty, the two differ in classes, or a class is too small to be divided.
        UserError: for a share of a folder that has a split.
    """
    if not folder.is_dir():
        expected = "expected scenes, imagenette, wds:PATTERN or a folder with train/ and val/"
        raise DataError(printable(f"{folder}: no such data folder; {expected}"))
    found = [name for name in VALIDATION if (folder / name).is_dir()]
    if len(found) > 1 and "val" not in found:
        raise DataError(printable(f"{folder}: expected one folder of validation images, found {' and '.join(found)}"))
    if val_share is not None:
        if found:
            raise UserError(printable(f"val_share: expected none for {folder}, which has {found[0]}/, got {val_share}"))
        whole = folder / "train"
        return _divided(read_class_folder(whole if _has_folders(whole) else folder), folder, val_share)
    keeps = "--val_share 0.2 keeps a part of the images of a folder without a split for validation"
    hint = "" if found else f"; in a training or for shards, {keeps}"
    if found and not needs_train and not (folder / "train").is_dir():
        val = _split(folder, found[0], hint)
        return ClassFolder(folder / "train", val.classes, [], Counter()), val
    train, val = _split(folder, "train", hint), _split(folder, found[0] if found else "val", hint)
    if train.classes != val.classes:
        raise DataError(printable(f"{folder}: expected the same classes in train and val, {_difference(train, val)}"))
    return train, val


def _split(folder: Path, name: str, hint: str) -> ClassFolder:
    if not (folder / name).is_dir():
        raise DataError(printable(f"{folder}: expected class folders under {name}/, found no {name}/{hint}"))
    return read_class_folder(folder / name)


def has_validation(folder: Path) -> bool:
    """Return whether a folder has validation images of its own."""
    return any((folder / name).is_dir() for name in VALIDATION)


def _has_folders(folder: Path) -> bool:
    """Return whether this is a folder of class folders, not a class that happens to be called train."""
    return folder.is_dir() and any(path.is_dir() and not is_hidden(path.name) for path in folder.iterdir())


def _divided(whole: ClassFolder, folder: Path, share: float) -> tuple[ClassFolder, ClassFolder]:
    """Return two parts of a folder's images, each class divided by the share: the same two on any machine."""
    classes = defaultdict(list)
    for path, label in whole.samples:
        classes[label].append((_place(path, folder), path))
    chosen = set()
    for label, paths in classes.items():
        if len(paths) < 2:
            raise DataError(
                printable(f"{folder}: expected two images or more to divide in {whole.classes[label]}, got one")
            )
        count = min(max(round(share * len(paths)), 1), len(paths) - 1)
        chosen.update(path for _, path in sorted(paths)[:count])
    parts = [[sample for sample in whole.samples if (sample[0] in chosen) is part] for part in (False, True)]
    return (
        ClassFolder(whole.folder, whole.classes, parts[0], whole.skipped),
        ClassFolder(whole.folder, whole.classes, parts[1], Counter()),
    )


def _place(path: str, folder: Path) -> str:
    """Return where an image comes in the drawing of lots."""
    relative = Path(os.path.relpath(path, folder)).as_posix()
    return hashlib.sha256(f"val_share {relative}".encode("utf-8", "surrogateescape")).hexdigest()


def _difference(train: ClassFolder, val: ClassFolder) -> str:
    missing = sorted(set(train.classes) - set(val.classes))
    extra = sorted(set(val.classes) - set(train.classes))
    parts = [f"{len(missing)} missing in val ({', '.join(missing[:3])})"] if missing else []
    parts += [f"{len(extra)} in val alone ({', '.join(extra[:3])})"] if extra else []
    return "got " + " and ".join(parts)
