import pytest
from IPython.core.interactiveshell import InteractiveShell

from msun_lite.book.lab import Chapter, _skip_in, skipping
from msun_lite.book.skipping import Skipping
from msun_lite.train.run import train
from msun_lite.utils.errors import UserError

MISSING = {"models": {"mst": "no run by mst"}, "records": {"mst": "no run by mst", "msun": "no record of msun"}}


def after(skip, source):
    """Return what a cell becomes."""
    return "".join(skip(source.splitlines(keepends=True)))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ('x = chapter.models["mst"]\n', "no run by mst"),
        ('print(chapter.records["msun"]["top1"])\n', "no record of msun"),
        ('def f():\n    return chapter.models["mst"]\n', "no run by mst"),
    ],
)
def test_a_cell_that_asks_for_a_method_that_is_not_there_says_so_in_its_place(source, reason):
    assert after(Skipping(MISSING, {}), source) == f"print('skipped: {reason}')\n"


@pytest.mark.parametrize(
    "source",
    [
        'x = chapter.models["msun"]\n',
        "x = [chapter.models[name] for name in chapter.models]\n",
        'other.models["mst"]\n',
        "this is no Python\n",
    ],
)
def test_other_cells_stay_as_they_are(source):
    assert after(Skipping(MISSING, {}), source) == source


def test_a_cell_that_builds_on_a_skipped_one_is_skipped_too_until_another_cell_gives_what_it_needs():
    names = {}
    skip = Skipping(MISSING, names)
    after(skip, 'mst, size = chapter.models["mst"], 8\nlocal = [row for row in mst.scales]\n')
    assert "it builds on a cell that was skipped (mst, size)" in after(skip, "answer = mst(size)\n")
    assert "(answer)" in after(skip, "answer.argmax()\n")
    for source in ("print(row)\n", "for size in (8, 16):\n    print(size)\n", "def f(mst):\n    return mst\n"):
        assert after(skip, source) == source
    names["answer"] = 1
    assert after(skip, "print(answer)\n") == "print(answer)\n"


def test_what_an_earlier_run_of_a_skipped_cell_has_left_is_taken_away():
    names = {"mst": "of another run", "mean": sum}
    source = 'mst = chapter.models["mst"]\n\n\ndef f(x):\n    mean = x\n    return mean\n'
    after(Skipping(MISSING, names), source)
    assert names == {"mean": sum}


def test_in_a_notebook_a_chapter_goes_on_without_what_the_run_lacks(tiny, capsys):
    shell = InteractiveShell()
    shell.user_ns["chapter"] = chapter = Chapter("scenes", train(tiny(epochs=1)))
    for _ in range(2):  # as if the first cell was run again
        _skip_in(shell, skipping(chapter, shell.user_ns))
    assert sum(isinstance(one, Skipping) for one in shell.input_transformers_post) == 1
    assert shell.run_cell('vanilla = chapter.models["vanilla"]').success
    assert shell.run_cell("vanilla.eval()").success
    assert shell.run_cell('scales = chapter.models["msun"].scales\nscales').result == (8, 16)
    said = capsys.readouterr().out
    assert "skipped: RUN: expected a run by vanilla beside" in said
    assert "skipped: it builds on a cell that was skipped (vanilla)" in said


def test_a_notebook_shows_an_error_of_the_users_as_one_line(capsys):
    shell = InteractiveShell()
    shell.user_ns["UserError"] = UserError
    assert not shell.run_cell("raise UserError('DATA: expected a folder,\\n got x')").success
    shown = capsys.readouterr()
    assert (shown.out + shown.err).strip() == "error: DATA: expected a folder, got x"
