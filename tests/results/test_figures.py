import pytest

from msun_lite.results import accuracy_figure

SIZES = [8, 16, 24, 32, 40, 48, 56]


def record(percent):
    return {
        "sizes": SIZES,
        "scales": [8, 32, 56],
        "mean_top1": percent,
        "top1": dict.fromkeys(map(str, SIZES), percent),
    }


@pytest.mark.parametrize("percents", [(12.0, 17.0), (20.0, 95.0), (90.0, 99.0)])
def test_the_legend_of_the_accuracies_does_not_hide_a_line(percents):
    figure = accuracy_figure(dict(zip(("vanilla", "msun"), map(record, percents), strict=True)))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    legend = axes.get_legend().get_window_extent()
    for percent in percents:
        assert not legend.y0 < axes.transData.transform((56, percent))[1] < legend.y1
