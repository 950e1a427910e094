"""What one training step computes: a batch of images and labels in, the terms of the loss out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msun_lite.config import TrainConfig
from msun_lite.losses import distillation, overall_loss, pair_distances
from msun_lite.networks import MSUN
from msun_lite.scales import resize, served_sizes

RANDOM_GROUPS = 4
"""Random sizes in a batch at each scale, with `random_sizes`; half of the batch keeps the scale itself."""


@dataclass
class Terms:
    """The loss of one batch and its parts, scalars: `ce` sums CE_i, `si` is L_SI of Eq. 7, `kd` the distillation.

    `loss` is Eq. 8, plus `kd` times its weight. `correct` counts the images whose class the logits at the largest
    scale name; of a mixed image it is that of the larger part.
    """

    loss: Tensor
    ce: Tensor
    si: Tensor
    kd: Tensor
    correct: Tensor


class Objective(nn.Module, ABC):
    """What one training step of a method computes, in one forward call. Cross-entropies are summed over the views.

    Args:
        model: what `make_model` of the same class gave, or a network like it.
        config: the options of the run.
        class_weights: [classes], of each class in the cross-entropies; all alike by default.
    """

    def __init__(self, model: MSUN, config: TrainConfig, class_weights: Tensor | None = None):
        super().__init__()
        self.model = model
        self.config = config
        self.register_buffer("class_weights", class_weights, persistent=False)
        # The views stay outside: random sizes would make it compile again and again.
        self._terms = torch.compile(self._loss) if config.compile else self._loss

    @classmethod
    def make_model(cls, config: TrainConfig, num_classes: int, **options) -> MSUN:
        """Return the network that the method trains: by default the plain CNN, whose only scale is the largest.

        Args:
            config: the options of the run.
            num_classes: length of the logits.
            options: those of `MSUN.vanilla` and `MSUN.from_backbone` that are the same for all methods.
        """
        return MSUN.vanilla(config.arch, config.scales[-1], num_classes, blocks=config.blocks, **options)

    @property
    def own_parameters(self) -> dict[str, nn.Parameter]:
        """What is learnt beside the network, by name, and not saved with it."""
        return {name: value for name, value in self.named_parameters() if not name.startswith("model.")}

    @abstractmethod
    def views(self, images: Tensor) -> dict[int, Tensor]:
        """Return what the network is given in this step, by scale, made of images [B, 3, L, L] at the largest scale."""

    @abstractmethod
    def run(self, views: dict[int, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the features that the constraint compares, none if there is none, and the logits, of every view."""

    def taught(self, logits: list[Tensor], labels: Tensor) -> Tensor:
        """Return what `distil` weighs, a scalar: by default how far the scales are from what teaches them."""
        return distillation(logits, self.config.teacher)

    def forward(self, images: Tensor, labels: Tensor) -> Terms:
        """Return the terms of the loss for images [B, 3, L, L] at the largest scale.

        `labels` are [B]; or, of mixed images, the shares of the classes in each: [B, classes].
        """
        return self._terms(self.views(images), labels)

    def _loss(self, views: dict[int, Tensor], labels: Tensor) -> Terms:
        features, logits = self.run(views)
        cross_entropies = torch.stack([self._cross_entropy(part, labels) for part in logits])
        compared = len(features) > 1
        distances = pair_distances(features, self.config.pairs) if compared else cross_entropies.new_zeros(1)
        divergence = self.taught(logits, labels) if self.config.distil else cross_entropies.new_zeros(())
        loss = overall_loss(cross_entropies, distances, self.config.lam, self.config.constraint)
        return Terms(
            loss=loss + self.config.distil * divergence,
            ce=cross_entropies.sum(),
            si=distances.sum(),
            kd=divergence,
            correct=(logits[-1].argmax(1) == (labels if labels.ndim == 1 else labels.argmax(1))).sum(),
        )

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        smoothing = self.config.label_smoothing
        return F.cross_entropy(logits.float(), labels, self.class_weights, label_smoothing=smoothing)


def view_at(images: Tensor, scale: int, config: TrainConfig, side: int) -> Tensor:
    """Return images [B, 3, L, L] made `scale` pixels small, then resized to `side` pixels.

    With `random_sizes` half of them are made other sizes, of those that the routing sends to this scale. Sizes are
    mixed within the batch, as BatchNorm's averages mix them. They are drawn from PyTorch's global generator, whose
    state checkpoints keep.
    """
    sizes, groups = [scale], [images]
    if config.random_sizes:
        served = served_sizes(scale, config.scales, config.routing)
        exact, others = images.tensor_split(2)
        groups = [exact, *others.tensor_split(RANDOM_GROUPS)]
        sizes += [served[int(torch.randint(len(served), ()))] for _ in groups[1:]]
    views = [
        resize(resize(group, size, config.antialias), side, config.antialias)
        for group, size in zip(groups, sizes, strict=True)
        if len(group)
    ]
    return views[0] if len(views) == 1 else torch.cat(views)


def view_in_range(images: Tensor, scale: int, config: TrainConfig) -> Tensor:
    """Return images [B, 3, L, L] made small: in half of the steps `scale`, else one random size that is served there.

    The size is drawn from PyTorch's global generator, whose state checkpoints keep.
    """
    served = served_sizes(scale, config.scales, config.routing)
    drawn = served[int(torch.randint(len(served), ()))]
    return resize(images, drawn if torch.rand(()) < 0.5 else scale, config.antialias)
