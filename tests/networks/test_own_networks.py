"""Networks of one's own are trained, resumed, measured and counted as those of a recipe are."""

import json
import sys

import pytest
import torch
from torch import nn

from msun_lite import MSUN
from msun_lite.cost import main as cost
from msun_lite.evaluate.__main__ import main as evaluate
from msun_lite.train.__main__ import main as train_command
from msun_lite.train.run import train
from msun_lite.utils.errors import UserError

NETS = """
from torch import nn

def net(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, num_classes),
    )
"""
OWN = ["--arch", "trained_nets:net", "--split", "2"]


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """Make a module of a factory importable."""
    (tmp_path / "trained_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("trained_nets", None)


def own_model(classes=10, **options):
    torch.manual_seed(3)
    layers = (nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return MSUN.from_module(nn.Sequential(*layers, nn.Linear(6, classes)), "2", (8, 16), **options)


def same_weights(one, other):
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_model_that_is_given_is_trained_to_a_whole_run_folder(tiny, tmp_path):
    before, model = own_model(), own_model()
    folder = train(tiny(epochs=1), model=model)
    assert not same_weights(before, model)
    names = {path.name for path in folder.iterdir()}
    assert {"config.yaml", "metrics.jsonl", "checkpoint.pt", "model.safetensors", "model.json", "summary.json"} <= names
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["arch"], summary["method"], list(summary["top1"])) == ("Sequential", "msun", ["8", "12", "16"])
    assert same_weights(own_model().load(folder), model)


def test_its_run_goes_on_exactly_with_the_same_model(tiny, tmp_path, stop_after, capsys):
    whole = train(tiny(out=str(tmp_path / "whole")), model=own_model())
    stop_after(3)
    part = train(tiny(out=str(tmp_path / "part")), model=own_model())
    assert not (part / "summary.json").exists()
    stop_after(10**6)
    assert train_command(["--out", str(part), "--resume"]) == 2
    expected = "part: expected train(config, model=...) with the network that it was begun with, as nothing builds"
    assert expected in capsys.readouterr().err
    train(tiny(out=str(part), resume=True), model=own_model())
    assert same_weights(own_model().load(part), own_model().load(whole))


def test_a_run_of_a_model_that_can_be_built_goes_on_without_it(tiny, nets, tmp_path, stop_after):
    def given():
        torch.manual_seed(3)
        return MSUN.from_backbone("trained_nets:net", (8, 16), num_classes=10, split="2")

    whole = train(tiny(out=str(tmp_path / "whole")), model=given())
    stop_after(3)
    part = train(tiny(out=str(tmp_path / "part")), model=given())
    stop_after(10**6)
    assert train_command(["--out", str(part), "--resume"]) == 0
    assert same_weights(MSUN.from_pretrained(part), MSUN.from_pretrained(whole))


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (lambda: own_model(3), {}, "model: expected 10 classes as the data has, got 3"),
        (own_model, {"scales": [8, 12, 16]}, r"model: expected scales \[8, 12, 16\] for msun, got \[8, 16\]"),
        (own_model, {"method": "vanilla"}, r"model: expected scales \[16\] for vanilla, got \[8, 16\]"),
        (own_model, {"weights": "DEFAULT"}, "weights: expected none beside a model, which has its own, got 'DEFAULT'"),
        (lambda: nn.Flatten(), {}, "model: expected an MSUN, such as MSUN.from_module gives, got Flatten"),
        (lambda: own_model(class_names=list("abcdefghij")), {}, "model: expected the data's classes, such as"),
    ],
)
def test_a_model_that_does_not_fit_the_options_is_refused_in_a_line(tiny, model, options, message):
    with pytest.raises(UserError, match=message):
        train(tiny(**options), model=model())


def test_a_factory_is_trained_measured_and_counted_by_the_commands(nets, tmp_path, photos, capsys):
    run = tmp_path / "run"
    words = "--scales 8,16 --sizes 8,16 --epochs 1 --batch_size 4 --warmup_epochs 0 --precision fp32"
    assert train_command([*words.split(), *OWN, "--data", str(photos), "--out", str(run)]) == 0
    assert json.loads((run / "model.json").read_text())["arch"] == "trained_nets:net"
    assert evaluate([str(run), "--json", str(tmp_path / "x.json")]) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert json.loads((tmp_path / "x.json").read_text())["top1"] == summary["top1"]
    assert "--arch trained_nets:net --split 2" in summary["command"]
    assert cost([*OWN, "--scales", "8,16", "--num_classes", "2", "--json", str(tmp_path / "cost.json")]) == 0
    assert json.loads((tmp_path / "cost.json").read_text())["params"]["msun"] == summary["params"]
