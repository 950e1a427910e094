"""From images to batches: crops, the order of an epoch, and each process's share of it.

Every image is cropped and flipped once, and leaves here as uint8 at the largest scale; the engine makes the other
scales from it on the device. What is random about an image depends on (seed, epoch, index) alone, never on a worker,
a process or on what was read before: an interrupted epoch goes on exactly.
"""

import contextlib
import functools
import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import center_crop, resized_crop

from msun_lite.data.images import UnreadableImage
from msun_lite.data.sources import ImageSource, Subset
from msun_lite.data.worker_errors import explained, lost
from msun_lite.utils.devices import CPU
from msun_lite.utils.distributed import ALONE, World, share_of
from msun_lite.utils.stopping import STOP_SIGNALS

PATIENCE = 3
"""Seconds that workers get to finish what they are at when nobody wants their batches any more."""


class TrainView(Dataset):
    """Training images: random resized crop, flip and RandAugment, decided by (seed, epoch, index) alone.

    An item is addressed by (epoch, index) and is (uint8 [3, size, size], label), or the message of an
    unreadable image.
    """

    def __init__(
        self, source: ImageSource, size: int, seed: int, crop_min: float, flip: bool, randaugment: int | None = None
    ):
        self.source = source
        self.seed = seed
        self.size = [size, size]
        self.crop = v2.RandomResizedCrop(size, scale=(crop_min, 1.0))
        self.mirrored = 0.5 if flip else 0.0
        self.augment = nn.Identity() if randaugment is None else v2.RandAugment(magnitude=randaugment)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int] | str:
        epoch, index = key
        try:
            image = self.source.read(index)
        except UnreadableImage as error:
            return str(error)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive_seed(self.seed, epoch, index))
            return self._transform(image), self.source.labels[index]

    def _transform(self, image: Tensor) -> Tensor:
        """Do what torchvision's RandomResizedCrop and RandomHorizontalFlip do, without their checks of the input."""
        image = resized_crop(image, **self.crop.make_params([image]), size=self.size, antialias=True)
        return self.augment(image.flip(-1) if torch.rand(1) < self.mirrored else image)


def shorter_side(size: int, crop_ratio: float) -> int:
    """Return the shorter side in pixels that an evaluation image is resized to before its centre crop of `size`."""
    return round(size / crop_ratio)


class EvalView(Dataset):
    """Evaluation images by the protocol: shorter side to size / crop_ratio, then the centre crop.

    An item is (uint8 [3, size, size], label), or the message of an unreadable image.
    """

    def __init__(self, source: ImageSource, size: int, crop_ratio: float):
        self.source = source
        resize = v2.Resize(shorter_side(size, crop_ratio), antialias=True)
        self.transform = v2.Compose([resize, v2.CenterCrop(size)])

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, int] | str:
        try:
            return self.transform(self.source.read(index)), self.source.labels[index]
        except UnreadableImage as error:
            return str(error)


class OwnSizeView(Dataset):
    """Images at their own size: the centre crop of the protocol, made smaller where it is larger than `largest`.

    An item is (uint8 [3, side, side], (width, height) of the whole image), or the message of an unreadable image.
    """

    def __init__(self, source: ImageSource, largest: int, crop_ratio: float):
        self.source, self.largest, self.crop_ratio = source, largest, crop_ratio
        self.made_smaller = EvalView(source, largest, crop_ratio).transform

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, tuple[int, int]] | str:
        try:
            image = self.source.read(index)
        except UnreadableImage as error:
            return str(error)
        height, width = image.shape[1:]
        side = max(1, round(self.crop_ratio * min(height, width)))
        if side >= self.largest:
            return self.made_smaller(image), (width, height)
        return center_crop(image, [side, side]).contiguous(), (width, height)  # no view that would keep the whole image


@dataclass
class Batch:
    """Images [B, 3, L, L] uint8 and labels [B], with what was unreadable among them."""

    images: Tensor
    labels: Tensor
    bad: list[str]

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory; the loader calls this for GPUs."""
        return Batch(self.images.pin_memory(), self.labels.pin_memory(), self.bad)


NO_PIXELS = torch.empty(0, 1, 1, 3, dtype=torch.uint8)


def collate(items: list[tuple[Tensor, int] | str]) -> Batch:
    """Stack the readable items of a batch, channels last."""
    good = [item for item in items if not isinstance(item, str)]
    # Pixels are stacked as decoders and resizing lay them out; PyTorch does so in memory that worker processes share.
    stacked = default_collate([image.permute(1, 2, 0) for image, _ in good]) if good else NO_PIXELS
    images = stacked.permute(0, 3, 1, 2)
    labels = torch.tensor([label for _, label in good], dtype=torch.int64)
    return Batch(images, labels, [item for item in items if isinstance(item, str)])


class EpochSampler:
    """The shuffled batches of one epoch as lists of (epoch, index), from batch `start` on.

    The order depends on (seed, epoch) alone. The last, incomplete batch is left out: BatchNorm wants
    batches of one size, and every epoch leaves out other images.
    """

    def __init__(self, source: ImageSource, batch_size: int, seed: int, epoch: int, start: int = 0):
        self.source, self.batch_size, self.seed, self.epoch, self.start = source, batch_size, seed, epoch, start

    def __len__(self) -> int:
        return len(self.source) // self.batch_size - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch))
        order = self.source.order(generator)
        for batch in range(self.start, len(order) // self.batch_size):
            chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield [(self.epoch, index) for index in chosen]


class ShareSampler:
    """The part of every batch that one process trains on, as `accumulate` smaller batches one after the other."""

    def __init__(self, epochs: Sequence[EpochSampler], world: World, accumulate: int):
        self.epochs, self.world, self.accumulate = epochs, world, accumulate

    def __len__(self) -> int:
        return self.accumulate * sum(len(epoch) for epoch in self.epochs)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in itertools.chain.from_iterable(self.epochs):
            for part in range(self.accumulate):
                yield share_of(batch, self.world, part, self.accumulate)


def eval_loader(
    source: ImageSource,
    size: int,
    crop_ratio: float,
    batch_size: int,
    workers: int,
    world: World = ALONE,
    device: torch.device = CPU,
) -> DataLoader:
    """Return a loader of `Batch`es, in order, centre-cropped to `size`: together the processes see each image once.

    `device` is where the batches go from here.
    """
    if world.size > 1:
        source = Subset(source, range(world.rank, len(source), world.size))
    return make_loader(EvalView(source, size, crop_ratio), workers, device.type, batch_size=batch_size)


def make_loader(
    view: Dataset, workers: int, device: str, collate_fn: Callable[[list], object] = collate, **kwargs
) -> DataLoader:
    """Return a loader of `Batch`es for a kind of device, prepared by so many processes; `kwargs` are PyTorch's."""
    # The generator of its own keeps the loader from drawing on the global one, which a checkpoint restores.
    generator = torch.Generator().manual_seed(0)
    return _Loader(
        view,
        num_workers=workers,
        collate_fn=collate_fn,
        generator=generator,
        pin_memory=device == "cuda",
        worker_init_fn=_prepare_worker,
        **kwargs,
    )


@contextlib.contextmanager
def opened(loader: DataLoader) -> Iterator[Iterator[Batch]]:
    """Give the batches of a loader; its worker processes are gone afterwards, whatever happens inside.

    Raises:
        WorkerLost: if a worker ends before its time, which can interrupt whatever is under way.
    """
    batches = iter(loader)
    try:
        yield batches
    except RuntimeError as error:
        raise lost(error) or error from None
    finally:
        batches.close()


class _Loader(DataLoader):
    """A loader whose worker processes end with its batches, and whose errors say what to do; see `opened`."""

    def __iter__(self) -> Iterator[Batch]:
        before = set(multiprocessing.active_children())
        batches = super().__iter__()
        workers = [child for child in multiprocessing.active_children() if child.daemon and child not in before]
        failure, over = None, threading.Event()
        if workers:
            threading.Thread(target=_terminate_late, args=[workers, over], daemon=True).start()
        try:
            yield from batches
        except Exception as error:  # whatever reading or transforming an image may raise
            failure = explained(error, bool(workers))
            if workers:  # its traceback holds on to them, and theirs is in the message
                failure = failure.with_traceback(None)
        finally:
            over.set()
            del batches  # here PyTorch asks the workers to end, and waits for 5 seconds for each that is busy
        if failure is not None:
            raise failure


def _terminate_late(workers: Sequence[BaseProcess], over: threading.Event) -> None:
    """End the workers that are still busy `PATIENCE` seconds after it is `over`."""
    over.wait()
    time.sleep(PATIENCE)
    for worker in workers:
        worker.terminate()


def _prepare_worker(worker: int) -> None:
    """Let a worker end when the main process says so, and leave all other requests to stop to that: it stops cleanly.

    A terminal or a cluster sends its signals to the workers too.
    """
    for stop in STOP_SIGNALS:
        if stop != signal.SIGTERM:
            signal.signal(stop, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS, where a SIGTERM from anybody ends the worker
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_end_on_request, args=[multiprocessing.parent_process().pid], daemon=True).start()


def _end_on_request(main: int) -> None:
    """End this process as soon as the one with the number `main` sends it SIGTERM."""
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != main:
        pass
    os._exit(0)  # any other code would count as a crash


def derive_seed(*numbers: int) -> int:
    """Return one well-mixed 63-bit seed made of several non-negative numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def to_float(images: Tensor, device: torch.device, normalisation: dict) -> Tensor:
    """Move uint8 images [B, 3, H, W] to `device`, then make them normalised floats, channels last."""
    pixels = images.to(device, non_blocking=True).permute(0, 2, 3, 1).contiguous()
    count, height, width, channels = pixels.shape
    # Row by row, as loops over three channels are slow, and in place, as fresh memory is; the numbers are the same.
    rows = pixels.view(count, height, width * channels).to(torch.float32)
    mean, std = (_levels(tuple(normalisation[name]), pixels.device) for name in ("mean", "std"))
    rows.sub_(mean.repeat(width)).div_(std.repeat(width))
    return rows.view(pixels.shape).permute(0, 3, 1, 2)


def denormalise(images: Tensor, normalisation: dict) -> Tensor:
    """Return normalised images [..., 3, H, W] as they were before: from 0 to 1."""
    mean, std = (torch.tensor(normalisation[name], device=images.device)[:, None, None] for name in ("mean", "std"))
    return (images * std + mean).clamp(0, 1)


@functools.cache  # bringing them to a GPU waits for all that it has to do
def _levels(channels: tuple[float, ...], device: torch.device) -> Tensor:
    """Return a mean or a standard deviation of three channels in levels of uint8, on a device."""
    with torch.inference_mode(False):  # they outlive the inference that may have asked first
        return 255 * torch.tensor(channels, device=device)
