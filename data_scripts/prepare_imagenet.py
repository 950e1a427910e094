"""Unpack ImageNet-1k from its official archives into class folders for `--data OUT`.

msun-lite data prepare_imagenet ARCHIVES OUT

ARCHIVES is the folder with ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz, as
image-net.org gives them to those who accept its terms. Their checksums are verified, and in the end the images are
counted. Interrupted or killed, the same command goes on; OUT appears once it is whole. Then it takes another call only
to count the images.
"""

import io
import json
import re
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from msun_lite.data.archives import members, open_tar
from msun_lite.utils.cli import OneLineParser, parse
from msun_lite.utils.errors import DataError, UserError, one_line_errors
from msun_lite.utils.files import checksum, whole_folder, write_text
from msun_lite.utils.progress import note, progress

TRAIN, VAL, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"
MD5 = {
    DEVKIT: "fa75699e90414af021442c21a62c3abf",
    VAL: "29b22e2961454d5413ddabcf34fc5622",
    TRAIN: "1d675b47d978889d74fa0da5fadfb00e",
}
"""Archive -> checksum, the quickest first."""
EXPECTED = (1_281_167, 50_000, 1000)
"""Training images, validation images, classes."""
VERIFIED = "verified.json"


@dataclass(frozen=True)
class Devkit:
    """What the development kit says: the class of each validation image, by WordNet id.

    Args:
        wnids: the classes that images belong to.
        truth: WordNet id of validation image 1, 2, ...
    """

    wnids: frozenset[str]
    truth: tuple[str, ...]


def prepare(archives: Path, out: Path, expected: Sequence[int] = EXPECTED, skip_md5: bool = False) -> None:
    """Unpack the three archives in a folder into `out/train/WNID/` and `out/val/WNID/`.

    Args:
        archives: folder of the official archives.
        out: is made; if it is there, its images are counted.
        expected: numbers of training images, validation images and classes.
        skip_md5: whether to do without the official checksums, for a rehearsal with archives of the same layout.

    Raises:
        DataError: if an archive is missing, damaged, hostile or another one, or the numbers are not as expected.
        UserError: if scipy is missing.
    """
    if out.exists():
        return check_counts(out, expected)
    _import_loadmat()  # it is better missed now than an hour from here
    for name in MD5:
        if not (archives / name).is_file():
            raise DataError(f"{archives / name}: no such archive")
    with whole_folder(out) as part:
        if not skip_md5:
            verify(archives, part / VERIFIED)
        devkit = read_devkit(archives / DEVKIT)
        with progress(total=sum(expected[:2]), desc="unpacking", unit="image") as bar:
            unpack_train(archives / TRAIN, part / "train", devkit, bar)
            unpack_val(archives / VAL, part / "val", devkit, bar)
        check_counts(part, expected)
        (part / VERIFIED).unlink(missing_ok=True)
    return None


def verify(archives: Path, notes: Path) -> None:
    """Raise a `DataError` unless the archives are the official ones; what was verified is noted for the next call."""
    verified = _read_notes(notes)
    for name, md5 in MD5.items():
        path = archives / name
        status = path.stat()
        this = [status.st_size, status.st_mtime_ns, md5]
        if verified.get(name) == this:
            continue
        with progress(total=status.st_size, desc=f"verifying {name}", unit="B", unit_scale=True) as bar:
            found = checksum(path, "md5", bar.update)
        if found != md5:
            raise DataError(f"{path}: expected the official archive with the md5 {md5}, got {found}")
        verified[name] = this
        write_text(notes, json.dumps(verified))


def _read_notes(path: Path) -> dict:
    try:
        notes = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}


def read_devkit(archive: Path) -> Devkit:
    """Return what the development kit says of classes and validation images.

    Raises:
        DataError: if it is damaged, or is not the one of ILSVRC2012.
    """
    wanted = {"meta.mat": b"", "ILSVRC2012_validation_ground_truth.txt": b""}
    with open_tar(archive, archive) as tar:
        for member in members(tar, archive):
            name = member.name.rpartition("/")[2]
            if name in wanted and member.isfile():
                wanted[name] = tar.extractfile(member).read()
    meta, truth = wanted.values()
    if not meta or not truth:
        raise DataError(f"{archive}: expected {' and '.join(wanted)} in it")
    wnids = _read_meta(meta, archive)
    try:
        return Devkit(frozenset(wnids.values()), tuple(wnids[int(line)] for line in truth.split()))
    except (ValueError, KeyError) as error:
        raise DataError(f"{archive}: expected an ILSVRC2012_ID in each line of the ground truth: {error}") from None


def _import_loadmat() -> Callable:
    try:
        from scipy.io import loadmat
    except ImportError:
        raise UserError(
            "prepare_imagenet: the development kit needs scipy: pip install 'msun-lite[imagenet]'"
        ) from None
    return loadmat


def _read_meta(content: bytes, archive: Path) -> dict[int, str]:
    """Return {ILSVRC2012_ID: WordNet id} of the classes without children, those that images belong to."""
    loadmat = _import_loadmat()
    try:
        synsets = loadmat(io.BytesIO(content), squeeze_me=True)["synsets"]
        rows = [(int(row["ILSVRC2012_ID"]), str(row["WNID"]), int(row["num_children"])) for row in synsets]
    except Exception as error:  # whatever goes wrong in a damaged file of MATLAB, in many ways
        raise DataError(f"{archive}: expected the synsets of ILSVRC2012 in meta.mat, got: {error}") from None
    wnids = {number: wnid for number, wnid, children in rows if children == 0}
    if wrong := [wnid for wnid in wnids.values() if not re.fullmatch(r"n\d{8}", wnid)]:
        raise DataError(f"{archive}: expected WordNet ids such as n01440764 in meta.mat, got {wrong[0]!r}")
    return wnids


def unpack_train(archive: Path, folder: Path, devkit: Devkit, bar) -> None:
    """Unpack the archive of one archive for each class into a folder for each class."""
    with open_tar(archive, archive, compressed=False) as outer:
        for member in members(outer, archive):
            wnid = member.name.removesuffix(".tar")
            if wnid not in devkit.wnids:
                raise DataError(f"{archive}: expected an archive for each class, got {member.name!r}")
            _make(folder / wnid)
            shown = f"{archive}: {member.name}"
            with open_tar(outer.extractfile(member), shown, compressed=False) as inner:
                for image in members(inner, shown):
                    if not re.fullmatch(rf"{wnid}_\d+\.JPEG", image.name):
                        raise DataError(f"{shown}: expected images such as {wnid}_1.JPEG, got {image.name!r}")
                    _write(inner, image, folder / wnid / image.name)
                    bar.update()


def unpack_val(archive: Path, folder: Path, devkit: Devkit, bar) -> None:
    """Unpack the archive of all validation images into a folder for each class."""
    for wnid in sorted(devkit.wnids):
        _make(folder / wnid)
    with open_tar(archive, archive, compressed=False) as tar:
        for image in members(tar, archive):
            number = re.fullmatch(r"ILSVRC2012_val_(\d{8})\.JPEG", image.name)
            if number is None or not 1 <= int(number[1]) <= len(devkit.truth):
                expected = f"ILSVRC2012_val_00000001.JPEG to {len(devkit.truth):08d}"
                raise DataError(f"{archive}: expected {expected}, got {image.name!r}")
            _write(tar, image, folder / devkit.truth[int(number[1]) - 1] / image.name)
            bar.update()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: the folder cannot be made: {error}") from None


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    """Unpack one file, unless it is there with its whole size from the last time."""
    if path.is_file() and path.stat().st_size == member.size:
        return
    content = tar.extractfile(member).read()
    try:
        path.write_bytes(content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error}; mend this and call again, to go on from here") from None


def check_counts(folder: Path, expected: Sequence[int]) -> None:
    """Raise a `DataError` unless a folder has the expected numbers of images and of classes, in both splits."""
    counts = {}
    for split in ("train", "val"):
        classes = [path for path in (folder / split).glob("*") if path.is_dir()]
        images = [sum(1 for _ in path.glob("*.JPEG")) for path in classes]
        counts[split] = sum(images)
        if (found := sum(1 for count in images if count)) != expected[2]:
            raise DataError(f"{folder / split}: expected images in {expected[2]} classes, found them in {found}")
    for (split, found), right in zip(counts.items(), expected[:2], strict=True):
        if found != right:
            raise DataError(f"{folder / split}: expected {right} images, found {found}")


@one_line_errors
def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    """Run the command; `prog` is what it was called by, the script itself by default."""
    parser = OneLineParser(prog=prog, description="Unpack ImageNet-1k into class folders.")
    parser.add_argument("archives", type=str, help="Folder of the three official archives.")
    parser.add_argument("out", type=str, help="New folder for train/ and val/.")
    expect_help = "Training images, validation images and classes; others than ImageNet's for a rehearsal."
    parser.add_argument("--expect", type=list[int], default=list(EXPECTED), help=expect_help)
    skip_help = "Do without the official checksums, for a rehearsal with archives made like them."
    parser.add_argument("--skip_md5", type=bool, default=False, help=skip_help)
    options = parse(parser, argv)
    if len(options.expect) != 3:
        raise UserError(f"expect: expected three numbers such as 1281167,50000,1000, got {options.expect}")
    prepare(Path(options.archives), Path(options.out), options.expect, options.skip_md5)
    train, val, classes = options.expect
    note(f"{options.out}: {train} training and {val} validation images of {classes} classes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
