import copy

import torch
from torch import nn

from msun_lite.train.averaging import decay_at, moving_average


def test_the_average_of_a_short_run_is_near_its_last_weights_whatever_the_decay():
    network = nn.Linear(1, 1)
    average = moving_average(network, 0.9999)
    for step in range(200):
        nn.init.constant_(network.weight, float(step))
        average.update_parameters(network)
    assert 170 < average.module.weight.item() < 199  # without a warm-up, below 2


def test_the_decay_rises_to_the_one_asked_for():
    assert [decay_at(0.9999, step) for step in (0, 8, 90)] == [0.1, 0.5, 0.91]
    assert decay_at(0.9999, 10**6) == 0.9999
    assert decay_at(0.05, 0) == 0.05


def test_an_average_goes_on_from_its_state_exactly():
    torch.manual_seed(0)
    weights = torch.randn(20, 3)
    network, averages = nn.BatchNorm1d(3), []
    for stop in (20, 7):
        average = moving_average(network, 0.9)
        for row in weights[:stop]:
            network.weight.data.copy_(row)
            average.update_parameters(network)
        averages.append(average)
    again = moving_average(copy.deepcopy(network), 0.9)
    again.load_state_dict(averages[1].state_dict())
    for row in weights[7:]:
        network.weight.data.copy_(row)
        again.update_parameters(network)
    assert torch.equal(again.module.weight, averages[0].module.weight)
