"""Errors that the user can mend: one clear line on standard error, exit code 2, no traceback."""

import functools
import sys
from collections.abc import Callable


class UserError(ValueError):
    """Something given from outside is wrong; the message names it, its value and what was expected."""


class DataError(UserError):
    """A data set, a folder or an image cannot be used."""


class CheckpointError(UserError):
    """A checkpoint, a weights file or a run folder cannot be used."""


def one_line_errors(main: Callable[..., int | None]) -> Callable[..., int]:
    """Wrap a command's `main`: a `UserError` becomes one line and the returned exit code 2.

    An interrupt that the command did not handle itself gives 130, as shells expect.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs) -> int:
        try:
            return main(*args, **kwargs) or 0
        except UserError as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130

    return wrapped
