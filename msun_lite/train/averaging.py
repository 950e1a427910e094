"""An exponential moving average of a network's weights."""

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def decay_at(decay: float, step: int) -> float:
    """Return the decay of an average after `step` updates: min(decay, (1 + t) / (10 + t)).

    The warm-up of TensorFlow's ExponentialMovingAverage: until a run is long enough for `decay`, the average is over
    about the last tenth of it. With 0.9999 from the start, a run of a thousand steps would keep nine tenths of the
    weights that it began with.
    """
    return min(decay, (1 + step) / (10 + step))


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """Return an average of the network's parameters and buffers, which `update_parameters` moves on by one step.

    How many steps it has taken is in its state, `n_averaged`.

    Args:
        decay: share of the average that a step keeps, once it is warmed up.
    """

    def update(means: list[Tensor], values: list[Tensor], _: object) -> None:
        # The count is asked on the CPU, where it is: what PyTorch hands over may be on a GPU, to be waited for.
        get_ema_multi_avg_fn(decay_at(decay, int(average.n_averaged)))(means, values, _)

    average = AveragedModel(network, multi_avg_fn=update, use_buffers=True)
    return average
