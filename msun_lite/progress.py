"""Progress bars: live on a terminal and in a notebook, a line now and then in a log file.

With the environment variable MSUN_LITE_PROGRESS=off there are none: the book is built so.
"""

import os
import sys

from tqdm.auto import tqdm

LOG_SECONDS = 20
"""Seconds between two lines of a progress bar that goes to a file."""


def progress(iterable=None, disable: bool = False, **options) -> tqdm:
    """Return a tqdm bar over `iterable`; `options` are tqdm's."""
    live = sys.stderr.isatty() or "ipykernel" in sys.modules
    off = disable or os.environ.get("MSUN_LITE_PROGRESS") == "off"
    return tqdm(iterable, mininterval=0.1 if live else LOG_SECONDS, disable=off, **options)


note = tqdm.write
"""Print a line without breaking a bar that is on the screen."""
