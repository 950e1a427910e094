"""Training the networks of a table of ablations, and writing the table."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain, product
from pathlib import Path

from msun_lite.ablate.ablations import ROMAN, Ablation, as_tested, one_per_size, run_name
from msun_lite.ablate.compared import ALL_TABLES, COMPARISONS
from msun_lite.ablate.tables import table_markdown, table_record
from msun_lite.config import FREE_ON_RESUME, TrainConfig, as_word, read_config
from msun_lite.evaluate import evaluate
from msun_lite.networks import MSUN
from msun_lite.results import (
    Measurement,
    RunFolder,
    Summary,
    claims_figure,
    read_measurement,
    read_summary,
    rivals_figure,
    save_figure,
)
from msun_lite.train import train_or_resume
from msun_lite.utils.errors import UserError
from msun_lite.utils.files import write_json, write_text
from msun_lite.utils.progress import note, show


def ablate(table: str, seeds: Sequence[int], options: dict) -> bool:
    """Train what a table needs with the same `options`, and write the table; return whether it is complete.

    Args:
        table: a key of `ALL_TABLES`.
        seeds: of the trainings, each network once by each.
        options: options of `TrainConfig` but those in `ablate_options.ABLATED`; `out` is the folder for all.

    Raises:
        UserError: for options that cannot be used, or a folder that holds another run by the same name.
    """
    if table == "5" and len(options["scales"]) != 3:
        raise UserError(f"scales: expected three for table 5, whose rows say how many, got {options['scales']}")
    if table == "5" and options["split"] is not None:
        raise UserError(f"split: expected none for table 5, whose rows say how many stages, got {options['split']!r}")
    out = Path(options["out"] or f"runs/ablate-{Path(options['preset']).stem}")
    deadline = None if options["max_minutes"] is None else time.monotonic() + 60 * options["max_minutes"]
    rows = {
        row: [{**options, **chosen} for chosen in ablation.networks(options["scales"], options["sizes"])]
        for row, ablation in ALL_TABLES[table].items()
    }
    for chosen, seed in product(chain.from_iterable(rows.values()), seeds):
        TrainConfig(**chosen, seed=seed).check()
    stored = stored_runs(out)
    runs: dict[str, dict[int, Summary]] = {row: {} for row in rows}
    for seed in seeds:
        for number, (row, networks) in enumerate(rows.items(), start=1):
            found = []
            for chosen in networks:
                config = TrainConfig(**chosen, seed=seed)
                folder = next((path for path, one in stored.items() if _same(one, config)), out / run_name(config))
                note(f"table {table}, seed {seed}, {number} of {len(rows)}: {row}, in {folder}")
                summary = train_or_resume(folder, {**chosen, "seed": seed}, deadline)
                if summary is None:
                    note(f"stopped; call the same command again to go on in {out}")
                    return False
                found.append(as_tested(summary, _measured(folder, ALL_TABLES[table][row], config)))
            runs[row][seed] = one_per_size(found)
        write_table(table, runs, out)
    written = out / f"{stem(table)}.md"
    show(f"\n{written.read_text(encoding='utf-8')}\ntable: {written}   figure: {written.with_suffix('.png')}")
    return True


def _measured(folder: Path, ablation: Ablation, config: TrainConfig) -> Measurement | Summary:
    """Return what was measured of a finished run for a row, now if it has not been."""
    path = folder / ablation.record
    if not path.exists():
        model = MSUN.from_pretrained(folder)
        words = [word for name, value in ablation.tested.items() for word in (f"--{name}", as_word(value))]
        asked = {name: value for name, value in ablation.tested.items() if name == "averages"}
        for name in ablation.tested.keys() - asked:
            setattr(model, name, ablation.tested[name])
        command = shlex.join(["python", "-m", "msun_lite.evaluate", str(folder), *words])
        write_json(path, {"run": folder.name, **evaluate(model, config, config.routing, **asked), "command": command})
    return read_measurement(path) if ablation.tested else read_summary(path)


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


def write_table(table: str, runs: dict[str, dict[int, Summary]], folder: Path) -> None:
    """Write a table as Markdown, JSON and a figure into `folder`, from runs: {row: {seed: summary}}."""
    record, path = table_record(table, runs), folder / stem(table)
    write_json(path.with_suffix(".json"), record)
    write_text(path.with_suffix(".md"), table_markdown(record))
    save_figure(claims_figure(record["claims"]), path)
    if table in COMPARISONS:
        save_figure(rivals_figure(record["rows"]), path.with_name(f"{path.name}-cost"))
