"""The figures, drawn from records alone: one style, colours that colour-blind readers can tell apart."""

from pathlib import Path

import seaborn
from matplotlib import rc_context
from matplotlib.figure import Figure

from msun_lite.files import atomic_write

NAMES = {"vanilla": "Vanilla", "mst": "MST", "msun": "MSUN"}
"""How a method is called in figures, tables and text."""

_COLOURS = dict(zip(NAMES, (seaborn.color_palette("colorblind")[i] for i in (7, 1, 0)), strict=True))
_MARKERS = {"vanilla": "o", "mst": "s", "msun": "D"}
_STYLE = {
    **seaborn.axes_style("whitegrid"),
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11,
    "svg.hashsalt": "msun_lite",
    "axes.edgecolor": ".6",
    "grid.color": ".9",
}


def accuracy_figure(records: dict[str, dict], title: str = "") -> Figure:
    """Draw top-1 accuracy against image size, one line a method (the paper's Fig. 4a).

    Args:
        records: method -> its summary.json.
        title: what was measured, above the axes.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 4.4), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        for method, record in records.items():
            _draw_line(axes, method, record)
        first = next(iter(records.values()))
        sizes, scales = first["sizes"], first["scales"]
        for scale in scales:
            axes.axvline(scale, color=".55", linewidth=1, linestyle=(0, (2, 3)), zorder=0)
            axes.annotate("scale", (scale, 1), (-3, 0), textcoords="offset points", rotation=90,
                          va="bottom", ha="right", fontsize=8, color=".4")  # fmt: skip
        axes.set(
            xlabel="size of the input image (pixels)",
            ylabel="top-1 accuracy (%)",
            title=title,
            xticks=sizes,
            ylim=(0, 102),
            yticks=range(0, 101, 20),
        )
        axes.legend(loc="lower right", bbox_to_anchor=(1, 0.1), title="mean over all sizes", framealpha=1)
        seaborn.despine(figure)
        return figure


def _draw_line(axes, method: str, record: dict) -> None:
    sizes = record["sizes"]
    axes.plot(
        sizes,
        [record["top1"][str(size)] for size in sizes],
        color=_COLOURS[method],
        marker=_MARKERS[method],
        markersize=5.5,
        linewidth=2,
        label=f"{NAMES[method]}: {record['mean_top1']:.1f} %",
    )


def save_figure(figure: Figure, path: Path) -> None:
    """Write `figure` as PNG and as SVG beside it, atomically; `path` is without the ending."""
    with rc_context(_STYLE):
        for ending, options in (("png", {"dpi": 160}), ("svg", {"metadata": {"Date": None}})):
            with atomic_write(path.with_suffix(f".{ending}")) as file:
                figure.savefig(file, format=ending, **options)
