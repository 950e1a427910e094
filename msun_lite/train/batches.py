"""The batches of an epoch, of which each process prepares its share."""

from torch.utils.data import DataLoader

from msun_lite.config import TrainConfig
from msun_lite.data import EpochSampler, ShareSampler, TrainView, make_loader
from msun_lite.utils.devices import device_type
from msun_lite.utils.distributed import ALONE, World


def train_loader(
    view: TrainView, config: TrainConfig, epoch: int, start: int = 0, epochs: int = 1, world: World = ALONE
) -> DataLoader:
    """Return the loader of this process's `Batch`es of one or more epochs: `config.accumulate` a step.

    Args:
        view: the training images.
        config: batch size, seed, workers, device.
        epoch: the first epoch, counted from 0.
        start: the batch of it to start with.
        epochs: how many; workers prepare the next epoch's first images during the end of the one before.
        world: the processes that share each batch.
    """
    samplers = [
        EpochSampler(view.source, config.batch_size, config.seed, one, start if one == epoch else 0)
        for one in range(epoch, epoch + epochs)
    ]
    share = ShareSampler(samplers, world, config.accumulate)
    return make_loader(view, config.workers, device_type(config.device), batch_sampler=share)
