"""What a run has learnt, and where it is in its epochs: what its checkpoints hold."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from msun_lite.config import TrainConfig
from msun_lite.networks import MSUN, load_state
from msun_lite.train.averaging import moving_average

NOTES = {
    **dict.fromkeys(("epoch", "batch"), int),
    **dict.fromkeys(("seconds", "epoch_seconds", "waiting_seconds"), int | float),
    **dict.fromkeys(("best", "row"), dict | None),
}
"""What the position of a run and its notes are, by name."""


class TrainState:
    """The model, the optimizer and the position of one run.

    Args:
        model: the network, on the device where it is trained.
        config: the options of the run.
        steps_per_epoch: whole batches of the training images.
        scaled: whether gradients are scaled, as fp16 needs it.
        beside: what is learnt beside the network, by name; without weight decay.

    Attributes:
        epoch, batch: how many of them are over; `batch` counts those of the present epoch.
        seconds, epoch_seconds, waiting_seconds: of the epochs before, of the present one, of it waiting for images.
        best: epoch and accuracy of the best model so far, None if none was measured.
        row: the metrics of an epoch that is over, but not measured yet.
    """

    def __init__(
        self,
        model: MSUN,
        config: TrainConfig,
        steps_per_epoch: int,
        scaled: bool,
        beside: Mapping[str, nn.Parameter] | None = None,
    ):
        self.beside = dict(beside or {})
        self.model, self.epochs, self.steps_per_epoch = model, config.epochs, steps_per_epoch
        self.optimizer = make_optimizer(model, config)
        if self.beside:
            self.optimizer.add_param_group({"params": list(self.beside.values()), "weight_decay": 0.0})
        self.scaler = torch.amp.GradScaler(next(model.parameters()).device.type, enabled=scaled)
        self.average = None if config.ema is None else moving_average(model, config.ema)
        self.epoch = self.batch = 0
        self.seconds = self.epoch_seconds = self.waiting_seconds = 0.0
        self.best: dict | None = None
        self.row: dict | None = None

    @property
    def step(self) -> int:
        """Steps taken since the start of the run."""
        return self.epoch * self.steps_per_epoch + self.batch

    @property
    def trained(self) -> MSUN:
        """The network to measure and to save: the average of the weights where the run keeps one."""
        return self.model if self.average is None else self.average.module

    @property
    def weight_bytes(self) -> int:
        """The bytes of the weights."""
        return sum(value.numel() * value.element_size() for value in self.model.state_dict().values())

    @property
    def copies(self) -> int:
        """How many times those bytes a checkpoint takes: with the moments, and the average if there is one."""
        moments = 2 if isinstance(self.optimizer, torch.optim.AdamW) else 1
        return 1 + moments + (self.average is not None)

    def is_finite(self) -> bool:
        """Return whether all weights are finite."""
        return all(bool(value.isfinite().all()) for value in self.model.state_dict().values())

    def end_epoch(self) -> None:
        """Begin the next epoch."""
        self.seconds += self.epoch_seconds
        self.epoch, self.batch, self.epoch_seconds, self.waiting_seconds = self.epoch + 1, 0, 0.0, 0.0

    def stored(self) -> dict:
        """Return what a checkpoint holds of it."""
        return {
            "model": self.model.state_dict(),
            "beside": {name: value.detach() for name, value in self.beside.items()},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "step": self.step,
            **{name: getattr(self, name) for name in NOTES},
        }

    def restore(self, stored: dict, path: Path) -> None:
        """Go on from what a checkpoint, read from `path`, holds.

        Raises:
            CheckpointError: if it is of another model.
            KeyError, ValueError: if something is missing or of another kind, or it is at no step of this run.
        """
        self._check_position(stored)
        load_state(self.model, stored["model"], path)
        with torch.no_grad():
            for name, value in self.beside.items():
                value.copy_(stored["beside"][name])
        self.optimizer.load_state_dict(stored["optimizer"])
        self.scaler.load_state_dict(stored["scaler"])
        if self.average is not None:
            self.average.load_state_dict(stored["average"])
        for name in NOTES:
            setattr(self, name, stored[name])

    def _check_position(self, stored: dict) -> None:
        for name, kind in NOTES.items():
            if not isinstance(stored[name], kind):
                raise ValueError(f"{name} {stored[name]!r}")
        epoch, batch, steps = stored["epoch"], stored["batch"], self.steps_per_epoch
        if not (0 <= epoch <= self.epochs and 0 <= batch < steps) or stored["step"] != epoch * steps + batch:
            raise ValueError(f"step {stored['step']}, epoch {epoch} of {self.epochs}, batch {batch} of {steps}")


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimizer of all parameters; without `decay_norms` those of two axes or more decay alone."""
    groups: list[dict] = [{"params": list(model.parameters()), "weight_decay": config.weight_decay}]
    if not config.decay_norms:
        spared = [parameter for parameter in model.parameters() if parameter.ndim < 2]
        kernels = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
        groups = [{**groups[0], "params": kernels}, {"params": spared, "weight_decay": 0.0}]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, config.peak_lr, betas=(config.momentum, 0.999))
    return torch.optim.SGD(groups, config.peak_lr, config.momentum)
