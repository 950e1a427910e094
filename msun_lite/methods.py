"""The three methods as one module: a batch of images and labels in, the terms of the loss out."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msun_lite.config import TrainConfig
from msun_lite.losses import overall_loss, pair_distances
from msun_lite.model import MSUN, in_batches
from msun_lite.scales import pyramid, resize, served_sizes


@dataclass
class Terms:
    """The loss of one batch and its parts, scalars: `loss` is Eq. 8, `ce` sums CE_i, `si` is L_SI of Eq. 7.

    `correct` counts the images whose class the logits at the largest scale name.
    """

    loss: Tensor
    ce: Tensor
    si: Tensor
    correct: Tensor


def make_model(config: TrainConfig, class_names: Sequence[str]) -> MSUN:
    """Return the network that `config.method` trains, with the weights it starts from."""
    count = len(class_names)
    options = {"antialias": config.antialias, "class_names": class_names, "weights": config.weights}
    if config.method != "msun":
        return MSUN.vanilla(config.arch, config.scales[-1], count, blocks=config.blocks, **options)
    options |= {name: getattr(config, name) for name in ("stems", "routing", "unify", "norm")}
    return MSUN.from_backbone(config.arch, config.scales, config.blocks, count, **options)


class Objective(nn.Module):
    """What one training step computes, in one forward call.

    `vanilla` sees the largest scale alone. `mst` sees every scale, upsampled to the largest, through
    the one network; a constraint compares their features where an MSUN would be cut (MST+SI in Table VI). `msun` sees
    every scale through its subnet. Cross-entropies are summed over the scales.
    """

    def __init__(self, model: MSUN, config: TrainConfig):
        super().__init__()
        self.model = model
        self.config = config
        self._served = [served_sizes(scale, config.scales, config.routing) for scale in config.scales]

    def forward(self, images: Tensor, labels: Tensor) -> Terms:
        """Return the terms of the loss for images [B, 3, L, L] at the largest scale and labels [B]."""
        features, logits = getattr(self, f"_{self.config.method}")(images)
        smoothing = self.config.label_smoothing
        cross_entropies = torch.stack(
            [F.cross_entropy(part.float(), labels, label_smoothing=smoothing) for part in logits]
        )
        distances = pair_distances(features) if len(features) > 1 else cross_entropies.new_zeros(1)
        return Terms(
            loss=overall_loss(cross_entropies, distances, self.config.lam, self.config.constraint),
            ce=cross_entropies.sum(),
            si=distances.sum(),
            correct=(logits[-1].argmax(1) == labels).sum(),
        )

    def _vanilla(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        return [], [self.model(images)]

    def _mst(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        largest, joint = self.config.scales[-1], self.config.joint
        views = [resize(view, largest) for view in pyramid(images, self._sizes(), self.config.antialias).values()]
        if self.config.constraint == "none":
            return [], in_batches(self.model, views, joint)
        features = in_batches(self.model.subnets[str(largest)], views, joint)
        return features, in_batches(self.model.unified, features, joint)

    def _msun(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        views = pyramid(images, self.config.scales, self.config.antialias, self._sizes())
        features, logits = self.model.forward_scales(views, self.config.joint)
        return list(features.values()), list(logits.values())

    def _sizes(self) -> list[int]:
        """Return the size that the images of each scale have in this step.

        Random sizes are drawn from PyTorch's global generator, whose state checkpoints keep.
        """
        if not self.config.random_sizes:
            return self.config.scales
        return [served[int(torch.randint(len(served), ()))] for served in self._served]
