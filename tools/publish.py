"""Ship a finished run: its weights into the package, its record into the book.

    python tools/publish.py runs/lite/msun --name lite-msun --record book/results/lite/msun-seed0
    python tools/publish.py runs/adapt-lite0-seed0 --name lite0-adapted --record book/results/lite0/adapted-seed0
    python tools/publish.py runs/reproduce-quick/msun --record book/results/quick/msun-seed0
    python tools/publish.py --analysis runs/lite-msun --record book/results/lite/msun-seed0
    python tools/publish.py --ablations runs/ablate --record book/results/ablate
    python tools/publish.py --transfers runs/transfer --record book/results/transfer

Shipped convolution and linear weights are rounded to half precision, which halves the download. The record then
holds the accuracy of exactly these weights, measured here once more, and says by how much the rounding moved it.

An analysis joins the record of the run whose shipped weights it is about: numbers and arrays, never its pictures, which
show photographs. Of a folder of ablations every finished run gets a record, called what its options say, with those of
other tests of it; of a folder of transfers every finished one a file, its summary.
"""

import hashlib
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file, save

from msun_lite.ablate.ablations import run_name
from msun_lite.ablate.compared import ALL_TESTED
from msun_lite.ablate.run import stored_runs
from msun_lite.analyse.record import Analysis
from msun_lite.config import TrainConfig, read_config
from msun_lite.evaluate.accuracy import evaluate
from msun_lite.evaluate.subjects import config_of, find_model
from msun_lite.networks.msun import MSUN, fingerprint
from msun_lite.networks.pretrained import SHIPPED
from msun_lite.results.records import Summary, read_summary
from msun_lite.results.run_folder import RunFolder
from msun_lite.transfer.table import read_records, record_name
from msun_lite.utils.cli import OneLineParser, parse
from msun_lite.utils.errors import CheckpointError, UserError, one_line_errors
from msun_lite.utils.files import atomic_write, write_json


def ship(run: RunFolder, target: Path) -> None:
    """Copy a run's model to `target`, its weight matrices in half precision, its statistics as they are.

    Of an adapted network only what differs from the CNN that it was made of, all in half precision.
    """
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(run.config, target)
    if is_adapted(read_summary(run.summary)):
        MSUN.from_pretrained(run.path).save_difference(target)
        return
    state = load_file(run.weights)
    halved = {name: tensor.half() if tensor.ndim >= 2 else tensor for name, tensor in state.items()}
    with atomic_write(target / "model.safetensors") as file:
        file.write(save(halved))
    shutil.copy(run.path / "model.json", target)


def is_adapted(summary: Summary) -> bool:
    """Return whether a run made a multi-scale network of a plain one, by `adapt`."""
    return "adapted" in summary


def measured_as(run: RunFolder, summary: Summary) -> TrainConfig:
    """Return the options that say how a run's network was measured."""
    if not is_adapted(summary):
        return read_config(run.config)
    found = find_model(run.path)
    return config_of(found, str(run.path), data=summary["config"]["data"], sizes=summary["sizes"])


def shipped_summary(summary: Summary, target: Path, config: TrainConfig) -> Summary:
    """Return the run's summary with the accuracy of the shipped weights in place of the run's own."""
    measured = evaluate(MSUN.from_pretrained(target), config, config.routing)
    names = ("top1", "mean_top1", "per_subnet", "routings")
    moved = max(abs(measured["top1"][size] - value) for size, value in summary["top1"].items())
    weights = (target / "model.safetensors").read_bytes()
    shipped = {
        "name": target.name,
        "bytes": len(weights),
        "sha256": hashlib.sha256(weights).hexdigest(),
        "largest_change_of_top1_by_rounding": round(moved, 2),
    }
    return {**summary, **{name: measured[name] for name in names}, "shipped": shipped}


def add_analysis(analysis: Analysis, record: Path) -> None:
    """Copy an analysis to the record of the run whose shipped weights it is about."""
    about = analysis.read()
    if not about:
        raise CheckpointError(f"{analysis.json}: no such analysis")
    name = read_summary(record / "summary.json")["shipped"]["name"]
    if about["weights"] != fingerprint(MSUN.from_pretrained(SHIPPED / name)):
        raise CheckpointError(f"{analysis.json}: expected the analysis of {name}, got that of other weights")
    for path in (analysis.json, analysis.npz):
        shutil.copy(path, record)


def add_run(run: RunFolder, record: Path, summary: Summary) -> None:
    """Make a run's record."""
    record.mkdir(parents=True, exist_ok=True)
    write_json(record / "summary.json", summary)
    shutil.copy(run.metrics, record)


def add_ablations(folder: Path, records: Path) -> None:
    """Make a record of every finished run in a folder of ablations."""
    runs = {path: config for path, config in stored_runs(folder).items() if RunFolder(path).summary.exists()}
    if not runs:
        raise CheckpointError(f"{folder}: expected finished runs, found none")
    names = {path: run_name(config) for path, config in runs.items()}
    for path, name in names.items():
        if twins := [str(other) for other in names if other != path and names[other] == name]:
            raise UserError(f"{path}: expected runs that differ in ablated options or seed, got the like of {twins[0]}")
    for path, name in names.items():
        run = RunFolder(path)
        add_run(run, records / name, read_summary(run.summary))
        for tested in ALL_TESTED & {found.name for found in path.iterdir()}:
            shutil.copy(path / tested, records / name)


def add_transfers(folder: Path, records: Path) -> None:
    """Make a record of every finished transfer in a folder."""
    found: dict[str, dict] = {}
    for path in sorted(folder.glob("*/summary.json")):
        (record,) = read_records([path])
        name = record_name(record)
        if name in found:
            raise UserError(f"{path}: expected runs that differ in network, data, size, mode or seed, got two {name}")
        found[name] = record
    if not found:
        raise CheckpointError(f"{folder}: expected finished transfers, found none")
    records.mkdir(parents=True, exist_ok=True)
    for name, record in found.items():
        write_json(records / f"{name}.json", record)


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = OneLineParser(description="Ship a finished run: weights into the package, record into the book.")
    parser.add_argument("run", type=str | None, nargs="?", default=None, help="Folder of a finished run.")
    parser.add_argument("--analysis", type=str | None, default=None, help="Folder with an analysis.json, in its place.")
    parser.add_argument("--ablations", type=str | None, default=None, help="Folder of `ablate`, in its place.")
    parser.add_argument("--transfers", type=str | None, default=None, help="Folder of transfers, in its place.")
    parser.add_argument("--record", type=str, required=True, help="Folder for summary.json and metrics.jsonl.")
    parser.add_argument("--name", type=str | None, default=None, help="Ship the weights under this name.")
    parser.add_argument("--data_root", type=str, default="data", help="Folder of downloaded data sets.")
    options = parse(parser, argv)
    given = (options.run, options.analysis, options.ablations, options.transfers)
    if sum(one is not None for one in given) != 1:
        raise UserError("expected a finished run, or --analysis, --ablations or --transfers in its place")
    record = Path(options.record)
    if options.ablations is not None:
        add_ablations(Path(options.ablations), record)
        return 0
    if options.transfers is not None:
        add_transfers(Path(options.transfers), record)
        return 0
    if options.analysis is not None:
        add_analysis(Analysis(Path(options.analysis)), record)
        return 0
    run = RunFolder(options.run)
    if not run.summary.exists():
        raise CheckpointError(f"{run.path}: expected a finished run, found no summary.json")
    summary = read_summary(run.summary)
    if options.name is not None:
        ship(run, SHIPPED / options.name)
        config = replace(measured_as(run, summary), data_root=options.data_root)
        summary = shipped_summary(summary, SHIPPED / options.name, config)
        write_json(RunFolder(SHIPPED / options.name).summary, summary)
        print(f"{options.name}: {summary['shipped']}")
    add_run(run, record, summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
