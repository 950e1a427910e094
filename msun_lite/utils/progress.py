"""Progress bars: live on a terminal and in a notebook, a line of its own now and then in a log file.

With the environment variable MSUN_LITE_PROGRESS=off there are none: the book is built so.
"""

import os
import sys
import weakref

from tqdm.auto import tqdm

from msun_lite.utils.errors import ignore_closed_pipe, printable

LOG_SECONDS = 20
"""Seconds between two lines of a progress bar that goes to a file."""

_bars = weakref.WeakSet()


class _Log:
    """Standard error where it is a file: each state of a bar is a line, without what moves a cursor."""

    @property
    def encoding(self) -> str | None:
        return sys.stderr.encoding

    def write(self, text: str) -> None:
        if line := text.replace("\x1b[A", "").strip():
            with ignore_closed_pipe(sys.stderr):
                sys.stderr.write(f"{line}\n")

    def flush(self) -> None:
        with ignore_closed_pipe(sys.stderr):
            sys.stderr.flush()


def progress(iterable=None, disable: bool = False, **options) -> tqdm:
    """Return a tqdm bar over `iterable`; `options` are tqdm's."""
    live = sys.stderr.isatty() or "ipykernel" in sys.modules
    off = disable or os.environ.get("MSUN_LITE_PROGRESS") == "off"
    there = {"mininterval": 0.1} if live else {"mininterval": LOG_SECONDS, "file": _Log()}
    bar = tqdm(iterable, disable=off, **there, **options)
    _bars.add(bar)
    return bar


def end_bars() -> None:
    """Close the bars that an error has left open, so that what is printed next begins on a line of its own."""
    for bar in list(_bars):
        bar.close()


def note(text: str) -> None:
    """Print a line without breaking a bar that is on the screen, names in it as `printable`."""
    _print(printable(text))


def show(text: str) -> None:
    """Print a text of several lines, such as a table; as `note`."""
    _print("\n".join(map(printable, text.split("\n"))))


def _print(text: str) -> None:
    with ignore_closed_pipe(sys.stdout):
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()
