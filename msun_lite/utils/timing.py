"""Latency and throughput, measured so that two models can be compared: in turns, medians with their range."""

import statistics
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Any

import torch

WARM_UP = 2
"""Calls of each kind that are not counted."""


def time_interleaved(calls: dict[str, Callable], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Return the seconds that each of the `calls` took in each round, one after the other in every round."""
    return measure_interleaved({name: partial(_seconds, call, device) for name, call in calls.items()}, rounds)


def measure_interleaved(measurements: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Return what each of the `measurements` gave in each round, one after the other in every round."""
    found: dict[str, list[float]] = {name: [] for name in measurements}
    for number in range(WARM_UP + rounds):
        for name, measure in measurements.items():
            value = measure()
            if number >= WARM_UP:
                found[name].append(value)
    return found


def images_per_second(
    batches: Iterable, consume: Callable[[Any], int], device: torch.device, workers: int = 0
) -> float:
    """Return the images a second at which `batches` come from a loader and are consumed.

    Args:
        batches: what a loader gives.
        consume: uses a batch and returns the number of its images.
        device: where it does.
        workers: processes of the loader. The first batch of each is left out: when these have come, the workers
            have just begun the next, so that nothing that is counted was prepared before.
    """
    batches = iter(batches)
    for _ in islice(batches, workers):
        pass
    counts = []
    seconds = _seconds(lambda: counts.extend(consume(batch) for batch in batches), device)
    return sum(counts) / seconds


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    """Let the device finish what it was given; a CPU has."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def median_and_range(values: list[float]) -> dict[str, float]:
    """Return the median of the values and their range."""
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }
