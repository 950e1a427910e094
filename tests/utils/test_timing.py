import time

import pytest
import torch

from msun_lite.utils.timing import WARM_UP, images_per_second, measure_interleaved, time_interleaved

CPU = torch.device("cpu")


def test_measurements_take_turns_and_the_first_rounds_are_left_out():
    calls = []
    found = measure_interleaved({"a": lambda: calls.append("a") or len(calls), "b": lambda: calls.append("b") or 0}, 2)
    assert calls == ["a", "b"] * (WARM_UP + 2)
    assert found == {"a": [2 * WARM_UP + 1, 2 * WARM_UP + 3], "b": [0, 0]}


def test_in_turns_gives_the_seconds_of_every_call():
    (seconds,) = time_interleaved({"sleep": lambda: time.sleep(0.01)}, 3, CPU).values()
    assert len(seconds) == 3
    assert min(seconds) >= 0.01


@pytest.mark.parametrize("workers", [0, 2])
def test_the_first_batch_of_each_worker_is_not_counted(workers):
    consumed = []
    rate = images_per_second([10, 20, 30, 40], lambda batch: consumed.append(batch) or batch, CPU, workers)
    assert consumed == [10, 20, 30, 40][workers:]
    assert rate > sum(consumed)  # far less than a second
