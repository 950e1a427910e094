import numpy as np

from msun_lite.ablate import BEST, FAIR
from msun_lite.book.published import comparison, comparison_by_seed
from msun_lite.book.rival_figures import range_figure


def test_a_curve_is_the_mean_of_its_values_and_the_band_ends_at_the_least_and_the_largest():
    (axes,) = range_figure({"MST, plain": {16: [70, 80], 32: [80, 84]}}, "size", "accuracy").axes
    assert axes.lines[0].get_xydata().tolist() == [[16, 75], [32, 82]]
    corners = axes.collections[0].get_paths()[0].vertices
    for size, ends in ((16, (70, 80)), (32, (80, 84))):
        heights = corners[np.isclose(corners[:, 0], size), 1]
        assert (heights.min(), heights.max()) == ends


def test_two_curves_of_one_method_have_its_colour_and_can_be_told_apart():
    names = ("MSUN", "MSUN, native input", "MST")
    (axes,) = range_figure({name: {16: [70], 32: [80]} for name in names}, "size", "accuracy").axes
    plain, native, other = axes.lines
    assert plain.get_color() == native.get_color() != other.get_color()
    assert plain.get_linestyle() != native.get_linestyle()
    assert [label.get_text() for label in axes.get_legend().get_texts()] == list(names)


def test_the_rivals_rows_are_the_means_of_the_runs_by_seed():
    runs = comparison_by_seed("rivals")
    assert {BEST, *FAIR} <= set(runs)
    for row in comparison("rivals")["rows"]:
        assert row["values"]["mean"] == [summary["mean_top1"] for summary in runs[row["row"]].values()]
