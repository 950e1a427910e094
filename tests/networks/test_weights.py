"""Weights as training scripts write them, and those of a whole MSUN, start a network; what cannot is one line."""

import argparse

import pytest
import torch

from msun_lite import MSUN
from msun_lite.networks.backbones import RECIPES, find_recipe
from msun_lite.utils.errors import CheckpointError, UserError


@pytest.fixture
def state():
    torch.manual_seed(1)
    return RECIPES["resnet_lite"].build(4).state_dict()


def started(content, path):
    """Return Vanilla started from a file of weights."""
    torch.save(content, path / "weights.pth")
    return MSUN.vanilla("resnet_lite", 16, 4, str(path / "weights.pth"))


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "backbone."])
def test_names_may_have_what_frameworks_put_before_them(state, prefix, tmp_path):
    model = started({prefix + name: tensor for name, tensor in state.items()}, tmp_path)
    assert torch.equal(model.state_dict()["unified.fc.weight"], state["fc.weight"])


def test_batchnorms_counts_of_batches_may_be_missing(state, tmp_path):
    model = started({name: value for name, value in state.items() if "num_batches" not in name}, tmp_path)
    assert model.spec["weights"]["fresh"] == []


@pytest.mark.parametrize(
    ("entry", "average"),
    [("state_dict_ema", lambda state: state), ("model_ema", lambda state: {f"module.{k}": state[k] for k in state})],
)
def test_of_several_states_the_average_is_taken_and_said(state, tmp_path, entry, average):
    last = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    content = {"state_dict": last, "model": last, entry: average(state), "args": argparse.Namespace(lr=0.1), "epoch": 3}
    content[entry] = content[entry] | ({"n_averaged": torch.tensor(5)} if entry == "model_ema" else {})
    model = started(content, tmp_path)
    assert torch.equal(model.state_dict()["unified.fc.weight"], state["fc.weight"])
    assert model.spec["weights"]["entry"] == entry


class Unknown:
    pass


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {}, "who": Unknown()}, "expected a file of weights, got more than tensors and plain values"),
        ({}, "expected the state of a network, got no tensor"),
    ],
)
def test_a_refusal_is_one_line_without_advice_to_run_the_file(content, message, tmp_path):
    with pytest.raises(CheckpointError, match=message) as caught:
        started(content, tmp_path)
    assert "weights_only" not in str(caught.value)


def test_an_empty_file_is_one_line(tmp_path):
    for name in ("empty.pth", "empty.safetensors"):
        (tmp_path / name).touch()
        with pytest.raises(CheckpointError, match=f"{name}: expected a"):
            MSUN.vanilla("resnet_lite", 16, 4, str(tmp_path / name))


def test_a_tag_that_timm_does_not_have_is_one_line():
    with pytest.raises(UserError, match=r"timm has no weights 'nosuch' of resnet18; expected resnet18 .*a1_in1k"):
        find_recipe("timm/resnet18.nosuch")


def test_an_msun_starts_another_of_its_structure():
    trained = MSUN.from_pretrained("quick-msun")
    model = MSUN.from_backbone("resnet_lite", trained.scales, num_classes=10, weights="quick-msun").eval()
    images = torch.rand(2, 3, 20, 20)
    with torch.no_grad():
        assert torch.equal(model(images), trained(images))
    assert model.spec["weights"] == {"source": "quick-msun", "fresh": []}
    assert model.spec["normalisation"] == trained.spec["normalisation"]
    other = MSUN.from_backbone("resnet_lite", trained.scales, num_classes=3, weights="quick-msun")
    assert other.spec["weights"]["fresh"] == ["unified.fc.weight", "unified.fc.bias"]
    assert torch.equal(other.state_dict()["subnets.8.conv1.weight"], trained.state_dict()["subnets.8.conv1.weight"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": (8, 56)}, r"quick-msun: weights of another model: scales: expected \[8, 56\], got \[8, 32, 56\]"),
        ({"norm": "per_scale"}, "quick-msun: weights of another model: norm: expected per_scale, got shared"),
        ({"blocks": 2}, "quick-msun: weights of another model: blocks: expected 2, got 1"),
    ],
)
def test_an_msun_of_another_structure_is_refused_by_what_differs(options, message):
    with pytest.raises(CheckpointError, match=message):
        MSUN.from_backbone("resnet_lite", **{"scales": (8, 32, 56), **options}, weights="quick-msun")
