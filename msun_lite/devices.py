"""The device of a run, its arithmetic, and the way of images onto it."""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from msun_lite.errors import UserError, first_line

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


def pick_precision(precision: str, device: torch.device) -> str:
    """Return `bf16` or `fp32`; `auto` is bf16 where the hardware multiplies it natively."""
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

    def look(layer: nn.Conv2d, inputs: tuple[Tensor, ...]) -> None:
        found.append(inputs[0].shape[-2:] == (1, 1) and max(layer.stride) > 1 and max(layer.kernel_size) > 1)

    try:
        convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
        hooks += [layer.register_forward_pre_hook(look) for layer in convolutions]
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return any(found)


AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""What autocast makes of each precision but fp32."""


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


def to_float(images: Tensor, device: torch.device, normalisation: dict) -> Tensor:
    """Move uint8 images [B, 3, H, W] to `device`, then make them normalised floats, channels last."""
    pixels = images.to(device, non_blocking=True).permute(0, 2, 3, 1).contiguous()
    count, height, width, channels = pixels.shape
    # Row by row, as loops over three channels are slow, and in place, as fresh memory is; the numbers are the same.
    rows = pixels.view(count, height, width * channels).to(torch.float32)
    mean, std = (_levels(tuple(normalisation[name]), pixels.device) for name in ("mean", "std"))
    rows.sub_(mean.repeat(width)).div_(std.repeat(width))
    return rows.view(pixels.shape).permute(0, 3, 1, 2)


def as_weights(images: Tensor, network: nn.Module) -> Tensor:
    """Return float images in the type of a network's weights: half precision, double ...

    Raises:
        UserError: if the network is on another device.
    """
    weight = next(network.parameters(), None)
    if weight is None or not weight.is_floating_point():
        return images
    if weight.device != images.device:
        raise UserError(f"images: expected on the model's device, {weight.device}, got {images.device}")
    return images.to(weight.dtype)


@functools.cache  # bringing them to a GPU waits for all that it has to do
def _levels(channels: tuple[float, ...], device: torch.device) -> Tensor:
    """Return a mean or a standard deviation of three channels in levels of uint8, on a device."""
    with torch.inference_mode(False):  # they outlive the inference that may have asked first
        return 255 * torch.tensor(channels, device=device)
