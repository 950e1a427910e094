"""What several seeds of a run say together: its records by seed, and two runs compared seed by seed.

runs = over_seeds(folder, "mst"), over_seeds(folder, "msun")
averaged(runs[0])["top1"]["40"], averaged(runs[0])["spread"]["40"]
lead = Lead(*runs)
lead.at(40), lead.said(lead.at(40)), lead.clear()
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from msun_lite.records import read_json

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def over_seeds(folder: Path, run: str) -> dict[int, dict]:
    """Return seed -> summary of the records of a run: those in `folder` that are called RUN-seedSEED."""
    found = [read_json(path) for path in folder.glob(f"{run}-seed*/summary.json")]
    return {record["seed"]: record for record in sorted(found, key=lambda record: record["seed"])}


def averaged(by_seed: Mapping[int, dict]) -> dict:
    """Return the mean of a run's seeds as a record, for the tables and figures that show records.

    `top1` and `mean_top1` are means, and `spread` has the standard deviations under the same sizes and `mean`, None
    with one seed; `seeds` counts them. Of the rest, what all seeds have in common is kept.
    """
    records = list(by_seed.values())
    first = records[0]
    accuracies = {size: [one["top1"][size] for one in records] for size in first["top1"]}
    means = [one["mean_top1"] for one in records]
    common = ("method", "arch", "sizes", "scales", "params", "mean_flops", "data", "epochs")
    several = len(records) > 1
    return {
        **{name: first[name] for name in common},
        "top1": {size: mean(values) for size, values in accuracies.items()},
        "mean_top1": mean(means),
        "spread": {name: stdev(values) for name, values in {**accuracies, "mean": means}.items()} if several else None,
        "seeds": len(records),
    }


def mean_cell(values: Sequence[float]) -> str:
    """Return the mean of values, one a seed, with their standard deviation if there are several: `61.2 ± 0.4`."""
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def chance(images: int, percent: float) -> float:
    """Return two standard errors, in points, of an accuracy that was measured on so many images."""
    share = percent / 100
    return 200 * math.sqrt(share * (1 - share) / images)


class Lead:
    """By how many points one run is ahead of another, seed by seed, over the seeds that both have.

    A difference may be chance if its mean over the seeds is within two standard errors of one accuracy, at the mean
    of both runs' accuracies: the seeds share their test images, whose error more seeds do not take away.

    Args:
        one: seed -> summary of the run that may be ahead.
        other: the same of the other run, measured at the same sizes on the same images.
    """

    def __init__(self, one: Mapping[int, dict], other: Mapping[int, dict]):
        self.pairs = [(one[seed], other[seed]) for seed in one if seed in other]
        first, _ = self.pairs[0]
        self.sizes = list(first["sizes"])
        self.chance = chance(first["data"]["val"], mean(record["mean_top1"] for pair in self.pairs for record in pair))

    def at(self, size: int | str) -> list[float]:
        """Return the lead at a size, one a seed."""
        return [one["top1"][str(size)] - other["top1"][str(size)] for one, other in self.pairs]

    def mean(self) -> list[float]:
        """Return the lead of the mean over the sizes, one a seed."""
        return [one["mean_top1"] - other["mean_top1"] for one, other in self.pairs]

    def clear(self) -> list[int]:
        """Return the sizes at which the first run is ahead by more than chance."""
        return [size for size in self.sizes if mean(self.at(size)) > self.chance]

    def open(self) -> list[int]:
        """Return the sizes at which neither run is ahead by more than chance."""
        return [size for size in self.sizes if abs(mean(self.at(size))) <= self.chance]

    def said(self, values: Sequence[float]) -> str:
        """Return leads in words, see `said`."""
        return said(values, self.chance)

    def placed(self, values: Sequence[float]) -> str:
        """Return leads as a place: `1.6 points ahead (one seed)`, or `behind` if they are negative; see `said`."""
        place, sign = ("ahead", 1) if mean(values) >= 0 else ("behind", -1)
        return said([sign * value for value in values], self.chance).replace(" points", f" points {place}", 1)


def said(values: Sequence[float], least: float) -> str:
    """Return differences, one a seed, in words: `1.6 points (1.3 to 1.9 over two seeds), which may be chance`.

    They may be if their mean is no more than `least`.
    """
    return points(values) + (", which may be chance" if abs(mean(values)) <= least else "")


def points(values: Sequence[float]) -> str:
    """Return differences, one a seed, in words: their mean, and their range over seeds: `2.0 points (one seed)`."""
    if len(values) == 1:
        return f"{_signed(values[0])} points (one seed)"
    ends = f"{_signed(min(values))} to {_signed(max(values))}"
    return f"{_signed(mean(values))} points ({ends} over {some_seeds(len(values))})"


def _signed(value: float) -> str:
    return f"{round(value, 1) + 0:.1f}".replace("-", "−")  # adding 0 makes 0 of -0


def number(count: int) -> str:
    """Return a count in words, above twelve in digits."""
    return _NUMBERS[count] if count < len(_NUMBERS) else f"{count}"


def some_seeds(count: int) -> str:
    """Return a number of seeds in words: `two seeds`."""
    return f"{number(count)} {'seed' if count == 1 else 'seeds'}"


def seeds_of(seeds: Mapping[str, int]) -> str:
    """Return how many seeds there are of some runs, by their names: `one seed of Vanilla, two of MST and MSUN`."""
    named: dict[int, list[str]] = {}
    for name, count in seeds.items():
        named.setdefault(count, []).append(name)
    (count, names), *others = named.items()
    if not others:
        return f"{some_seeds(count)} each"
    parts = [f"{some_seeds(count)} of {listed(names)}", *(f"{number(more)} of {listed(each)}" for more, each in others)]
    return ", ".join(parts)


def listed(words: Sequence[object]) -> str:
    """Return words as a list in a sentence: `a, b and c`."""
    *most, last = map(str, words)
    return f"{', '.join(most)} and {last}" if most else last


def where(sizes: Sequence[int], grid: Sequence[int]) -> str:
    """Return sizes in words: `from 32 to 56 px` if they follow each other in `grid`, else `at 16 and 112 px`."""
    if not sizes:
        return "at no size"
    first = list(grid).index(sizes[0])
    if len(sizes) > 2 and list(grid[first : first + len(sizes)]) == list(sizes):
        return f"from {sizes[0]} to {sizes[-1]} px"
    return f"at {listed(sizes)} px"
