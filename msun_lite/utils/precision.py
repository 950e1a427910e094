"""The arithmetic of a run: half precision where the hardware has it, full precision where it counts."""

import contextlib
import threading
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""What autocast makes of each precision but fp32."""


def pick_precision(precision: str, device: torch.device) -> str:
    """Return `bf16` or `fp32`; `auto` is bf16 where the hardware multiplies it itself."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and _cpu_has_bf16() else "fp32"


def _cpu_has_bf16() -> bool:
    """Return whether the processor has AVX512-BF16 or AMX; elsewhere bf16 is emulated and slow."""
    if not hasattr(torch.cpu, "get_capabilities"):  # PyTorch 2.10
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@torch.no_grad()
def strides_over_a_point(run: Callable[[], object], network: nn.Module) -> bool:
    """Return whether a convolution of `network` with a stride sees a map of 1 x 1 when `run` runs it.

    Training such a one in bf16 on a CPU is not possible: PyTorch (seen with 2.14) leaves the gradients of the kernel's
    outer weights unset there, which is whatever was in memory.
    """
    found, hooks = [], []

    def record_shape(layer: nn.Conv2d, inputs: tuple[Tensor, ...]) -> None:
        found.append(inputs[0].shape[-2:] == (1, 1) and max(layer.stride) > 1 and max(layer.kernel_size) > 1)

    try:
        convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
        hooks += [layer.register_forward_pre_hook(record_shape) for layer in convolutions]
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return any(found)


@contextlib.contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Run what is inside in `bf16` or `fp16` autocast, or in plain `fp32`."""
    with torch.autocast(device.type, AUTOCAST.get(precision), enabled=precision in AUTOCAST):
        yield


_guard, _precisions = threading.Lock(), []  # what those inside `full_precision` found, of all threads


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Compute convolutions of fp32 in fp32 inside: PyTorch rounds their inputs to TF32 on GPUs that have it.

    The setting is the whole process's: of several threads inside, the last to leave gives back what the first found.
    """
    convolutions = torch.backends.cudnn.conv
    with _guard:
        _precisions.append(convolutions.fp32_precision)
        convolutions.fp32_precision = "ieee"
    try:
        yield
    finally:
        with _guard:
            if len(_precisions) == 1:
                convolutions.fp32_precision = _precisions[0]
            _precisions.pop()
