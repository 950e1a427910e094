"""Figures that the chapters draw from live networks, in the one style of `figures`.

Each returns a `Figure` without pyplot. White ground, colours that colour-blind readers can tell apart, no colour that
alone carries a meaning.
"""

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import seaborn
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from msun_lite.results import NAMES, STYLE


def percent_figure(curves: dict[str, dict[int, float]], chance: float | None = None) -> Figure:
    """Draw top-1 accuracies against image size, a line for each of `curves` (name -> size -> percent).

    `chance` is what guessing gives, drawn as a dotted line if it is given.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.0), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        styles = cycle(zip(("#0072B2", "#D55E00", "#555555", "#CC79A7"), "osD^", strict=True))
        for (name, row), (colour, marker) in zip(curves.items(), styles, strict=False):
            axes.plot(
                list(row), list(row.values()), color=colour, marker=marker, markersize=5.5, linewidth=2, label=name
            )
        if chance is not None:
            axes.axhline(chance, color=".45", linewidth=1.2, linestyle=(0, (2, 3)), label="guessing")
        sizes = sorted(set().union(*curves.values()))
        axes.set(xlabel="size of the input image (pixels)", ylabel="top-1 accuracy (%)", xticks=sizes, ylim=(0, 102))
        axes.legend(loc="best")
        seaborn.despine(figure)
        return figure


MOST_CLASSES = 10
"""Rows of a table of answers; of more classes, those that are named most often are shown, and the rest as one."""


def answer_figure(shares: NDArray, sizes: Sequence[int], class_names: Sequence[str]) -> Figure:
    """Draw how often a network answers each class at each size.

    Of more than `MOST_CLASSES` classes, those that it answers most often at any size have a row, and all others one.

    Args:
        shares: [sizes, classes], percent of the images that are called so.
        sizes: in pixels.
        class_names: what the classes are called.
    """
    shares, class_names = _most_answered(np.asarray(shares), class_names)
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.9), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        image = axes.imshow(shares.T, cmap="cividis", vmin=0, vmax=100, aspect="auto")
        for column, row in enumerate(shares):
            for line, share in enumerate(row):
                colour = "white" if share < 55 else "black"
                axes.text(column, line, f"{share:.0f}", ha="center", va="center", fontsize=8, color=colour)
        axes.set(xticks=range(len(sizes)), yticks=range(len(class_names)))
        axes.set_xticklabels(sizes)
        axes.set_yticklabels(class_names)
        axes.set_xlabel("size of the input image (pixels)")
        axes.grid(visible=False)
        figure.colorbar(image, ax=axes, label="answers (%)")
        return figure


def _most_answered(shares: NDArray, class_names: Sequence[str]) -> tuple[NDArray, Sequence[str]]:
    """Return shares [sizes, rows] and what the rows are called: the classes, or the most answered and all others."""
    if shares.shape[1] <= MOST_CLASSES:
        return shares, class_names
    kept = np.sort(np.argsort(-shares.max(0), kind="stable")[: MOST_CLASSES - 1])
    others = np.delete(shares, kept, 1).sum(1, keepdims=True)
    names = [class_names[index] for index in kept]
    return np.hstack([shares[:, kept], others]), [*names, f"{shares.shape[1] - len(kept)} others"]


def averages_figure(top1: dict[str, dict[str, dict[str, float]]]) -> Figure:
    """Draw what BatchNorm's averages are worth: a panel for each method, a pair of points for each size.

    `top1` is method -> size -> {"mixed": accuracy with the network's averages, "own": with those of the size}.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(3.1 * len(top1), 3.6), layout="constrained", facecolor="white")
        grid = figure.subplots(1, len(top1), squeeze=False, sharey=True)[0]
        for ax, (method, row) in zip(grid, top1.items(), strict=True):
            mixed, own = ([pair[name] for pair in row.values()] for name in ("mixed", "own"))
            ax.vlines(range(len(row)), mixed, own, color=".7", linewidth=2, zorder=1)
            ax.scatter(
                range(len(row)), mixed, s=64, marker="o", color="#D55E00", label="the network's averages", zorder=2
            )
            ax.scatter(range(len(row)), own, s=64, marker="D", color="#0072B2", label="averages of the size", zorder=3)
            ax.set(title=NAMES[method], xlabel="size (pixels)", ylim=(0, 102), xlim=(-0.5, len(row) - 0.5))
            ax.set_xticks(range(len(row)), list(row))
        grid[0].set_ylabel("top-1 accuracy (%)")
        grid[-1].legend(loc="lower right", fontsize=9)
        seaborn.despine(figure)
        return figure


def picture_grid(rows: Sequence[tuple[str, Sequence[tuple[str, NDArray]]]], width: float = 1.9) -> Figure:
    """Draw rows of pictures with a line above each; their pixels are shown as they are.

    Args:
        rows: what stands beside a row -> what stands above each of its pictures, and the picture [H, W, 3], 0 to 1.
        width: of a picture, in inches.
    """
    with rc_context(STYLE):
        columns = max(len(pictures) for _, pictures in rows)
        shape = (width * columns + 0.3, 1.16 * width * len(rows))
        figure = Figure(figsize=shape, layout="constrained", facecolor="white")
        grid = figure.subplots(len(rows), columns, squeeze=False)
        for axes, (label, pictures) in zip(grid, rows, strict=True):
            for ax, (title, picture) in zip(axes, pictures, strict=False):
                ax.imshow(picture, interpolation="nearest")
                ax.set(xticks=[], yticks=[])
                ax.set_title(title, fontsize=10)
            for ax in axes[len(pictures) :]:
                ax.axis("off")
            axes[0].set_ylabel(label, fontsize=11)
        return figure
