"""Figures of MSUN beside its rivals: curves with a band for their range."""

from collections.abc import Mapping, Sequence
from statistics import mean

import seaborn
from matplotlib import rc_context
from matplotlib.figure import Figure

from msun_lite.results import NAMES, STYLE, line_style

METHODS = {title: method for method, title in NAMES.items()}
"""What a method is called in figures -> the method."""


def range_figure(
    curves: Mapping[str, Mapping[int, Sequence[float]]], xlabel: str, ylabel: str, logarithmic: bool = False
) -> Figure:
    """Draw curves whose points have several values each, one a seed or a draw: their mean, and a band from end to end.

    Args:
        curves: name -> x -> values. A name begins with that of a method, which gives the curve its colour and marker; a
            second curve of the same method is dashed, and its points are open.
        xlabel: what x is.
        ylabel: what the values are.
        logarithmic: let every doubling of x take as much room.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.4), layout="constrained", facecolor="white")
        axes, seen = figure.add_subplot(), set()
        for name, points in curves.items():
            method = METHODS[next(title for title in METHODS if name.startswith(title))]
            look = line_style(method) | ({"linestyle": "--", "markerfacecolor": "white"} if method in seen else {})
            seen.add(method)
            axes.plot(list(points), [mean(values) for values in points.values()], label=name, **look)
            ends = ([end(values) for values in points.values()] for end in (min, max))
            axes.fill_between(list(points), *ends, color=look["color"], alpha=0.2, linewidth=0)
        if logarithmic:
            axes.set_xscale("log", base=2)
        ticks = sorted(set().union(*curves.values()))
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.legend(loc="best", framealpha=1)
        seaborn.despine(figure)
        return figure
