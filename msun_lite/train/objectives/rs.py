"""RS-Nets (Wang et al., Resolution Switchable Networks, ECCV 2020): one CNN, each scale with BatchNorms of its own."""

import torch
from torch import Tensor, nn

from msun_lite.config import TrainConfig
from msun_lite.losses import switchable_distillation
from msun_lite.networks import MSUN
from msun_lite.train.objectives.msun import Msun


class Rs(Msun):
    """The cross-entropies at all scales, each fed as it is, and a distillation from their ensemble and the larger ones.

    The ensemble's weights are learnt with the network, and not part of it.
    """

    def __init__(self, model: MSUN, config: TrainConfig):
        super().__init__(model, config)
        self.ensemble = nn.Parameter(torch.zeros(len(config.scales), device=next(model.parameters()).device))

    @classmethod
    def make_model(cls, config: TrainConfig, num_classes: int, **options) -> MSUN:
        """Return a CNN whose every BatchNorm is private to each scale."""
        options |= {"norm": "per_scale", "private": "norms", "unify": "native", "routing": config.routing}
        return MSUN.from_backbone(config.arch, config.scales, config.blocks, num_classes, **options)

    def run(self, views: dict[int, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return no features, and the logits."""
        return [], super().run(views)[1]

    def taught(self, logits: list[Tensor], labels: Tensor) -> Tensor:
        """Return the cross-entropy of the ensemble, and the distillation."""
        return torch.stack(switchable_distillation(logits, labels, self.ensemble)).sum()


METHOD = Rs
