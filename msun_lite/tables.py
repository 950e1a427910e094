"""Readable tables of records, for the terminal and for reports."""

from tabulate import tabulate


def accuracy_table(records: dict[str, dict], style: str = "simple") -> str:
    """Return one row a record in the layout of Table II: parameters, mean FLOPs, accuracy at each size.

    Args:
        records: name of the row -> summary or accuracy record.
        style: a tabulate format; `github` for Markdown.
    """
    sizes = [str(size) for size in next(iter(records.values()))["sizes"]]
    rows = [
        [name, f"{r['params'] / 1e6:.2f}", f"{r['mean_flops'] / 1e9:.3f}", f"{r['mean_top1']:.2f}"]
        + [f"{r['top1'][size]:.1f}" for size in sizes]
        for name, r in records.items()
    ]
    header = ["method", "params M", "GFLOPs", "mean", *sizes]
    return tabulate(rows, header, tablefmt=style, disable_numparse=True, stralign="right")


def subnet_table(record: dict, style: str = "simple") -> str:
    """Return each subnet at each size in the layout of Table IV, then the three routing rules."""
    sizes = [str(size) for size in record["sizes"]]
    rows = [
        [f"f{i} ({scale} px)", f"{sum(row.values()) / len(row):.2f}", *(f"{row[size]:.1f}" for size in sizes)]
        for i, (scale, row) in enumerate(record["per_subnet"].items(), 1)
    ]
    rows += [
        [rule, f"{r['mean_top1']:.2f}", *(f"{r['top1'][size]:.1f}" for size in sizes)]
        for rule, r in record["routings"].items()
    ]
    return tabulate(rows, ["subnet / routing", "mean", *sizes], tablefmt=style, disable_numparse=True, stralign="right")
