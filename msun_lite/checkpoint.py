"""Checkpoints: written atomically, read without executing anything."""

import contextlib
import os
import pickle
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import torch

from msun_lite.errors import CheckpointError, UserError


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the name `path` only once it is whole and on the disk.

    Raises:
        UserError: if it cannot be written (a full disk, no permission); what was at `path` stays.
    """
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        # torch.save reports a failed write as a RuntimeError of its zip writer.
        kept = "; the previous one is kept" if path.exists() else ""
        raise UserError(f"{path}: cannot be written: {error}{kept}") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def save_checkpoint(path: Path, state: dict) -> None:
    """Write `state`, made of tensors, numbers, strings, lists and dicts, atomically to `path`."""
    with atomic_write(path) as file:
        torch.save(state, file)


def load_checkpoint(path: Path) -> dict:
    """Read a checkpoint onto the CPU.

    Raises:
        CheckpointError: if it is missing, truncated, or holds anything but plain data (a pickle that
            wants to run code is refused and nothing of it runs).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of foreign pickles before it refuses them
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except pickle.UnpicklingError:
        raise CheckpointError(f"{path}: refused: expected tensors and plain values alone, or it is damaged") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: expected a whole checkpoint, got: {first}") from None
    if not isinstance(state, dict) or "model" not in state:
        raise CheckpointError(f"{path}: expected a checkpoint of a training run, got something else")
    return state


def write_text(path: Path, text: str) -> None:
    """Write a small text file atomically."""
    with atomic_write(path) as file:
        file.write(text.encode())


def write_with(path: Path, writer: Callable[[BinaryIO], None]) -> None:
    """Let `writer(file)` write a file atomically."""
    with atomic_write(path) as file:
        writer(file)
