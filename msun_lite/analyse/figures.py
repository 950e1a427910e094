"""The figures of an analysis: similarity of features, attention, the feature space."""

from collections.abc import Sequence
from math import nan

import seaborn
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from msun_lite.analyse.tables import resolve_feeding
from msun_lite.results import COLOURS, NAMES, RESAMPLING_NAMES, STYLE, line_style


def analysis_figures(analyses: dict[str, dict], arrays: dict[str, dict]) -> dict[str, Figure]:
    """Return the figures of every study that all of the analyses have, by name.

    Args:
        analyses: method -> its analysis.json.
        arrays: method -> its analysis.npz.
    """
    common = set.intersection(*(set(record) for record in analyses.values()))
    figures, first = {}, next(iter(analyses.values()))
    if "cka" in common and (sizes := [int(size) for size in first["cka"]["curves"]["upsampled"]]):
        small = min(sizes)
        figures["cka-stages"] = stage_figure(analyses, small)
        figures["cka-stages-biased"] = stage_figure(analyses, small, "biased")
        for feeding in ("native", "upsampled"):
            curves = [record["cka"]["curves"][feeding] for record in analyses.values()]
            if all(curves):
                figures[f"cka-layers-{feeding}"] = layer_figure(analyses, feeding)
            if all(str(small) in curve for curve in curves):
                figures[f"cka-heatmap-{feeding}"] = heatmap_figure(analyses, arrays, small, feeding)
    if "gradcam" in common:
        figures["attention"] = attention_figure(analyses)
        if all("reference" in record["gradcam"]["agreement"] for record in analyses.values()):
            figures["attention-reference"] = attention_figure(analyses, against="reference")
    if "pca" in common:
        sizes = first["pca"]["settings"]["sizes"]
        figures["feature-space"] = space_figure(analyses, arrays, [sizes[0], sizes[len(sizes) // 3], sizes[-1]])
    if "resizing" in common:
        figures["resizing"] = resizing_figure(analyses)
    return figures


def stage_figure(analyses: dict[str, dict], size: int, estimator: str = "unbiased") -> Figure:
    """Draw CKA between small and large images stage by stage, one line a method, a panel for each feeding (Fig. 2).

    Args:
        analyses: method -> its analysis.json.
        size: the small size in pixels.
        estimator: `biased` (Eq. 1 as printed) or `unbiased`.
    """
    first = next(iter(analyses.values()))["cka"]
    titles = {"native": "native (MSUN: at its scale)", "upsampled": "made large first"}
    if all("method" in record for record in analyses.values()):
        titles = {"used": "as each network is used", **titles}
    panels = {
        feeding: title
        for feeding, title in titles.items()
        if any(str(size) in record["cka"]["curves"][resolve_feeding(record, feeding)] for record in analyses.values())
    }
    with rc_context(STYLE):
        figure, axes = _panels(len(panels), (3.9 * len(panels), 3.7))
        for ax, (feeding, title) in zip(axes, panels.items(), strict=True):
            for method, record in analyses.items():
                curve = record["cka"]["curves"][resolve_feeding(record, feeding)].get(str(size))
                if curve is None:
                    continue  # a network that cannot take such images as they are
                positions = [record["cka"]["layers"].index(stage) for stage in ("image", *record["cka"]["stages"])]
                values = [curve[estimator][position] for position in positions]
                ax.plot(range(len(values)), values, label=NAMES[method], **line_style(method))
            stages = [f"F{number}" for number in range(1, 1 + len(first["stages"]))]
            ax.set(title=title, ylim=(0, 1.03), xticks=range(1 + len(stages)), xticklabels=["image", *stages])
            ax.set_xlabel("stage")
        axes[0].set_ylabel(f"CKA of {size} px and {first['reference']} px")
        axes[0].legend(loc="lower left")
        return figure


def layer_figure(analyses: dict[str, dict], feeding: str = "native") -> Figure:
    """Draw unbiased CKA with the largest scale layer by layer, one line a size, a panel for each method."""
    with rc_context(STYLE):
        figure, axes = _panels(len(analyses), (4.1 * len(analyses), 4.2))
        for ax, (method, record) in zip(axes, analyses.items(), strict=True):
            curves, names = record["cka"]["curves"][feeding], record["cka"]["layers"]
            colours = seaborn.color_palette("viridis", len(curves))
            for colour, (size, curve) in zip(colours, curves.items(), strict=True):
                named = size in list(curves)[:: max(1, len(curves) // 4)]
                ax.plot(curve["unbiased"], color=colour, linewidth=1.6, label=f"{size} px" if named else None)
            ax.set(title=NAMES[method], ylim=(0, 1.03), xticks=range(len(names)))
            ax.set_xticklabels(names, rotation=90, fontsize=8)
            ax.legend(loc="lower left", fontsize=9)
        axes[0].set_ylabel(f"CKA with {record['cka']['reference']} px")
        return figure


def heatmap_figure(analyses: dict[str, dict], arrays: dict[str, dict], size: int, feeding: str = "native") -> Figure:
    """Draw unbiased CKA of every layer at a small size with every layer at the largest scale, a panel for each method.

    `arrays` has each method's analysis.npz.
    """
    with rc_context(STYLE):
        figure, axes = _panels(len(analyses), (3.9 * len(analyses) + 0.6, 4.6))
        for ax, (method, record) in zip(axes, analyses.items(), strict=True):
            names = record["cka"]["layers"]
            image = ax.imshow(arrays[method][f"cka_{feeding}_{size}_unbiased"], vmin=0, vmax=1, cmap="magma")
            ax.set(title=NAMES[method], xticks=range(len(names)), yticks=range(len(names)))
            ax.set_xticklabels(names, rotation=90, fontsize=8)
            ax.set_yticklabels(names, fontsize=8)
            ax.set_xlabel(f"at {record['cka']['reference']} px")
            ax.grid(visible=False)
        axes[0].set_ylabel(f"at {size} px")
        figure.colorbar(image, ax=axes, label="CKA", shrink=0.8)
        return figure


def attention_figure(analyses: dict[str, dict], against: str = "own") -> Figure:
    """Draw the correlation of Grad-CAM's maps with those at the largest size: mean over images, quartiles as bands.

    Args:
        analyses: method -> its analysis.json.
        against: `own`, or `reference` for the network that each was compared with.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.4), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        for method, record in analyses.items():
            by_size = record["gradcam"]["agreement"][against]
            sizes, entries = [int(size) for size in by_size], [entry["correlation"] for entry in by_size.values()]
            mean, low, high = ([entry.get(name, nan) for entry in entries] for name in ("mean", "q25", "q75"))
            axes.plot(sizes, mean, label=NAMES[method], **line_style(method))
            axes.fill_between(sizes, low, high, color=COLOURS[method], alpha=0.12, linewidth=0)
            others = record["gradcam"]["another_image"][against].values()
            chance = [entry["correlation"].get("mean", nan) for entry in others]
            axes.plot(sizes, chance, color=COLOURS[method], linewidth=1.2, linestyle=(0, (2, 2)))
        whose = "its own" if against == "own" else f"{_called(record['gradcam']['settings']['reference_run'])}'s"
        largest = record["gradcam"]["reference"]
        axes.set(
            xlabel="size of the input image (pixels)",
            ylabel=f"correlation with {whose} attention at {largest} px",
            xticks=sizes,
            ylim=(-0.02, 1.03),
        )
        title = "mean; band: the middle half of the images; dotted: another image"
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=len(analyses), title=title)
        seaborn.despine(figure)
        return figure


def _called(run: str) -> str:
    """Return what a run is called in figures: its method, if its name ends with one."""
    return NAMES.get(run.rpartition("-")[2], run)


def map_figure(
    rows: Sequence[tuple[str, Sequence[NDArray], Sequence[NDArray | None]]], titles: Sequence[str]
) -> Figure:
    """Lay attention maps over images: a column for each size.

    Args:
        rows: what stands beside a row, its image at each of S sizes [H, W, 3], and a map [h, w] for each, or None, all
            from 0 to 1. A map that is 0 everywhere is marked.
        titles: what stands above each of the S columns.
    """
    with rc_context(STYLE):
        size = (1.7 * len(titles) + 0.4, 1.75 * len(rows) + 0.2)
        figure = Figure(figsize=size, layout="constrained", facecolor="white")
        grid = figure.subplots(len(rows), len(titles), squeeze=False)
        for axes, (label, images, maps) in zip(grid, rows, strict=True):
            for ax, image, found in zip(axes, images, maps, strict=True):
                ax.imshow(image, extent=(0, 1, 1, 0))
                if found is not None:
                    ax.imshow(found, extent=(0, 1, 1, 0), cmap="inferno", alpha=0.55, vmin=0, vmax=1)
                    ax.set_xlabel("" if found.any() else "no evidence", fontsize=8)
                ax.set(xticks=[], yticks=[])
            axes[0].set_ylabel(label)
        for ax, title in zip(grid[0], titles, strict=True):
            ax.set_title(title, fontsize=10)
        return figure


def space_figure(analyses: dict[str, dict], arrays: dict[str, dict], sizes: Sequence[int]) -> Figure:
    """Draw the features in their first two principal components, coloured by class (Fig. 8).

    A row for each method, which has one basis for all sizes, a column for each of `sizes`. In the corner stands for how
    many images the nearest neighbour among the others at the largest size is of their class.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(2.9 * len(sizes), 2.75 * len(analyses)), layout="constrained", facecolor="white")
        grid = figure.subplots(len(analyses), len(sizes), squeeze=False, sharex="row", sharey="row")
        for row, (method, record) in zip(grid, analyses.items(), strict=True):
            kept, labels = arrays[method]["pca_sizes"].tolist(), arrays[method]["pca_labels"]
            palette = seaborn.color_palette("colorblind", int(labels.max()) + 1)
            for ax, size in zip(row, sizes, strict=True):
                points = arrays[method]["pca_points"][kept.index(size)].astype(float)
                ax.scatter(
                    *points.T, c=[palette[label] for label in labels], s=4, alpha=0.6, linewidths=0, rasterized=True
                )
                found = record["pca"]["sizes"][str(size)]["neighbour_accuracy_at_largest"]["mean"]
                ax.set(xticks=[], yticks=[], title=f"{NAMES[method]}, {size} px")
                ax.text(
                    0.98,
                    0.97,
                    f"right neighbour: {found:.0f} %",
                    transform=ax.transAxes,
                    ha="right",
                    va="top",
                    fontsize=8,
                )
            row[0].set_ylabel("second component")
        for ax in grid[-1]:
            ax.set_xlabel("first component")
        return figure


def resizing_figure(analyses: dict[str, dict]) -> Figure:
    """Draw top-1 accuracy against size for every way of making the image small, a panel for each method."""
    markers, dashes = "osD^vP", [(), (4, 2), (1, 1), (3, 1, 1, 1), (5, 1), (2, 2)]
    with rc_context(STYLE):
        figure, axes = _panels(len(analyses), (4 * len(analyses), 4.2))
        for ax, (method, record) in zip(axes, analyses.items(), strict=True):
            for number, (way, row) in enumerate(record["resizing"]["top1"].items()):
                ax.plot(
                    [int(size) for size in row],
                    list(row.values()),
                    color=seaborn.color_palette("colorblind")[number],
                    marker=markers[number],
                    dashes=dashes[number] or (None, None),
                    markersize=4,
                    label=RESAMPLING_NAMES[way],
                )
            ax.set(title=NAMES[method], xlabel="size (pixels)", ylim=(0, 102))
        axes[0].set_ylabel("top-1 accuracy (%)")
        axes[-1].legend(loc="lower right", fontsize=9)
        return figure


def _panels(count: int, figsize: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels side by side that share their vertical axis."""
    figure = Figure(figsize=figsize, layout="constrained", facecolor="white")
    axes = list(figure.subplots(1, count, squeeze=False, sharey=True)[0])
    seaborn.despine(figure)
    return figure, axes
