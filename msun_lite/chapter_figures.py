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

from msun_lite.figures import NAMES, STYLE, SUBNET_LOOKS, look


def prediction_figure(
    picture: NDArray,
    probabilities: dict[str, Sequence[float]],
    class_names: Sequence[str],
    label: int | None,
    title: str = "",
) -> Figure:
    """Draw one image as the networks get it, and beside it how sure each network is of its three likeliest classes.

    Args:
        picture: [H, W, 3] from 0 to 1; its pixels are shown as they are.
        probabilities: method -> probabilities [classes].
        class_names: what the classes are called.
        label: the image's class, whose bars are filled, while the others are hatched; None if it is unknown.
        title: what stands above the image.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(8.4, 2.9), layout="constrained", facecolor="white")
        grid = figure.subplots(1, 1 + len(probabilities), width_ratios=[1.1] + [1] * len(probabilities))
        grid[0].imshow(picture, interpolation="nearest")
        grid[0].set(xticks=[], yticks=[], title=title)
        for ax, (method, row) in zip(grid[1:], probabilities.items(), strict=True):
            likeliest = sorted(range(len(row)), key=lambda index: -row[index])[:3]
            places = range(len(likeliest))
            right = [label in (None, index) for index in likeliest]
            bars = ax.barh(
                places,
                [100 * row[index] for index in likeliest],
                color=["#0072B2" if hit else "#bbbbbb" for hit in right],
            )
            for bar, hit in zip(bars, right, strict=True):
                bar.set_hatch("" if hit else "//")
                bar.set_edgecolor("white")
            ax.set(yticks=places, xlim=(0, 105), xticks=(0, 50, 100), title=NAMES[method])
            ax.set_yticklabels([class_names[index] for index in likeliest])
            ax.invert_yaxis()
            ax.set_xlabel("confidence (%)")
        return figure


def percent_figure(
    curves: dict[str, dict[int, float]], ylabel: str = "top-1 accuracy (%)", chance: float | None = None
) -> Figure:
    """Draw percentages against image size, a line for each of `curves` (name -> size -> percent).

    `chance` is what guessing gives, drawn as a dotted line if it is given.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.0), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        looks = cycle(zip(("#0072B2", "#D55E00", "#555555", "#CC79A7"), "osD^", strict=True))
        for (name, row), (colour, marker) in zip(curves.items(), looks, strict=False):
            axes.plot(
                list(row), list(row.values()), color=colour, marker=marker, markersize=5.5, linewidth=2, label=name
            )
        if chance is not None:
            axes.axhline(chance, color=".45", linewidth=1.2, linestyle=(0, (2, 3)), label="guessing")
        sizes = sorted(set().union(*curves.values()))
        axes.set(xlabel="size of the input image (pixels)", ylabel=ylabel, xticks=sizes, ylim=(0, 102))
        axes.legend(loc="best")
        seaborn.despine(figure)
        return figure


MOST_CLASSES = 10
"""Rows of a table of answers; of more classes, those that are named most often are shown, and the rest as one."""


def answer_figure(shares: NDArray, sizes: Sequence[int], class_names: Sequence[str], title: str = "") -> Figure:
    """Draw how often a network answers each class at each size.

    Of more than `MOST_CLASSES` classes, those that it answers most often at any size have a row, and all others one.

    Args:
        shares: [sizes, classes], percent of the images that are called so.
        sizes: in pixels.
        class_names: what the classes are called.
        title: what stands above the axes.
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
        axes.set(xticks=range(len(sizes)), yticks=range(len(class_names)), title=title)
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


def subnet_panels(panels: dict[str, dict[str, dict[str, float]]]) -> Figure:
    """Draw the accuracy of every subnet against size, a panel for each network (the paper's Fig. 5a).

    `panels` is the title -> scale -> size -> accuracy in percent; the scale of a subnet is marked on its line.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(4.5 * len(panels), 4.1), layout="constrained", facecolor="white")
        grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for ax, (title, per_subnet) in zip(grid, panels.items(), strict=True):
            for number, (scale, row) in enumerate(per_subnet.items(), start=1):
                colour, marker = SUBNET_LOOKS[number - 1]
                sizes = [int(size) for size in row]
                label = f"$f_{number}$ ({scale} px)"
                ax.plot(sizes, list(row.values()), color=colour, marker=marker, linewidth=2, markersize=5, label=label)
                ax.plot(
                    [int(scale)],
                    [row[str(scale)]],
                    marker="o",
                    markersize=14,
                    fillstyle="none",
                    markeredgewidth=1.4,
                    color=colour,
                )
            ax.set_title(title, fontsize=11)
            ax.set(
                xlabel="size of the input image (pixels)", xticks=sizes[:: 1 if len(sizes) < 8 else 2], ylim=(0, 102)
            )
            ax.legend(loc="lower right", fontsize=9)
        grid[0].set_ylabel("top-1 accuracy (%)")
        seaborn.despine(figure)
        return figure


def pair_figure(pairs: dict[str, tuple[float, float]], names: tuple[str, str], xlabel: str) -> Figure:
    """Draw two values side by side for each row, an open point and a full one, and the difference between them.

    Args:
        pairs: name of the row -> its two values.
        names: what the first and the second values are.
        xlabel: what is measured.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 1.1 + 0.62 * len(pairs)), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        rows, (first, second) = range(len(pairs)), zip(*pairs.values(), strict=True)
        axes.hlines(rows, first, second, color=".7", linewidth=2, zorder=1)
        look = {"s": 80, "linewidths": 1.8, "zorder": 2}
        axes.scatter(first, rows, facecolors="white", edgecolors="#D55E00", marker="o", label=names[0], **look)
        axes.scatter(second, rows, color="#0072B2", marker="D", label=names[1], **look)
        for row, (start, end) in enumerate(pairs.values()):
            axes.annotate(
                f"{end - start:+.2f}",
                (max(start, end), row),
                (10, 0),
                textcoords="offset points",
                va="center",
                fontsize=10,
            )
        axes.set_yticks(rows, list(pairs))
        axes.set(xlabel=xlabel, ylim=(len(pairs) - 0.5, -0.5))
        axes.margins(x=0.12)
        figure.legend(loc="outside upper center", ncols=2, fontsize=9)
        seaborn.despine(figure)
        return figure


def subnet_bars_figure(size: int, accuracies: dict[int, float], served: int, chance: float) -> Figure:
    """Draw the accuracy at one size through each subnet; the one that serves the size is filled, the others hatched.

    Args:
        size: of the image in pixels.
        accuracies: scale -> accuracy in percent.
        served: the scale that routing picks.
        chance: what guessing gives, in percent.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 2.7), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        for number, (scale, accuracy) in enumerate(accuracies.items()):
            look = {"color": "#0072B2"} if scale == served else {"color": ".8", "hatch": "//", "edgecolor": "white"}
            bars = axes.barh([number], [accuracy], height=0.66, **look)
            axes.bar_label(bars, fmt="%.1f", padding=4, fontsize=10)
        names = [f"$f_{number}$ ({scale} px)" for number, scale in enumerate(accuracies, start=1)]
        axes.axvline(chance, color=".3", linewidth=1.2, linestyle=(0, (2, 3)))
        axes.set_yticks(range(len(names)), names)
        axes.set(xlim=(0, 112), xticks=range(0, 101, 20), xlabel=f"top-1 accuracy at {size} px (%)")
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        seaborn.despine(figure)
        return figure


def blend_figure(curves: dict[str, dict[float, float]], xlabel: str, chance: float) -> Figure:
    """Draw accuracy against the share of one thing in a mixture of two.

    Args:
        curves: name of the mixture -> share from 0 to 1 -> accuracy in percent.
        xlabel: what the share is of.
        chance: what guessing gives, in percent.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.9), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        looks = cycle(zip(("#0072B2", "#D55E00", "#555555", "#CC79A7"), "osD^", strict=True))
        for (name, row), (colour, marker) in zip(curves.items(), looks, strict=False):
            axes.plot(list(row), list(row.values()), color=colour, marker=marker, linewidth=2, label=name)
        axes.axhline(chance, color=".45", linewidth=1.2, linestyle=(0, (2, 3)), label="guessing")
        axes.set(xlabel=xlabel, ylabel="top-1 accuracy (%)", ylim=(0, 104))
        figure.legend(loc="outside upper center", ncols=2, fontsize=9)
        seaborn.despine(figure)
        return figure


def beside_figure(panels: dict[str, dict[str, float]]) -> Figure:
    """Draw the accuracy of the three methods at one size, a panel for each source of the numbers.

    `panels` is the title -> method -> accuracy in percent.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(4.1 * len(panels), 2.6), layout="constrained", facecolor="white")
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
        for ax, (title, row) in zip(grid, panels.items(), strict=True):
            bars = ax.barh(range(len(row)), list(row.values()), color=[look(m)["color"] for m in row], height=0.66)
            ax.bar_label(bars, fmt="%.1f", padding=4, fontsize=10)
            ax.set_title(title, fontsize=11)
            ax.set_yticks(range(len(row)), [NAMES[method] for method in row])
            ax.set(xlim=(0, 115), xticks=range(0, 101, 25), xlabel="top-1 accuracy (%)")
            ax.invert_yaxis()
            ax.grid(visible=False, axis="y")
        seaborn.despine(figure)
        return figure
