"""The figures that the chapters draw from live networks, in the one style of `figures`.

Each returns a `Figure` without pyplot. White ground, colours that colour-blind readers can tell apart, no colour that
alone carries a meaning.
"""

from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from msun_lite.figures import NAMES, STYLE


def prediction_figure(
    picture: NDArray, probabilities: dict[str, Sequence[float]], class_names: Sequence[str], label: int, title: str = ""
) -> Figure:
    """Draw one image as the networks get it, and beside it how sure each network is of its three likeliest classes.

    Args:
        picture: [H, W, 3] from 0 to 1; its pixels are shown as they are.
        probabilities: method -> probabilities [classes].
        class_names: what the classes are called.
        label: the image's class, whose bars are filled; the others are hatched.
        title: what stands above the image.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(8.4, 2.9), layout="constrained", facecolor="white")
        grid = figure.subplots(1, 1 + len(probabilities), width_ratios=[1.1] + [1] * len(probabilities))
        grid[0].imshow(picture, interpolation="nearest")
        grid[0].set(xticks=[], yticks=[], title=title)
        for ax, (method, row) in zip(grid[1:], probabilities.items(), strict=True):
            likeliest = sorted(range(len(row)), key=lambda index: -row[index])[:3]
            right = [index == label for index in likeliest]
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
