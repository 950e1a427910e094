"""The figures of the chapters on training and testing, in the one style of `figures`."""

from collections.abc import Collection, Sequence
from itertools import cycle
from statistics import mean
from textwrap import fill

import seaborn
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray

from msun_lite.figures import NAMES, STYLE, SUBNET_LOOKS, draw_accuracies, look


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
            line = {**look(method), "markersize": 4, "markevery": max(1, len(rows) // 8)}
            count = 1 if method == "vanilla" else scales
            loss.plot(epochs, [row["loss"] for row in rows], **line)
            entropy.plot(epochs, [row["ce"] / count for row in rows], **line)
            accuracy.plot(epochs, [row["train_top1"] for row in rows], **line)
            rate.plot(epochs, [row["lr"] for row in rows], **line)
            legend.plot([], [], label=NAMES[method], **line)
            if method == "msun":
                invariance.plot(epochs, [row["si"] for row in rows], **line)
                kept = [row["loss"] - row["ce"] for row in rows]
                invariance.plot(epochs, kept, **{**line, "marker": None}, dashes=(3, 1.5))
                legend.plot([], [], color=line["color"], dashes=(3, 1.5), label="MSUN: what of $L_{SI}$ is in the loss")
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


def _stacked(count: int, width: float, height: float) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure of so many axes one above the other, each of this width and height in inches, and the axes."""
    figure = Figure(figsize=(width, height * count), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(hspace=0.08)
    return figure, figure.subplots(count, 1, squeeze=False)[:, 0]


def accuracy_panels(panels: dict[str, dict[str, dict]]) -> Figure:
    """Draw top-1 accuracy against size for several sets of records, one above the other, one line a method.

    `panels` is the title -> method -> a record with `sizes` and `top1`, as summary.json and `seeds.averaged` have them.
    """
    with rc_context(STYLE):
        figure, grid = _stacked(len(panels), 6.0, 3.6)
        for ax, (title, records) in zip(grid, panels.items(), strict=True):
            for method, record in records.items():
                draw_accuracies(ax, method, record, NAMES[method])
            ax.set_title(title, fontsize=11, loc="left", weight="bold")
            ax.set(xticks=record["sizes"][::2], ylim=(0, 102), ylabel="top-1 accuracy (%)")
            ax.set_xlabel("size of the input image (pixels)")
        grid[-1].legend(loc="lower right")
        seaborn.despine(figure)
        return figure


def probe_panels(panels: dict[str, dict[str, dict[int, Sequence[float]]]], served: dict[int, int]) -> Figure:
    """Draw the accuracy of transfers at several sizes, evenly spaced, a panel for each data set.

    Args:
        panels: title -> method -> size -> accuracy in percent, one a seed: their mean is drawn, and their range.
        served: size -> scale of MSUN's subnet, named under the size.
    """
    with rc_context(STYLE):
        figure, grid = _stacked(len(panels), 6.6, 3.3)
        for ax, (title, methods) in zip(grid, panels.items(), strict=True):
            for method, row in methods.items():
                means = [mean(values) for values in row.values()]
                ends = [
                    (middle - min(row[size]), max(row[size]) - middle) for size, middle in zip(row, means, strict=True)
                ]
                ax.errorbar(range(len(row)), means, yerr=tuple(zip(*ends, strict=True)), capsize=3, **look(method))
                ax.plot([], [], label=NAMES[method], **look(method))
            ax.set_title(title, fontsize=11, loc="left", weight="bold")
            ax.set_xticks(range(len(row)), [f"{size} px\nf of {served[size]}" for size in row])
            ax.set(ylabel="top-1 accuracy (%)", xlim=(-0.3, len(row) - 0.7))
        grid[-1].set_xlabel("size of the input image, and MSUN's subnet for it")
        grid[0].legend(loc="lower right")
        seaborn.despine(figure)
        return figure


def tradeoff_figure(panels: dict[str, dict[str, tuple[float, float]]]) -> Figure:
    """Draw mean accuracy against mean FLOPs, one point a network, a routing rule or a subnet alone (Fig. 4b).

    `panels` is the title -> name -> FLOPs in percent of Vanilla's, accuracy in percent. Names that start with `f` and a
    digit are subnets alone, drawn small.
    """
    with rc_context(STYLE):
        figure, grid = _stacked(len(panels), 6.0, 3.7)
        for ax, (title, points) in zip(grid, panels.items(), strict=True):
            for name, (flops, accuracy) in points.items():
                method = name.split()[0].lower()
                if method in NAMES:
                    dot = {**look(method), "markersize": 8}
                else:
                    colour, marker = SUBNET_LOOKS[int(name[1]) - 1]
                    dot = {"color": colour, "marker": marker, "markersize": 6}
                ax.plot([flops], [accuracy], **dot)
                left = flops > 97 or method in NAMES
                shift = (-8 if left else 8, {"mst": 6, "f3": -6}.get(method, 0))
                if name.endswith(" ratio"):  # it lies close to the right of MSUN nearest
                    left, shift = False, (6, 8)
                label = f"$f_{name[1]}$ alone" if name[0] == "f" else name
                ax.annotate(label, (flops, accuracy), shift, textcoords="offset points", fontsize=9,
                            ha="right" if left else "left", va="center")  # fmt: skip
            lowest = min(flops for flops, _ in points.values())
            ax.set_title(title, fontsize=11, loc="left", weight="bold")
            ax.set(ylabel="mean top-1 accuracy (%)", xlim=(lowest - 3, 102), xlabel="mean FLOPs (% of Vanilla's)")
            ax.margins(y=0.12)
        seaborn.despine(figure)
        return figure


def front_figure(groups: dict[str, dict[str, tuple[float, float]]], named: Collection[str] = ()) -> Figure:
    """Draw mean accuracy against mean FLOPs, one point a network, one colour and marker a group.

    A line joins the front: the networks than which no other is both as cheap and as accurate, and better in one of the
    two. They have numbers, which a list under the chart explains; those in `named` have their names beside them.

    Args:
        groups: what networks have in common -> name -> mean FLOPs in percent of Vanilla's, mean accuracy in percent.
        named: networks to name wherever they lie.
    """
    points = {name: point for group in groups.values() for name, point in group.items()}
    front = _front(points)
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 5.4), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        axes.plot(*zip(*(points[name] for name in front), strict=True), color=".5", linewidth=1.2, zorder=1)
        for (group, members), marker, colour in zip(
            groups.items(), *map(cycle, ("sD^oP", (7, 0, 2, 1, 4))), strict=False
        ):
            look = {
                "marker": marker,
                "color": seaborn.color_palette("colorblind")[colour],
                "s": 46,
                "edgecolor": "white",
            }
            axes.scatter(*zip(*members.values(), strict=True), label=group, **look)
        numbers = {name: str(number) for number, name in enumerate((one for one in front if one not in named), start=1)}
        for name, text in ({name: name for name in named} | numbers).items():
            left, up = points[name][0] > 75, 7 if text.isdecimal() else -9  # names below, where no number is
            axes.annotate(text, points[name], (-7 if left else 6, up), textcoords="offset points", fontsize=9,
                          ha="right" if left else "left", va="center")  # fmt: skip
        axes.set(xlabel="mean FLOPs (% of Vanilla's)", ylabel="mean top-1 accuracy (%)")
        axes.margins(x=0.08, y=0.1)
        for name, number in numbers.items():
            axes.plot([], [], linestyle="none", marker=f"${number}$", color=".2", label=fill(name, 70))
        figure.legend(loc="outside lower left", fontsize=9)
        seaborn.despine(figure)
        return figure


def _front(points: dict[str, tuple[float, float]]) -> list[str]:
    """Return the networks that none beats in {name: (FLOPs, accuracy)}, the cheapest first."""
    front: list[str] = []
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        if not front or points[name][1] > points[front[-1]][1]:
            front.append(name)
    return front


def claims_figure(claims: Sequence[dict]) -> Figure:
    """Draw the difference of each claim of `claims.judged` with its 95 % interval, and the paper's as an open point."""
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
