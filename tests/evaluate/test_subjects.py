"""Whatever holds a model can be measured: its data and sizes come from its training, or are asked for."""

import json

import pytest
import torch

from msun_lite import MSUN
from msun_lite.evaluate.__main__ import main as evaluate
from msun_lite.evaluate.subjects import find_model, on_data
from msun_lite.train.run import train
from msun_lite.transfer.__main__ import main as transfer


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
