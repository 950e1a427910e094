"""The images that networks are measured on, as a network gets them."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from msun_lite.data import opened, refuse_unreadable, to_float
from msun_lite.networks import MSUN
from msun_lite.utils.distributed import ALONE, World
from msun_lite.utils.modes import preserve_modes
from msun_lite.utils.progress import progress


def normalised_batches(
    model: MSUN, loader: DataLoader, device: torch.device, title: str, world: World = ALONE
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images as a model gets them, with their labels; it is in evaluation mode until there are no more.

    Args:
        model: all its modules are left in the mode they were found in.
        loader: batches (`loaders.Batch`) of this process's images.
        device: where the model is.
        title: what the progress bar says.
        world: the processes that share the images.

    Raises:
        DataError: after the last one, if an image is unreadable.
    """
    unreadable: list[str] = []
    bar = {"desc": title, "unit": "batch", "leave": False, "disable": not world.first}
    with preserve_modes(model), opened(loader) as batches:
        model.eval()
        for batch in progress(batches, total=len(loader), **bar):
            unreadable += batch.bad
            if not unreadable:  # else all that is left to do is to name them all
                yield to_float(batch.images, device, model.spec["normalisation"]), batch.labels.to(device)
    refuse_unreadable(sum(world.gather(unreadable), []))
