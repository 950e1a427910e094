import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from data_scripts.make_shards import main
from msun_lite.data.named import load_data
from msun_lite.data.shard_index import read_folder

SCRIPT = Path(__file__).parents[2] / "data_scripts" / "make_shards.py"


def _contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _make(photos, out, *options):
    return main([str(photos), str(out), "--images_per_shard", "4", "--workers", "2", *options])


def test_the_same_folder_gives_the_same_bytes_wherever_it_is(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "elsewhere" / "photos")
    assert _make(photos, tmp_path / "a") == _make(tmp_path / "elsewhere" / "photos", tmp_path / "b", "--workers=1") == 0
    assert _contents(tmp_path / "a") == _contents(tmp_path / "b")
    assert sorted(_contents(tmp_path / "a")) == [
        "index.npy",
        "manifest.json",
        *(f"train-{number:06d}.tar" for number in range(3)),
        *(f"val-{number:06d}.tar" for number in range(2)),
    ]


def test_a_training_shard_mixes_classes_and_validation_stays_in_order(shards):
    found = read_folder(shards)
    train = found.only(lambda shard: shard.split == "train").samples["label"].tolist()
    assert train != sorted(train)
    assert found.only(lambda shard: shard.split == "val").samples["label"].tolist() == [0] * 3 + [1] * 3


def _big(tmp_path):
    """Return a folder that takes a while to pack."""
    image = Image.fromarray(torch.randint(0, 255, (200, 200, 3), dtype=torch.uint8).numpy())
    for name in ("cat", "dog"):
        for split in ("train", "val"):
            (tmp_path / "big" / split / name).mkdir(parents=True)
            image.save(tmp_path / "big" / split / name / "0.png")
        for number in range(1, 150):
            os.link(tmp_path / "big" / "train" / name / "0.png", tmp_path / "big" / "train" / name / f"{number}.png")
    return tmp_path / "big"


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT])
def test_after_a_kill_the_same_command_goes_on_to_the_same_bytes(tmp_path, by, capsys):
    folder, out, part = _big(tmp_path), tmp_path / "out", tmp_path / "out.part"
    command = [sys.executable, str(SCRIPT), str(folder), str(out), "--images_per_shard", "3", "--workers", "2"]
    # A shell that starts the tests in the background has them ignore Ctrl-C, and what they start after them.
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, preexec_fn=listening)
    while len(list(part.glob("train-*.json"))) < 3:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(by)
    _, error = process.communicate()
    assert process.returncode == (130 if by == signal.SIGINT else -by)
    assert b"Traceback" not in error
    assert not out.exists()
    kept = {
        path: path.stat().st_mtime_ns for path in part.glob("*.tar") if path.with_name(path.name + ".json").exists()
    }
    assert 3 <= len(kept) < 102
    damaged = min(kept)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    assert main(command[2:]) == 0
    assert not part.exists()
    assert sum((out / path.name).stat().st_mtime_ns == changed for path, changed in kept.items()) == len(kept) - 1
    assert main([str(folder), str(tmp_path / "fresh"), *command[4:]]) == 0
    assert _contents(out) == _contents(tmp_path / "fresh")


def test_other_options_do_not_mix_with_what_a_kill_left(photos, tmp_path):
    assert _make(photos, tmp_path / "a", "--images_per_shard=1") == 0
    (tmp_path / "a").rename(tmp_path / "b.part")
    assert _make(photos, tmp_path / "b") == 0
    assert _make(photos, tmp_path / "c") == 0
    assert _contents(tmp_path / "b") == _contents(tmp_path / "c")


def _damage(photos):
    (photos / "train" / "cat" / "0.png").write_bytes(b"")
    (photos / "val" / "dog" / "1.png").write_bytes(b"hello")
    (photos / "train" / "dog" / "lost.png").symlink_to(photos / "nowhere.png")


def test_unreadable_images_are_named_and_nothing_is_left(photos, tmp_path, capsys):
    _damage(photos)
    assert _make(photos, tmp_path / "out") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: 3 unreadable image(s)")
    assert all(name in error for name in ("cat/0.png", "dog/1.png", "dog/lost.png"))
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_unreadable_images_are_left_out_and_counted_if_asked_to(photos, tmp_path, capsys, tiny):
    _damage(photos)
    assert _make(photos, tmp_path / "out", "--skip_unreadable") == 0
    assert "3 unreadable image(s) left out" in capsys.readouterr().out
    data = load_data(tiny(data=f"wds:{tmp_path / 'out'}"))
    assert (len(data.train), len(data.val)) == (11, 5)


def test_what_no_image_is_made_of_is_in_the_manifest_by_kind(photos, tmp_path, capsys, tiny):
    _damage(photos)
    cat = photos / "train" / "cat"
    (cat / ".ipynb_checkpoints").mkdir()
    shutil.copy(cat / "1.png", cat / ".ipynb_checkpoints" / "1-checkpoint.png")
    shutil.copy(cat / "1.png", os.fsencode(cat) + b"/caf\xe9.png")
    (cat / "notes.txt").write_text("x")
    Path(os.fsdecode(os.fsencode(cat) + b"/bad\xe9.jpg")).write_bytes(b"x")
    assert _make(photos, tmp_path / "out") == 2
    assert r"bad\xe9.jpg: cannot identify" in capsys.readouterr().err
    assert _make(photos, tmp_path / "out", "--skip_unreadable") == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["skipped"], manifest["classes"]) == ({".txt": 1, "unreadable": 4}, ["cat", "dog"])
    assert len(load_data(tiny(data=f"wds:{tmp_path / 'out'}")).train) == 12


def test_images_are_made_smaller_but_never_larger(photos, tmp_path, tiny):
    Image.new("L", (6, 9)).save(photos / "train" / "cat" / "0.png")
    assert _make(photos, tmp_path / "out", "--size", "10") == 0
    data = load_data(tiny(data=f"wds:{tmp_path / 'out'}", cache=False))
    assert sorted({tuple(data.train.read(index).shape) for index in range(12)}) == [(3, 9, 6), (3, 10, 12)]
    names = data.train.samples["member"].tolist()
    assert sorted(name.rpartition(b".")[2] for name in names) == [b"jpg"] * 11 + [b"png"]


def test_names_of_any_kind_become_plain_and_different_ones(photos, tmp_path, tiny):
    for name in ("0.jpg", "a.b c.png", "ü" * 60 + ".PNG"):
        shutil.copy(photos / "train" / "cat" / "1.png", photos / "train" / "cat" / name)
    assert _make(photos, tmp_path / "out") == 0
    names = load_data(tiny(data=f"wds:{tmp_path / 'out'}", cache=False)).train.samples["member"].tolist()
    assert len({name.partition(b".")[0] for name in names}) == len(names) == 15
    assert all(name.count(b".") == 1 and len(name) < 100 for name in names)


def test_a_check_names_the_shards_that_changed(shards, capsys):
    assert main(["--check", str(shards)]) == 0
    assert "12 training and 6 validation images of 2 classes in 5 shards" in capsys.readouterr().out
    path = shards / "val-000001.tar"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert main(["--check", str(shards)]) == 2
    assert "1 shard(s) without the checksum in manifest.json: val-000001.tar" in capsys.readouterr().err
    path.unlink()
    assert main(["--check", str(shards)]) == 2
    assert "val-000001.tar: cannot be read" in capsys.readouterr().err


def test_foreign_shards_get_a_manifest(shards, capsys, tiny):
    made = json.loads((shards / "manifest.json").read_text())
    for name in ("manifest.json", "index.npy"):
        (shards / name).unlink()
    pattern = f"{shards}/{{train-{{000000..000002}},val-{{000000..000001}}}}.tar"
    assert main(["--index", pattern]) == 0
    indexed = json.loads((shards / "manifest.json").read_text())
    assert (indexed["shards"], indexed["index"]) == (made["shards"], made["index"])
    assert indexed["classes"] == ["0", "1"]
    assert len(load_data(tiny(data=f"wds:{shards}")).val) == 6
    assert main(["--index", pattern]) == 2
    assert "exists already" in capsys.readouterr().err


def test_hostile_foreign_shards_get_none(tar, tmp_path, capsys):
    tar("train.tar", {"../0.jpg": b"x"})
    tar("val.tar", {"../0.jpg": b"x"})
    assert main(["--index", f"{tmp_path}/{{train,val}}.tar"]) == 2
    assert ".tar: refused the member '../0.jpg'" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.tar", "val.tar"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "expected FOLDER and OUT"),
        (["photos"], "expected FOLDER and OUT"),
        (["photos", "out", "--check", "out"], "expected FOLDER and OUT"),
        (["photos", "out", "--images_per_shard", "0"], "images_per_shard: expected at least 1, got 0"),
        (["photos", "out", "--size", "0"], "size: expected at least 1, got 0"),
        (["photos", "out", "--shards", "3"], "unknown option --shards"),
        (["nowhere", "out"], "nowhere: no such data folder"),
        (["photos", "photos"], "photos: exists already"),
        (["--check", "nowhere"], "nowhere/manifest.json: expected a manifest"),
        (["--index", "pipe:ls"], "refused"),
        (["--index", "http://host/{train,val}.tar"], "on this machine"),
        (["--index", "photos"], "on this machine"),
    ],
)
def test_wrong_options_are_one_line_and_leave_nothing(photos, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert main(options) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert message in error[0]
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize("size", ["16", "999"])
def test_images_stay_upright_whether_made_smaller_or_not(photos, tmp_path, tiny, size):
    sideways = Image.Exif()
    sideways[0x0112] = 6
    for path in (photos / "val").rglob("*.png"):
        with Image.open(path) as image:
            image.resize((30, 20)).save(path, exif=sideways)
    assert _make(photos, tmp_path / "out", "--size", size) == 0
    height, width = load_data(tiny(data=f"wds:{tmp_path / 'out'}")).val.read(0).shape[1:]
    assert height / width == 1.5
