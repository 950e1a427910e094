"""The figures, drawn from records alone: one style, colours that colour-blind readers can tell apart."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import seaborn
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from msun_lite.results.names import NAMES
from msun_lite.results.outside import drawn_name
from msun_lite.results.records import Accuracy, Means
from msun_lite.utils.files import atomic_write

_PALETTE = seaborn.color_palette("colorblind")
COLOURS = dict(zip(NAMES, (_PALETTE[i] for i in (7, 1, 0, 2, 4, 3, 5, 6, 9, 8)), strict=False))
_MARKERS = dict(zip(NAMES, "osD^vPX<>d", strict=False))
SUBNET_STYLES = tuple(zip((_PALETTE[i] for i in (2, 4, 3, 5, 6, 9)), "v^oPXd", strict=True))
"""Colour and marker of f1, f2 ..."""

STYLE = {
    **seaborn.axes_style("whitegrid"),
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11,
    "svg.hashsalt": "msun_lite",
    "axes.edgecolor": ".6",
    "grid.color": ".9",
}


def accuracy_figure(records: dict[str, Accuracy | Means], title: str = "") -> Figure:
    """Draw top-1 accuracy against image size, one line a method (the paper's Fig. 4a).

    Args:
        records: method -> its summary.json, or the mean of several seeds (`seeds.average_seeds`), with a band of one
            standard deviation to both sides.
        title: what was measured, above the axes.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.4), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        for method, record in records.items():
            draw_accuracies(axes, method, record, f"{NAMES[method]}: {record['mean_top1']:.1f} %")
        first = next(iter(records.values()))
        sizes, scales = first["sizes"], first["scales"]
        for scale in scales:
            axes.axvline(scale, color=".55", linewidth=1, linestyle=(0, (2, 3)), zorder=0)
            axes.annotate("scale", (scale, 1), (-3, 0), textcoords="offset points", rotation=90,
                          va="bottom", ha="right", fontsize=8, color=".4")  # fmt: skip
        axes.set(
            xlabel="size of the input image (pixels)",
            ylabel="top-1 accuracy (%)",
            title=drawn_name(title),
            xticks=sizes,
            ylim=(0, 102),
            yticks=range(0, 101, 20),
        )
        large = [record["top1"][str(size)] for record in records.values() for size in sizes[len(sizes) // 2 :]]
        # Beside the lines, or under them where all of them leave it that room.
        place = {"loc": "lower right", "bbox_to_anchor": (1, 0.1)} if min(large) > 50 else {"loc": "best"}
        axes.legend(**place, title="mean over all sizes", framealpha=1)
        seaborn.despine(figure)
        return figure


def draw_accuracies(axes: Axes, method: str, record: Accuracy | Means, label: str) -> None:
    """Draw a method's accuracy at every size of its record, with a band for the spread over seeds if it has one."""
    sizes = record["sizes"]
    values = [record["top1"][str(size)] for size in sizes]
    axes.plot(sizes, values, label=label, **line_style(method))
    if spread := record.get("spread"):
        half = [spread[str(size)] for size in sizes]
        low, high = ([value + sign * by for value, by in zip(values, half, strict=True)] for sign in (-1, 1))
        axes.fill_between(sizes, low, high, color=line_style(method)["color"], alpha=0.2, linewidth=0)


def line_style(method: str) -> dict:
    """Return how a method's line looks, as options of `Axes.plot`."""
    return {"color": COLOURS[method], "marker": _MARKERS[method], "markersize": 5.5, "linewidth": 2}


def save_figure(figure: Figure, path: Path) -> None:
    """Write `figure` as PNG and as SVG beside it, atomically; `path` is without the ending.

    A letter that the font lacks, in a name from outside, is a box there.
    """
    with rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        for ending, options in (("png", {"dpi": 160}), ("svg", {"metadata": {"Date": None}})):
            with atomic_write(path.with_suffix(f".{ending}")) as file:
                figure.savefig(file, format=ending, **options)


PARTS = {
    "loss": "loss",
    "ce": "cross-entropy, summed over scales",
    "si": r"scale invariance, $L_{SI}$",
    "kd": "distillation",
}
"""What of a line of metrics.jsonl is drawn as parts of the loss."""


def curves_figure(rows: Sequence[dict], title: str = "") -> Figure:
    """Draw how a training went: the loss and its parts, accuracy at training and at every scale, the learning rate.

    Args:
        rows: the lines of its metrics.jsonl; `val_top1` may be missing in them.
        title: what was trained, above the picture.
    """
    epochs = [row["epoch"] for row in rows]
    line = {"linewidth": 2, "marker": "." if len(rows) == 1 else "", "markersize": 9}  # of one epoch there is no line
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 6.4), layout="constrained", facecolor="white")
        loss, accuracy, rate = figure.subplots(3, 1, sharex=True, height_ratios=(4, 4, 1.6))
        figure.suptitle(drawn_name(title))
        # A part that is not in this loss is zero throughout, which a logarithm has no place for.
        for (name, label), colour in zip(PARTS.items(), _PALETTE, strict=False):
            if any(row[name] > 0 for row in rows):
                loss.plot(epochs, [row[name] or None for row in rows], label=label, color=colour, **line)
        accuracy.plot(epochs, [row["train_top1"] for row in rows], label="training crops", color=".4", **line)
        validated = [row for row in rows if "val_top1" in row]
        for number, scale in enumerate(validated[-1]["val_top1"] if validated else ()):
            colour, marker = SUBNET_STYLES[number % len(SUBNET_STYLES)]
            values = [row["val_top1"][scale] for row in validated]
            looks = {"color": colour, "marker": marker, "markersize": 4.5, "linewidth": 2}
            accuracy.plot([row["epoch"] for row in validated], values, label=f"validation, {scale} px", **looks)
        rate.plot(epochs, [row["lr"] for row in rows], color=".4", **line)
        loss.set(yscale="log", ylabel="loss")
        accuracy.set(ylabel="top-1 accuracy (%)", ylim=(0, 102))
        rate.set(xlabel="epoch", ylabel="learning rate", ylim=(0, None))
        rate.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        for axes in (loss, accuracy):
            axes.legend(fontsize=9, framealpha=0.8)
        seaborn.despine(figure)
        return figure


FAMILIES = {"Vanilla": "vanilla", "MST": "mst", "RS-Nets": "rs"}
"""How the name of a row begins -> the method whose colour it has; MSUN's is that of all others."""


def rivals_figure(rows: Sequence[dict]) -> Figure:
    """Draw mean accuracy against mean FLOPs, a point a row of `tables.table_record`, with the range over seeds.

    Open: with the averages of the training; filled: with averages of the size.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 5.2), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        for number, row in enumerate(rows, start=1):
            values, cost = row["values"]["mean"], row["mean_flops"] / 1e9
            middle = sum(values) / len(values)
            style = line_style(next((one for name, one in FAMILIES.items() if row["row"].startswith(name)), "msun"))
            ends = [[middle - min(values)], [max(values) - middle]]
            filled = style["color"] if row["row"].endswith("averages of the size") else "white"
            axes.errorbar(cost, middle, yerr=ends, fmt=style["marker"], color=style["color"], mfc=filled, capsize=3)
            place, side = ((7, -3), "left") if number % 2 else ((-7, -3), "right")  # neighbours are often one point
            axes.annotate(f"{number}", (cost, middle), place, textcoords="offset points", fontsize=9, ha=side)
            axes.plot([], [], style["marker"], color=style["color"], mfc=filled, label=f"{number}  {row['row']}")
        axes.set(xlabel="GFLOPs an image, mean over all sizes", ylabel="top-1 accuracy, mean over all sizes (%)")
        figure.legend(loc="outside lower center", fontsize=8, ncols=1, frameon=False)
        figure.set_size_inches(7.2, 4.4 + 0.19 * len(rows))
        seaborn.despine(figure)
        return figure


def claims_figure(claims: Sequence[dict]) -> Figure:
    """Draw the difference of each claim of `judge_claims` with its 95 % interval, and the paper's as an open point."""
    with rc_context(STYLE):
        figure = Figure(figsize=(6.2, 1.1 + 0.56 * len(claims)), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        rows, halves = range(len(claims)), [claim["half_interval"] or 0 for claim in claims]
        look = {"color": "#0072B2", "fmt": "D", "markersize": 7, "capsize": 4, "label": "measured"}
        axes.errorbar([claim["mean"] for claim in claims], rows, xerr=halves, **look)
        papers = [(claim["paper"], row) for row, claim in enumerate(claims) if claim["paper"] is not None]
        if papers:
            look = {"s": 70, "facecolors": "white", "edgecolors": "#D55E00", "linewidths": 1.8, "label": "paper"}
            axes.scatter(*zip(*papers, strict=True), **look)
            figure.legend(loc="outside upper center", ncols=2, fontsize=9)
        axes.axvline(0, color=".3", linewidth=1.2, linestyle=(0, (2, 3)))
        for row, claim in enumerate(claims):  # above its point, so that the figure is no wider than a phone can show
            place = {"xycoords": ("axes fraction", "data"), "va": "bottom", "fontsize": 9.5, "color": ".2"}
            box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
            axes.annotate(fill(claim["claim"], 80), (0.012, row - 0.2), bbox=box, **place)
        axes.set(xlabel="difference (points of accuracy)", yticks=[], ylim=(len(claims) - 0.6, -0.75))
        seaborn.despine(figure)
        return figure
