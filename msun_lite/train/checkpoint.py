"""Checkpoints: written atomically, read without executing anything, the last few kept."""

import pickle
import shutil
import warnings
import zipfile
from pathlib import Path

import torch

from msun_lite.utils.errors import CheckpointError, unreadable
from msun_lite.utils.files import atomic_write


def save_checkpoint(path: Path, state: dict) -> None:
    """Write `state`, made of tensors, numbers, strings, lists and dicts, atomically to `path`.

    Raises:
        UserError: if it cannot be written.
    """
    with atomic_write(path) as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            # After a failed write, torch's zip writer complains of a wrong position in the file.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_checkpoint(path: Path) -> dict:
    """Read a checkpoint onto the CPU.

    Raises:
        CheckpointError: if it is missing, truncated, or holds anything but plain data (a pickle that
            wants to run code is refused and nothing of it runs).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if (member := archive.testzip()) is not None:  # torch does not look at the checksums
                raise CheckpointError(f"{path}: damaged: the checksum of {member} does not fit")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of foreign pickles before it refuses them
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except (pickle.UnpicklingError, zipfile.BadZipFile):
        raise CheckpointError(f"{path}: refused: expected tensors and plain values alone, or it is damaged") from None
    except CheckpointError:
        raise
    except Exception as error:  # a damaged file can raise nearly anything in the unpickler
        raise CheckpointError(f"{path}: expected a whole checkpoint, got: {unreadable(error)}") from None
    if not isinstance(state, dict) or "model" not in state or type(state.get("step")) is not int:
        raise CheckpointError(f"{path}: expected a checkpoint of a training run, got something else")
    return state


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the states of the random generators that a model on `device` may draw on."""
    state = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def set_random_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Let the random generators go on from a state that `random_state` gave, on another kind of device as well."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


class Checkpoints:
    """The checkpoints of one run: the latest, and the `keep` before it, which have their step in their name.

    Args:
        latest: file of the latest.
        older: folder of those before it, step-STEP.pt.
        keep: how many of those are kept.
    """

    def __init__(self, latest: Path, older: Path, keep: int):
        self.latest, self.folder, self.keep = latest, older, keep
        self._step: int | None = None  # of the latest, where it is known to be whole

    def older(self) -> dict[int, Path]:
        """Return {step: file} of the checkpoints before the latest, the newest first."""
        found = {int(path.stem.removeprefix("step-")): path for path in self.folder.glob("step-*.pt")}
        return dict(sorted(found.items(), reverse=True))

    def save(self, state: dict) -> None:
        """Write `state` as the latest; the one that was the latest joins the older ones."""
        if self._step is not None and self.keep:
            self._set_aside(self._step)
        save_checkpoint(self.latest, state)
        self._step = state["step"]
        for path in list(self.older().values())[self.keep :]:
            path.unlink(missing_ok=True)

    def _set_aside(self, step: int) -> None:
        """Copy the latest under a second name: there is a latest at every moment."""
        aside = self.folder / f"step-{step:08d}.pt"
        self.folder.mkdir(exist_ok=True)
        with atomic_write(aside) as copy, self.latest.open("rb") as latest:
            shutil.copyfileobj(latest, copy)

    def load(self) -> tuple[dict, list[str]]:
        """Read the newest whole checkpoint, by its step.

        Returns:
            Its state, and a message for each newer one that is damaged.

        Raises:
            CheckpointError: if there is none, or all are damaged.
        """
        damaged = []
        try:
            newest = load_checkpoint(self.latest)
            self._step = newest["step"]
        except CheckpointError as error:
            newest = None
            damaged.append(str(error))
        for step, path in self.older().items():
            if newest is not None and step <= newest["step"]:
                break
            try:
                return load_checkpoint(path), damaged
            except CheckpointError as error:
                damaged.append(str(error))
        if newest is None:
            raise CheckpointError("; ".join(damaged))
        return newest, damaged
