"""The tables of `ablate` from the records of runs: what was measured, the paper's numbers under it, and the claims."""

from collections.abc import Sequence
from statistics import mean
from typing import NotRequired, TypedDict

from tabulate import tabulate

from msun_lite.results import (
    ARCH_NAMES,
    DATA_NAMES,
    Claim,
    Summary,
    judge_claims,
    mean_cell,
    paper,
    two_standard_errors,
)
from msun_lite.utils.errors import UserError

Summaries = dict[int, Summary]
"""Seed -> summary.json of the run."""


class Row(TypedDict):
    """A network in a table."""

    row: str
    """What it is called."""
    seeds: list[int]
    scales: list[int]
    params: int
    values: dict[str, list[float]]
    """Column -> accuracy of every seed in percent: `mean`, and the sizes shown."""
    paper: dict[str, float]
    """Column -> the paper's number, where it has one."""
    mean_flops: NotRequired[int]


class Table(TypedDict):
    """A table as numbers."""

    table: str
    about: dict
    """What all runs have in common, and the seeds."""
    rows: list[Row]
    claims: list[dict]
    """See `judge_claims`."""


TITLES = {
    "4": "Table IV: each subnet at every size",
    "5": "Table V: stages in the subnets, and how many subnets",
    "6": "Table VI: private subnets, shared network, constraint",
    "open": "What the paper leaves open",
    "beyond": "Beyond the paper",
    "rivals": "MSUN and its rivals",
    "backbones": "The methods on several small networks",
    "controls": "No BatchNorm, and a network for each size",
}

BASE = "all parts"
"""The row that the others of the open questions, and those beyond the paper, are compared with."""

BEST = "MSUN, native input, trained as lite-plus, averages of the size"
"""The row that the rivals are compared with."""

OF_SIZE = ", averages of the size"
"""How the name of a row ends whose network has BatchNorm averages of each size."""

BACKBONES = {
    "ResNet-lite": "resnet_lite",
    "DenseNet-lite": "densenet_lite",
    "VGG-lite": "vgg_lite",
    "MobileNet-lite": "mobilenet_lite",
}
"""The four small networks at one cost, as the paper has four."""

ONE_A_SIZE = "one Vanilla a size"
"""The row of the paper's upper bound (Fig. 6): each image size has a network that was trained at it alone."""

PAPER_SIZES = [32, 64, 96, 128, 160, 192, 224]
"""The sizes of Tables IV and V."""

CLAIMS = {
    "5": (
        ("the first stage in the subnets gains", "gain", "B1-S3", "B0-S3"),
        ("a second stage adds little", "little", "B2-S3", "B1-S3"),
        ("a third stage adds little to two", "little", "B3-S3", "B2-S3"),
        ("the third subnet gains", "gain", "B1-S3", "B1-S2"),
        ("a fourth subnet adds little", "little", "B1-S4", "B1-S3"),
        ("a fourth and a fifth subnet add little", "little", "B1-S5", "B1-S3"),
    ),
    "6": (
        ("private lower layers gain over MST", "gain", "SNet+UNet", "MST"),
        ("the constraint gains where private layers meet shared ones", "gain", "SNet+UNet+SI", "SNet+UNet"),
        ("the constraint alone adds little to MST", "little", "MST+SI", "MST"),
        ("the constraint loses where nothing is shared", "loss", "SNet+SI", "SNet"),
        ("sharing the deeper layers loses, without the constraint", "loss", "SNet+UNet", "SNet"),
        ("sharing the deeper layers loses, with the constraint", "loss", "SNet+UNet+SI", "SNet+SI"),
        ("all parts together gain over MST", "gain", "SNet+UNet+SI", "MST"),
    ),
    "controls": (
        ("Vanilla holds better without BatchNorm", "gain", "Vanilla, GroupNorm", "Vanilla"),
        ("GroupNorm does what averages of the size do", "little", "Vanilla, GroupNorm", f"Vanilla{OF_SIZE}"),
        ("the same of MST", "little", "MST, GroupNorm", f"MST{OF_SIZE}"),
        ("a network a size over Vanilla with averages of the size", None, ONE_A_SIZE, f"Vanilla{OF_SIZE}"),
        ("a network a size over MST with averages of the size", None, ONE_A_SIZE, f"MST{OF_SIZE}"),
        ("a network a size over MSUN with averages of the size", None, ONE_A_SIZE, f"MSUN{OF_SIZE}"),
    ),
}
"""Table -> (what the paper says or its numbers show, see `Claim.expected`, the row, the row it is compared with)."""

COMMON = ("arch", "sizes", "epochs", "data")
"""What all runs of a table must have in common."""

DIFFERENT = {"rivals": "epochs", "backbones": "arch", "controls": "arch"}
"""Table -> what of these its runs may differ in."""

SEVERAL_ARCHS = {"backbones": "several small networks", "controls": "ResNet-lite"}
"""Table of several architectures -> what they are called together."""


def table_record(table: str, runs: dict[str, Summaries]) -> Table:
    """Return a table as numbers: rows with the accuracy of every seed, the paper's beside them, and the claims judged.

    Args:
        table: a key of `TITLES`.
        runs: row -> its runs, in the table's order; one or more.

    Raises:
        UserError: if the runs differ in what all should have in common.
    """
    summaries = [summary for by_seed in runs.values() for summary in by_seed.values()]
    for name in (name for name in COMMON if name != DIFFERENT.get(table)):
        if other := [one[name] for one in summaries if one[name] != summaries[0][name]]:
            raise UserError(
                f"{name}: expected the same in all runs of table {table}, got {summaries[0][name]}, {other[0]}"
            )
    seeds = sorted({seed for by_seed in runs.values() for seed in by_seed})
    about = {name: summaries[0][name] for name in COMMON} | {"seeds": seeds}
    if table == "rivals":
        epochs = sorted({summary["epochs"] for summary in summaries})
        about["epochs"] = " to ".join(map(str, dict.fromkeys([epochs[0], epochs[-1]])))
    about["arch"] = SEVERAL_ARCHS.get(table, about["arch"])
    made = {"4": _table_4, "5": _table_5, "6": _table_6, "open": _table_open, "beyond": _table_beyond}
    made |= {"rivals": _table_rivals, "backbones": _table_backbones, "controls": _table_controls}
    rows, claims = made[table](runs)
    return {"table": table, "about": about, "rows": rows, "claims": claims}


def paper_sizes(sizes: Sequence[int]) -> dict[int, int]:
    """Return {size: the paper's} for the sizes that are the same part of the largest as those of Tables IV and V.

    There are none unless all seven are among `sizes`.
    """
    parts = {size: size * PAPER_SIZES[-1] / sizes[-1] for size in sizes}
    found = {size: int(part) for size, part in parts.items() if part in PAPER_SIZES}
    return found if len(found) == len(PAPER_SIZES) else {}


def _table_4(runs: dict[str, Summaries]) -> tuple[list[Row], list[dict]]:
    (summaries,) = runs.values()
    first = next(iter(summaries.values()))
    scales, beside = first["scales"], paper_sizes(first["sizes"])
    shown, papers = list(beside) or first["sizes"], {}
    if [beside.get(scale) for scale in scales] == paper.SCALES:
        papers = {scale: paper.rows("IV", backbone="ResNet50", subnet_scale=beside[scale])[0] for scale in scales}
    rows, claims = [], []
    for number, scale in enumerate(scales, start=1):
        columns = {str(size): _values(summaries, "per_subnet", str(scale), str(size)) for size in shown}
        theirs = {str(size): papers[scale][str(beside[size])] for size in shown} if papers else {}
        rows.append(_row(f"f{number} ({scale} px)", summaries, _means_before(columns), _mean_before(theirs)))
        leads = [_lead(one["per_subnet"], str(scale), str(scale)) for one in summaries.values()]
        lead = _lead(papers, scale, str(beside[scale])) if papers else None
        claims.append(Claim(f"at its scale, {scale} px, f{number} is the best subnet", "gain", leads, lead))
    return rows, judge_claims(claims, _least(runs))


def _least(runs: dict[str, Summaries]) -> float:
    """Return two standard errors of an accuracy on the test images of runs, at their mean accuracy."""
    summaries = [summary for by_seed in runs.values() for summary in by_seed.values()]
    return two_standard_errors(summaries[0]["data"]["val"], mean(one["mean_top1"] for one in summaries))


def _lead(per_subnet: dict, own: str | int, size: str) -> float:
    """Return by how much a subnet is ahead of the best other one at a size, in points."""
    return per_subnet[own][size] - max(row[size] for other, row in per_subnet.items() if other != own)


def _table_5(runs: dict[str, Summaries]) -> tuple[list[Row], list[dict]]:
    rows = []
    for name, summaries in runs.items():
        sizes = next(iter(summaries.values()))["sizes"]
        beside = paper_sizes(sizes)
        columns = {str(size): _values(summaries, "top1", str(size)) for size in beside or sizes}
        (found,) = paper.rows("V", config=f"Res50-{name}")
        slip = name == "B1-S2"  # these accuracies are another network's, see paper.json
        theirs = {} if slip else {str(size): found[str(own)] for size, own in beside.items()}
        papers = {"params M": found["params_M"], **_mean_before(theirs)}
        rows.append(_row(name, summaries, _means_before(columns), papers))
    return rows, judge_claims(_claims(rows, CLAIMS["5"]), _least(runs))


def _table_6(runs: dict[str, Summaries]) -> tuple[list[Row], list[dict]]:
    rows = []
    for name, summaries in runs.items():
        (found,) = paper.rows("VI", method=name)
        papers = {"params M": found["params_M"], "mean": found["avg_accuracy"]}
        rows.append(_row(name, summaries, {"mean": _values(summaries, "mean_top1")}, papers))
    return rows, judge_claims(_claims(rows, CLAIMS["6"]), _least(runs))


def _table_open(runs: dict[str, Summaries]) -> tuple[list[Row], list[dict]]:
    rows = [_ends(name, summaries) for name, summaries in runs.items()]
    if BASE not in runs:
        return rows, []
    summaries = runs[BASE]
    used = next(iter(summaries.values()))["routing"]
    rules = set.intersection(*(set(one["routings"]) for one in summaries.values())) - {used}
    routed = [_ends(f"{BASE}, routed by {rule}", summaries, "routings", rule) for rule in sorted(rules)]
    groups = [[row for row in routed if "oracle" not in row["row"]], rows[1:]]  # the oracle is ahead by definition
    rows[1:1] = routed
    comparisons = [[(row["row"], None, row["row"], BASE) for row in group] for group in groups]
    return rows, [found for part in comparisons for found in judge_claims(_claims(rows, part), _least(runs))]


def _table_beyond(runs: dict[str, Summaries]) -> tuple[list[Row], list[dict]]:
    rows = [_ends(name, summaries) for name, summaries in runs.items()]
    return rows, judge_claims(_claims(rows, [(row["row"], None, row["row"], BASE) for row in rows[1:]]), _least(runs))


def _table_rivals(runs: dict[str, Summaries]) -> tuple[list[Row], list[dict]]:
    rows = sorted(_whole_rows(runs), key=lambda row: -mean(row["values"]["mean"]))
    others = [(row["row"], None, row["row"], BEST) for row in rows if row["row"] != BEST]
    return rows, judge_claims(_claims(rows, others), _least(runs))


def _table_backbones(runs: dict[str, Summaries]) -> tuple[list[Row], list[dict]]:
    compared = []
    for words, expected in (("", "gain"), (OF_SIZE, None)):
        for backbone in BACKBONES:
            for one, other in (("MST", "Vanilla"), ("MSUN", "MST")):
                text = f"{one} over {other}, {backbone}{words}"
                compared.append((text, expected, f"{one}, {backbone}{words}", f"{other}, {backbone}{words}"))
    rows = _whole_rows(runs)
    return rows, judge_claims(_claims(rows, compared), _least(runs))


def _table_controls(runs: dict[str, Summaries]) -> tuple[list[Row], list[dict]]:
    rows = _whole_rows(runs)
    return rows, judge_claims(_claims(rows, CLAIMS["controls"]), _least(runs))


def _whole_rows(runs: dict[str, Summaries]) -> list[Row]:
    """Return rows with the mean over all sizes, every size, and the cost."""
    rows = []
    for name, summaries in runs.items():
        first = next(iter(summaries.values()))
        columns = {str(size): _values(summaries, "top1", str(size)) for size in first["sizes"]}
        row = _row(name, summaries, {"mean": _values(summaries, "mean_top1"), **columns}, {})
        rows.append({**row, "mean_flops": first["mean_flops"]})
    return rows


def _ends(name: str, summaries: Summaries, *path: str) -> Row:
    """Return a row with the mean over all sizes, and the smallest and the largest of them."""
    sizes = next(iter(summaries.values()))["sizes"]
    columns = {str(size): _values(summaries, *path, "top1", str(size)) for size in (sizes[0], sizes[-1])}
    return _row(name, summaries, {"mean": _values(summaries, *path, "mean_top1"), **columns}, {})


def _values(summaries: Summaries, *path: str) -> list[float]:
    """Return what stands under `path` in the summary of every seed."""
    found = []
    for value in summaries.values():
        for key in path:
            value = value[key]
        found.append(value)
    return found


def _means_before(columns: dict[str, list[float]]) -> dict[str, list[float]]:
    """Return the columns after their mean, seed by seed."""
    return {"mean": [round(mean(seed), 3) for seed in zip(*columns.values(), strict=True)], **columns}


def _mean_before(columns: dict[str, float]) -> dict[str, float]:
    """Return the columns after their mean, nothing for none."""
    return {"mean": round(mean(columns.values()), 3), **columns} if columns else {}


def _row(name: str, summaries: Summaries, values: dict[str, list[float]], papers: dict[str, float]) -> Row:
    """Return a row of a record: its runs, {column: accuracy of every seed}, and {column: the paper's number}."""
    first = next(iter(summaries.values()))
    runs = {"seeds": list(summaries), "scales": first["scales"], "params": first["params"]}
    return {"row": name, **runs, "values": values, "paper": papers}


def _claims(rows: list[Row], comparisons: Sequence[tuple[str, str | None, str, str]]) -> list[Claim]:
    """Return the claims about the means of two rows that both have runs, by the seeds that both have."""
    named, found = {row["row"]: row for row in rows}, []
    for text, expected, *names in comparisons:
        if not all(name in named for name in names):
            continue
        first, second = (dict(zip(named[name]["seeds"], named[name]["values"]["mean"], strict=True)) for name in names)
        papers = [named[name]["paper"].get("mean") for name in names]
        differences = [first[seed] - second[seed] for seed in first if seed in second]
        if differences:
            theirs = None if None in papers else papers[0] - papers[1]
            found.append(Claim(text, expected, differences, theirs, tuple(names)))
    return found


def about_line(record: Table) -> str:
    """Return what a table was measured on: network, sizes, data, epochs and seeds."""
    about = record["about"]
    arch, data = about["arch"], about["data"]["name"]
    arch, data = ARCH_NAMES.get(arch, arch), DATA_NAMES.get(data, data)
    span, seeds = f"{about['sizes'][0]} to {about['sizes'][-1]} px", ", ".join(map(str, about["seeds"]))
    return f"{arch}, {span}, {data}, {about['epochs']} epochs, {'seeds' if len(about['seeds']) > 1 else 'seed'} {seeds}"


def table_markdown(record: Table, heading: bool = True) -> str:
    """Return a table as Markdown: the paper's rows under ours, and a sentence on each claim."""
    notes = [f"{about_line(record)}. Top-1 accuracy in percent.", _mean_note(record)]
    if any(len(row["seeds"]) > 1 for row in record["rows"]):
        notes.append("± is the standard deviation over seeds.")
    if any(row["paper"] for row in record["rows"]):
        notes.append("The paper's rows are those of ResNet-50 on ImageNet.")
    parts = [f"# {TITLES[record['table']]}"] if heading else []
    parts += [" ".join(notes), rows_markdown(record), "\n".join(f"* {claim['sentence']}" for claim in record["claims"])]
    if any(claim["half_interval"] is not None for claim in record["claims"]):
        parts.append(
            "Differences are taken seed by seed. Their ± is half a 95 % interval, from the spread over seeds of all "
            "differences of a kind together. Two standard errors of an accuracy on the "
            f"{record['about']['data']['val']:,} test images are {record['claims'][0]['least']:.1f} points."
        )
    return "\n\n".join(part for part in parts if part) + "\n"


def _mean_note(record: Table) -> str:
    """Return of what the column `mean` is the mean."""
    if record["table"] in ("4", "5") and paper_sizes(record["about"]["sizes"]):
        return "The mean is over the sizes shown; in brackets the paper's sizes."
    return f"The mean is over {len(record['about']['sizes'])} sizes."


def rows_markdown(record: Table, sizes: Sequence[int] | None = None) -> str:
    """Return the rows as a table, the paper's numbers under ours.

    Args:
        record: what `table_record` gives.
        sizes: those to show; all that the rows have by default.
    """
    beside = paper_sizes(record["about"]["sizes"]) if record["table"] in ("4", "5") else {}
    columns = [
        column for column in record["rows"][0]["values"] if sizes is None or column == "mean" or int(column) in sizes
    ]
    heads = [column if column == "mean" else f"{column} px" for column in columns]
    if beside:
        heads = ["mean", *(f"{size} ({own}) px" for size, own in beside.items())]
    lines = []
    for row in record["rows"]:
        cells = [mean_cell(row["values"][column]) for column in columns]
        costs = [f"{row['mean_flops'] / 1e9:.3f}"] if "mean_flops" in row else []
        lines.append([row["row"], f"{row['params'] / 1e6:.2f}", *costs, *cells])
        if row["paper"]:
            lines.append(["paper", *(_printed(row["paper"], column) for column in ("params M", *columns))])
    costs = ["GFLOPs"] if "mean_flops" in record["rows"][0] else []
    header = ["subnet" if record["table"] == "4" else "network", "params M", *costs, *heads]
    sides = ["left", *["right"] * (len(header) - 1)]
    return tabulate(lines, header, tablefmt="github", disable_numparse=True, colalign=sides)


def _printed(papers: dict[str, float], column: str) -> str:
    """Return the paper's number in a column, with the digits that its tables have; nothing if there is none."""
    return f"{papers[column]:.{2 if column == 'mean' else 1}f}" if column in papers else ""
