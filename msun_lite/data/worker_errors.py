"""What went wrong in the processes that prepare images, in one line where the user can mend it."""

import re

from msun_lite.utils.errors import UserError, out_of_memory

SHARED_MEMORY = re.compile(r"</torch_\d|dataloader's workers are out of shared memory")
"""What PyTorch says when the batches that workers hand over do not fit into the system's shared memory."""

LOST = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (.*)")
"""What PyTorch says when a worker is gone."""


class WorkerLost(UserError):
    """A process that prepares images has ended before its time."""


REMEDY = "where memory is short, the system kills the largest: expected fewer --workers to help then"


def explained(error: Exception, workers: bool = False) -> Exception:
    """Return a `UserError` of one line for an error of a loader that has a remedy; any other error as it is.

    Args:
        error: what was raised where batches are taken.
        workers: whether there are processes that prepare them.
    """
    text = str(error)
    if workers and isinstance(error, ConnectionError | EOFError) and "in DataLoader worker" not in text:
        return WorkerLost(f"workers: a process that prepares images ended before it handed its batch over; {REMEDY}")
    if isinstance(error, UserError):  # PyTorch puts the traceback of the worker before it
        return type(error)(text.rpartition(f"{type(error).__name__}: ")[2].strip())
    if out_of_memory(error):
        return UserError("out of memory while images were prepared; expected fewer --workers or smaller images to help")
    return lost(error) or error


def lost(error: Exception) -> WorkerLost | None:
    """Return what to say of an error by which PyTorch reports that a worker is gone; None for any other.

    It interrupts the main process wherever that is.
    """
    text = str(error)
    if isinstance(error, RuntimeError) and SHARED_MEMORY.search(text):
        return WorkerLost(
            "workers: the shared memory of this system (/dev/shm) has no room for the batches; expected a larger one "
            "(docker run --shm-size), fewer --workers, or --workers 0"
        )
    if isinstance(error, RuntimeError) and (found := LOST.search(text)):
        return WorkerLost(f"workers: a process that prepares images ({found[1]}) {found[2].rstrip(' .')}; {REMEDY}")
    return None
