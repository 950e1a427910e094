"""The pictures of a report."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from msun_lite.evaluate.answered import Answered
from msun_lite.evaluate.certainty import BINS, calibration_error
from msun_lite.results import STYLE, drawn_name

MOST = 30
"""Classes that a picture has room for: those with the lowest accuracy."""

LETTERS = 21
"""Letters of a class's name that a picture has room for."""

COLOURS = "cividis"
"""A scale of colours that colour-blind readers can tell apart, and that prints."""


def class_figure(answered: Answered) -> Figure:
    """Draw the accuracy of each class at each size, the lowest on top; of more than `MOST` classes those."""
    accuracy = answered.class_accuracy()
    worst = _lowest(accuracy)
    with rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(7.2, 1.2 + 0.34 * len(worst)), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        shown = accuracy.T[worst].numpy()
        drawn = axes.imshow(shown, vmin=0, vmax=100, cmap=COLOURS, aspect="auto")
        _write(axes, shown, lambda value: f"{value:.0f}", dark=50)
        _label(axes, answered.groups, [answered.classes[label] for label in worst], inches=4.2)
        axes.set_title(_title("accuracy of each class (%){}", len(worst), _there(accuracy)))
        figure.colorbar(drawn, ax=axes)
        return figure


def confusion_figure(answered: Answered, groups: Sequence[int]) -> Figure:
    """Draw which share of each class (row) is taken for each class (column), one panel a group.

    Where some classes have no column, a last one has their answers.
    """
    accuracy = answered.class_accuracy()
    worst = _lowest(accuracy)
    names = [answered.classes[label] for label in worst]
    across = names if len(names) == len(answered.classes) else [*names, "others"]
    side = max(2.6, 0.3 * len(worst))
    with rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(1.6 + side * len(groups), 2.2 + side), layout="compressed", facecolor="white")
        panels = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
        for axes, group in zip(panels, groups, strict=True):
            counts = answered.confusion(group).double()
            shares = (100 * counts / counts.sum(1, keepdim=True))[worst]
            others = 100 - shares[:, worst].sum(1, keepdim=True)
            shares = torch.cat([shares[:, worst], others], 1)[:, : len(across)].numpy()
            drawn = axes.imshow(shares, vmin=0, vmax=100, cmap=COLOURS)
            _write(axes, shares, lambda value: f"{value:.0f}" if value >= 5 else "", dark=50)
            _label(axes, across, names, side)
            axes.set_title(answered.groups[group])
            axes.set_xlabel("answer")
        panels[0].set_ylabel("class")
        figure.colorbar(drawn, ax=panels, label="share of the class's images (%)", shrink=0.8)
        figure.suptitle(_title("what is taken for what{}", len(worst), _there(accuracy)))
        return figure


def calibration_figure(answered: Answered, groups: Sequence[int]) -> Figure:
    """Draw accuracy against confidence in bins, one panel a group, with how many answers each bin holds below."""
    with rc_context(STYLE):
        figure = Figure(figsize=(1 + 2.6 * len(groups), 4), layout="constrained", facecolor="white")
        panels = figure.subplots(2, len(groups), squeeze=False, sharex=True, sharey="row", height_ratios=(3, 1))
        edges = np.linspace(0, 1, BINS + 1)
        for (axes, below), group in zip(panels.T, groups, strict=True):
            inside = answered.group == group
            confidence, right = answered.confidence[inside], answered.right[inside]
            place = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
            counts = place.bincount(minlength=BINS).numpy()
            hits = torch.zeros(BINS, dtype=torch.float64).index_add_(0, place, right.double()).numpy()
            filled = counts > 0
            middle = (edges[:-1] + edges[1:]) / 2
            axes.plot([0, 100], [0, 100], color=".5", linewidth=1, dashes=(3, 3))
            found = 100 * hits[filled] / counts[filled]
            axes.plot(100 * middle[filled], found, marker="o", markersize=4, linewidth=2, clip_on=False)
            below.bar(100 * middle, counts, width=90 / BINS, color=".5")
            axes.set_title(f"{answered.groups[group]}, error {calibration_error(confidence, right):.1f}", fontsize=11)
            below.set_xlabel("confidence (%)")
        panels[0][0].set(ylabel="accuracy (%)", ylim=(0, 100), xlim=(0, 100))
        panels[1][0].set_ylabel("answers")
        return figure


def mistakes_figure(answered: Answered, worst: dict[int, list[int]], pictures: dict[int, Tensor]) -> Figure:
    """Show the surest mistakes, a row a group.

    Args:
        answered: the answers.
        worst: group -> which of them are its surest mistakes.
        pictures: answer -> its image, uint8 [3, size, size].
    """
    across = max(map(len, worst.values()))
    with rc_context(STYLE):
        figure = Figure(figsize=(1.75 * across, 0.4 + 2.45 * len(worst)), layout="constrained", facecolor="white")
        grid = figure.subplots(len(worst), across, squeeze=False)
        for panels, (group, rows) in zip(grid, worst.items(), strict=True):
            for axes in panels:
                axes.set_axis_off()
            for axes, row in zip(panels, rows, strict=False):
                axes.imshow(pictures[row].permute(1, 2, 0).numpy(), interpolation="nearest")
                label, answer = int(answered.label[row]), int(answered.answer[row])
                was, taken = (drawn_name(answered.classes[one], LETTERS) for one in (label, answer))
                said = f"{was}\n→ {taken}\n{100 * answered.confidence[row]:.0f} %"
                axes.set_title(said, fontsize=8)
            panels[0].annotate(answered.groups[group], (0, 0), (0, -4), xycoords="axes fraction",
                               textcoords="offset points", va="top", fontsize=9, color=".3")  # fmt: skip
        return figure


def _lowest(accuracy: Tensor) -> list[int]:
    """Return the classes with the lowest mean accuracy [G, C], the lowest first; none without an image."""
    means = accuracy.nanmean(0)
    there = [label for label in means.argsort(stable=True).tolist() if not means[label].isnan()]
    return there[:MOST]


def _there(accuracy: Tensor) -> int:
    """Return how many classes have an image."""
    return int((~accuracy.isnan()).any(0).sum())


def _title(text: str, shown: int, there: int) -> str:
    return text.format("" if shown == there else f", the {shown} lowest of {there}")


def _label(axes: Axes, across: Sequence[str], down: Sequence[str], inches: float) -> None:
    """Write names beside the rows, and below the columns: upright where they would run together on so many inches."""
    axes.set_yticks(range(len(down)), [drawn_name(name, LETTERS) for name in down])
    upright = max(map(len, across)) * 0.1 > inches / len(across) - 0.05
    axes.set_xticks(range(len(across)), [drawn_name(name, LETTERS) for name in across], rotation=90 if upright else 0)


def _write(axes: Axes, values: np.ndarray, said: Callable[[float], str], dark: float) -> None:
    """Write each value into its cell, in white where the cell is darker than that of the value `dark`."""
    for row, line in enumerate(values.tolist()):
        for column, value in enumerate(line):
            if not math.isnan(value):
                colour = "white" if value < dark else "black"
                axes.text(column, row, said(value), ha="center", va="center", fontsize=8, color=colour)
