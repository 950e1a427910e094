"""What several seeds of a run say together: its records by seed, and two runs compared seed by seed.

runs = read_seeds(folder, "mst"), read_seeds(folder, "msun")
average_seeds(runs[0])["top1"]["40"], average_seeds(runs[0])["spread"]["40"]
lead = Lead(*runs)
lead.at(40), lead.describe(lead.at(40)), lead.sizes_ahead()
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from msun_lite.results.records import Means, Summary, read_summary
from msun_lite.results.words import describe_difference


def read_seeds(folder: Path, run: str) -> dict[int, Summary]:
    """Return seed -> summary of the records of a run: those in `folder` that are called RUN-seedSEED."""
    found = [read_summary(path) for path in folder.glob(f"{run}-seed*/summary.json")]
    return {record["seed"]: record for record in sorted(found, key=lambda record: record["seed"])}


def average_seeds(by_seed: Mapping[int, Summary]) -> Means:
    """Return the mean of a run's seeds, and of the rest what all have in common, for tables and figures of records."""
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


def two_standard_errors(images: int, percent: float) -> float:
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

    def __init__(self, one: Mapping[int, Summary], other: Mapping[int, Summary]):
        self.pairs = [(one[seed], other[seed]) for seed in one if seed in other]
        first, _ = self.pairs[0]
        self.sizes = list(first["sizes"])
        self.chance = two_standard_errors(
            first["data"]["val"], mean(record["mean_top1"] for pair in self.pairs for record in pair)
        )

    def at(self, size: int | str) -> list[float]:
        """Return the lead at a size, one a seed."""
        return [one["top1"][str(size)] - other["top1"][str(size)] for one, other in self.pairs]

    def mean(self) -> list[float]:
        """Return the lead of the mean over the sizes, one a seed."""
        return [one["mean_top1"] - other["mean_top1"] for one, other in self.pairs]

    def sizes_ahead(self) -> list[int]:
        """Return the sizes at which the first run is ahead by more than chance."""
        return [size for size in self.sizes if mean(self.at(size)) > self.chance]

    def sizes_undecided(self) -> list[int]:
        """Return the sizes at which neither run is ahead by more than chance."""
        return [size for size in self.sizes if abs(mean(self.at(size))) <= self.chance]

    def describe(self, values: Sequence[float]) -> str:
        """Return leads in words, see `describe_difference`."""
        return describe_difference(values, self.chance)

    def ahead_or_behind(self, values: Sequence[float]) -> str:
        """Return leads in words with their direction: `1.6 points ahead (one seed)`, or `behind`."""
        place, sign = ("ahead", 1) if mean(values) >= 0 else ("behind", -1)
        return self.describe([sign * value for value in values]).replace(" points", f" points {place}", 1)
