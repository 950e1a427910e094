"""How much memory there is, for what would not fit into it."""

import os
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
"""Where Linux keeps the limits of containers and of a cluster's jobs."""


def free_memory() -> int | None:
    """Return the bytes of memory that this process can still have, by the machine and its container; None if unknown.

    What the system keeps of files and would give back counts as free.
    """
    known = [_of_machine(), *(_of_group(folder) for folder in _groups())]
    return min((free for free in known if free is not None), default=None)


def _of_machine() -> int | None:
    numbers = _numbers(Path("/proc/meminfo"))
    return numbers["MemAvailable:"] * 1024 if "MemAvailable:" in numbers else None


def _groups() -> list[Path]:
    """Return the folders of the groups that this process is in, of the second version of Linux's interface."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    folder = GROUPS / own.lstrip("/")
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(GROUPS))]


def _of_group(folder: Path) -> int | None:
    try:
        limit, used = (int((folder / name).read_text(encoding="utf-8")) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no such group, or "max": no limit
        return None
    return max(limit - used + _numbers(folder / "memory.stat").get("inactive_file", 0), 0)


def _numbers(path: Path) -> dict[str, int]:
    """Return the first number of each line of a kernel's file by the word before it; nothing if there is no file."""
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}


def in_gigabytes(count: float) -> str:
    """Return a number of bytes in words: `3.2 GB`."""
    return f"{count / 1e9:.1f} GB"


def processes_here() -> int:
    """Return how many processes of this run share the machine's memory, as torchrun says it; one where nobody does."""
    count = os.environ.get("LOCAL_WORLD_SIZE", "")
    return int(count) if count.isdecimal() else 1
