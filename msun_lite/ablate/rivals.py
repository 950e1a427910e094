"""MSUN's rivals: other cures of the same trouble, and its own best form, as rows of a table.

Each of the three ways to train has a plain form, and one with all that made `lite-plus` better, for the same epochs.
"""

from pathlib import Path

from msun_lite.ablate.ablations import (
    BEYOND,
    FITTED,
    FREE,
    TABLES,
    TAUGHT_BY_LARGER,
    TESTED,
    Ablation,
    as_tested,
    record_config,
)
from msun_lite.ablate.tables import BEST
from msun_lite.config import FREE_ON_RESUME, TrainConfig, make_config
from msun_lite.results import Summary, read_measurement, read_summary

NATIVE_INPUT = {"subnet_input": "native", "random_sizes": True, "routing": "upto:32,72"}
"""Subnets fed at the image's own size, each within a range that is about its scale on the grid of `lite`."""

OWN_NORMS = {"norm": "per_scale"}
OF_SIZE = {"averages": "size"}
WARM = {"weights": "lite-vanilla", "lr": 0.05}
PLUS = {**WARM, "epochs": 30, **FITTED, **FREE, **TAUGHT_BY_LARGER}
"""The preset `lite-plus`, as options beside those of `lite`."""

LONGER = {**PLUS, "epochs": 45, **OF_SIZE}
"""The same for as long as the others, with averages of each size in the end."""

PLAIN = {
    "Vanilla": {"method": "vanilla"},
    "MST": {"method": "mst"},
    "MST, BatchNorm per scale": {"method": "mst", **OWN_NORMS},
    "RS-Nets": {"method": "rs"},
    "MSUN": {},
    "MSUN, native input": NATIVE_INPUT,
    "MSUN, trained as lite-plus": PLUS,
}
"""Rows that are measured twice: with the averages of their training, and with averages of each size."""

FAIR = {
    BEST: {**LONGER, **NATIVE_INPUT},
    "MST, BatchNorm per scale, trained as lite-plus, averages of the size": {"method": "mst", **LONGER},
    "RS-Nets, trained as lite-plus, averages of the size": {"method": "rs", **LONGER},
}
"""Rows with all that is known."""

RIVALS = {
    one.name: one
    for one in (
        *(
            Ablation(f"{name}{words}", options, tested=tested, source=BEYOND)
            for name, options in PLAIN.items()
            for words, tested in (("", {}), (", averages of the size", OF_SIZE))
        ),
        *(Ablation(name, options, source=BEYOND) for name, options in FAIR.items()),
    )
}
"""What a row is called -> the network."""

ALL_TABLES = {**TABLES, "rivals": RIVALS}
"""Every table of `ablate`."""

ALL_TESTED = TESTED | {one.record for one in RIVALS.values() if one.tested}
"""Files of a run folder with what was measured in another test than that of the training."""


def recorded_rivals(folder: Path) -> dict[str, dict[int, Summary]]:
    """Return the records of the rivals under a folder: {row: {seed: summary}}, rows without one left out."""
    found: dict[str, dict[int, Summary]] = {row: {} for row in RIVALS}
    wanted = {row: _learnt(make_config("lite", **one.options)) for row, one in RIVALS.items()}
    for path in sorted(folder.glob("*/summary.json")):
        summary = read_summary(path)
        config = record_config(summary)
        for row in (row for row, learnt in wanted.items() if learnt == _learnt(config)):
            rival = RIVALS[row]
            if (measured := path.with_name(rival.record)).exists():
                found[row][config.seed] = as_tested(summary, read_measurement(measured)) if rival.tested else summary
    return {row: by_seed for row, by_seed in found.items() if by_seed}


def _learnt(config: TrainConfig) -> dict:
    """Return what of a configuration decides what is learnt and measured, but for the seed; the preset is a name."""
    return {name: value for name, value in vars(config).items() if name not in (*FREE_ON_RESUME, "seed", "preset")}
