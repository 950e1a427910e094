"""The processes that train one network together: who is who, sums over all of them, one voice.

    torchrun --nproc_per_node 8 -m msun_lite.train --preset imagenet --data DIR

Each process has one device and its share of every batch. They are started by torchrun, or by anything else that sets
RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT. Without these there is one process and nothing to agree on.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from msun_lite.utils.devices import pick_device
from msun_lite.utils.errors import UserError, first_line
from msun_lite.utils.progress import note


@dataclass(frozen=True)
class World:
    """One process among `size`; each method is called by all of them at the same point of the program."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.rank == 0

    def say(self, text: str) -> None:
        """Print a line, once for all processes."""
        if self.first:
            note(text)

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of the processes' tensors, which must be of one shape and type."""
        if self.size > 1:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor

    def totals(self, *numbers: int) -> list[int]:
        """Return for each number its sum over all processes; never waits for a GPU."""
        return self.sum(torch.tensor(numbers)).tolist() if self.size > 1 else list(numbers)

    def gather(self, thing: Any) -> list:
        """Return every process's `thing`, in the order of their ranks."""
        if self.size == 1:
            return [thing]
        things = [None] * self.size
        dist.all_gather_object(things, thing)
        return things

    def share(self, thing: Any) -> Any:
        """Return the first process's `thing`."""
        if self.size == 1:
            return thing
        things = [thing]
        dist.broadcast_object_list(things, src=0)
        return things[0]

    def on_first(self, call: Callable[[], Any]) -> Any:
        """Return what `call` returns in the first process, which alone calls it; what it raises is raised by all."""
        if self.size == 1:
            return call()
        thing = error = None
        if self.first:
            try:
                thing = call()
            except Exception as raised:  # noqa: BLE001 the others must not wait for ever, whatever it is
                error = raised
        thing, error = self.share((thing, error))
        if error is not None:
            raise error
        return thing

    @torch.no_grad()
    def share_state(self, module: nn.Module) -> None:
        """Give all processes the first one's parameters and buffers: BatchNorm's averages differ between them."""
        if self.size > 1:
            for tensor in (*module.parameters(), *module.buffers()):
                dist.broadcast(tensor, src=0)

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        """Return `module` such that a backward pass takes the mean gradients over the processes."""
        if self.size == 1:
            return module
        return DistributedDataParallel(module, [device.index] if device.type == "cuda" else None)

    def keep_gradients(self, module: nn.Module, apart: bool) -> contextlib.AbstractContextManager:
        """If `apart`, leave the gradients in the process, to be averaged together with those of a later pass."""
        return module.no_sync() if self.size > 1 and apart else contextlib.nullcontext()

    def pick_device(self, name: str) -> torch.device:
        """Return the device of this process: of several GPUs the one of its local rank."""
        if self.size > 1 and name in ("auto", "cuda") and torch.cuda.is_available():
            return self._own_gpu()
        device = pick_device(name)
        if self.size > 1 and device.type == "cuda":
            raise UserError(f"device: expected auto, cuda or cpu with {self.size} processes, got {name}")
        return device

    def _own_gpu(self) -> torch.device:
        """Return the GPU of this process's local rank, and make it the one that `cuda` means."""
        gpus = torch.cuda.device_count()
        if self.local_rank >= gpus:
            raise UserError(f"LOCAL_RANK: expected below {gpus}, one process a GPU, got {self.local_rank}")
        torch.cuda.set_device(self.local_rank)  # before anything touches a GPU: each one touched costs it memory
        return pick_device(f"cuda:{self.local_rank}")


ALONE = World()
"""The world of one process."""


@contextlib.contextmanager
def join() -> Iterator[World]:
    """Meet the other processes that the environment tells of; leave them at the end.

    Raises:
        UserError: if the environment is incomplete, or they cannot be reached.
    """
    size = _from_environment("WORLD_SIZE", default="1")
    if size == 1:
        yield ALONE
        return
    world = World(_from_environment("RANK"), size, _from_environment("LOCAL_RANK"))
    try:
        # Numbers on the CPU go by gloo, which no GPU has to wait for.
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    except (ValueError, RuntimeError) as error:
        raise UserError(f"WORLD_SIZE: {size} processes cannot be joined: {first_line(error)}") from None
    try:
        yield world
    except RuntimeError as error:
        if not _is_of_others(error):
            raise
        raise UserError(
            f"process {world.rank} of {size} lost another one, whose own message says why it ended: {_reason(error)}"
        ) from None
    finally:
        dist.destroy_process_group()


def _reason(error: RuntimeError) -> str:
    """Return what an error says first, without the line of PyTorch that says it."""
    return re.sub(r"^\[\S+\] ", "", first_line(error)).partition(". ")[0]


def _is_of_others(error: RuntimeError) -> bool:
    """Return whether an error is that of a connection to another process, by gloo or by NCCL."""
    return isinstance(error, dist.DistError) or "/gloo/" in str(error)


def refuse_several(command: str) -> None:
    """Raise a `UserError` where torchrun started several processes of a command that runs in one."""
    if (size := os.environ.get("WORLD_SIZE", "1")) != "1":
        raise UserError(f"WORLD_SIZE: {command} runs in one process, got {size}; msun_lite.train runs in several")


def _from_environment(name: str, default: str | None = None) -> int:
    value = os.environ.get(name, default)
    if value is None or not value.isdecimal():
        raise UserError(f"{name}: expected a number in the environment, as torchrun sets it, got {value!r}")
    return int(value)


def share_of(items: Sequence[Any], world: World, part: int = 0, parts: int = 1) -> Sequence[Any]:
    """Return this process's share of one batch's `items`: part `part` of its `parts`, all of one length."""
    length = len(items) // (world.size * parts)
    first = (part * world.size + world.rank) * length
    return items[first : first + length]
