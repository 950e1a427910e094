"""The networks of the paper's ablations (Tables IV, V and VI), of what it leaves open and beyond it; their records."""

import functools
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean

from msun_lite.ablate.tables import BASE
from msun_lite.config import FREE_ON_RESUME, TrainConfig, as_word, make_config
from msun_lite.results import NAMES, Measurement, Summary, read_measurement, read_summary
from msun_lite.utils.errors import UserError


def in_a_name(options: dict) -> str:
    """Return options as a part of a file's name: `antialias-false`."""
    return "-".join(f"{name}-{as_word(value).replace(',', '-')}" for name, value in options.items())


@dataclass(frozen=True)
class Ablation:
    """A network that differs in one part from the method as presented, or in two.

    Args:
        name: what is different, in words.
        options: those that differ from the preset's; the method is msun unless it is among them.
        subnets: number of scales, evenly spaced from the smallest to the largest of the preset's; its own by default.
        tested: attributes of the network, and options of `evaluate`, that differ in testing from the training.
        source: where the paper speaks of it, if in none of Tables IV to VI.
        each_size: a network for each of the sizes, trained at it alone, in place of one; the last is of the preset's.
    """

    name: str
    options: dict = field(default_factory=dict)
    subnets: int | None = None
    tested: dict = field(default_factory=dict)
    source: str = ""
    each_size: bool = False

    @property
    def record(self) -> str:
        """Name of the file in a run folder that says what was measured."""
        return f"{in_a_name(self.tested)}.json" if self.tested else "summary.json"

    def chosen(self, scales: Sequence[int]) -> dict:
        """Return its options of `TrainConfig`, for a preset with these scales."""
        if self.subnets is None:
            return self.options
        first, last = scales[0], scales[-1]
        return {
            **self.options,
            "scales": [first + i * (last - first) // (self.subnets - 1) for i in range(self.subnets)],
        }

    def networks(self, scales: Sequence[int], sizes: Sequence[int]) -> list[dict]:
        """Return the options of each network that the row is made of, for a preset with these scales and sizes."""
        chosen = self.chosen(scales)
        smaller = sizes[:-1] if self.each_size else ()
        return [*({**chosen, "scales": [size], "sizes": [size, sizes[-1]]} for size in smaller), chosen]

    def command(self, preset: str, seed: int = 0) -> str:
        """Return the command line that trains it."""
        options = {"method": "msun", **self.chosen(make_config(preset).scales)}
        make_config(preset, **options)  # refuses what cannot be run
        words = [word for name, value in options.items() for word in (f"--{name}", as_word(value))]
        return shlex.join(["python", "-m", "msun_lite.train", "--preset", preset, *words, "--seed", str(seed)])


ALL_PARTS, MST = Ablation(BASE), Ablation("MST", {"method": "mst"})
EXPERIMENTS, LEFT_OPEN, BEYOND = "the authors' experiments", "left open", "beyond the paper"
FITTED = {"norm": "per_scale", "random_sizes": True, "routing": "ratio"}
"""Each subnet trained for the sizes that it serves, with statistics of its own."""
FREE, NATIVE = {"constraint": "none"}, {"unify": "native"}
TAUGHT = {"distil": 1.0}
TAUGHT_BY_LARGER = {**TAUGHT, "teacher": "larger"}

TABLES: dict[str, dict[str, Ablation]] = {
    "4": {"MSUN": ALL_PARTS},
    "5": {
        "B0-S3": Ablation("stems alone in the subnets", {"blocks": 0}),
        "B1-S3": ALL_PARTS,
        "B2-S3": Ablation("two stages in the subnets", {"blocks": 2}),
        "B3-S3": Ablation("three stages in the subnets", {"blocks": 3}),
        "B1-S2": Ablation("two subnets", subnets=2),
        "B1-S4": Ablation("four subnets", subnets=4),
        "B1-S5": Ablation("five subnets", subnets=5),
    },
    "6": {
        "MST": MST,
        "MST+SI": Ablation("no private subnets", {"method": "mst", "constraint": "pair"}),
        "SNet": Ablation("nothing shared, no constraint", {"unify": "none", "constraint": "none"}),
        "SNet+SI": Ablation("nothing shared", {"unify": "none"}),
        "SNet+UNet": Ablation("no constraint", {"constraint": "none"}),
        "SNet+UNet+SI": ALL_PARTS,
    },
    "open": {
        ablation.name: ablation
        for ablation in (
            ALL_PARTS,
            Ablation("lambda on the sum of the pairs", {"constraint": "sum"}, source="Eq. 8 as printed"),
            Ablation("lambda 0", {"lam": 0.0}, source=LEFT_OPEN),
            Ablation("lambda 0.001", {"lam": 0.001}, source=EXPERIMENTS),
            Ablation("lambda 0.1", {"lam": 0.1}, source=LEFT_OPEN),
            Ablation("lambda a weight, 0.1", {"constraint": "weight", "lam": 0.1}, source=LEFT_OPEN),
            Ablation("finer stems", {"stems": "fine"}, source=EXPERIMENTS),
            Ablation("tested without antialiasing", tested={"antialias": False}, source=LEFT_OPEN),
            Ablation("no antialiasing", {"antialias": False}, source=EXPERIMENTS),
            Ablation(
                "no antialiasing, tested with it", {"antialias": False}, tested={"antialias": True}, source=LEFT_OPEN
            ),
            Ablation("all scales as one batch", {"joint": True}, source=LEFT_OPEN),
        )
    },
    "beyond": {
        ablation.name: ablation
        for ablation in (
            ALL_PARTS,
            Ablation("Vanilla", {"method": "vanilla"}, source="II, Vanilla"),
            MST,
            Ablation("MST, random sizes", {"method": "mst", "random_sizes": True}, source=BEYOND),
            Ablation("random sizes, ratio", {"random_sizes": True, "routing": "ratio"}, source=BEYOND),
            Ablation("BatchNorm per scale", {"norm": "per_scale"}, source=BEYOND),
            Ablation("BatchNorm per scale, random sizes, ratio", FITTED, source=BEYOND),
            Ablation("BatchNorm per scale, random sizes, ratio, distillation", {**FITTED, **TAUGHT}, source=BEYOND),
            Ablation(
                "BatchNorm per scale, random sizes, ratio, distillation from the larger scales",
                {**FITTED, **TAUGHT_BY_LARGER},
                source=BEYOND,
            ),
            Ablation("no constraint, BatchNorm per scale", {**FREE, "norm": "per_scale"}, source=BEYOND),
            Ablation("no constraint, BatchNorm per scale, random sizes, ratio", {**FREE, **FITTED}, source=BEYOND),
            Ablation(
                "no constraint, BatchNorm per scale, random sizes, ratio, distillation from the larger scales",
                {**FREE, **FITTED, **TAUGHT_BY_LARGER},
                source=BEYOND,
            ),
            Ablation("features not resized", NATIVE, source=BEYOND),
            Ablation(
                "features not resized, BatchNorm per scale, random sizes, ratio", {**FITTED, **NATIVE}, source=BEYOND
            ),
            Ablation(
                "features not resized, BatchNorm per scale, random sizes, ratio, distillation",
                {**FITTED, **NATIVE, **TAUGHT},
                source=BEYOND,
            ),
            Ablation(
                "five subnets, features not resized, BatchNorm per scale, random sizes, ratio, distillation",
                {**FITTED, **NATIVE, **TAUGHT},
                subnets=5,
                source=BEYOND,
            ),
        )
    },
}
"""Table -> what a row is called -> the network; in Tables IV to VI by the paper's names."""

GROUPS = ("the methods", "Tables V and VI", LEFT_OPEN, BEYOND)
"""What networks have in common, for `networks`."""

ROMAN = {"4": "IV", "5": "V", "6": "VI"}

ABLATIONS = tuple({one.name: one for rows in TABLES.values() for one in rows.values() if not one.tested}.values())
"""Every network of the tables, once."""

TESTED = {one.record for rows in TABLES.values() for one in rows.values() if one.tested}
"""Files of a run folder with what was measured in another test than that of the training."""

ABLATED = tuple(dict.fromkeys([*(name for one in ABLATIONS for name in one.options if name != "method"), "scales"]))
"""The options that the ablations set."""


def rows_of(ablation: Ablation) -> str:
    """Return where the paper has a network: `VI, MST`; where it is in no table, its source."""
    rows = [f"{ROMAN[table]}, {row}" for table in ROMAN for row, found in TABLES[table].items() if found == ablation]
    return "; ".join(rows) or ablation.source


def difference(config: TrainConfig) -> dict:
    """Return in what a run's options differ from its preset's by the same method, but for the seed: {option: value}."""
    base, own = _options(config.preset, config.method), asdict(config)
    return {name: own[name] for name in own if name not in (*FREE_ON_RESUME, "seed") and own[name] != base[name]}


@functools.cache  # reading a preset takes a tenth of a second, and every record asks for its own
def _options(preset: str, method: str) -> dict:
    """Return a preset's options by a method."""
    return asdict(make_config(preset, method=method))


def run_name(config: TrainConfig) -> str:
    """Return what the folder of a run is called: its method, the ablated options that differ, its seed."""
    differing = {name: value for name, value in difference(config).items() if name in (*ABLATED, "arch")}
    return "-".join([config.method, *([in_a_name(differing)] if differing else []), f"seed{config.seed}"])


def record_config(summary: Summary) -> TrainConfig:
    """Return the configuration of a run from its summary."""
    return TrainConfig(**summary["config"])


def recorded(folder: Path, table: str) -> dict[str, dict[int, Summary]]:
    """Return the records under a folder that belong to a table: {row: {seed: summary}}, rows without one left out.

    A row about testing has the summary of its run, with what was measured so in it.

    Raises:
        UserError: if two of the records differ in an option that no ablation is about.
    """
    found: dict[str, dict[int, Summary]] = {row: {} for row in TABLES[table]}
    wanted: dict[str, dict[str, dict]] = {}
    common = None
    for path in sorted(folder.glob("*/summary.json")):
        summary = read_summary(path)
        config = record_config(summary)
        if config.preset not in wanted:
            wanted[config.preset] = _rows(config.preset, table)
        own, rows = _ablated(config), wanted[config.preset]
        others = {name: value for name, value in difference(config).items() if name not in own}
        common = others if common is None else common
        if others != common:
            raise UserError(f"{path}: expected the options of the records beside it, {common}, got {others}")
        for row in (row for row, ablated in rows.items() if ablated == own):
            ablation = TABLES[table][row]
            if (measured := path.with_name(ablation.record)).exists():
                found[row][config.seed] = as_tested(summary, read_measurement(measured)) if ablation.tested else summary
    return {row: by_seed for row, by_seed in found.items() if by_seed}


def as_tested(summary: Summary, measured: Measurement | Summary) -> Summary:
    """Return the summary of a run with what was measured of it in another test."""
    return summary | {name: measured[name] for name in ("top1", "mean_top1", "per_subnet", "routings", "params")}


def one_per_size(summaries: Sequence[Summary]) -> Summary:
    """Return the summaries of a network for each size, the largest size's last, as that of one that has them all.

    Its FLOPs are those of the network that serves a size. One summary is returned as it is.
    """
    *smaller, last = summaries
    if not smaller:
        return last
    serving = {str(one["sizes"][0]): one for one in smaller} | {str(last["sizes"][-1]): last}
    top1, flops = ({size: one[name][size] for size, one in serving.items()} for name in ("top1", "flops"))
    return last | {
        "scales": [int(size) for size in serving],
        "top1": top1,
        "mean_top1": mean(top1.values()),
        "params": sum(one["params"] for one in serving.values()),
        "flops": flops,
        "mean_flops": round(mean(flops.values())),
    }


def networks(folder: Path) -> dict[str, dict[str, dict[int, Summary]]]:
    """Return the records under a folder by what the networks have in common: {group: {name: {seed: summary}}}.

    The groups are the paper's methods, its Tables V and VI, what it leaves open, and what is beyond it; a record that
    is neither a method's nor an ablation's is left out.
    """
    found: dict[str, dict[str, dict[int, Summary]]] = {group: {} for group in GROUPS}
    for path in sorted(folder.glob("*/summary.json")):
        summary = read_summary(path)
        config = record_config(summary)
        if place := _place(config):
            group, name = place
            found[group].setdefault(name, {})[config.seed] = summary
    return {group: members for group, members in found.items() if members}


def _place(config: TrainConfig) -> tuple[str, str] | None:
    """Return the group and the name of a network, None if it has none."""
    own = _ablated(config)
    if set(own) == {"method"}:
        return GROUPS[0], NAMES[config.method]
    for one in ABLATIONS:
        if _chosen(config.preset, one.name) == own:
            in_tables = any(one in TABLES[table].values() for table in ROMAN)
            return GROUPS[1 if in_tables else 3 if one.source == BEYOND else 2], one.name
    return None


def _rows(preset: str, table: str) -> dict[str, dict]:
    """Return what of the ablated options each row of a table differs in from a preset."""
    return {row: _chosen(preset, one.name) for row, one in TABLES[table].items()}


@functools.cache
def _chosen(preset: str, name: str) -> dict:
    """Return what of the ablated options a network of the tables differs in from a preset."""
    ablation = next(one for rows in TABLES.values() for one in rows.values() if one.name == name)
    return _ablated(make_config(preset, **ablation.chosen(make_config(preset).scales)))


def _ablated(config: TrainConfig) -> dict:
    """Return the method of a run, and in which of the ablated options it differs from its preset."""
    return {"method": config.method} | {name: value for name, value in difference(config).items() if name in ABLATED}
