"""Table III from the records of finished transfers: settings and methods down, data sets across, the paper's beside."""

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path
from statistics import mean
from typing import TypedDict

from tabulate import tabulate

from msun_lite.results import (
    ARCH_NAMES,
    NAMES,
    describe_difference,
    mean_cell,
    paper,
    read_record,
    signed,
    two_standard_errors,
)
from msun_lite.transfer.options import FREE_ON_RESUME
from msun_lite.transfer.public_sets import SETS
from msun_lite.utils.errors import CheckpointError, UserError

SETTINGS = {"linear": "linear-probe", "finetune": "fine-tuning"}
"""Mode -> setting, its name in Table III."""

PARTS = {"cifar10_10k": "CIFAR-10", "dtd10": "DTD"}
"""Folders with a part of a data set -> its column in Table III."""

PAPER_COLUMNS = tuple(name for name in paper.rows("III")[0] if name not in ("setting", "backbone", "method", "FLOPs"))
"""The data sets, in the paper's order."""

COMPARED = (("msun", "vanilla"), ("msun", "mst"), ("mst", "vanilla"))
"""Methods whose accuracies are compared."""


class Transfer(TypedDict):
    """A finished transfer's summary.json: what all have; one by features says more of these, see `run`."""

    run: str
    """Name of the network that was transferred."""
    weights: str
    """Hash of its weights."""
    method: str
    arch: str
    scales: list[int]
    mode: str
    """`linear` or `finetune`."""
    size: int
    """Of the images, in pixels."""
    routing: str
    scale: int
    """Whose subnet serves them."""
    top1: float
    """Accuracy on the test images, in percent."""
    params: int
    flops: int
    """Of one image, 2 x multiply-adds."""
    epochs: int
    data: dict
    env: dict
    seed: int
    config: dict
    """The options, see `TransferConfig`."""
    command: str


def read_records(paths: Iterable[Path]) -> list[Transfer]:
    """Return the summaries of finished transfers: run folders, or records (.json).

    Raises:
        CheckpointError: if there is none, or one is not finished or no transfer's.
    """
    found = []
    for path in paths:
        file = path if path.suffix == ".json" else path / "summary.json"
        if not file.exists():
            raise CheckpointError(f"{path}: expected a finished transfer, found no summary.json")
        found.append(read_record(file, Transfer))
    if not found:
        raise CheckpointError("expected finished transfers, found none")
    return found


def record_name(record: Transfer) -> str:
    """Return what a record is called: network, data, size, mode, routing where it is not Eq. 6's, seed."""
    routed = record["routing"] if len(record["scales"]) > 1 and record["routing"] != "nearest" else ""
    parts = [record["run"], record["data"]["name"], f"{record['size']}px", record["mode"], routed]
    return "-".join(part for part in (*parts, f"seed{record['seed']}") if part)


def title(record: Transfer) -> str:
    """Return what the data set of a record is called in Table III, or its own name."""
    name = record["data"]["name"]
    return SETS[name].title if name in SETS else name


def column(record: Transfer) -> tuple[str, int]:
    """Return the column of a record: data set and size in pixels."""
    return title(record), record["size"]


def transfer_record(records: Sequence[Transfer]) -> dict:
    """Return Table III as numbers: a row for each mode, network, method and routing.

    Returns:
        `columns`, each a data set and a size; `rows`, each with mode, network, method and routing, its mean FLOPs over
        its columns, the accuracy of every seed and the subnet for each column, and the paper's accuracies by data set;
        and `differences` between methods, in points, one a seed, with the paper's and what may be chance.

    Raises:
        UserError: for two records of one cell and seed, two networks in a row, or seeds that differ in an option.
    """
    columns = sorted({column(record) for record in records}, key=_order)
    rows: dict[tuple, dict] = {}
    networks: dict[tuple, dict] = {}
    cells: dict[tuple, dict] = {}
    for record in records:
        routing = record["routing"] if len(record["scales"]) > 1 else None  # one scale serves all
        key = (record["mode"], record["arch"], record["method"], routing)
        row = rows.setdefault(key, dict(zip(("mode", "arch", "method", "routing"), key, strict=True)) | {"cells": {}})
        about = {name: record[name] for name in ("scale", "flops", "epochs")}
        about |= {"images": record["data"]["val"], "top1": {}}
        cell = row["cells"].setdefault(_key(column(record)), about)
        if record["seed"] in cell["top1"]:
            raise UserError(f"expected one transfer for each cell and seed, got two for: {record['command']}")
        _refuse_another(networks.setdefault(key, record), record, "network in a row", lambda one: one["weights"])
        _refuse_another(cells.setdefault((key, column(record)), record), record, "set of options in a cell", _options)
        cell["top1"][record["seed"]] = record["top1"]
    for row in rows.values():
        row["flops"] = round(mean(cell["flops"] for cell in row["cells"].values()))
        row["paper"] = _paper_row(row, columns)
    ordered = sorted(rows.values(), key=_row_order)
    return {"columns": [list(one) for one in columns], "rows": ordered, "differences": _differences(ordered, columns)}


def _refuse_another(first: Transfer, second: Transfer, what: str, part: Callable[[Transfer], object]) -> None:
    """Raise a `UserError` if a part of two records differs that should not."""
    if part(first) != part(second):
        raise UserError(f"expected one {what}, got those of: {first['command']}; and of: {second['command']}")


def _options(record: Transfer) -> dict:
    """Return the options of a record's transfer but its seed and those that change nothing of it."""
    return {name: value for name, value in record["config"].items() if name not in (*FREE_ON_RESUME, "seed")}


def _key(one: Sequence) -> str:
    return f"{one[0]} {one[1]}"


def _order(one: tuple[str, int]) -> tuple:
    name = PARTS.get(one[0], one[0])
    return (PAPER_COLUMNS.index(name) if name in PAPER_COLUMNS else len(PAPER_COLUMNS), one[0], -one[1])


def _row_order(row: dict) -> tuple:
    places = (list(SETTINGS).index(row["mode"]), list(NAMES).index(row["method"]))
    return (places[0], row["arch"], places[1], row["routing"] or "")


def paper_row(mode: str, arch: str, method: str) -> dict:
    """Return the paper's row: that of the same network if it has it, else of ResNet-50."""
    backbone = paper.BACKBONES.get(arch, paper.BACKBONES["resnet50"])
    (row,) = paper.rows("III", setting=SETTINGS[mode], backbone=backbone, method=NAMES[method])
    return row


def _paper_row(row: dict, columns: Sequence[tuple[str, int]]) -> dict[str, float]:
    """Return the paper's accuracies, of those data sets that are among the columns, or a part of which is."""
    found = paper_row(row["mode"], row["arch"], row["method"])
    named = {name: PARTS.get(name, name) for name, _ in columns}
    return {name: found[theirs] for name, theirs in named.items() if theirs in found}


def _differences(rows: Sequence[dict], columns: Sequence[tuple[str, int]]) -> list[dict]:
    """Return by how much the methods of a setting and network differ in each column, seed by seed.

    Returns:
        {"mode", "data", "size", "one", "other": names of rows, "values": points, one a seed, "paper": points or None,
        "chance": two standard errors of an accuracy on the test images}. More seeds do not make that less: they share
        the images, and the network.
    """
    found = []
    for (name, size), first, second in product(columns, rows, rows):
        cells = [row["cells"].get(_key((name, size))) for row in (first, second)]
        alike = all(first[same] == second[same] for same in ("mode", "arch"))
        if (first["method"], second["method"]) not in COMPARED or not alike or None in cells:
            continue
        one, other = (cell["top1"] for cell in cells)
        theirs = [row["paper"].get(name) for row in (first, second)]
        beside = None if None in theirs or not _is_own_size(name, size) else round(theirs[0] - theirs[1], 2)
        if values := [round(one[seed] - other[seed], 2) for seed in one if seed in other]:
            about = {"mode": first["mode"], "data": name, "size": size, "one": _name(first), "other": _name(second)}
            near = two_standard_errors(cells[0]["images"], mean([*one.values(), *other.values()]))
            found.append({**about, "values": values, "paper": beside, "chance": round(near, 2)})
    return found


def _sentence(difference: dict) -> str:
    where = f"{SETTINGS[difference['mode']]}, {difference['data']} at {difference['size']} px"
    beside = "" if difference["paper"] is None else f" (paper {signed(difference['paper'], 2)})"
    found = describe_difference(difference["values"], difference["chance"])
    return f"{where}: {difference['one']} over {difference['other']}{beside}: {found}"


def _name(row: dict) -> str:
    """Return what the method of a row is called, with its routing if that is not Eq. 6."""
    routed = f", {row['routing']}" if row["routing"] not in (None, "nearest") else ""
    return f"{NAMES[row['method']]}{routed}"


def _is_own_size(name: str, size: int) -> bool:
    """Return whether a column has its data set's own size, at which the paper measured."""
    return size in (about.size for about in SETS.values() if about.title == PARTS.get(name, name))


def transfer_markdown(record: dict) -> str:
    """Return the table as Markdown with a sentence on each difference, and on which subnet served."""
    served = [
        f"{_name(row)} at {size} px by {row['cells'][_key((name, size))]['scale']} px"
        for row in record["rows"]
        for name, size in record["columns"]
        if _key((name, size)) in row["cells"] and row["method"] == "msun"
    ]
    about = (
        "Top-1 accuracy in percent, mean and standard deviation over seeds; GFLOPs are the mean over a row's columns. "
    )
    about += "Seeds draw the classifier, the order of the images and their crops; the transferred network is the same. "
    about += f"Subnets: {'; '.join(dict.fromkeys(served))}." if served else ""
    sentences = "\n".join(f"* {_sentence(difference)}" for difference in record["differences"])
    if sentences:
        sentences += "\n\nWhat is no more than two standard errors of an accuracy on the test images may be chance."
    return "\n\n".join(part for part in (about.strip(), transfer_rows(record), sentences) if part) + "\n"


def transfer_rows(record: dict) -> str:
    """Return the rows as a table, each of the paper's under ours."""
    columns = [tuple(one) for one in record["columns"]]
    lines = []
    for row in record["rows"]:
        arch = ARCH_NAMES.get(row["arch"], row["arch"])
        found = [row["cells"].get(_key(one)) for one in columns]
        cells = ["" if one is None else mean_cell(list(one["top1"].values())) for one in found]
        lines.append([SETTINGS[row["mode"]], arch, _name(row), f"{row['flops'] / 1e9:.3f}", *cells])
        if row["paper"] and row["routing"] in (None, "nearest"):
            backbone = paper.BACKBONES.get(row["arch"], paper.BACKBONES["resnet50"])
            theirs = [
                f"{row['paper'][name]:.2f}" if name in row["paper"] and _is_own_size(name, size) else ""
                for name, size in columns
            ]
            spent = f"{paper_row(row['mode'], row['arch'], row['method'])['FLOPs'] / 1e9:.1f}, its unit"
            lines.append(["", f"paper, {backbone}", NAMES[row["method"]], spent, *theirs])
    heads = ["setting", "network", "method", "GFLOPs", *(f"{name}, {size} px" for name, size in columns)]
    return tabulate(lines, heads, tablefmt="github", disable_numparse=True)
