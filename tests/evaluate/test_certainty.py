import math

import pytest
import torch

from msun_lite.data.loaders import eval_loader
from msun_lite.data.named import load_data
from msun_lite.evaluate.accuracy import measure
from msun_lite.evaluate.certainty import (
    Certainty,
    calibration_error,
    cascade,
    least_entropy,
    measure_certainty,
)
from msun_lite.networks import MSUN
from msun_lite.utils.errors import UserError

CPU = torch.device("cpu")


def test_the_calibration_error_is_the_distance_of_confidence_and_accuracy_in_each_bin():
    confidence = torch.tensor([0.95, 0.97, 0.55, 0.58])  # two bins: mean 0.96 and 0.565
    correct = torch.tensor([True, False, True, True])  # half, and all
    expected = 100 * (2 * abs(0.96 - 0.5) + 2 * abs(0.565 - 1)) / 4
    assert calibration_error(confidence, correct) == pytest.approx(expected, abs=1e-4)
    assert calibration_error(torch.ones(5), torch.ones(5)) == 0
    assert calibration_error(torch.zeros(5), torch.zeros(5)) == 0
    with pytest.raises(UserError, match="calibration: expected at least one image"):
        calibration_error(torch.zeros(0), torch.zeros(0))


def test_errors_of_both_signs_in_one_bin_cancel_and_in_two_bins_do_not():
    correct = torch.tensor([True, False])
    assert calibration_error(torch.tensor([0.5, 0.5]), correct) == pytest.approx(0)
    assert calibration_error(torch.tensor([0.4, 0.6]), correct) == pytest.approx(60)


CONFIDENCE = torch.tensor([[0.9, 0.4, 0.3], [0.5, 0.8, 0.6], [0.7, 0.7, 0.7]])
CORRECT = torch.tensor([[True, False, False], [True, True, False], [False, True, True]])


@pytest.mark.parametrize(
    ("threshold", "accuracy", "cost"),
    [
        (0.0, 100 / 3, 1.0),  # the smallest alone
        (0.6, 200 / 3, (1 + 3 + 3) / 3),  # the first image stops at once, the others at the second subnet
        (0.65, 100.0, (1 + 3 + 7) / 3),
        (2.0, 200 / 3, 7.0),  # all are asked, and the last one's answers stand
    ],
)
def test_a_cascade_asks_the_next_subnet_until_one_is_sure_and_pays_for_all_it_asked(threshold, accuracy, cost):
    found = cascade(CONFIDENCE, CORRECT, [1, 2, 4], threshold)
    assert found == (pytest.approx(accuracy), pytest.approx(cost))


def test_the_answer_of_the_subnet_with_the_least_entropy_is_taken():
    entropy = torch.tensor([[[0.1, 0.9], [0.5, 0.2]]])
    correct = torch.tensor([[[True, True], [False, False]]])
    nothing = torch.zeros(1, 2)
    certainty = Certainty(torch.zeros(1, 2, 2), entropy, correct, nothing, nothing)
    assert least_entropy(certainty).tolist() == [[True, False]]


def test_what_the_subnets_answer_agrees_with_the_measured_accuracy(tiny):
    torch.manual_seed(0)
    config = tiny()
    model = MSUN.from_backbone("resnet_lite", (8, 16), num_classes=10).eval()
    loader = eval_loader(load_data(config).val, 16, 1.0, 7, 0)
    certainty = measure_certainty(model, loader, [8, 12], CPU)
    expected = measure(model, loader, [8, 12], CPU)
    found = 100 * certainty.correct.double().mean(2)
    for place, size in enumerate([8, 12]):
        assert found[place].tolist() == pytest.approx([expected[scale][size] for scale in (8, 16)])
    assert certainty.confidence.shape == (2, 2, 20)
    assert certainty.mixed_correct.shape == (2, 20)
    assert 0 < float(certainty.entropy.max()) <= math.log(10) + 1e-6
    assert float(certainty.mixed_confidence.min()) >= 0.1 - 1e-6
