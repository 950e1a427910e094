"""Errors that the user can mend: one clear line on standard error, exit code 2, no traceback."""

import contextlib
import difflib
import errno
import functools
import io
import os
import pickle
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TextIO

MACHINES_LIMITS = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors that no file is to blame for: a full disk or quota, too many open files, too little memory."""


class UserError(ValueError):
    """Something given from outside is wrong; the message names it, its value and what was expected."""

    def _render_traceback_(self) -> list[str]:
        return [f"error: {printable(' '.join(str(self).split()))}"]  # what IPython, and so a notebook, shows of it


class DataError(UserError):
    """A data set, a folder or an image cannot be used."""


class FailedDownload(DataError):
    """A file from the web cannot be had now; what has arrived is kept, and a later call goes on."""


class CheckpointError(UserError):
    """A checkpoint, a weights file or a run folder cannot be used."""


def one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise a `UserError` that names the option unless its value is allowed."""
    if value not in allowed:
        raise UserError(f"{name}: expected one of {', '.join(allowed)}, got {value!r}")


def within(name: str, value: float, least=None, above=None, most=None, below=None) -> None:
    """Raise a `UserError` that names the option unless its value is within the bounds that are given."""
    bounds = (
        ("at least", least, lambda bound: value >= bound),
        ("more than", above, lambda bound: value > bound),
        ("at most", most, lambda bound: value <= bound),
        ("less than", below, lambda bound: value < bound),
    )
    for word, bound, holds in bounds:
        if bound is not None and not holds(bound):
            raise UserError(f"{name}: expected {word} {bound}, got {value}")


SECRETS = (
    (re.compile(r"(?<=://)(?:[^/\s]*|[^/\s:]*:(?!\d+(?:[/\s]|$))\S*)@"), "***@"),
    (re.compile(r"(://[^\s?]*)\?\S+?(?=[:;,)'\"]*(?:\s|$))"), r"\1?***"),
)
"""What of an address is nobody else's business: user and password, and the query, which may be a signature."""


def redact_secrets(text: str) -> str:
    """Return a text with the secrets of all addresses in it replaced by ***."""
    for secret, replacement in SECRETS:
        text = secret.sub(replacement, text)
    return text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `, did you mean X?` for the known word that is most like a mistyped one; nothing if none is like it."""
    names = {name.lstrip("-"): name for name in known}  # what all options begin with is no likeness
    close = difflib.get_close_matches(word.lstrip("-"), list(names), n=1)
    return f", did you mean {names[close[0]]}?" if close else ""


def printable(text: object) -> str:
    """Return a name from outside as it can be printed anywhere: on one line, and without codes that a terminal obeys.

    Characters that do not print are written as Python escapes them (`\\n`, `\\x1b`), bytes that are not UTF-8 as
    `\\xe9`.
    """
    return "".join(character if character.isprintable() else _escaped(character) for character in str(text))


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python's file names carry a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def first_line(error: Exception) -> str:
    """Return the first line of what an error of another library says, its kind if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a computer or its GPU has no memory left."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)  # of PyTorch, which this file does without: commands that fail early start fast
        and (type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error))
    )


def one_line_errors(main: Callable[..., int | None]) -> Callable[..., int]:
    """Wrap a command's `main`: a `UserError` becomes one line and the returned exit code 2.

    So does what the system says of a file (a name that is too long for it, no permission) or of its own limits.

    An interrupt that the command did not handle itself gives 130, as shells expect. Characters that the terminal cannot
    show are escaped, and a reader that goes away early (`| head`) stops nothing.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs) -> int:
        _escape_what_cannot_be_shown()
        try:
            return main(*args, **kwargs) or 0
        except UserError as error:
            _report(f"error: {printable(redact_secrets(' '.join(str(error).split())))}")
            return 2
        except OSError as error:
            if error.filename is None and error.errno not in MACHINES_LIMITS:
                raise
            about = f"{error.filename}: " if error.filename is not None else ""
            _report(f"error: {printable(about)}{error.strerror}")
            return 2
        except KeyboardInterrupt:
            _report("interrupted")
            return 130
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            _report(f"error: out of memory: {printable(first_line(error))}; expected a smaller batch to help")
            return 2
        finally:
            with ignore_closed_pipe(sys.stdout):
                sys.stdout.flush()

    return wrapped


def _escape_what_cannot_be_shown() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a notebook's is another, and shows all
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def ignore_closed_pipe(stream: TextIO) -> Iterator[None]:
    """Write to `stream` inside; once its reader has gone away, what is written there is dropped, without an error."""
    try:
        yield
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # also for what Python writes when it ends
        os.close(nowhere)


def _report(line: str) -> None:
    """Print to standard error, below the progress bars if there were any."""
    if progress := sys.modules.get("msun_lite.utils.progress"):
        progress.end_bars()
    with ignore_closed_pipe(sys.stderr):
        print(line, file=sys.stderr, flush=True)


def unreadable(error: Exception) -> str:
    """Return why torch.load read no file; its advice to read it without protection is not passed on."""
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error):
        return "more than tensors and plain values, or damage"
    return first_line(error)
