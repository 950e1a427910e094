"""The figures of the chapters on the architecture and its loss, in the one style of `figures`."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

import seaborn
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from numpy.typing import NDArray

from msun_lite.results import STYLE

WIDE = 4.3
"""Width of the drawing in inches: little enough that a phone shows its letters large enough."""


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
