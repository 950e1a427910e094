import json

import pytest
import torch

from msun_lite.losses import switchable_distillation
from msun_lite.scales import pyramid
from msun_lite.train.objectives import find_objective
from msun_lite.train.run import train
from msun_lite.train.start import make_model
from msun_lite.utils.errors import CheckpointError

CLASSES = list("abcdefghij")


def without_beside(folder):
    """Make the checkpoint of a run folder one of an earlier version."""
    stored = torch.load(folder / "checkpoint.pt", weights_only=True)
    del stored["beside"]
    torch.save(stored, folder / "checkpoint.pt")


def objective(config):
    torch.manual_seed(0)
    return find_objective(config.method)(make_model(config, CLASSES), config)


def test_each_scale_is_fed_as_it_is_and_taught_by_the_ensemble_and_the_larger_ones(tiny):
    made = objective(tiny(method="rs"))
    images, labels = torch.rand(6, 3, 16, 16), torch.arange(6)
    views = made.views(images)
    assert all(torch.equal(view, pyramid(images, [8, 16])[scale]) for scale, view in views.items())
    logits = list(made.model.forward_scales(views)[1].values())
    terms = made(images, labels)
    expected = sum(switchable_distillation(logits, labels, made.ensemble))
    torch.testing.assert_close(terms.kd, expected)
    torch.testing.assert_close(terms.loss, terms.ce + expected)
    assert made.model.private == "norms"
    assert made.model.unify == "native"


def test_the_weights_of_the_ensemble_are_learnt_and_not_saved_with_the_network(tiny):
    folder = train(tiny(method="rs"))
    stored = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert stored["beside"]["ensemble"].abs().sum() > 0
    assert not any("ensemble" in name for name in stored["model"])


def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(tiny, tmp_path, stop_after):
    whole = train(tiny(method="rs", out=str(tmp_path / "whole")))
    options = {"method": "rs", "out": str(tmp_path / "halves")}
    stop_after(3)
    train(tiny(**options))
    stop_after(1000)
    halves = train(tiny(**options, resume=True))
    assert (whole / "model.safetensors").read_bytes() == (halves / "model.safetensors").read_bytes()
    states = [torch.load(folder / "checkpoint.pt", weights_only=True)["beside"] for folder in (whole, halves)]
    assert torch.equal(states[0]["ensemble"], states[1]["ensemble"])


def test_a_checkpoint_without_the_ensemble_is_refused(tiny, stop_after):
    stop_after(3)
    without_beside(train(tiny(method="rs")))
    with pytest.raises(CheckpointError, match="expected a checkpoint of this training run, got KeyError: 'beside'"):
        train(tiny(method="rs", resume=True))


@pytest.mark.parametrize("method", ["vanilla", "mst", "msun"])
def test_runs_begun_before_anything_was_learnt_beside_a_network_go_on(tiny, stop_after, method):
    stop_after(3)
    without_beside(train(tiny(method=method)))
    stop_after(1000)
    folder = train(tiny(method=method, resume=True))
    assert json.loads((folder / "summary.json").read_text())["steps"] == 8


def test_mst_can_have_a_batchnorm_for_each_scale(tiny):
    made = objective(tiny(method="mst", norm="per_scale"))
    images, labels = torch.rand(6, 3, 16, 16), torch.arange(6)
    plain = objective(tiny(method="mst"))
    torch.testing.assert_close(made(images, labels).ce, plain(images, labels).ce)  # each batch by its own numbers
    assert made.model.subnet_input == "largest"
    assert list(made.model.scales) == [8, 16]


def test_native_subnets_see_one_size_of_their_range_a_step_half_of_the_time_their_scale(tiny):
    config = tiny(method="msun", subnet_input="native", random_sizes=True, routing="upto:12")
    made, seen = objective(config), []
    torch.manual_seed(0)
    for _ in range(40):
        views = made.views(torch.rand(2, 3, 16, 16))
        seen.append((views[8].shape[-1], views[16].shape[-1]))
    small, large = zip(*seen, strict=True)
    assert set(small) == {8, 9, 10, 11, 12}
    assert set(large) == {13, 14, 15, 16}
    assert 12 < sum(size == 8 for size in small) < 36
