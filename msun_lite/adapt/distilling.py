"""What one step of an adaptation computes: smaller scales learn from the network as it is at its own size."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msun_lite.adapt.options import AdaptConfig
from msun_lite.config import TrainConfig
from msun_lite.losses import pair_distances
from msun_lite.networks import MSUN
from msun_lite.per_scale import PerScale, norms_of
from msun_lite.scales import resize_features
from msun_lite.train import Objective, Terms, view_at


def freeze_largest(model: MSUN) -> None:
    """Let only what smaller scales own learn: nothing that an image of the largest scale goes through."""
    model.requires_grad_(False)
    largest = str(model.scales[-1])
    owners = [module for module in model.modules() if isinstance(module, PerScale)]
    owners += [model.subnets] if model.private == "subnets" else []
    for parts in owners:
        for scale, part in parts.items():
            part.requires_grad_(scale != largest)


class Distilling(Objective):
    """The smaller scales learn what the plain CNN says at its largest size of the same crop, and labels if asked to.

    Args:
        model: the multi-scale network, as `freeze_largest` leaves it where that is wanted.
        config: the options of the training.
        adapting: those of the adaptation: `match` says what is learnt, and `labels` whether classes are too.
        teacher: the plain CNN as it was, on the model's device; it is not learnt, and not part of this module.
    """

    def __init__(self, model: MSUN, config: TrainConfig, adapting: AdaptConfig, teacher: MSUN):
        super().__init__(model, config)
        self.match, self.labels = adapting.match, adapting.labels
        self._teacher = [teacher.eval().requires_grad_(False)]  # in a list: as a module its weights would be saved
        self.taught_scales = model.scales[:-1] if adapting.keep else model.scales
        self._learning = [norm for norm in norms_of(model).values() if _learns(norm)]

    def views(self, images: Tensor) -> dict[int, Tensor]:
        """Return the images as each scale that learns gets them."""
        router = self.model.router
        return {scale: view_at(images, scale, self.config, router.side(scale, scale)) for scale in self.taught_scales}

    def run(self, views: dict[int, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return features, of the largest scale's shape, and logits of every view."""
        features, logits = self.model.forward_scales(views)
        return list(features.values()), list(logits.values())

    def forward(self, images: Tensor, labels: Tensor) -> Terms:
        """Return the terms of the loss for images [B, 3, L, L] at the largest scale.

        `kd` is the Kullback-Leibler divergence from the teacher's predictions, in nats, `si` the distance from its
        features (Eq. 7), and `ce` the cross-entropy of the labels if they are learnt, each summed over the scales.
        `correct` counts the images of which the smallest scale says what the teacher says.
        """
        self.model.eval()  # all but the BatchNorms that learn: what is shared stays as it is in use
        for norm in self._learning:
            norm.train()
        (teacher,) = self._teacher
        with torch.no_grad():
            maps = teacher.features(images, teacher.scales[-1])
            taught = teacher.classify(maps, teacher.scales[-1]).float()
        features, logits = self.run(self.views(images))
        divergence = torch.stack([_divergence(part, taught) for part in logits]).sum()
        distance = divergence.new_zeros(())
        if self.match != "predictions":
            shape = self.model.feature_shape
            same = [resize_features(part, shape) for part in (*features, maps)]
            distance = pair_distances(same, "largest").sum()
        loss = {"predictions": divergence, "features": distance, "both": divergence + distance}[self.match]
        classified = divergence.new_zeros(())
        if self.labels:
            classified = torch.stack([self._cross_entropy(part, labels) for part in logits]).sum()
        agreed = (logits[0].argmax(1) == taught.argmax(1)).sum()
        return Terms(loss=loss + classified, ce=classified, si=distance, kd=divergence, correct=agreed)


def _learns(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _divergence(logits: Tensor, taught: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence from the teacher's predictions, averaged over the batch, a scalar."""
    return F.kl_div(logits.float().log_softmax(1), taught.log_softmax(1), reduction="batchmean", log_target=True)
