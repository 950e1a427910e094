"""The device of a run, its arithmetic, and the way of images onto it."""

import torch

from msun_lite.utils.errors import UserError, first_line

CPU = torch.device("cpu")


def device_type(name: str) -> str:
    """Return the kind of the device called `name`, such as `cuda`, without asking the device itself.

    `auto` is CUDA, then Apple's GPU, then the CPU.
    """
    if name != "auto":
        return torch.device(name).type
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def pick_device(name: str) -> torch.device:
    """Return the device called `name`; for `auto`, see `device_type`.

    Raises:
        UserError: if there is no such device here.
    """
    if name == "auto":
        return torch.device(device_type(name))
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        first = first_line(error)
        raise UserError(f"device: expected auto, cpu or a device of this machine, got {name!r}: {first}") from None
    return device


def use_threads(count: int | None) -> None:
    """Compute with so many threads of the CPU; None leaves PyTorch its choice."""
    if count is not None:
        torch.set_num_threads(count)
