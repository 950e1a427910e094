"""RS-Nets (Wang et al., Resolution Switchable Networks, ECCV 2020): one CNN, each scale with BatchNorms of its own."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msun_lite.config import TrainConfig
from msun_lite.networks import MSUN
from msun_lite.train.objectives.msun import Msun


class Rs(Msun):
    """The cross-entropies at all scales, each fed as it is, and a distillation from their ensemble and the larger ones.

    The ensemble's weights are learnt with the network, and not part of it.
    """

    def __init__(self, model: MSUN, config: TrainConfig, class_weights: Tensor | None = None):
        super().__init__(model, config, class_weights)
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


def switchable_distillation(logits: Sequence[Tensor], labels: Tensor, ensemble: Tensor) -> tuple[Tensor, Tensor]:
    """Return what RS-Nets add to the cross-entropies of the scales (Wang et al., ECCV 2020): two scalars, in nats.

    The ensemble is the mean of all scales' logits with weights softmax(`ensemble`), which are learnt by its own
    cross-entropy, the first of the scalars; the logits get no gradient from that. The second is the distillation: every
    scale learns from the ensemble and from each larger scale by the Kullback-Leibler divergence, and what teaches gets
    no gradient. It is averaged over the S + 1 teachers of S scales, times 2.

    Args:
        logits: [B, classes] for each scale, the smallest scale first.
        labels: [B].
        ensemble: [scales].
    """
    singles = torch.stack([part.float() for part in logits])
    mixed = torch.einsum("s,sbc->bc", ensemble.float().softmax(0), singles.detach())
    towards = [*singles.detach().log_softmax(2), mixed.detach().log_softmax(1)]
    divergences = [
        F.kl_div(part.log_softmax(1), target, reduction="batchmean", log_target=True)
        for place, part in enumerate(singles)
        for target in towards[place + 1 :]
    ]
    return F.cross_entropy(mixed, labels), 2 / len(towards) * torch.stack(divergences).sum()


METHOD = Rs
