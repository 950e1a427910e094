"""Figures of accuracy at every size, of subnets side by side, and of what accuracy costs."""

from collections.abc import Collection, Sequence
from itertools import cycle
from statistics import mean
from textwrap import fill

import seaborn
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from msun_lite.book.architecture_figures import _draw_arrow, _draw_box
from msun_lite.results import NAMES, STYLE, SUBNET_STYLES, draw_accuracies, line_style


def _stacked(count: int, width: float, height: float) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure of so many axes one above the other, each of this width and height in inches, and the axes."""
    figure = Figure(figsize=(width, height * count), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(hspace=0.08)
    return figure, figure.subplots(count, 1, squeeze=False)[:, 0]


def accuracy_panels(panels: dict[str, dict[str, dict]]) -> Figure:
    """Draw top-1 accuracy against size for several sets of records, one above the other, one line a method.

    `panels` is the title -> method -> a record with `sizes` and `top1`, as summary.json and `average_seeds` have them.
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
                ax.errorbar(
                    range(len(row)), means, yerr=tuple(zip(*ends, strict=True)), capsize=3, **line_style(method)
                )
                ax.plot([], [], label=NAMES[method], **line_style(method))
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
                    dot = {**line_style(method), "markersize": 8}
                else:
                    colour, marker = SUBNET_STYLES[int(name[1]) - 1]
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


def subnet_panels(panels: dict[str, dict[str, dict[str, float]]]) -> Figure:
    """Draw the accuracy of every subnet against size, a panel for each network (the paper's Fig. 5a).

    `panels` is the title -> scale -> size -> accuracy in percent; the scale of a subnet is marked on its line.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(4.5 * len(panels), 4.1), layout="constrained", facecolor="white")
        grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for ax, (title, per_subnet) in zip(grid, panels.items(), strict=True):
            for number, (scale, row) in enumerate(per_subnet.items(), start=1):
                colour, marker = SUBNET_STYLES[number - 1]
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
            bars = ax.barh(
                range(len(row)), list(row.values()), color=[line_style(m)["color"] for m in row], height=0.66
            )
            ax.bar_label(bars, fmt="%.1f", padding=4, fontsize=10)
            ax.set_title(title, fontsize=11)
            ax.set_yticks(range(len(row)), [NAMES[method] for method in row])
            ax.set(xlim=(0, 115), xticks=range(0, 101, 25), xlabel="top-1 accuracy (%)")
            ax.invert_yaxis()
            ax.grid(visible=False, axis="y")
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
        for number, (scale, (colour, marker)) in enumerate(zip(scales, cycle(SUBNET_STYLES), strict=False), start=1):
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
                    "edgecolor": SUBNET_STYLES[number % len(SUBNET_STYLES)][0],
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
