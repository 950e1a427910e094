"""The paper's ablations (Tables IV, V and VI) and what it leaves open: train the networks of a table, write the table.

    python -m msun_lite.ablate --table 6                                     # drawn scenes, six networks
    python -m msun_lite.ablate --table 5 --data imagenette --crop_ratio 0.875 --epochs 16 --seeds 0,1
    python -m msun_lite.ablate --table open --out runs/mine                  # lambda, stems, aliasing, beyond the paper

A network that several tables share is trained once: runs are looked for in --out by their configuration, whatever their
folder is called. Finished runs are kept: called again, the command goes on where it stopped. The folder gets a run
folder for each network and seed, and of each table a .md, a .json and a figure, written anew after every seed.
"""

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path

from msun_lite.ablation_tables import BASE, table_markdown, table_record
from msun_lite.config import TrainConfig, make_config, make_parser, read_config
from msun_lite.errors import UserError, one_line_errors
from msun_lite.figures import NAMES, save_figure
from msun_lite.files import write_text
from msun_lite.options import parse
from msun_lite.records import RunFolder, read_json, write_json
from msun_lite.reproduce import carry_on, refuse_several
from msun_lite.train import FREE_ON_RESUME, as_word
from msun_lite.training_figures import claims_figure


@dataclass(frozen=True)
class Ablation:
    """A network that differs in one part from the method as presented, or in two.

    Args:
        name: what is different, in words.
        options: those that differ from the preset's; the method is msun unless it is among them.
        subnets: number of scales, spread evenly from the smallest to the largest of the preset's; its own by default.
        source: where the paper speaks of it, if in none of Tables IV to VI.
    """

    name: str
    options: dict = field(default_factory=dict)
    subnets: int | None = None
    source: str = ""

    def chosen(self, scales: Sequence[int]) -> dict:
        """Return its options of `TrainConfig`, for a preset with these scales."""
        if self.subnets is None:
            return self.options
        first, last = scales[0], scales[-1]
        return {
            **self.options,
            "scales": [first + i * (last - first) // (self.subnets - 1) for i in range(self.subnets)],
        }

    def command(self, preset: str, seed: int = 0) -> str:
        """Return the command line that trains it."""
        options = {"method": "msun", **self.chosen(make_config(preset).scales)}
        make_config(preset, **options)  # refuses what cannot be run
        words = [word for name, value in options.items() for word in (f"--{name}", as_word(value))]
        return shlex.join(["python", "-m", "msun_lite.train", "--preset", preset, *words, "--seed", str(seed)])


ALL_PARTS = Ablation(BASE)
EXPERIMENTS, BEYOND = "the authors' experiments", "beyond the paper"
FITTED = {"norm": "per_scale", "random_sizes": True, "routing": "ratio"}
"""Each subnet trained for the sizes that it serves, with statistics of its own."""

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
        "MST": Ablation("no private subnets, no constraint", {"method": "mst"}),
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
            Ablation("lambda 0", {"lam": 0.0}, source="left open"),
            Ablation("lambda 0.001", {"lam": 0.001}, source=EXPERIMENTS),
            Ablation("lambda 0.1", {"lam": 0.1}, source="left open"),
            Ablation("lambda a weight, 0.1", {"constraint": "weight", "lam": 0.1}, source=BEYOND),
            Ablation("finer stems", {"stems": "fine"}, source=EXPERIMENTS),
            Ablation("no antialiasing", {"antialias": False}, source=EXPERIMENTS),
            Ablation("all scales as one batch", {"joint": True}, source=BEYOND),
            Ablation("features not resized", {"unify": "native"}, source=BEYOND),
            Ablation("BatchNorm of g per scale", {"norm": "per_scale"}, source=BEYOND),
            Ablation("random sizes, ratio", {"random_sizes": True, "routing": "ratio"}, source=BEYOND),
            Ablation(
                "features not resized, BatchNorm per scale", {"unify": "native", "norm": "per_scale"}, source=BEYOND
            ),
            Ablation("distillation between the scales", {"distil": 1.0}, source=BEYOND),
            Ablation("distillation from the larger scales", {"distil": 1.0, "teacher": "larger"}, source=BEYOND),
            Ablation("BatchNorm per scale, random sizes, ratio", FITTED, source=BEYOND),
            Ablation(
                "BatchNorm per scale, random sizes, ratio, distillation", {**FITTED, "distil": 1.0}, source=BEYOND
            ),
            Ablation(
                "BatchNorm per scale, random sizes, ratio, distillation from the larger scales",
                {**FITTED, "distil": 1.0, "teacher": "larger"},
                source=BEYOND,
            ),
            Ablation(
                "features not resized, BatchNorm per scale, random sizes, ratio",
                {**FITTED, "unify": "native"},
                source=BEYOND,
            ),
            Ablation(
                "features not resized, BatchNorm per scale, random sizes, ratio, distillation",
                {**FITTED, "unify": "native", "distil": 1.0},
                source=BEYOND,
            ),
            Ablation(
                "five subnets, features not resized, BatchNorm per scale, random sizes, ratio, distillation",
                {**FITTED, "unify": "native", "distil": 1.0},
                subnets=5,
                source=BEYOND,
            ),
        )
    },
}
"""Table -> what a row is called -> the network; Tables IV to VI by the paper's names, and the open questions."""

GROUPS = ("the methods", "Tables V and VI", "left open", BEYOND)
"""What networks have in common, for `networks`."""

ROMAN = {"4": "IV", "5": "V", "6": "VI"}

ABLATIONS = tuple({ablation.name: ablation for rows in TABLES.values() for ablation in rows.values()}.values())
"""Every network of the tables, once."""

ABLATED = tuple(dict.fromkeys([*(name for one in ABLATIONS for name in one.options if name != "method"), "scales"]))
"""The options that the ablations set."""

FIXED = ("method", "resume", "seed", "constraint", "blocks", "unify")
"""Options that are no options of this command: Tables V and VI are about them."""


def rows_of(ablation: Ablation) -> str:
    """Return where the paper has a network: `VI, MST`; where it is in no table, its source."""
    rows = [f"{ROMAN[table]}, {row}" for table in ROMAN for row, found in TABLES[table].items() if found == ablation]
    return "; ".join(rows) or ablation.source


def difference(config: TrainConfig) -> dict:
    """Return in what a run's options differ from its preset's by the same method, but for the seed: {option: value}."""
    base, own = asdict(make_config(config.preset, method=config.method)), asdict(config)
    return {name: own[name] for name in own if name not in (*FREE_ON_RESUME, "seed") and own[name] != base[name]}


def run_name(config: TrainConfig) -> str:
    """Return what the folder of a run is called: its method, the ablated options that differ, its seed."""
    found = _ablated(config)
    parts = [f"{name}-{as_word(found[name]).replace(',', '-')}" for name in ABLATED if name in found]
    return "-".join([config.method, *parts, f"seed{config.seed}"])


def record_config(summary: dict) -> TrainConfig:
    """Return the configuration of a run from its summary's command."""
    options = parse(make_parser("record", ""), shlex.split(summary["command"])[3:])
    options.pop("config", None)
    return TrainConfig(**options.as_dict())


def recorded(folder: Path, table: str) -> dict[str, dict[int, dict]]:
    """Return the records under a folder that belong to a table: {row: {seed: summary}}, rows without one left out.

    Raises:
        UserError: if two of the records differ in an option that no ablation is about.
    """
    found: dict[str, dict[int, dict]] = {row: {} for row in TABLES[table]}
    wanted: dict[str, dict[str, dict]] = {}
    common = None
    for path in sorted(folder.glob("*/summary.json")):
        summary = read_json(path)
        config = record_config(summary)
        if config.preset not in wanted:
            wanted[config.preset] = _rows(config.preset, table)
        own, rows = _ablated(config), wanted[config.preset]
        others = {name: value for name, value in difference(config).items() if name not in own}
        common = others if common is None else common
        if others != common:
            raise UserError(f"{path}: expected the options of the records beside it, {common}, got {others}")
        for row in (row for row, ablated in rows.items() if ablated == own):
            found[row][config.seed] = summary
    return {row: by_seed for row, by_seed in found.items() if by_seed}


def networks(folder: Path) -> dict[str, dict[str, dict[int, dict]]]:
    """Return the records under a folder by what the networks have in common: {group: {name: {seed: summary}}}.

    The groups are the paper's methods, its Tables V and VI, what it leaves open, and what is beyond it; a record that
    is neither a method's nor an ablation's is left out.
    """
    found: dict[str, dict[str, dict[int, dict]]] = {group: {} for group in GROUPS}
    for path in sorted(folder.glob("*/summary.json")):
        summary = read_json(path)
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
    scales = make_config(config.preset).scales
    for one in ABLATIONS:
        if _ablated(make_config(config.preset, **one.chosen(scales))) == own:
            in_tables = any(one in TABLES[table].values() for table in ROMAN)
            return GROUPS[1 if in_tables else 3 if one.source == BEYOND else 2], one.name
    return None


def _rows(preset: str, table: str) -> dict[str, dict]:
    """Return what of the ablated options each row of a table differs in from a preset."""
    scales = make_config(preset).scales
    return {row: _ablated(make_config(preset, **one.chosen(scales))) for row, one in TABLES[table].items()}


def _ablated(config: TrainConfig) -> dict:
    """Return the method of a run, and in which of the ablated options it differs from its preset."""
    return {"method": config.method} | {name: value for name, value in difference(config).items() if name in ABLATED}


def ablate(table: str, seeds: Sequence[int], options: dict) -> bool:
    """Train what a table needs with the same `options`, and write the table; return whether it is complete.

    Args:
        table: a key of `TABLES`.
        seeds: of the trainings, each network once by each.
        options: options of `TrainConfig` but those in `FIXED`; `out` is the folder for all.

    Raises:
        UserError: for options that cannot be used, or a folder that holds another run by the same name.
    """
    if table == "5" and len(options["scales"]) != 3:
        raise UserError(f"scales: expected three for table 5, whose rows say how many, got {options['scales']}")
    out = Path(options["out"] or f"runs/ablate-{options['preset']}")
    deadline = None if options["max_minutes"] is None else time.monotonic() + 60 * options["max_minutes"]
    rows = {row: {**options, **ablation.chosen(options["scales"])} for row, ablation in TABLES[table].items()}
    for row, seed in product(rows.values(), seeds):
        TrainConfig(**row, seed=seed).check()
    stored = stored_runs(out)
    runs: dict[str, dict[int, dict]] = {row: {} for row in rows}
    for seed in seeds:
        for number, (row, chosen) in enumerate(rows.items(), start=1):
            config = TrainConfig(**chosen, seed=seed)
            folder = next((path for path, one in stored.items() if _same(one, config)), out / run_name(config))
            print(f"table {table}, seed {seed}, {number} of {len(rows)}: {row}, in {folder}", flush=True)
            summary = carry_on(folder, {**chosen, "seed": seed}, deadline)
            if summary is None:
                print(f"out of time; call the same command again to go on in {out}")
                return False
            runs[row][seed] = summary
        write_table(table, runs, out)
    written = out / f"{stem(table)}.md"
    print(f"\n{written.read_text()}\ntable: {written}   figure: {written.with_suffix('.png')}")
    return True


def stored_runs(out: Path) -> dict[Path, TrainConfig]:
    """Return {folder: configuration} of the runs under `out`, finished ones first."""
    found = {}
    for path in sorted(out.glob("*/config.yaml")):
        try:
            found[path.parent] = read_config(path)
        except UserError:
            continue  # what cannot be read is none of these runs
    return dict(sorted(found.items(), key=lambda item: not RunFolder(item[0]).summary.exists()))


def _same(stored: TrainConfig, wanted: TrainConfig) -> bool:
    """Return whether two runs learn and measure the same."""
    one, other = asdict(stored), asdict(wanted)
    return all(one[name] == other[name] for name in one if name not in FREE_ON_RESUME)


def stem(table: str) -> str:
    """Return what the files of a table are called, without their ending."""
    return f"table{table}" if table in ROMAN else table


def write_table(table: str, runs: dict[str, dict[int, dict]], folder: Path) -> None:
    """Write a table as Markdown, JSON and a figure into `folder`, from runs: {row: {seed: summary}}."""
    record, path = table_record(table, runs), folder / stem(table)
    write_json(path.with_suffix(".json"), record)
    write_text(path.with_suffix(".md"), table_markdown(record))
    save_figure(claims_figure(record["claims"]), path)


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = make_parser(
        "python -m msun_lite.ablate",
        "Train the networks of one of the paper's ablations and write its table.",
        {*FIXED, "out"},
    )
    out_help = "Folder for all runs and tables; runs/ablate-PRESET by default. Nothing is written outside it but data."
    parser.add_argument("--out", type=str | None, default=None, help=out_help)
    parser.add_argument("--table", type=str, required=True, help="4, 5, 6, or open: what the paper leaves open.")
    parser.add_argument("--seeds", type=list[int], default=[0], help="Seeds of the trainings, as 0,1,2.")
    options = parse(parser, argv).as_dict()
    options.pop("config", None)
    table, seeds = options.pop("table"), options.pop("seeds")
    if table not in TABLES:
        raise UserError(f"table: expected one of {', '.join(TABLES)}, got {table!r}")
    if not seeds or len(set(seeds)) < len(seeds):
        raise UserError(f"seeds: expected one or more, each once, got {seeds}")
    refuse_several("ablate")
    ablate(table, seeds, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
