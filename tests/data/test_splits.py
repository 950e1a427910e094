import json
import shutil
from pathlib import Path

import pytest

from data_scripts import make_shards
from msun_lite.config import read_config
from msun_lite.data.named import load_data
from msun_lite.data.splits import read_splits
from msun_lite.evaluate.__main__ import main
from msun_lite.train.run import train
from msun_lite.utils.errors import DataError, UserError


@pytest.fixture
def unsplit(photos):
    """Return a folder of class folders alone: 9 cats and 9 dogs."""
    for name in ("cat", "dog"):
        for path in (photos / "val" / name).iterdir():
            path.rename(photos / "train" / name / f"v{path.name}")
    shutil.rmtree(photos / "val")
    return (photos / "train").rename(photos.with_name("unsplit"))


def names(part):
    return [str(Path(path).relative_to(part.folder)) for path, _ in part.samples]


@pytest.mark.parametrize("called", ["valid", "validation"])
def test_validation_images_may_be_called_otherwise_and_it_is_said(photos, tiny, capsys, called):
    (photos / "val").rename(photos / called)
    assert len(load_data(tiny(data=str(photos))).val) == 6
    assert capsys.readouterr().out.startswith(f"photos: the validation images are those in {called}/\n")
    shutil.copytree(photos / called, photos / "val")
    load_data(tiny(data=str(photos)))
    assert called not in capsys.readouterr().out


def test_two_folders_that_may_be_meant_are_refused(photos):
    (photos / "val").rename(photos / "valid")
    shutil.copytree(photos / "valid", photos / "validation")
    with pytest.raises(DataError, match="expected one folder of validation images, found valid and validation"):
        read_splits(photos)


def test_a_folder_without_a_split_is_divided_class_by_class_always_alike(unsplit, tmp_path):
    parts = read_splits(unsplit, 0.2)
    assert [[label for _, label in part.samples] for part in parts] == [[0] * 7 + [1] * 7, [0] * 2 + [1] * 2]
    assert sorted(names(parts[0]) + names(parts[1])) == sorted(
        str(path.relative_to(unsplit)) for path in unsplit.rglob("*.png")
    )
    elsewhere = shutil.copytree(unsplit, tmp_path / "elsewhere" / "it")
    assert [names(part) for part in read_splits(elsewhere, 0.2)] == [names(part) for part in parts]
    assert set(names(parts[1])) < set(names(read_splits(unsplit, 0.4)[1]))
    assert [len(part.samples) for part in read_splits(unsplit, 0.99)] == [2, 16]
    assert [len(part.samples) for part in read_splits(unsplit, 0.01)] == [16, 2]


def test_a_folder_with_training_images_alone_is_divided_and_a_class_may_be_called_train(unsplit, tmp_path):
    whole = tmp_path / "whole"
    whole.mkdir()
    unsplit.rename(whole / "train")
    assert [part.classes for part in read_splits(whole, 0.2)] == [["cat", "dog"]] * 2
    (whole / "train" / "dog").rename(whole / "train dog")
    (whole / "train" / "cat").rename(whole / "cat")
    shutil.rmtree(whole / "train")
    (whole / "train dog").rename(whole / "train")
    assert [part.classes for part in read_splits(whole, 0.2)] == [["cat", "train"]] * 2


def test_a_share_is_refused_where_there_is_a_split_or_too_little_to_divide(photos, unsplit, tiny, tmp_path):
    with pytest.raises(UserError, match="val_share: expected none for scenes, which has a split, got 0.2"):
        tiny(val_share=0.2)
    with pytest.raises(UserError, match="val_share: expected less than 1"):
        tiny(data=str(unsplit), val_share=1.0)
    with pytest.raises(DataError, match=r"found no train/; in a training or for shards, --val_share 0\.2 keeps"):
        read_splits(unsplit)
    for path in sorted((unsplit / "dog").iterdir())[1:]:
        path.unlink()
    with pytest.raises(DataError, match="expected two images or more to divide in dog, got one"):
        read_splits(unsplit, 0.2)
    (unsplit / "valid").mkdir()
    with pytest.raises(UserError, match=r"val_share: expected none for .*unsplit, which has valid/, got 0\.2"):
        read_splits(unsplit, 0.2)


def test_a_run_keeps_its_share_and_is_measured_on_the_same_images(unsplit, tiny, tmp_path, capsys):
    run = train(tiny(data=str(unsplit), val_share=0.3, epochs=1, method="vanilla"))
    assert "unsplit: 6 images are kept for validation, 12 are for training" in capsys.readouterr().out
    assert read_config(run / "config.yaml").val_share == 0.3
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["data"]["train"], summary["data"]["val"]) == (12, 6)
    assert load_data(tiny(data=str(unsplit), val_share=0.2)).fingerprint != summary["data"]["fingerprint"]
    out = tmp_path / "shards"
    assert make_shards.main([str(unsplit), str(out), "--workers=1", "--val_share", "0.3"]) == 0
    moved = shutil.copytree(unsplit, tmp_path / "moved")
    for data in ([], ["--data", str(moved)], ["--data", f"wds:{out}"]):
        assert main([str(run), *data, "--json", str(tmp_path / "x.json")]) == 0
        found = json.loads((tmp_path / "x.json").read_text())
        assert (found["top1"], found["data"]["val"]) == (summary["top1"], 6)


def test_images_that_are_only_measured_need_no_training_images(photos, tiny):
    whole = load_data(tiny(data=str(photos)), train=False)
    shutil.rmtree(photos / "train")
    found = load_data(tiny(data=str(photos)), train=False)
    assert (found.classes, len(found.train), len(found.val)) == (whole.classes, 0, len(whole.val))
    with pytest.raises(DataError, match="expected class folders under train/, found no train/"):
        load_data(tiny(data=str(photos)))
