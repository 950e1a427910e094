"""The figures that the chapters draw from live networks, in the one style of `figures`.

Each returns a `Figure` without pyplot. White ground, colours that colour-blind readers can tell apart, no colour that
alone carries a meaning.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import seaborn
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from msun_lite.figures import NAMES, STYLE, _look


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
            right = [label in (None, index) for index in likeliest]
            bars = ax.barh(
                range(3),
                [100 * row[index] for index in likeliest],
                color=["#0072B2" if hit else "#bbbbbb" for hit in right],
            )
            for bar, hit in zip(bars, right, strict=True):
                bar.set_hatch("" if hit else "//")
                bar.set_edgecolor("white")
            ax.set(yticks=range(3), xlim=(0, 105), xticks=(0, 50, 100), title=NAMES[method])
            ax.set_yticklabels([class_names[index] for index in likeliest])
            ax.invert_yaxis()
            ax.set_xlabel("confidence (%)")
        return figure


def gram_figure(features: dict[str, NDArray], similarity: dict[str, float]) -> Figure:
    """Draw toy features in the plane and, below, the Gram matrices of their images: what CKA compares (Eq. 1).

    Args:
        features: what was done to them -> [n, 2]; the first is what the others are compared with.
        similarity: the same names -> CKA with the first.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(2.1 * len(features), 4.5), layout="constrained", facecolor="white")
        above, below = figure.subplots(2, len(features))
        reach = 1.1 * max(np.abs(points).max() for points in features.values())
        for top, bottom, (name, points) in zip(above, below, features.items(), strict=True):
            for number, point in enumerate(points):
                top.annotate(str(number), point, ha="center", va="center", fontsize=9)
            top.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[0], yticks=[0], aspect="equal", title=name)
            top.tick_params(labelbottom=False, labelleft=False)
            centred = points - points.mean(0)
            gram = centred @ centred.T
            bottom.imshow(gram, cmap="RdBu_r", vmin=-np.abs(gram).max(), vmax=np.abs(gram).max())
            bottom.set(xticks=[], yticks=[], xlabel=f"CKA {similarity[name]:.2f}")
            bottom.grid(visible=False)
        above[0].set_ylabel("features")
        below[0].set_ylabel("Gram matrix")
        return figure


def bias_figure(counts: Sequence[int], values: dict[str, NDArray], expected: Sequence[float]) -> Figure:
    """Draw CKA of unrelated features against the number of images: mean and range over draws, one line an estimator.

    Args:
        counts: numbers of images.
        values: name of the estimator -> CKA [counts, draws].
        expected: what theory says of the biased one, for each of `counts`.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.0), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        for (name, found), colour, marker in zip(values.items(), ("#D55E00", "#0072B2"), "os", strict=True):
            axes.plot(counts, found.mean(1), color=colour, marker=marker, linewidth=2, label=f"{name}: mean and range")
            axes.fill_between(counts, found.min(1), found.max(1), color=colour, alpha=0.15, linewidth=0)
        axes.plot(counts, expected, color=".1", linestyle=(0, (1, 2)), linewidth=2.5, label="biased, in theory")
        axes.set_xscale("log", base=2)
        axes.set(xlabel="images", ylabel="CKA of unrelated features", xticks=counts)
        axes.set_ylim(top=1.03)
        axes.set_xticklabels(counts)
        axes.legend(loc="upper right")
        seaborn.despine(figure)
        return figure


def overlay_figure(
    picture: NDArray, overlays: dict[str, tuple[NDArray, NDArray]], title: str = "", width: float = 2.1
) -> Figure:
    """Draw one image as it is and, beside it, attention laid over it: bright where the map is high; none is marked.

    Args:
        picture: [H, W, 3] from 0 to 1; its pixels are shown as they are.
        overlays: what stands above a panel -> the image under the map [h, w, 3] and the map [h', w'], all 0 to 1.
        title: what stands above the image.
        width: of a panel, in inches.
    """
    with rc_context(STYLE):
        panels = 1 + len(overlays)
        figure = Figure(figsize=(width * panels, 1.18 * width), layout="constrained", facecolor="white")
        axes = figure.subplots(1, panels, squeeze=False)[0]
        axes[0].imshow(picture, extent=(0, 1, 1, 0), interpolation="nearest")
        axes[0].set_title(title, fontsize=10)
        for ax, (name, (under, attention)) in zip(axes[1:], overlays.items(), strict=True):
            ax.imshow(under.mean(2), extent=(0, 1, 1, 0), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            ax.imshow(attention, extent=(0, 1, 1, 0), cmap="inferno", alpha=0.6, vmin=0, vmax=1)
            ax.set_title(name, fontsize=10)
            ax.set_xlabel("" if attention.any() else "no evidence", fontsize=9)
        for ax in axes:
            ax.set(xticks=[], yticks=[])
        return figure


def mean_attention_figure(arrays: dict[str, dict], sizes: Sequence[int]) -> Figure:
    """Draw the mean over images of the attention maps: a row for each method, a column for each of `sizes`.

    `arrays` has each method's analysis.npz.
    """
    with rc_context(STYLE):
        shape = (1.6 * len(sizes) + 1.1, 1.6 * len(arrays) + 0.3)
        figure = Figure(figsize=shape, layout="constrained", facecolor="white")
        grid = figure.subplots(len(arrays), len(sizes), squeeze=False)
        for row, (method, found) in zip(grid, arrays.items(), strict=True):
            kept = found["gradcam_sizes"].tolist()
            for ax, size in zip(row, sizes, strict=True):
                mean = found["gradcam_mean"][kept.index(size)].astype(float)
                image = ax.imshow(mean, vmin=0, vmax=1, cmap="inferno")
                ax.set(xticks=[], yticks=[])
                ax.grid(visible=False)
            row[0].set_ylabel(NAMES[method])
        for ax, size in zip(grid[0], sizes, strict=True):
            ax.set_title(f"{size} px", fontsize=10)
        figure.colorbar(image, ax=grid, label="mean attention", shrink=0.7)
        return figure


def class_space_figure(arrays: dict[str, dict], size: int, titles: dict[str, str]) -> Figure:
    """Draw the features at one size in their first two principal components, a panel for each method (Fig. 8).

    The number of a class stands at the median of its points, and an arrow leads there from their median at the largest
    size. The axes are the same at every size.

    Args:
        arrays: method -> its analysis.npz.
        size: which one, in pixels.
        titles: method -> what stands above its panel.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(2.7 * len(arrays), 3.0), layout="constrained", facecolor="white")
        grid = figure.subplots(1, len(arrays), squeeze=False)[0]
        for ax, (method, found) in zip(grid, arrays.items(), strict=True):
            sizes, labels = found["pca_sizes"].tolist(), found["pca_labels"]
            everywhere = found["pca_points"].astype(float)
            points, largest = everywhere[sizes.index(size)], everywhere[sizes.index(max(sizes))]
            palette = seaborn.color_palette("colorblind", int(labels.max()) + 1)
            ax.scatter(*points.T, c=[palette[label] for label in labels], s=3, alpha=0.45, linewidths=0)
            for label in np.unique(labels):
                here, there = (np.median(where[labels == label], 0) for where in (points, largest))
                ax.annotate("", here, there, arrowprops={"arrowstyle": "-", "color": ".25", "linewidth": 0.9})
                box = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": palette[label]}
                ax.annotate(str(label), here, ha="center", va="center", fontsize=8, bbox=box)
            low, high = np.percentile(everywhere.reshape(-1, 2), (0.2, 99.8), axis=0)
            margin = 0.04 * (high - low)
            (left, bottom), (right, top) = low - margin, high + margin
            ax.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
            ax.set_title(titles[method], fontsize=10)
            ax.set_xlabel("first component")
        grid[0].set_ylabel("second component")
        return figure


def space_numbers_figure(analyses: dict[str, dict]) -> Figure:
    """Draw what is measured in all dimensions of the feature space against size: neighbours, silhouette, displacement.

    `analyses` is method -> its analysis.json.
    """
    panels = {
        "neighbour_accuracy_at_largest": "nearest neighbour at the\nlargest size of its class (%)",
        "neighbour_accuracy": "nearest neighbour at the\nsame size of its class (%)",
        "silhouette": "silhouette, mean",
        "displacement": "displacement, mean",
    }
    with rc_context(STYLE):
        figure = Figure(figsize=(9.2, 6.4), layout="constrained", facecolor="white")
        grid = figure.subplots(2, 2).ravel()
        for ax, (measure, title) in zip(grid, panels.items(), strict=True):
            for method, record in analyses.items():
                by_size = record["pca"]["sizes"]
                sizes, means = [int(size) for size in by_size], [entry[measure]["mean"] for entry in by_size.values()]
                ax.plot(sizes, means, label=NAMES[method], **_look(method))
            ax.set_title(title, fontsize=11)
            ax.set_xticks(sizes[::2])
            if measure.startswith("neighbour"):
                ax.set_ylim(0, 102)
        for ax in grid[2:]:
            ax.set_xlabel("size of the input image (pixels)")
        grid[0].legend(loc="lower right")
        seaborn.despine(figure)
        return figure


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


WIDE = 4.3
"""Width of the drawing in inches: little enough that a phone shows its letters large enough."""


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
        looks = zip(("#555555", "#D55E00", "#CC79A7", "#0072B2"), "osD^", strict=True)
        for (name, values), (colour, marker) in zip(curves.items(), looks, strict=False):
            axes.step(sizes, values, where="mid", color=colour, marker=marker, markersize=5, linewidth=2, label=name)
        axes.set(xlabel="size of the input image (pixels)", ylabel="GFLOPs of one image", xticks=sizes[::2])
        axes.set_ylim(0, 1.08 * max(max(values) for values in curves.values()))
        axes.legend(loc="lower right", fontsize=10)
        seaborn.despine(figure)
        return figure


DISTANCE_TICKS = (0, 0.001, 0.01, 0.1, 1)


def constraint_figure(lam: float, distances: Sequence[float]) -> Figure:
    """Draw what lambda does: above, one pair's term and its pull; below, the term over two pairs' distances.

    Args:
        lam: lambda, at least 0.
        distances: those of a network's pairs, marked on the upper axes; the first two make the dot below.
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
        looks = zip(seaborn.color_palette("colorblind"), [(), (4, 2), (1, 1), (5, 1, 1, 1)], strict=False)
        for (name, (epochs, values)), (colour, dashes) in zip(rates.items(), looks, strict=False):
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
            look = {**_look(method), "markersize": 4, "markevery": max(1, len(rows) // 8)}
            count = 1 if method == "vanilla" else scales
            loss.plot(epochs, [row["loss"] for row in rows], **look)
            entropy.plot(epochs, [row["ce"] / count for row in rows], **look)
            accuracy.plot(epochs, [row["train_top1"] for row in rows], **look)
            rate.plot(epochs, [row["lr"] for row in rows], **look)
            legend.plot([], [], label=NAMES[method], **look)
            if method == "msun":
                invariance.plot(epochs, [row["si"] for row in rows], **look)
                kept = [row["loss"] - row["ce"] for row in rows]
                invariance.plot(epochs, kept, **{**look, "marker": None}, dashes=(3, 1.5))
                legend.plot([], [], color=look["color"], dashes=(3, 1.5), label="MSUN: what of $L_{SI}$ is in the loss")
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


_SUBNETS = tuple(zip((seaborn.color_palette("colorblind")[i] for i in (2, 4, 3, 5, 6, 9)), "v^oPXd", strict=True))
"""Colour and marker of f1, f2 ..."""


def accuracy_panels(panels: dict[str, dict[str, dict]]) -> Figure:
    """Draw top-1 accuracy against size for several sets of records, one above the other, one line a method.

    `panels` is the title -> method -> a record with `sizes` and `top1`, as summary.json has them.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(6.0, 3.3 * len(panels)), layout="constrained", facecolor="white")
        grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for ax, (title, records) in zip(grid, panels.items(), strict=True):
            for method, record in records.items():
                values = [record["top1"][str(size)] for size in record["sizes"]]
                ax.plot(record["sizes"], values, label=NAMES[method], **_look(method))
            ax.set_title(title, fontsize=11)
            ax.set(xticks=record["sizes"][::2], ylim=(0, 102), ylabel="top-1 accuracy (%)")
        grid[-1].set_xlabel("size of the input image (pixels)")
        grid[-1].legend(loc="lower right")
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
        for number, (scale, (colour, marker)) in enumerate(zip(scales, _SUBNETS, strict=False), start=1):
            values = [per_subnet[scale][size] for size in sizes]
            label = f"$f_{number}$ ({scale} px)"
            above.plot(sizes, values, color=colour, marker=marker, linewidth=2, markersize=5.5, label=label)
        above.set(ylabel="top-1 accuracy (%)", title=title)
        above.legend(loc="lower right")
        for row, chosen in enumerate(rules.values()):
            for size in sizes:
                number = scales.index(chosen[size])
                box = {"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": _SUBNETS[number][0]}
                below.annotate(f"$f_{number + 1}$", (size, row), ha="center", va="center", fontsize=9, bbox=box)
        below.set(yticks=range(len(rules)), ylim=(len(rules) - 0.4, -0.6), xticks=sizes)
        below.set_yticklabels(list(rules))
        below.set_xlabel("size of the input image (pixels)")
        below.grid(visible=False)
        seaborn.despine(figure)
        return figure


def tradeoff_figure(panels: dict[str, dict[str, tuple[float, float]]]) -> Figure:
    """Draw mean accuracy against mean FLOPs, one point a network, a routing rule or a subnet alone (Fig. 4b).

    `panels` is the title -> name -> FLOPs in percent of Vanilla's, accuracy in percent. Names that start with `f` and a
    digit are subnets alone, drawn small.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(6.0, 3.4 * len(panels)), layout="constrained", facecolor="white")
        grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for ax, (title, points) in zip(grid, panels.items(), strict=True):
            for name, (flops, accuracy) in points.items():
                method = name.split()[0].lower()
                if method in NAMES:
                    look = {**_look(method), "markersize": 8}
                else:
                    colour, marker = _SUBNETS[int(name[1]) - 1]
                    look = {"color": colour, "marker": marker, "markersize": 6}
                ax.plot([flops], [accuracy], **look)
                left = flops > 97 or method in NAMES
                shift = (-8 if left else 8, {"mst": 6, "f3": -6}.get(method, 0))
                label = f"$f_{name[1]}$ alone" if name[0] == "f" else name
                ax.annotate(label, (flops, accuracy), shift, textcoords="offset points", fontsize=9,
                            ha="right" if left else "left", va="center")  # fmt: skip
            lowest = min(flops for flops, _ in points.values())
            ax.set_title(title, fontsize=11)
            ax.set(ylabel="mean top-1 accuracy (%)", xlim=(lowest - 3, 102))
            ax.margins(y=0.12)
        grid[-1].set_xlabel("mean FLOPs (% of Vanilla's)")
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


def percent_figure(
    curves: dict[str, dict[int, float]], ylabel: str = "top-1 accuracy (%)", chance: float | None = None
) -> Figure:
    """Draw percentages against image size, a line for each of `curves` (name -> size -> percent).

    `chance` is what guessing gives, drawn as a dotted line if it is given.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.0), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        looks = zip(("#0072B2", "#D55E00", "#555555", "#CC79A7"), "osD^", strict=True)
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


def answer_figure(shares: NDArray, sizes: Sequence[int], class_names: Sequence[str], title: str = "") -> Figure:
    """Draw how often a network answers each class at each size.

    Args:
        shares: [sizes, classes], percent of the images that are called so.
        sizes: in pixels.
        class_names: what the classes are called.
        title: what stands above the axes.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.9), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        image = axes.imshow(np.asarray(shares).T, cmap="cividis", vmin=0, vmax=100, aspect="auto")
        for column, row in enumerate(np.asarray(shares)):
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
                colour, marker = _SUBNETS[number - 1]
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
        looks = zip(("#0072B2", "#D55E00", "#555555", "#CC79A7"), "osD^", strict=True)
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
            bars = ax.barh(range(len(row)), list(row.values()), color=[_look(m)["color"] for m in row], height=0.66)
            ax.bar_label(bars, fmt="%.1f", padding=4, fontsize=10)
            ax.set_title(title, fontsize=11)
            ax.set_yticks(range(len(row)), [NAMES[method] for method in row])
            ax.set(xlim=(0, 115), xticks=range(0, 101, 25), xlabel="top-1 accuracy (%)")
            ax.invert_yaxis()
            ax.grid(visible=False, axis="y")
        seaborn.despine(figure)
        return figure
