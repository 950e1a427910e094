"""Latency and throughput, measured so that two models can be compared: in turns, medians with their range."""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any

import torch

from msun_lite.model import MSUN
from msun_lite.progress import progress

WARM_UP = 2
"""Calls of each kind that are not counted."""


@torch.inference_mode()
def measure_speed(
    msun: MSUN, vanilla: MSUN, sizes: Sequence[int], device: torch.device, batch: int, rounds: int
) -> dict:
    """Return latency (one image) and throughput (a batch) at each size, MSUN against Vanilla.

    Images arrive on the device at their size; what follows, resizing included, is timed. Ratios are of medians, above
    1 where MSUN is the faster one.
    """
    found = {}
    for size in progress(sizes, desc="timing", unit="size", leave=False):
        entry = {}
        for count in (1, batch):
            images = torch.rand(count, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
            models = {"msun": msun, "vanilla": vanilla}
            calls = {name: lambda model=model, images=images: model(images) for name, model in models.items()}
            entry[count] = in_turns(calls, rounds, device)
        seconds = {count: {name: statistics.median(times) for name, times in entry[count].items()} for count in entry}
        found[str(size)] = {
            "latency_ms": {name: spread([1e3 * t for t in times]) for name, times in entry[1].items()},
            "latency_ratio": round(seconds[1]["vanilla"] / seconds[1]["msun"], 3),
            "images_per_second": {name: spread([batch / t for t in times]) for name, times in entry[batch].items()},
            "throughput_ratio": round(seconds[batch]["vanilla"] / seconds[batch]["msun"], 3),
        }
    return {"batch": batch, "rounds": rounds, "sizes": found}


def in_turns(calls: dict[str, Callable], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Return the seconds that each of the `calls` took in each round, one after the other in every round."""
    return measured_in_turns({name: partial(_seconds, call, device) for name, call in calls.items()}, rounds)


def measured_in_turns(measurements: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
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


def spread(values: list[float]) -> dict[str, float]:
    """Return the median of the values and their range."""
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }
