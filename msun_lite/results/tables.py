"""Readable tables of records, for the terminal and for reports."""

from tabulate import tabulate

from msun_lite.results.records import Accuracy, Means
from msun_lite.results.words import seed_count
from msun_lite.utils.errors import printable


def accuracy_table(records: dict[str, Accuracy | Means], style: str = "simple") -> str:
    """Return one row a record in the layout of Table II: parameters, mean FLOPs, accuracy at each size.

    Args:
        records: name of the row -> summary, accuracy record, or the mean of several (`average_seeds`), which gets a
            second row with the standard deviation over the seeds.
        style: a tabulate format; `github` for Markdown.
    """
    sizes = [str(size) for size in next(iter(records.values()))["sizes"]]
    rows = []
    for name, r in records.items():
        costs = [f"{r['params'] / 1e6:.2f}", f"{r['mean_flops'] / 1e9:.3f}"]
        rows.append([name, *costs, f"{r['mean_top1']:.2f}", *(f"{r['top1'][size]:.1f}" for size in sizes)])
        if spread := r.get("spread"):
            deviations = [f"{spread['mean']:.2f}", *(f"{spread[size]:.1f}" for size in sizes)]
            rows.append([f"± over {seed_count(r['seeds'])}", "", "", *deviations])
    header = ["method", "params M", "GFLOPs", "mean", *sizes]
    return styled_table(header, rows, style)


def subnet_table(record: Accuracy, style: str = "simple") -> str:
    """Return each subnet at each size in the layout of Table IV, then the routing rules."""
    sizes = [str(size) for size in record["sizes"]]
    rows = [
        [f"f{i} ({scale} px)", f"{sum(row.values()) / len(row):.2f}", *(f"{row[size]:.1f}" for size in sizes)]
        for i, (scale, row) in enumerate(record["per_subnet"].items(), 1)
    ]
    rows += [
        [rule, f"{r['mean_top1']:.2f}", *(f"{r['top1'][size]:.1f}" for size in sizes)]
        for rule, r in record["routings"].items()
    ]
    return styled_table(["subnet / routing", "mean", *sizes], rows, style)


def styled_table(header: list[str], rows: list[list[str]], style: str) -> str:
    """Return a table in a style of `tabulate`, its cells as a terminal can show them."""
    rows = [[printable(cell) for cell in row] for row in rows]
    return tabulate(rows, header, tablefmt=style, disable_numparse=True, stralign="right")
