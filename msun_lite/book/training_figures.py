"""The figures of the chapters on training and testing, in the one style of `figures`."""

from collections.abc import Callable, Sequence
from itertools import cycle

import numpy as np
import seaborn
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from msun_lite.methods import METHODS
from msun_lite.results import NAMES, STYLE, line_style


def schedule_figure(rates: dict[str, tuple[Sequence[float], Sequence[float]]]) -> Figure:
    """Draw the learning rate against the epoch, one line a preset: its name -> epochs, rates."""
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.4), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        looks = zip(seaborn.color_palette("colorblind"), cycle([(), (4, 2), (1, 1), (5, 1, 1, 1)]), strict=False)
        for (name, (epochs, values)), (colour, dashes) in zip(rates.items(), cycle(looks), strict=False):
            axes.plot(epochs, values, label=name, color=colour, dashes=dashes or (None, None), linewidth=2)
        axes.set(xlabel="epoch", ylabel="learning rate", ylim=(0, None), xlim=(0, None))
        axes.legend(title="preset")
        seaborn.despine(figure)
        return figure


def training_figure(histories: dict[str, list[dict]], scales: int) -> Figure:
    """Draw what metrics.jsonl holds, one line a method: loss, cross-entropy, scale invariance, accuracy, rate.

    Args:
        histories: method -> the lines of its metrics.jsonl.
        scales: over how many scales MST and MSUN sum their cross-entropies; Vanilla has one.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(6.6, 7.6), layout="constrained", facecolor="white")
        loss, entropy, invariance, accuracy, rate, legend = figure.subplots(3, 2).ravel()
        for method, rows in histories.items():
            epochs = [row["epoch"] for row in rows]
            line = {**line_style(method), "markersize": 4, "markevery": max(1, len(rows) // 8)}
            count = 1 if METHODS[method].scales == 1 else scales
            loss.plot(epochs, [row["loss"] for row in rows], **line)
            entropy.plot(epochs, [row["ce"] / count for row in rows], **line)
            accuracy.plot(epochs, [row["train_top1"] for row in rows], **line)
            rate.plot(epochs, [row["lr"] for row in rows], **line)
            legend.plot([], [], label=NAMES[method], **line)
            if METHODS[method].subnets:
                invariance.plot(epochs, [row["si"] for row in rows], **line)
                kept = [row["loss"] - row["ce"] for row in rows]
                invariance.plot(epochs, kept, **{**line, "marker": None}, dashes=(3, 1.5))
                legend.plot(
                    [],
                    [],
                    color=line["color"],
                    dashes=(3, 1.5),
                    label=f"{NAMES[method]}: what of $L_{{SI}}$ is in the loss",
                )
        for ax, title in (
            (loss, "loss (Eq. 8)"),
            (entropy, "cross-entropy, mean over scales"),
            (invariance, r"scale invariance, $L_{SI}$ (Eq. 7)"),
        ):
            ax.set_yscale("log")
            ax.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}")
            ax.yaxis.set_minor_locator(NullLocator())
            ax.set_title(title, fontsize=11)
        accuracy.set_title("accuracy, training crops (%)", fontsize=11)
        accuracy.set_ylim(0, 102)
        rate.set_title("learning rate", fontsize=11)
        rate.set_ylim(0, None)
        for ax in (accuracy, rate):
            ax.set_xlabel("epoch")
        legend.axis("off")
        legend.legend(loc="center")
        seaborn.despine(figure)
        return figure


DISTANCE_TICKS = (0, 0.001, 0.01, 0.1, 1)


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
