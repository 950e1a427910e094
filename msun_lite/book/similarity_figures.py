"""The figures of the chapters on CKA, Grad-CAM and the feature space, in the one style of `figures`."""

from collections.abc import Sequence

import numpy as np
import seaborn
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from msun_lite.results import NAMES, STYLE, line_style


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


def feeding_figure(analysis: dict, sizes: Sequence[int]) -> Figure:
    """Draw unbiased CKA with the largest size layer by layer, one line a size, images fed native and upsampled.

    Args:
        analysis: the analysis.json of one network.
        sizes: in pixels.
    """
    found, styles = analysis["cka"], zip("osD^", seaborn.color_palette("viridis", 4), strict=True)
    lines = dict(zip(sizes, styles, strict=False))
    with rc_context(STYLE):
        figure = Figure(figsize=(8.2, 4.2), layout="constrained", facecolor="white")
        axes = figure.subplots(1, 2, sharey=True)
        for ax, feeding in zip(axes, ("native", "upsampled"), strict=True):
            for size, (marker, colour) in lines.items():
                values = found["curves"][feeding][str(size)]["unbiased"]
                ax.plot(values, color=colour, marker=marker, linewidth=2, label=f"{size} px")
            ax.set(title=feeding, ylim=(0, 1.03), xticks=range(len(found["layers"])), xlabel="layer")
            ax.set_xticklabels(found["layers"], rotation=90)
        axes[0].set_ylabel(f"CKA with {found['reference']} px")
        axes[0].legend(loc="lower left")
        seaborn.despine(figure)
        return figure


def overlay_figure(picture: NDArray, overlays: dict[str, tuple[NDArray, NDArray]], title: str = "") -> Figure:
    """Draw one image as it is and, beside it, attention laid over it: bright where the map is high; none is marked.

    Args:
        picture: [H, W, 3] from 0 to 1; its pixels are shown as they are.
        overlays: what stands above a panel -> the image under the map [h, w, 3] and the map [h', w'], all 0 to 1.
        title: what stands above the image.
    """
    with rc_context(STYLE):
        panels = 1 + len(overlays)
        figure = Figure(figsize=(2.1 * panels, 2.5), layout="constrained", facecolor="white")
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
                ax.plot(sizes, means, label=NAMES[method], **line_style(method))
            ax.set_title(title, fontsize=11)
            ax.set_xticks(sizes[::2])
            if measure.startswith("neighbour"):
                ax.set_ylim(0, 102)
        for ax in grid[2:]:
            ax.set_xlabel("size of the input image (pixels)")
        grid[0].legend(loc="lower right")
        seaborn.despine(figure)
        return figure
