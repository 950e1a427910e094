"""Weights bring the normalisation they were trained with, whatever road they come by."""

import pytest
import timm
import torch
import torchvision

from msun_lite import MSUN
from msun_lite.config import make_parser
from msun_lite.evaluate.__main__ import main as evaluate
from msun_lite.networks.backbones import RECIPES
from msun_lite.networks.spec import IMAGENET_NORMALISATION, normalisation_line
from msun_lite.train.__main__ import main as train_command
from msun_lite.train.run import train
from msun_lite.utils.cli import parse

HALVES = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


def timm_file(folder):
    path = folder / "weights.pth"
    torch.save(timm.create_model("test_resnet", num_classes=3).state_dict(), path)
    return str(path)


def test_timms_weights_from_a_file_are_normalised_as_timm_says(tmp_path):
    model = MSUN.vanilla("timm/test_resnet", 64, 3, timm_file(tmp_path))
    assert model.spec["normalisation"] == HALVES
    expected = "images are normalised by mean 0.5,0.5,0.5 and std 0.5,0.5,0.5: timm's configuration of test_resnet"
    assert normalisation_line(model.spec) == expected


def test_a_network_of_timm_brings_its_normalisation():
    model = MSUN.from_module(timm.create_model("test_resnet", num_classes=3), "layer1", (32, 64))
    assert model.spec["normalisation"] == HALVES


def test_torchvisions_weights_from_a_file_are_normalised_as_torchvision_says(tmp_path):
    torch.save(torchvision.models.squeezenet1_1(num_classes=3).state_dict(), tmp_path / "w.pth")
    spec = MSUN.vanilla("squeezenet1_1", 64, 3, str(tmp_path / "w.pth")).spec
    assert spec["normalisation"] == IMAGENET_NORMALISATION
    assert spec["normalisation_source"] == "torchvision's SqueezeNet1_1_Weights.IMAGENET1K_V1"


def test_what_a_factory_builds_brings_its_normalisation_with_weights_from_a_file_or_without(tmp_path, monkeypatch):
    code = "import timm\ndef net(num_classes):\n    return timm.create_model('test_resnet', num_classes=num_classes)\n"
    (tmp_path / "factory_of_timms.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    for weights in (None, timm_file(tmp_path)):
        spec = MSUN.vanilla("factory_of_timms:net", 64, 3, weights).spec
        assert (spec["normalisation"], spec["normalisation_source"]) == (HALVES, "timm's configuration of test_resnet")
        given = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
        assert MSUN.vanilla("factory_of_timms:net", 64, 3, weights, normalisation=given).spec["normalisation"] == given


def test_what_the_caller_says_wins_and_is_stored(tmp_path):
    given = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    model = MSUN.vanilla("timm/test_resnet", 64, 3, timm_file(tmp_path), normalisation=given)
    model.save(tmp_path)
    spec = MSUN.from_pretrained(tmp_path).spec
    assert (spec["normalisation"], spec["normalisation_source"]) == (given, "given")


def test_weights_that_say_nothing_are_normalised_as_imagenet_is(tmp_path):
    torch.save(RECIPES["resnet_lite"].build(4).state_dict(), tmp_path / "w.pth")
    spec = MSUN.vanilla("resnet_lite", 16, 4, str(tmp_path / "w.pth")).spec
    assert (spec["normalisation"], spec["normalisation_source"]) == (IMAGENET_NORMALISATION, "ImageNet's")


def test_the_command_line_has_the_last_word(tiny, tmp_path, capsys):
    options = parse(make_parser("", ""), ["--mean", "0.1,0.2,0.3"])
    config = tiny(epochs=1, method="vanilla", mean=options.mean)
    folder = train(config)
    spec = MSUN.from_pretrained(folder).spec
    assert spec["normalisation"] == {**IMAGENET_NORMALISATION, "mean": [0.1, 0.2, 0.3]}
    assert spec["normalisation_source"] == "--mean, the rest ImageNet's"
    assert capsys.readouterr().out.count("normalised by mean 0.1,0.2,0.3 and std 0.229,0.224,0.225: --mean") == 1
    assert evaluate([str(folder), "--std", "0.2,0.2,0.2", "--sizes", "16", "--json", str(tmp_path / "x.json")]) == 0
    assert "normalised by mean 0.1,0.2,0.3 and std 0.2,0.2,0.2: --std, the rest" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mean", "0.5,0.5"], "mean: expected three numbers, of red, green and blue in 0 to 1, got [0.5, 0.5]"),
        (["--std", "0.5,0,0.5"], "std: expected three numbers above 0, got [0.5, 0.0, 0.5]"),
        (["--mean", "half"], "mean: expected numbers such as 0.5,0.5,0.5, got 'half'"),
    ],
)
def test_what_is_no_normalisation_is_refused_by_name(words, message, capsys):
    assert train_command([*words, "--out", "nowhere"]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
