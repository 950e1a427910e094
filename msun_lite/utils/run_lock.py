"""One job at a time on a run folder, on one machine or on several that share a disk.

The owner's `running.json` says who it is, and is touched every few seconds for as long as it lives. So a job that died
holds nothing for long, whatever became of it or of its machine, and needs nobody to clean up after it.
"""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msun_lite.utils.errors import UserError

BEAT = 5.0
"""Seconds between two signs of life."""

SILENCE = 60.0
"""Seconds without one after which an owner counts as dead: a shared disk may show them late."""


@dataclass(frozen=True)
class Owner:
    """Who works on a run folder.

    Args:
        host: its machine's name.
        process: its number there.
        since: when it began, as people read it.
        space: what tells the machines, and the containers on one, apart, within which process numbers mean something.
    """

    host: str
    process: int
    since: str
    space: str

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, since {self.since}"


class RunLock:
    """The right to work on a run folder, held by this process once `acquire` has returned.

    Args:
        folder: an existing run folder.
        say: shows a line to the user.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]):
        self.folder, self.path, self.say = folder, folder / "running.json", say
        self.owner = Owner(socket.gethostname(), os.getpid(), time.strftime("%Y-%m-%d %H:%M:%S %z"), _space())
        self._ended = threading.Event()
        self._beating = threading.Thread(target=self._beat, daemon=True)

    def acquire(self) -> None:
        """Take the folder, or wait until an owner of whom nothing can be seen has been silent for long enough.

        Raises:
            UserError: naming the owner, if another process works on the folder, or if it cannot be written to.
        """
        while True:
            try:
                with self.path.open("x", encoding="utf-8") as file:
                    json.dump(vars(self.owner), file)
                break
            except FileExistsError:
                self._await_silence(self._read())
                with contextlib.suppress(FileNotFoundError):  # of two that wait, one is faster; see `check`
                    self.path.unlink()
            except OSError as error:
                raise UserError(f"{self.path}: cannot be written: {error}") from None
        self._beating.start()

    def release(self) -> None:
        """Let others work on the folder."""
        self._ended.set()
        self._beating.join()
        if self._read() == self.owner:
            self.path.unlink(missing_ok=True)

    def check(self) -> None:
        """Raise a `UserError` if another process has taken the folder, as this one had been silent for too long."""
        if (other := self._read()) != self.owner:
            taken = f"was taken over by {other}" if other else "lost its running.json"
            raise UserError(f"{self.folder}: {taken}, expected this run ({self.owner}) to go on alone; it ends here")

    def _read(self) -> Owner | None:
        """Return who the folder belongs to, nobody if that cannot be told."""
        try:
            return Owner(**json.loads(self.path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def _await_silence(self, other: Owner | None) -> None:
        """Return once `other` is known to be dead, or raise a `UserError` as soon as it is known to live."""
        if other is not None and other.space == self.owner.space and not _runs(other.process):
            return
        name = other or "an unknown process"
        self.say(f"{self.folder}: in use by {name}; waiting for a sign of life, {SILENCE:.0f} s at most")
        beat, deadline = self._last_beat(), time.monotonic() + SILENCE
        while time.monotonic() < deadline:
            time.sleep(BEAT / 10)
            if (now := self._last_beat()) is None:
                return  # it has just ended
            if now != beat:
                raise UserError(
                    f"{self.folder}: in use by {self._read() or name}; expected it to end, or another --out"
                )
        self.say(f"{self.folder}: taken over from {name}, which shows no sign of life")

    def _last_beat(self) -> float | None:
        """Return the time of the owner's last sign of life by the clock of the disk; None without a file."""
        try:
            return self.path.stat().st_mtime
        except OSError:
            return None

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            with contextlib.suppress(OSError):  # a disk that is away for a moment; `check` tells the rest
                if self._read() == self.owner:
                    os.utime(self.path)


def _space() -> str:
    """Return the name of what process numbers belong to: on Linux a namespace of a system since it was started."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _runs(process: int) -> bool:
    """Return whether a process lives here, as far as that can be told, and is another than this one."""
    if process == os.getpid() or os.name == "nt":  # Windows has no way to ask that does no harm
        return process != os.getpid()
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it is somebody else's
    return True
