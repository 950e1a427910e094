"""A network stored as what differs from the plain CNN that it was made of."""

import json

import pytest
import torch

from msun_lite import MSUN
from msun_lite.export import main as export
from msun_lite.networks import fingerprint
from msun_lite.utils.errors import CheckpointError, UserError

OPTIONS = {"num_classes": 10, "unify": "native", "norm": "per_scale"}


@pytest.fixture
def adapted():
    """Return an MSUN made of the shipped Vanilla, whose smaller scales are no longer as they were made."""
    model = MSUN.from_backbone("resnet_lite", (16, 64, 112), weights="lite-vanilla", **OPTIONS).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in (*model.subnets["16"].parameters(), *model.subnets["64"].parameters()):
            parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
    return model


def folder(parent, name):
    (parent / name).mkdir()
    return parent / name


def test_only_what_differs_is_stored_and_the_largest_scale_is_the_base_bit_for_bit(adapted, tmp_path):
    adapted.save(folder(tmp_path, "whole"))
    adapted.save_difference(folder(tmp_path, "small"))
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "small")]
    assert sizes[1] < sizes[0] / 4
    again = MSUN.from_pretrained(tmp_path / "small")
    large, small = torch.rand(2, 3, 112, 112), torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(again(large), MSUN.from_pretrained("lite-vanilla")(large))
        assert torch.equal(again(large), adapted(large))
        torch.testing.assert_close(again(small), adapted(small), rtol=0.02, atol=0.02)
        assert not torch.equal(again(small), adapted(small))  # in half precision


def test_what_was_loaded_is_saved_whole_and_as_a_difference_again(adapted, tmp_path):
    adapted.save_difference(folder(tmp_path, "small"))
    once = MSUN.from_pretrained(tmp_path / "small")
    once.save(folder(tmp_path, "whole"))
    assert "base" not in json.loads((tmp_path / "whole" / "model.json").read_text())
    once.save_difference(folder(tmp_path, "again"))
    for name in ("whole", "again"):
        assert fingerprint(MSUN.from_pretrained(tmp_path / name)) == fingerprint(once)
    stored = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("small", "again")]
    assert stored[0] == stored[1]


def test_the_base_is_named_so_that_another_machine_finds_it(adapted, tmp_path):
    adapted.save_difference(tmp_path)
    base = json.loads((tmp_path / "model.json").read_text())["base"]
    assert base["weights"] == "lite-vanilla"
    assert len(base["fingerprint"]) == 16


def test_a_training_starts_from_it(adapted, tmp_path):
    adapted.save_difference(tmp_path)
    started = MSUN.from_backbone("resnet_lite", (16, 64, 112), weights=str(tmp_path), **OPTIONS | {"num_classes": 3})
    assert torch.equal(started.subnets["16"].conv1.weight, MSUN.from_pretrained(tmp_path).subnets["16"].conv1.weight)
    assert started.spec["weights"]["fresh"] == ["unified.fc.weight", "unified.fc.bias"]


def test_averages_of_sizes_are_part_of_the_difference(adapted, tmp_path):
    fitted = adapted.with_averages(torch.rand(8, 3, 112, 112), [16, 32, 64, 112])
    fitted.save_difference(tmp_path)
    again, images = MSUN.from_pretrained(tmp_path), torch.rand(2, 3, 32, 32)
    assert again.averages == fitted.averages
    with torch.no_grad():
        torch.testing.assert_close(again(images), fitted(images), rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            "lite-vanilla",
            "base: made of resnet_lite with the weights lite-vanilla: expected those of fingerprint 0{16}, got",
        ),
        ("gone", "base: made of resnet_lite with the weights gone, which cannot be had: weights: "),
        (None, "model.json: base: expected the weights of a plain CNN and their fingerprint"),
    ],
)
def test_a_base_that_is_another_or_gone_is_refused_in_one_line(adapted, tmp_path, weights, message):
    adapted.save_difference(tmp_path)
    spec = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(spec | {"base": {"weights": weights, "fingerprint": "0" * 16}}))
    with pytest.raises(CheckpointError, match=message) as error:
        MSUN.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)


def test_what_was_made_of_nothing_has_no_difference(tmp_path):
    with pytest.raises(UserError, match=r"^base: expected a network made of a trained CNN, all its weights, got none$"):
        MSUN.from_backbone("resnet_lite", (16, 112), num_classes=10).save_difference(tmp_path)
    started = MSUN.from_backbone("resnet_lite", (16, 112), num_classes=3, weights="lite-vanilla")
    with pytest.raises(UserError, match="got a fresh "):
        started.save_difference(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_writes_a_small_release_or_nothing(adapted, tmp_path, capsys):
    adapted.save(folder(tmp_path, "run"))
    words = [str(tmp_path / "run"), "--out", str(tmp_path / "small"), "--format", "difference"]
    assert export([*words, "--crop_ratio", "0.9"]) == 2
    assert "crop_ratio: expected none for a difference" in capsys.readouterr().err
    assert not (tmp_path / "small").exists()
    assert export(words) == 0
    assert MSUN.from_pretrained(tmp_path / "small").scales == (16, 64, 112)
    assert export(["quick-msun", "--out", str(tmp_path / "none"), "--format", "difference"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "none").exists()
