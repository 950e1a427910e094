"""The figures of the chapters on the architecture and its loss, in the one style of `figures`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import seaborn
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from msun_lite.figures import STYLE, SUBNET_LOOKS

WIDE = 4.3
"""Width of the drawing in inches: little enough that a phone shows its letters large enough."""

DISTANCE_TICKS = (0, 0.001, 0.01, 0.1, 1)


@dataclass(frozen=True)
class Column:
    """What the drawing of an MSUN says of one subnet.

    Args:
        scale: in pixels.
        picture: an image at that scale [H, W, 3] from 0 to 1.
        lines: the layers of f_i, a line each.
        shape: (C, h, w) of its features before they are resized.
    """

    scale: int
    picture: NDArray
    lines: Sequence[str]
    shape: tuple[int, int, int]


def architecture_figure(
    columns: Sequence[Column], side: int, upper: Sequence[str], classes: int, active: int | None = None
) -> Figure:
    """Draw an MSUN from the images at the top to the logits at the bottom (the paper's Fig. 3), to be read on a phone.

    Args:
        columns: one a scale, the largest last.
        side: what the features' side is made before g.
        upper: the layers of g.
        classes: length of the logits.
        active: the scale whose way is taken, the others being greyed; None for all, as in training.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDE, 6.2), facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, WIDE), ylim=(0, 6.2))
        axes.axis("off")
        width = (WIDE - 0.1) / len(columns)
        middles = [0.05 + width * (number + 0.5) for number in range(len(columns))]
        for number, (column, middle) in enumerate(zip(columns, middles, strict=True), start=1):
            on = active in (None, column.scale)
            _draw_image(axes, column, columns[-1].scale, middle, min(1.25, 0.9 * width), on)
            private, common = (
                ("#d6e8f5", "#0072B2") if on else ("white", ".8"),
                ("#f2f2f2", ".4") if on else ("white", ".8"),
            )
            box = 0.9 * width
            _draw_box(axes, middle, 3.55, box, 1.05, [f"$f_{number}$", *column.lines], *private)
            _draw_box(axes, middle, 2.35, box, 0.36, [_shape(column.shape)], *common)
            _draw_box(axes, middle, 1.63, box, 0.36, [_shape((column.shape[0], side, side))], *common)
            _draw_arrow(axes, (middle, 4.42), (middle, 4.1), on)
            _draw_arrow(axes, (middle, 3.0), (middle, 2.55), on)
            _draw_arrow(axes, (middle, 2.15), (middle, 1.83), on, "resize" if column.shape[1] != side else "as it is")
            _draw_arrow(axes, (middle, 1.43), (middle, 1.09), on)
        if active is None:
            frame = {"facecolor": "none", "edgecolor": "#D55E00", "linewidth": 1.5, "linestyle": (0, (4, 2))}
            axes.add_patch(FancyBboxPatch((0.05, 1.37), WIDE - 0.1, 0.52, "round,pad=0,rounding_size=0.08", **frame))
            note = "held alike: $L_{SI}$"
            axes.text(sum(middles[:2]) / 2, 1.23, note, ha="center", va="center", fontsize=9.5, color="#A34700")
        _draw_box(
            axes, WIDE / 2, 0.83, WIDE - 0.2, 0.5, ["$g$, shared by all scales", ", ".join(upper)], "#fdebd3", "#B35C00"
        )
        _draw_arrow(axes, (WIDE / 2, 0.57), (WIDE / 2, 0.31), True)
        logits = f"{classes} logits" + ("" if active else " a scale")
        axes.text(WIDE / 2, 0.17, logits, ha="center", va="center", fontsize=10.5)
        return figure


def _draw_image(axes: Axes, column: Column, largest: int, middle: float, widest: float, on: bool) -> None:
    """Draw a column's image, as large beside the others' as its scale is."""
    half = 0.5 * widest * column.scale / largest
    edges = (middle - half, middle + half, 4.45, 4.45 + 2 * half)
    axes.imshow(column.picture, extent=edges, interpolation="nearest", alpha=1 if on else 0.25, aspect="equal")
    axes.set(xlim=(0, WIDE), ylim=(0, 6.2))
    text = f"{column.scale} px"
    axes.text(middle, 4.53 + 2 * half, text, ha="center", va="bottom", fontsize=10.5, color=".1" if on else ".6")


def _draw_box(
    axes: Axes, middle: float, y: float, width: float, height: float, lines: Sequence[str], face: str, edge: str
) -> None:
    """Draw a box around (middle, y) with lines of text."""
    corner = (middle - width / 2, y - height / 2)
    style = "round,pad=0,rounding_size=0.06"
    axes.add_patch(FancyBboxPatch(corner, width, height, style, facecolor=face, edgecolor=edge, linewidth=1.3))
    colour = ".6" if face == "white" else ".1"
    axes.text(middle, y, "\n".join(lines), ha="center", va="center", fontsize=10.5, linespacing=1.2, color=colour)


def _draw_arrow(axes: Axes, start: tuple, end: tuple, on: bool, text: str = "") -> None:
    """Draw an arrow, with a word beside it."""
    colour = ".15" if on else ".8"
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.4, "shrinkA": 0,
                                              "shrinkB": 0})  # fmt: skip
    height = (start[1] + end[1]) / 2
    axes.text(start[0] + 0.1, height, text, ha="left", va="center", fontsize=9.5, color=".3" if on else ".7")


def _shape(shape: tuple[int, int, int]) -> str:
    return " × ".join(map(str, shape))


def cost_figure(sizes: Sequence[int], curves: dict[str, Sequence[float]]) -> Figure:
    """Draw the cost of one image against its size, a line for each of `curves` (name -> GFLOPs)."""
    with rc_context(STYLE):
        figure = Figure(figsize=(5.6, 4.0), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        looks = cycle(zip(("#555555", "#D55E00", "#CC79A7", "#0072B2"), "osD^", strict=True))
        for (name, values), (colour, marker) in zip(curves.items(), looks, strict=False):
            axes.step(sizes, values, where="mid", color=colour, marker=marker, markersize=5, linewidth=2, label=name)
        axes.set(xlabel="size of the input image (pixels)", ylabel="GFLOPs of one image", xticks=sizes[::2])
        axes.set_ylim(0, 1.08 * max(max(values) for values in curves.values()))
        axes.legend(loc="lower right", fontsize=10)
        seaborn.despine(figure)
        return figure


def constraint_figure(lam: float, distances: Sequence[float]) -> Figure:
    """Draw what lambda does: above, one pair's term and its pull; below, the term over two pairs' distances.

    Args:
        lam: lambda, at least 0.
        distances: those of a network's pairs, marked on the upper axes; the first two, if there are so many, make the
            dot below.
    """
    grid = np.concatenate(([0], np.logspace(-4, 0, 400), [lam, max(lam - 1e-9, 0)]))
    grid.sort()
    kept = grid >= lam
    with rc_context({**STYLE, "hatch.linewidth": 0.7, "axes.titlesize": 11}):
        figure = Figure(figsize=(5.4, 5.6), layout="constrained", facecolor="white")
        above, below = figure.subplots(2, 2)
        above[0].plot(grid, np.maximum(grid, lam), color="#0072B2", linewidth=2.4, label="max(D, λ), Eq. 8")
        above[0].plot(
            grid, np.where(kept, grid, 0), color="#D55E00", linewidth=2, linestyle=(0, (4, 2)), label="dropped below λ"
        )
        above[0].set(title="one pair: the term", ylim=(0, 1.2))
        above[0].set_yscale("symlog", linthresh=0.001)
        above[0].set_yticks(DISTANCE_TICKS, DISTANCE_TICKS)
        above[0].legend(loc="upper left", fontsize=8, handlelength=1.6)
        above[1].plot(
            grid, np.where(kept, 2 * np.sqrt(grid), 0), color="#0072B2", linewidth=2.4, label="with the tolerance λ"
        )
        above[1].plot(
            grid,
            0.2 * 2 * np.sqrt(grid),
            color=".45",
            linewidth=1.6,
            linestyle=(0, (1, 1)),
            label="with a weight of 0.2",
        )
        above[1].set(title="its pull on the features", ylim=(-0.05, 2.1))
        above[1].legend(loc="upper left", fontsize=8, handlelength=1.6)
        for ax in above:
            for distance in distances:
                ax.plot([distance], [0], marker="v", color=".1", markersize=7, clip_on=False, zorder=5)
            _distance_axis(ax.xaxis, ax.set_xscale, "distance D of the pair")
            ax.set_xlim(0, 1)
        for ax, constraint in zip(below, ("sum", "pair"), strict=True):
            _draw_surface(ax, lam, constraint)
            if len(distances) > 1:
                ax.plot(*distances[:2], marker="o", color="white", markeredgecolor=".1", markersize=9)
        seaborn.despine(figure)
        return figure


def _draw_surface(axes: Axes, lam: float, constraint: str) -> None:
    """Draw the constrained term over the distances of two pairs, arrows down its slope, hatched where there is none."""
    line = np.concatenate(([0], np.logspace(-4, 0, 160)))
    first, second = np.meshgrid(line, line)
    free = (first + second < lam) if constraint == "sum" else (first < lam) & (second < lam)
    if constraint == "sum":
        value, title = np.maximum(first + second, lam), "two pairs: max(D + D', λ)"
    else:
        value, title = np.where(first < lam, 0, first) + np.where(second < lam, 0, second), "two pairs: each by itself"
    levels = (0, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 2.1)
    axes.contourf(first, second, value, levels=levels, cmap="Blues", norm=PowerNorm(0.25, 0, 2.1))
    if free.sum() > 1:
        hatched = axes.contourf(first, second, free, levels=(0.5, 1.5), colors="none", hatches=["////"])
        hatched.set(edgecolor=".35", linewidth=0)
    points = np.array([0.0003, 0.002, 0.006, 0.02, 0.06, 0.2, 0.6])
    u, v = np.meshgrid(points, points)
    if constraint == "sum":
        du = dv = np.where(u + v >= lam, -1.0, 0.0)
    else:
        du, dv = np.where(u >= lam, -1.0, 0.0), np.where(v >= lam, -1.0, 0.0)
    moving = (du != 0) | (dv != 0)
    axes.quiver(u[moving], v[moving], du[moving], dv[moving], angles="uv", scale=16, width=0.009, color="#B35C00")
    _distance_axis(axes.xaxis, axes.set_xscale, "distance D of one pair")
    _distance_axis(axes.yaxis, axes.set_yscale, "distance D' of another")
    axes.set(title=title, xlim=(0, 1), ylim=(0, 1))
    axes.grid(visible=False)


def _distance_axis(axis: Axis, set_scale: Callable, label: str) -> None:
    """Give an axis from 0 to 1 that shows small distances too."""
    set_scale("symlog", linthresh=0.001)
    axis.set_ticks(DISTANCE_TICKS, [f"{tick:g}" for tick in DISTANCE_TICKS])
    axis.set_label_text(label)


def constraint_history_figure(runs: dict[str, Sequence[dict]], lam: float, pairs: int) -> Figure:
    """Draw how the distances fall in training, and how much of them still pulls, a panel for each run.

    Args:
        runs: what stands above a panel -> the lines of its metrics.jsonl.
        lam: the tolerance of each pair.
        pairs: how many there are.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(4.8, 2.9 * len(runs)), layout="constrained", facecolor="white")
        for ax, (title, rows) in zip(figure.subplots(len(runs), 1, squeeze=False)[:, 0], runs.items(), strict=True):
            epochs, si = [row["epoch"] for row in rows], [row["si"] for row in rows]
            active = [row["loss"] - row["ce"] for row in rows]
            ax.plot(epochs, si, color="#0072B2", linewidth=2, label="sum of all pairs, $L_{SI}$")
            ax.plot(epochs, active, color="#D55E00", linewidth=2, linestyle=(0, (4, 2)), label="part that still pulls")
            ax.axhline(pairs * lam, color=".3", linewidth=1.2, linestyle=(0, (1, 1.5)))
            ax.annotate(f"{pairs} λ", (0, pairs * lam), (5, 3), xycoords=("axes fraction", "data"),
                        textcoords="offset points", fontsize=10, color=".2")  # fmt: skip
            ax.set_yscale("log")
            ax.set(title=title, xlabel="epoch", ylabel="distance", ylim=(0.5 * min(active), 1.5 * max(si)))
            ax.set_xlim(epochs[0], epochs[-1])
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            ax.legend(loc="upper right", fontsize=10)
        seaborn.despine(figure)
        return figure


def routing_figure(
    per_subnet: dict[int, dict[int, float]], rules: dict[str, dict[int, int]], title: str = ""
) -> Figure:
    """Draw every subnet's accuracy against size, and below which of them each routing rule picks (Fig. 5a).

    Args:
        per_subnet: scale -> size -> accuracy in percent.
        rules: name of the rule -> size -> scale.
        title: what stands above the axes.
    """
    scales = sorted(per_subnet)
    sizes = sorted(next(iter(per_subnet.values())))
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.6 + 0.3 * len(rules)), layout="constrained", facecolor="white")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4.2, 0.42 * len(rules)])
        for number, (scale, (colour, marker)) in enumerate(zip(scales, cycle(SUBNET_LOOKS), strict=False), start=1):
            values = [per_subnet[scale][size] for size in sizes]
            label = f"$f_{number}$ ({scale} px)"
            above.plot(sizes, values, color=colour, marker=marker, linewidth=2, markersize=5.5, label=label)
        above.set(ylabel="top-1 accuracy (%)", title=title)
        above.legend(loc="lower right")
        for row, chosen in enumerate(rules.values()):
            for size in sizes:
                number = scales.index(chosen[size])
                box = {
                    "boxstyle": "round,pad=0.25",
                    "facecolor": "white",
                    "edgecolor": SUBNET_LOOKS[number % len(SUBNET_LOOKS)][0],
                }
                below.annotate(f"$f_{number + 1}$", (size, row), ha="center", va="center", fontsize=9, bbox=box)
        below.set(yticks=range(len(rules)), ylim=(len(rules) - 0.4, -0.6), xticks=sizes)
        below.set_yticklabels(list(rules))
        below.set_xlabel("size of the input image (pixels)")
        below.grid(visible=False)
        seaborn.despine(figure)
        return figure


def serving_figure(
    size: int, scales: Sequence[int], rules: dict[str, int], shares: dict[int, float], accuracies: dict[str, float]
) -> Figure:
    """Draw which subnet serves an image of one size, at what cost, and how accurate each rule is there.

    Args:
        size: of the image in pixels.
        scales: rising, in pixels.
        rules: name of the rule -> the scale it picks; the first rule's subnet is drawn as the active one.
        shares: scale -> FLOPs of its subnet and g in percent of Vanilla's.
        accuracies: name of a rule or of another network -> accuracy at this size in percent.
    """
    active = next(iter(rules.values()))
    with rc_context(STYLE):
        figure = Figure(figsize=(5.6, 5.6), layout="constrained", facecolor="white")
        above, below = figure.subplots(2, 1, height_ratios=[1.2, 1])
        above.set(xlim=(0, 10), ylim=(-0.7, len(scales) - 0.5))
        above.axis("off")
        middle = (len(scales) - 1) / 2
        _draw_box(above, 0.95, middle, 1.8, 0.62, ["image", f"{size} px"], "#f2f2f2", ".4")
        for number, scale in enumerate(scales):
            on = scale == active
            face = ("#d6e8f5", "#0072B2") if on else ("white", ".8")
            _draw_arrow(above, (1.9, middle), (3.0, number), on)
            _draw_arrow(above, (6.1, number), (7.0, middle), on)
            _draw_box(above, 4.55, number, 3.0, 0.44, [f"$f_{number + 1}$, {scale} px"], *face)
            picked = [rule for rule, chosen in rules.items() if chosen == scale]
            words = "; ".join([f"{shares[scale]:.0f} % of Vanilla's FLOPs", *([", ".join(picked)] if picked else [])])
            above.text(4.55, number - 0.4, words, ha="center", va="center", fontsize=9, color=".2")
        _draw_box(above, 7.6, middle, 1.1, 0.62, ["$g$"], "#fdebd3", "#B35C00")
        _draw_arrow(above, (8.2, middle), (8.9, middle), True)
        above.text(8.95, middle, "logits", ha="left", va="center", fontsize=10)
        colours = ["#0072B2" if name in rules else ".7" for name in accuracies]
        bars = below.barh(range(len(accuracies)), list(accuracies.values()), color=colours, height=0.7)
        below.bar_label(bars, fmt="%.1f", padding=3, fontsize=9)
        below.set(xlim=(0, 112), xticks=range(0, 101, 20), xlabel=f"top-1 accuracy at {size} px (%)")
        below.set_yticks(range(len(accuracies)), list(accuracies))
        below.invert_yaxis()
        below.grid(visible=False, axis="y")
        seaborn.despine(figure)
        return figure
