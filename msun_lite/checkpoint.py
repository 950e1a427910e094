"""Checkpoints: written atomically, read without executing anything."""

import pickle
import warnings
from pathlib import Path

import torch

from msun_lite.errors import CheckpointError
from msun_lite.files import atomic_write


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
    except Exception as error:  # a damaged file can raise nearly anything in the unpickler
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: expected a whole checkpoint, got: {first}") from None
    if not isinstance(state, dict) or "model" not in state:
        raise CheckpointError(f"{path}: expected a checkpoint of a training run, got something else")
    return state
