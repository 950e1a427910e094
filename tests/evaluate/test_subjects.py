"""Whatever holds a model can be measured: its data and sizes come from its training, or are asked for."""

import importlib.util
import json

import pytest
import torch

from msun_lite import MSUN
from msun_lite.evaluate.__main__ import main as evaluate
from msun_lite.evaluate.subjects import crop_ratio_of, find_model, on_data
from msun_lite.networks.packaged import PACKAGE
from msun_lite.train.run import train
from msun_lite.transfer.__main__ import main as transfer
from msun_lite.utils.errors import CheckpointError


@pytest.fixture
def saved(tmp_path):
    """Return the folder of a model as save_pretrained writes it."""
    torch.manual_seed(0)
    names = ["cat", "dog"]
    MSUN.from_backbone("resnet_lite", (8, 16), num_classes=2, class_names=names).save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_saved_model_is_measured_on_the_data_that_is_named(saved, photos, tmp_path, capsys):
    assert evaluate([str(saved), "--data", str(photos), "--json", str(tmp_path / "x.json")]) == 0
    record = json.loads((tmp_path / "x.json").read_text())
    assert (record["sizes"], record["scales"]) == (list(range(8, 17)), [8, 16])
    assert record["routing"] == "nearest"


def test_the_crop_of_published_weights_is_kept_and_an_option_wins(photos, tmp_path):
    model = MSUN.vanilla("resnet_lite", 16, 2, class_names=["cat", "dog"])
    model.spec["crop_ratio"] = 0.75  # as published weights bring it
    model.save_pretrained(tmp_path / "net")
    words, found = (
        [str(tmp_path / "net"), "--data", str(photos), "--sizes", "16", "--json", str(tmp_path / "x.json")],
        [],
    )
    for more in ([], ["--crop_ratio", "0.5"]):
        assert evaluate([*words, *more]) == 0
        found.append(json.loads((tmp_path / "x.json").read_text())["crop_ratio"])
    assert found == [0.75, 0.5]
    assert crop_ratio_of(find_model(tmp_path / "net"), None) == 0.75
    (tmp_path / "net" / "model.json").write_text(json.dumps(model.description | {"crop_ratio": 2}))
    with pytest.raises(CheckpointError, match="crop_ratio: expected a part of an image's shorter side, .*, got '2'"):
        find_model(tmp_path / "net")


@pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason=f"needs {PACKAGE}")
def test_a_published_network_is_measured_on_some_of_its_classes_with_its_own_crop(photos, tmp_path, capsys):
    pytest.importorskip("timm")
    for split in ("train", "val"):
        for name, wordnet in (("cat", "n02123045"), ("dog", "n02102040")):
            (photos / split / name).rename(photos / split / wordnet)
    words = ["--arch", "efficientnet_lite0", "--data", str(photos), "--sizes", "32", "--json", str(tmp_path / "x.json")]
    assert evaluate(words) == 0
    record = json.loads((tmp_path / "x.json").read_text())
    assert (record["crop_ratio"], record["among"]) == (0.875, {"classes": 1000, "of": 1000})
    said = capsys.readouterr().out
    assert "images are cropped to 0.875 of their shorter side: as the weights are published\n" in said
    assert "by mean 0.5,0.5,0.5 and std 0.5,0.5,0.5: timm's configuration of tf_efficientnet_lite0\n" in said
    (photos / "val" / "n02123045").rename(photos / "val" / "tabby")
    (photos / "train" / "n02123045").rename(photos / "train" / "tabby")
    assert evaluate(words) == 2
    assert "such as 'n01440764', got 1 that it lacks: 'tabby'" in capsys.readouterr().err


def test_a_training_puts_its_own_crop_in_place_of_that_of_its_weights(tiny):
    model = MSUN.from_backbone("resnet_lite", (8, 16), num_classes=10)
    model.spec["crop_ratio"] = 0.875
    folder = train(tiny(epochs=1, crop_ratio=0.9), model=model)
    assert find_model(folder).spec["crop_ratio"] == 0.9


def test_a_saved_model_asks_for_its_data_in_one_line(saved, capsys):
    assert evaluate([str(saved)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: data: expected --data beside {saved}, which has no config.yaml")
    assert error.count(str(saved)) == error.count("\n") == 1


def test_a_run_that_was_stopped_is_told_from_a_folder_without_a_model(tmp_path, capsys):
    (tmp_path / "checkpoint.pt").touch()
    assert evaluate([str(tmp_path)]) == 2
    expected = "expected a finished run, found a checkpoint alone: --resume goes on with it"
    assert capsys.readouterr().err == f"error: {tmp_path}: {expected}\n"


def test_a_damaged_configuration_is_named_once(saved, capsys):
    (saved / "config.yaml").write_text("[")
    assert evaluate([str(saved)]) == 2
    assert capsys.readouterr().err.count("config.yaml") == 1


def test_the_best_model_of_a_run_is_measured_as_the_run_is(tiny):
    folder = train(tiny(epochs=1, eval_epochs=1))
    found = find_model(folder / "best")
    assert (found.folder, found.method, found.config.sizes) == (folder / "best", "msun", [8, 12, 16])


def test_the_result_of_a_transfer_is_measured_and_transferred_again(saved, photos, tmp_path):
    once, twice = tmp_path / "once", tmp_path / "twice"
    words = ["--size", "8", "--epochs", "1", "--warmup_epochs", "0", "--dataset", str(photos)]
    assert transfer([str(saved), *words, "--out", str(once)]) == 0
    assert find_model(once).method == json.loads((once / "summary.json").read_text())["method"] == "msun"
    assert evaluate([str(once), "--data", str(photos), "--sizes", "8,16", "--json", str(tmp_path / "x.json")]) == 0
    assert json.loads((tmp_path / "x.json").read_text())["sizes"] == [8, 16]
    assert transfer([str(once), *words, "--out", str(twice)]) == 0


def test_the_share_for_validation_goes_on_for_folders_without_a_split_alone(photos, tiny):
    config = tiny(data=str(photos / "train"), val_share=0.5)
    shares = {data: on_data(config, data).val_share for data in (config.data, str(photos), "scenes", "imagenette")}
    assert shares == {config.data: 0.5, str(photos): None, "scenes": None, "imagenette": None}
