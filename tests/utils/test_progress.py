import io
import sys

import pytest

from msun_lite.utils.errors import UserError, one_line_errors
from msun_lite.utils.progress import note, progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@one_line_errors
def _command(leave, error):
    with progress(total=4, desc="outer", leave=leave) as bar:
        bar.update()
        for number in progress(range(4), desc="inner", leave=False):
            if number:
                raise error


@pytest.mark.parametrize("leave", [False, True])
@pytest.mark.parametrize(
    ("error", "line"), [(UserError("no such thing"), "error: no such thing"), (KeyboardInterrupt(), "interrupted")]
)
def test_an_error_begins_on_a_line_of_its_own_whatever_bars_are_open(monkeypatch, leave, error, line):
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stderr", stream)
        _command(leave, error)
        before, found, after = stream.getvalue().partition(line)
        assert (before[-1] in "\r\n", found, after) == (True, line, "\n")


def test_a_bar_in_a_log_file_is_lines(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(sys, "stdout", log)
    for number in progress(range(3), desc="outer"):
        for _ in progress(range(2), desc="inner", leave=False):
            pass
        note(f"seen {number}")
    lines = log.getvalue().splitlines()
    assert [line for line in lines if line.startswith("seen")] == ["seen 0", "seen 1", "seen 2"]
    assert all(line.startswith(("outer: ", "inner: ", "seen ")) for line in lines)
    assert not set("\r\x1b") & set(log.getvalue())
    assert lines[-1].startswith("outer: 100%")
