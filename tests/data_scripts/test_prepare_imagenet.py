import gzip
import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from data_scripts import prepare_imagenet
from data_scripts.prepare_imagenet import DEVKIT, TRAIN, VAL, main
from experiments.rehearse_imagenet import pack
from msun_lite.data.named import load_data

SCRIPT = Path(__file__).parents[2] / "data_scripts" / "prepare_imagenet.py"
WNIDS = ["n02119789", "n01440764", "n04153751"]
"""WordNet ids of ILSVRC2012_ID 1, 2 and 3, not in alphabetical order."""
TRUTH = [2, 3, 1, 2, 3, 1]


def _jpeg(level):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (level, level, level)).save(buffer, "JPEG")
    return buffer.getvalue()


def _devkit(truth=TRUTH, wnids=WNIDS):
    """Return a development kit as the official one is laid out: four rows, the last a synset above the others."""
    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O"), ("children", "O")]
    rows = [(number, wnid, "a, b", 0, np.zeros(0)) for number, wnid in enumerate(wnids, 1)]
    synsets = np.array([*rows, (4, "n00001740", "entity", 3, np.array([1, 2, 3]))], dtype=fields)[:, None]
    meta = io.BytesIO()
    savemat(meta, {"synsets": synsets})
    top = "ILSVRC2012_devkit_t12"
    members = {
        f"{top}/readme.txt": b"hello",
        f"{top}/data/meta.mat": meta.getvalue(),
        f"{top}/data/ILSVRC2012_validation_ground_truth.txt": "".join(f"{number}\n" for number in truth).encode(),
    }
    return gzip.compress(pack(members))


def _train():
    return {f"{wnid}.tar": pack({f"{wnid}_{n}.JPEG": _jpeg(n) for n in range(4)}) for wnid in WNIDS}


def _val():
    return {f"ILSVRC2012_val_{number:08d}.JPEG": _jpeg(40 * number) for number in range(1, 7)}


@pytest.fixture
def archives(tmp_path):
    """Return a folder with tiny archives of the official layout: 12 training and 6 validation images of 3 classes."""
    folder = tmp_path / "archives"
    folder.mkdir()
    (folder / TRAIN).write_bytes(pack(_train()))
    (folder / VAL).write_bytes(pack(_val()))
    (folder / DEVKIT).write_bytes(_devkit())
    return folder


def _prepare(archives, *options):
    return main([str(archives), str(archives.parent / "in1k"), "--skip_md5", "--expect", "12,6,3", *options])


def _files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_archives_become_class_folders(archives, tmp_path, tiny, capsys):
    assert _prepare(archives) == 0
    assert "12 training and 6 validation images of 3 classes" in capsys.readouterr().out
    files = _files(tmp_path / "in1k")
    assert len(files) == 18
    for number, label in enumerate(TRUTH, 1):
        assert files[f"val/{WNIDS[label - 1]}/ILSVRC2012_val_{number:08d}.JPEG"] == _jpeg(40 * number)
    assert files["train/n01440764/n01440764_3.JPEG"] == _jpeg(3)
    data = load_data(tiny(data=str(tmp_path / "in1k")))
    assert (data.classes, len(data.train), len(data.val)) == (tuple(sorted(WNIDS)), 12, 6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archives", "in1k"]


def test_what_is_there_is_counted_and_left_alone(archives, tmp_path, capsys):
    assert _prepare(archives) == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "in1k").rglob("*")}
    assert _prepare(archives) == 0
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "in1k").rglob("*")}
    (tmp_path / "in1k" / "val" / WNIDS[0] / "ILSVRC2012_val_00000003.JPEG").unlink()
    assert _prepare(archives) == 2
    assert "expected 6 images, found 5" in capsys.readouterr().err


def test_by_default_imagenets_numbers_are_expected(archives, tmp_path, capsys):
    assert main([str(archives), str(tmp_path / "in1k"), "--skip_md5"]) == 2
    assert "expected images in 1000 classes, found them in 3" in capsys.readouterr().err
    assert not list(tmp_path.glob("in1k*"))


def test_official_checksums_are_asked_for_and_remembered(archives, tmp_path, monkeypatch, capsys):
    options = [str(archives), str(tmp_path / "in1k"), "--expect", "12,6,3"]
    assert main(options) == 2
    assert f"{DEVKIT}: expected the official archive with the md5 fa75699e" in capsys.readouterr().err
    assert not list(tmp_path.glob("in1k*"))
    sums = {name: hashlib.md5((archives / name).read_bytes()).hexdigest() for name in (DEVKIT, VAL, TRAIN)}
    monkeypatch.setattr(prepare_imagenet, "MD5", sums)
    (tmp_path / "in1k.part").mkdir()
    prepare_imagenet.verify(archives, tmp_path / "in1k.part" / "verified.json")
    monkeypatch.setattr(prepare_imagenet, "checksum", None)  # would fail if called again
    assert main(options) == 0
    assert len(_files(tmp_path / "in1k")) == 18


@pytest.mark.parametrize("name", [TRAIN, VAL, DEVKIT])
def test_a_missing_archive_is_named(archives, tmp_path, capsys, name):
    (archives / name).unlink()
    assert _prepare(archives) == 2
    assert f"{archives / name}: no such archive" in capsys.readouterr().err
    assert not list(tmp_path.glob("in1k*"))


@pytest.mark.parametrize("name", [TRAIN, VAL, DEVKIT])
@pytest.mark.parametrize("how", ["truncated", "damaged", "empty"])
def test_a_broken_archive_is_named_and_nothing_is_left(archives, tmp_path, capsys, name, how):
    content = bytearray((archives / name).read_bytes())
    if how == "damaged":
        content[len(content) // 2 // 512 * 512 + (1 if name == DEVKIT else 0)] ^= 1
        content[:3] = b"xyz"
    (archives / name).write_bytes(
        {"truncated": content[: len(content) * 2 // 3], "damaged": content, "empty": b""}[how]
    )
    assert _prepare(archives) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {archives / name}")
    assert not list(tmp_path.glob("in1k*"))


def _with(members, extra):
    return pack({**members, **extra})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (TRAIN, _with(_train(), {"../n01440764.tar": b""}), "refused the member '../n01440764.tar'"),
        (TRAIN, _with(_train(), {"n99999999.tar": b""}), "got 'n99999999.tar'"),
        (
            TRAIN,
            pack({"n01440764.tar": pack({"../../x.JPEG": b""})}),
            "n01440764.tar: refused the member '../../x.JPEG'",
        ),
        (TRAIN, pack({"n01440764.tar": pack({"/x.JPEG": b""})}), "n01440764.tar: refused the member '/x.JPEG'"),
        (TRAIN, pack({"n01440764.tar": pack({"x.JPEG": b""})}), "got 'x.JPEG'"),
        (TRAIN, pack({"n01440764.tar": b"hello" * 500}), "n01440764.tar: expected a whole, uncompressed tar"),
        (TRAIN, pack({"n01440764.tar": _train()["n01440764.tar"][:1700]}), "n01440764.tar: expected a whole"),
        (TRAIN, pack({"n01440764.tar": _train()["n01440764.tar"]}), "expected images in 3 classes, found them in 1"),
        (VAL, _with(_val(), {"a/../../x.JPEG": b""}), "refused the member"),
        (VAL, _with(_val(), {"ILSVRC2012_val_00000007.JPEG": b""}), "got 'ILSVRC2012_val_00000007.JPEG'"),
        (VAL, _with(_val(), {"n01440764/x.JPEG": b""}), "got 'n01440764/x.JPEG'"),
        (VAL, pack(dict(list(_val().items())[:5])), "expected 6 images, found 5"),
        (DEVKIT, gzip.compress(pack({"data/meta.mat": b"x"})), "expected meta.mat and"),
        (DEVKIT, _devkit(truth=[1, 2, 5]), "ground truth: 5"),
        (DEVKIT, _devkit(truth=["cat"]), "ground truth"),
        (DEVKIT, _devkit(wnids=["../../x", "n01440764", "n04153751"]), "expected WordNet ids"),
        (
            DEVKIT,
            gzip.compress(pack({"meta.mat": b"x" * 500, "ILSVRC2012_validation_ground_truth.txt": b"1"})),
            "in meta.mat, got",
        ),
    ],
)
def test_hostile_and_other_archives_are_refused_and_nothing_is_left(archives, tmp_path, capsys, name, content, message):
    (archives / name).write_bytes(content)
    assert _prepare(archives) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archives"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(archives, tmp_path, capsys, kind):
    with tarfile.open(archives / VAL, "a") as archive:
        member = tarfile.TarInfo("ILSVRC2012_val_00000001.JPEG")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    assert _prepare(archives) == 2
    assert "refused the member 'ILSVRC2012_val_00000001.JPEG'" in capsys.readouterr().err
    assert not list(tmp_path.glob("in1k*"))


def test_after_a_kill_the_same_command_goes_on(archives, tmp_path):
    part = tmp_path / "in1k.part"
    slow = "import sys, time; from data_scripts import prepare_imagenet as p; w = p._write;"
    slow += "p._write = lambda *a: (w(*a), time.sleep(0.05)); sys.exit(p.main(sys.argv[1:]))"
    command = [sys.executable, "-c", slow, str(archives), str(tmp_path / "in1k"), "--skip_md5", "--expect", "12,6,3"]
    process = subprocess.Popen(command, cwd=SCRIPT.parents[1], stderr=subprocess.DEVNULL)
    while len(list(part.rglob("*.JPEG"))) < 6:
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    first, second, *_ = sorted(part.rglob("*.JPEG"))
    first.write_bytes(first.read_bytes()[:10])  # as a kill in the middle of a file leaves it
    written = second.stat().st_mtime_ns
    assert _prepare(archives) == 0
    assert (tmp_path / "in1k" / second.relative_to(part)).stat().st_mtime_ns == written
    assert _files(tmp_path / "in1k")[first.relative_to(part).as_posix()] == _jpeg(0)
    assert not part.exists()


def test_a_full_disk_keeps_what_is_there(archives, tmp_path, monkeypatch, capsys):
    real, count = Path.write_bytes, []

    def write(path, content):
        count.append(path)
        if len(count) == 5:
            raise OSError(28, "No space left on device")
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", write)
    assert _prepare(archives) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert len(list((tmp_path / "in1k.part").rglob("*.JPEG"))) == 4
    assert _prepare(archives) == 0


def test_a_wrong_expectation_is_one_line(archives, capsys):
    assert main([str(archives), str(archives.parent / "in1k"), "--expect", "12,6"]) == 2
    assert "expected three numbers" in capsys.readouterr().err
