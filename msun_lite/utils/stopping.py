"""Stopping on request: Ctrl-C, the end of the time, and the signals that clusters send before they kill."""

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""Ctrl-C; what a scheduler sends before SIGKILL; what Slurm's --signal=USR1@60 sends."""


class StopRequest:
    """Says when to stop: after one of `STOP_SIGNALS`, or once training has taken `minutes`, or if torchrun is gone.

    Used as a context. A signal interrupts what is under way at once, as a `KeyboardInterrupt`; inside of `deferred` a
    first one is only noted, for whoever asks.
    """

    def __init__(self, minutes: float | None = None):
        self.minutes = minutes
        self.signal: int | None = None
        self._deadline = math.inf
        self._deferred = False
        # What torchrun started outlives it if it is killed, and would train on beside the run that is started next.
        self._launcher = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None

    def __enter__(self) -> "StopRequest":
        here = threading.current_thread() is threading.main_thread()  # Python takes signals nowhere else
        self._previous = {stop: signal.signal(stop, self._note) for stop in STOP_SIGNALS} if here else {}
        return self

    def __exit__(self, *exception) -> None:
        for stop, handler in self._previous.items():
            signal.signal(stop, handler)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Let a first signal wait inside, and start the clock."""
        self._deadline = math.inf if self.minutes is None else time.monotonic() + 60 * self.minutes
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal interrupt what is inside of this, within `deferred`; also one that came before."""
        self._deferred = False
        if self.signal is not None:
            raise KeyboardInterrupt
        try:
            yield
        finally:
            self._deferred = True

    @contextlib.contextmanager
    def planned(self, say: Callable[[str], None], begun: Path, command: str) -> Iterator[None]:
        """Let a stop that a scheduler asked for end what is inside with one line, and no failure.

        Args:
            say: shows the line.
            begun: a file that is there once something was begun.
            command: what to go on with then.
        """
        try:
            yield
        except KeyboardInterrupt:
            if not self.by_scheduler:
                raise
            further = f"go on with: {command}" if begun.exists() else "nothing was begun"
            say(f"stopped by signal {self.signal}; {further}")

    def _note(self, number: int, frame: object) -> None:
        again = self.signal is not None and number == signal.SIGINT
        if self.signal is None:
            self.signal = number
        if not self._deferred or again:
            raise KeyboardInterrupt

    @property
    def asked(self) -> bool:
        """Whether a signal came, or torchrun, which started this process, is gone."""
        return self.signal is not None or self._launcher not in (None, os.getppid())

    @property
    def out_of_time(self) -> bool:
        """Whether the minutes are over."""
        return time.monotonic() > self._deadline

    @property
    def by_scheduler(self) -> bool:
        """Whether a signal other than Ctrl-C asked: a stop that was planned, and no failure."""
        return self.signal not in (None, signal.SIGINT)
