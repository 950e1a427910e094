"""Readable tables of records, for the terminal and for reports."""

from collections.abc import Sequence

from tabulate import tabulate

from msun_lite.errors import shown
from msun_lite.seeds import some_seeds

RESAMPLING_NAMES = {
    "antialiased": "bilinear, antialiased",
    "bilinear": "bilinear (the paper's)",
    "bicubic": "bicubic, antialiased",
    "nearest": "nearest",
    "area": "area",
    "jpeg": "antialiased, then JPEG",
}
"""How a way of making images small is called in figures and tables."""


def accuracy_table(records: dict[str, dict], style: str = "simple") -> str:
    """Return one row a record in the layout of Table II: parameters, mean FLOPs, accuracy at each size.

    Args:
        records: name of the row -> summary, accuracy record, or the mean of several (`seeds.averaged`), which gets a
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
            rows.append([f"± over {some_seeds(r['seeds'])}", "", "", *deviations])
    header = ["method", "params M", "GFLOPs", "mean", *sizes]
    return _table(header, rows, style)


def subnet_table(record: dict, style: str = "simple") -> str:
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
    return _table(["subnet / routing", "mean", *sizes], rows, style)


def cka_table(
    analyses: dict[str, dict], sizes: Sequence[int], feeding: str, estimator: str, style: str = "simple"
) -> str:
    """Return CKA with the largest scale stage by stage, one row a network and size (Eq. 2, Fig. 2).

    Args:
        analyses: name of the network -> its analysis.json.
        sizes: which sizes, in pixels.
        feeding: `native`, `upsampled`, or `used`, see `fed`.
        estimator: `biased` (Eq. 1) or `unbiased`.
        style: a tabulate format.
    """
    rows = []
    for name, record in analyses.items():
        found = record["cka"]
        positions = [found["layers"].index(layer) for layer in ("image", *found["stages"])]
        for size in sizes:
            if curve := found["curves"][fed(record, feeding)].get(str(size)):
                rows.append([name, f"{size}", *(f"{curve[estimator][position]:.3f}" for position in positions)])
    stages = [f"F{number}" for number in range(1, len(positions))]
    return _table(["network", "px", "image", *stages], rows, style)


def fed(analysis: dict, feeding: str) -> str:
    """Return the feeding, or for `used` the one that a network is used with: native for an MSUN, else upsampled."""
    if feeding != "used":
        return feeding
    return "native" if analysis["method"] == "msun" else "upsampled"


def attention_table(analyses: dict[str, dict], sizes: Sequence[int], style: str = "simple") -> str:
    """Return how far attention agrees with that at the largest size, mean and standard deviation over images.

    Correlation and overlap with the network's own attention; after a stroke, with its attention to another image, which
    is what agreement there is by chance; the same with the reference's, if there is one. `no map` counts the images for
    which nothing speaks for the class at that size: they have no attention to compare.
    """
    rows = []
    for name, record in analyses.items():
        found = record["gradcam"]
        for size in sizes:
            entries = {whose: found["agreement"][whose][str(size)] for whose in found["agreement"]}
            cells = [
                f"{_spread(entry[way])} / {_mean(found['another_image'][whose][str(size)][way])}"
                for whose, entry in entries.items()
                for way in AGREEMENTS
            ]
            rows.append([name, f"{size}", *cells, f"{entries['own']['correlation']['undefined']}"])
    against = [f"{way}, {whose}" for whose in found["agreement"] for way in AGREEMENTS]
    return _table(["network", "px", *against, "no map"], rows, style)


AGREEMENTS = ("correlation", "overlap")


def space_table(analyses: dict[str, dict], sizes: Sequence[int], style: str = "simple") -> str:
    """Return the numbers of the feature space: silhouettes, neighbours' classes in percent, displacements."""
    rows = []
    for name, record in analyses.items():
        for size in sizes:
            found = record["pca"]["sizes"][str(size)]
            shares = (found[way] for way in ("neighbour_accuracy", "neighbour_accuracy_at_largest"))
            neighbours = [f"{share['mean']:.1f} ± {share['standard_error']:.1f}" for share in shares]
            rows.append([name, f"{size}", _spread(found["silhouette"]), *neighbours, _spread(found["displacement"])])
    header = ["network", "px", "silhouette", "neighbours %", "neighbours at the largest size %", "displacement"]
    return _table(header, rows, style)


def resizing_table(analyses: dict[str, dict], sizes: Sequence[int], style: str = "simple") -> str:
    """Return top-1 accuracy in percent for every way of making images small."""
    rows = [
        [name, RESAMPLING_NAMES[way], *(f"{row[str(size)]:.1f}" for size in sizes)]
        for name, record in analyses.items()
        for way, row in record["resizing"]["top1"].items()
    ]
    return _table(["network", "made small by", *(f"{size} px" for size in sizes)], rows, style)


def _mean(entry: dict) -> str:
    return f"{entry['mean']:.2f}" if "mean" in entry else "none"


def _spread(entry: dict) -> str:
    return f"{entry['mean']:.2f} ± {entry['std']:.2f}" if "mean" in entry else "none"


def _table(header: list[str], rows: list[list[str]], style: str) -> str:
    rows = [[shown(cell) for cell in row] for row in rows]
    return tabulate(rows, header, tablefmt=style, disable_numparse=True, stralign="right")
