import pytest
from matplotlib.text import Text

from msun_lite.results import curves_figure, drawn_name, markdown_name, save_figure

ODD = ["$x_1^2$", r"$\nothing$", "$one", r"a\$b$", "a|b `c` <d>", "two\nlines", "魚"]


@pytest.mark.parametrize("name", ODD)
def test_a_name_is_drawn_as_it_is(name):
    text, math = Text()._preprocess_math(drawn_name(name))
    assert not math
    assert text == name.replace("\n", r"\n")


def test_a_name_too_long_for_a_picture_is_cut():
    assert drawn_name("a" * 21, 21) == "a" * 21
    assert drawn_name("golden retriever, a dog", 18) == "golden retriever,…"
    assert drawn_name("$" * 30, 4) == r"\$\$\$…"


def test_a_name_cannot_end_a_cell_or_a_line_of_markdown():
    assert markdown_name("a|b\n`c`") == r"a\|b\\n\`c\`"


def rows(epochs):
    row = {"loss": 2.0, "ce": 1.5, "si": 0.5, "kd": 0.0, "train_top1": 50.0, "lr": 0.1}
    return [row | {"epoch": epoch} for epoch in range(1, epochs + 1)]


@pytest.mark.parametrize("title", ODD)
def test_curves_of_a_folder_with_an_odd_name_can_be_saved(title, tmp_path):
    save_figure(curves_figure(rows(2), title), tmp_path / "curves")
    assert (tmp_path / "curves.svg").is_file()


def test_the_curves_of_one_epoch_are_points():
    figure = curves_figure(rows(1))
    assert all(line.get_marker() == "." for axes in figure.axes for line in axes.lines)
    figure.draw_without_rendering()
    low, high = figure.axes[-1].get_xlim()
    assert [tick for tick in figure.axes[-1].get_xticks() if low <= tick <= high] == [1]
