"""Progress bars: live on a terminal and in a notebook, a line now and then in a log file."""

import sys

from tqdm.auto import tqdm

LOG_SECONDS = 20
"""Seconds between two lines of a progress bar that goes to a file."""


def progress(iterable=None, **options) -> tqdm:
    """Return a tqdm bar over `iterable`; `options` are tqdm's."""
    live = sys.stderr.isatty() or "ipykernel" in sys.modules
    return tqdm(iterable, mininterval=0.1 if live else LOG_SECONDS, **options)


note = tqdm.write
"""Print a line without breaking a bar that is on the screen."""
