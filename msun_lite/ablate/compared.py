"""Every table of `ablate`, and the records of those whose rows are whole configurations rather than one difference."""

import functools
from pathlib import Path

from msun_lite.ablate.ablations import TABLES, TESTED, Ablation, as_tested, one_per_size, record_config
from msun_lite.ablate.rivals import RIVALS
from msun_lite.ablate.small import BACKBONE_ROWS, CONTROL_ROWS
from msun_lite.config import FREE_ON_RESUME, TrainConfig, make_config
from msun_lite.results import Summary, read_measurement, read_summary

SMALL = {"data": "imagenette", "crop_ratio": 0.875, "epochs": 16}
"""Photographs on the sizes of `quick`, where a network is trained in minutes."""

COMPARISONS: dict[str, tuple[dict[str, Ablation], str, dict]] = {
    "rivals": (RIVALS, "lite", {}),
    "backbones": (BACKBONE_ROWS, "quick", SMALL),
    "controls": (CONTROL_ROWS, "quick", SMALL),
}
"""Table -> its rows, and the preset and the options that its published records have in common."""

ALL_TABLES = {**TABLES, **{table: rows for table, (rows, _, _) in COMPARISONS.items()}}
"""Every table of `ablate`."""

ALL_TESTED = TESTED | {one.record for rows, _, _ in COMPARISONS.values() for one in rows.values() if one.tested}
"""Files of a run folder with what was measured in another test than that of the training."""


def compared_runs(folder: Path, table: str) -> dict[str, dict[int, Summary]]:
    """Return the records of a table of `COMPARISONS` under a folder: {row: {seed: summary}}, rows without one left out.

    A row of several networks has the seeds that all of them have.
    """
    records = [(path, read_summary(path)) for path in sorted(folder.glob("*/summary.json"))]
    found: dict[str, dict[int, Summary]] = {}
    for row, wanted in _wanted(table).items():
        networks = [_by_seed(records, one, ALL_TABLES[table][row]) for one in wanted]
        seeds = [seed for seed in networks[-1] if all(seed in by_seed for by_seed in networks)]
        found[row] = {seed: one_per_size([by_seed[seed] for by_seed in networks]) for seed in seeds}
    return {row: by_seed for row, by_seed in found.items() if by_seed}


@functools.cache  # reading a preset takes a tenth of a second
def _wanted(table: str) -> dict[str, list[dict]]:
    """Return row -> what each of its networks learns."""
    rows, preset, common = COMPARISONS[table]
    base = make_config(preset, **common)
    return {
        name: [
            _learnt(make_config(preset, **{**common, **options})) for options in row.networks(base.scales, base.sizes)
        ]
        for name, row in rows.items()
    }


def _by_seed(records: list[tuple[Path, Summary]], wanted: dict, row: Ablation) -> dict[int, Summary]:
    """Return seed -> summary of the runs that learn what is wanted, those that were tested as a row says."""
    found = {}
    for path, summary in records:
        config = record_config(summary)
        if _learnt(config) == wanted and (measured := _tested(path, summary, row)):
            found[config.seed] = measured
    return found


def _tested(path: Path, summary: Summary, row: Ablation) -> Summary | None:
    """Return the summary of a run as a row has it tested, None if it was not."""
    if not row.tested:
        return summary
    measured = path.with_name(row.record)
    return as_tested(summary, read_measurement(measured)) if measured.exists() else None


def _learnt(config: TrainConfig) -> dict:
    """Return what of a configuration decides what is learnt and measured, but for the seed; the preset is a name."""
    return {name: value for name, value in vars(config).items() if name not in (*FREE_ON_RESUME, "seed", "preset")}
