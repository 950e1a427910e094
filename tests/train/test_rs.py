import json
import math

import pytest
import torch
import torch.nn.functional as F

from msun_lite.scales import pyramid
from msun_lite.train.objectives import find_objective
from msun_lite.train.objectives.rs import switchable_distillation
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


def divergence(teacher, student):
    """Return KL(teacher || student) of probabilities, averaged over the images."""
    return float((teacher * (teacher / student).log()).sum(1).mean())


def test_rs_nets_add_the_ensembles_cross_entropy_and_a_distillation_from_it_and_from_each_larger_scale():
    torch.manual_seed(0)
    logits, labels, ensemble = list(torch.randn(3, 4, 5)), torch.tensor([0, 1, 2, 3]), torch.tensor([0.3, -1.0, 0.5])
    weights = [math.exp(value) for value in ensemble]
    mixed = sum(weight / sum(weights) * part for weight, part in zip(weights, logits, strict=True))
    small, middle, large, together = (part.softmax(1) for part in (*logits, mixed))
    pairs = [(together, small), (together, middle), (together, large), (middle, small), (large, small), (large, middle)]
    entropy, taught = switchable_distillation(logits, labels, ensemble)
    assert float(entropy) == pytest.approx(float(F.cross_entropy(mixed, labels)))
    assert float(taught) == pytest.approx(2 / 4 * sum(divergence(*pair) for pair in pairs), rel=1e-5)


def test_what_teaches_in_rs_nets_is_not_pulled_and_the_ensemble_learns_from_its_own_cross_entropy_alone():
    torch.manual_seed(0)
    logits = [torch.randn(4, 5, requires_grad=True) for _ in range(3)]
    labels, ensemble = torch.arange(4), torch.zeros(3, requires_grad=True)
    entropy, taught = switchable_distillation(logits, labels, ensemble)
    entropy.backward(retain_graph=True)
    assert ensemble.grad.abs().sum() > 0
    assert all(part.grad is None for part in logits)
    ensemble.grad = None
    taught.backward()
    assert ensemble.grad is None
    mixed = torch.stack([part.detach() for part in logits]).mean(0).softmax(1)
    expected = 2 / 4 * (logits[-1].detach().softmax(1) - mixed) / 4  # the largest is taught by the ensemble alone
    torch.testing.assert_close(logits[-1].grad, expected)
