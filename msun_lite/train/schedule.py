"""The learning rate of each step."""

import math

from msun_lite.config import TrainConfig


def learning_rate(step: int, steps_per_epoch: int, config: TrainConfig) -> float:
    """Return the learning rate of a step: linear from 0.01 of its peak over the warm-up, then a cosine back to that."""
    peak, warmup = config.peak_lr, config.warmup_epochs * steps_per_epoch
    low = 0.01 * peak
    if step < warmup:
        return low + (peak - low) * step / warmup
    done = (step - warmup) / max(1, config.epochs * steps_per_epoch - warmup)
    return low + (peak - low) * (1 + math.cos(math.pi * done)) / 2
