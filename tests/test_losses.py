import pytest
import torch

from msun_lite.losses import (
    constrain,
    distillation,
    overall_loss,
    pair_distances,
    scale_invariance,
)
from msun_lite.utils.errors import UserError


def features():
    """Return three feature maps whose distances are 1, 9 and 4, worked out by hand."""
    return [torch.full((2, 3, 4, 4), value) for value in (0.0, 1.0, 3.0)]


def test_equation_7_sums_the_mean_squared_errors_of_all_pairs():
    assert pair_distances(features()).tolist() == [1.0, 9.0, 4.0]
    assert scale_invariance(features()) == 14.0


@pytest.mark.parametrize(
    ("constraint", "lam", "value"),
    [
        ("sum", 5.0, 14.0),
        ("sum", 20.0, 20.0),
        ("pair", 5.0, 9.0),
        ("pair", 0.0, 14.0),
        ("none", 5.0, 0.0),
        ("weight", 0.5, 7.0),
    ],
)
def test_lambda_is_a_tolerance_on_the_sum_or_on_each_pair_or_a_weight(constraint, lam, value):
    assert constrain(pair_distances(features()), lam, constraint) == value


def test_equation_8_adds_the_cross_entropies():
    loss = overall_loss(torch.tensor([0.5, 0.25]), torch.tensor([3.0]), lam=1.0)
    assert loss == 3.75


@pytest.mark.parametrize(
    ("constraint", "lam", "moves"), [("sum", 15.0, False), ("sum", 13.0, True), ("pair", 9.5, False)]
)
def test_no_gradient_below_the_tolerance(constraint, lam, moves):
    maps = [feature.requires_grad_() for feature in features()]
    constrain(pair_distances(maps), lam, constraint).backward()
    assert any(feature.grad.abs().sum() > 0 for feature in maps) == moves


def test_a_weight_pulls_however_close_the_features_are():
    a, b = torch.zeros(1, 1, 1, 2, requires_grad=True), torch.full((1, 1, 1, 2), 1e-3)
    constrain(pair_distances([a, b]), 0.1, "weight").backward()
    assert a.grad.abs().sum() > 0


def test_both_sides_of_a_pair_are_pulled_towards_each_other():
    a, b = torch.zeros(1, 1, 1, 2, requires_grad=True), torch.ones(1, 1, 1, 2, requires_grad=True)
    scale_invariance([a, b]).backward()
    assert a.grad.flatten().tolist() == [-1.0, -1.0]
    assert b.grad.flatten().tolist() == [1.0, 1.0]


def test_half_precision_features_are_compared_in_single_precision():
    a, b = torch.zeros(1, 1, 1, 1, dtype=torch.bfloat16), torch.full((1, 1, 1, 1), 1 / 256, dtype=torch.bfloat16)
    assert scale_invariance([a, b]) == 2.0**-16
    assert scale_invariance([a, b]).dtype == torch.float32


def test_an_unknown_constraint_is_refused():
    with pytest.raises(UserError, match="expected one of sum, pair, weight, none, got 'soft'"):
        constrain(torch.ones(3), 1.0, "soft")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_distances_and_their_gradients_are_those_of_the_mean_squared_error_to_the_bit(dtype):
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(3, 5, 7, 7, generator=generator).to(dtype).requires_grad_() for _ in range(3)]
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = torch.stack([torch.nn.functional.mse_loss(maps[i].float(), maps[j].float()) for i, j in pairs])
    found = pair_distances(maps)
    assert torch.equal(found, expected)
    weights = torch.tensor([0.3, 1.0, 0.7])
    gradients = [torch.autograd.grad((distances * weights).sum(), maps) for distances in (found, expected)]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*gradients, strict=True))


def test_distillation_is_the_divergence_from_the_mean_of_the_logits():
    a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    p = torch.sigmoid(torch.tensor(1.0))  # of the first class, by the mean of the logits
    pairs = [(p, torch.sigmoid(torch.tensor(2.0))), (p, torch.tensor(0.5))]
    expected = sum(p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log() for p, q in pairs)
    torch.testing.assert_close(distillation([a, b]), expected)
    torch.testing.assert_close(distillation([a.repeat(3, 1), b.repeat(3, 1)]), expected)  # a mean over the batch


def test_scales_that_agree_have_nothing_to_learn_from_each_other():
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    assert distillation([logits, logits + 3.0]).item() == pytest.approx(0.0, abs=1e-6)


def test_the_mean_of_the_logits_teaches_without_being_pulled_itself():
    a = torch.tensor([[2.0, 0.0]], requires_grad=True)
    b = torch.tensor([[0.0, 0.0]])
    distillation([a, b]).backward()
    taught = torch.sigmoid(torch.tensor(2.0)) - torch.sigmoid(torch.tensor(1.0))  # softmax of a minus the teacher's
    torch.testing.assert_close(a.grad, torch.stack([taught, -taught])[None])


def test_the_largest_scale_is_not_taught_by_the_smaller_ones():
    generator = torch.Generator().manual_seed(0)
    small, middle, large = (torch.randn(4, 5, generator=generator).requires_grad_() for _ in range(3))
    found = distillation([small, middle, large], teacher="larger")
    teachers = [(middle + large) / 2, large]
    expected = sum(
        (q.softmax(1) * (q.log_softmax(1) - p.log_softmax(1))).sum(1).mean()
        for p, q in zip([small, middle], teachers, strict=True)
    )
    torch.testing.assert_close(found, expected)
    found.backward()
    assert large.grad is None
    assert small.grad.abs().sum() > 0


@pytest.mark.parametrize("teacher", ["all", "larger"])
def test_one_scale_alone_has_nobody_to_learn_from(teacher):
    assert distillation([torch.randn(4, 5)], teacher).item() == pytest.approx(0.0, abs=1e-6)


def test_an_unknown_teacher_is_refused():
    with pytest.raises(UserError, match="expected one of all, larger, got 'smaller'"):
        distillation([torch.ones(2, 3)], "smaller")


def test_only_the_pairs_with_the_largest_scale_are_compared_if_asked_for():
    maps = [torch.full((1, 1, 2, 2), value) for value in (0.0, 1.0, 3.0)]
    assert pair_distances(maps).tolist() == [1.0, 9.0, 4.0]
    assert pair_distances(maps, "largest").tolist() == [9.0, 4.0]
    with pytest.raises(UserError, match="pairs: expected one of all, largest, got 'smallest'"):
        pair_distances(maps, "smallest")
