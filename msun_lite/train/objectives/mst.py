"""MST, multi-scale training: every scale, upsampled to the largest, through one network."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from msun_lite.config import TrainConfig
from msun_lite.networks import MSUN
from msun_lite.train.objectives.objective import Objective, view_at


class Mst(Objective):
    """The cross-entropies at all scales; a constraint compares their features where an MSUN would be cut (Table VI)."""

    @classmethod
    def make_model(cls, config: TrainConfig, num_classes: int, **options) -> MSUN:
        """Return the plain CNN, or one whose BatchNorms are private to each scale."""
        if config.norm == "shared":
            return super().make_model(config, num_classes, **options)
        options |= {"norm": config.norm, "private": "norms", "subnet_input": "largest", "routing": config.routing}
        return MSUN.from_backbone(config.arch, config.scales, config.blocks, num_classes, **options)

    def views(self, images: Tensor) -> dict[int, Tensor]:
        """Return the images made each scale small, then upsampled to the largest."""
        scales = self.config.scales
        return {scale: view_at(images, scale, self.config, scales[-1]) for scale in scales}

    def run(self, views: dict[int, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the features, if there is a constraint, and the logits."""
        model, joint, batches = self.model, self.config.joint, list(views.values())
        if len(model.scales) > 1:
            features, logits = model.forward_scales(views)
            return list(features.values()), list(logits.values())
        if self.config.constraint == "none":
            return [], _in_batches(model, batches, joint)
        (scale,) = model.scales
        features = _in_batches(lambda batch: model.features(batch, scale), batches, joint)
        return features, _in_batches(lambda batch: model.classify(batch, scale), features, joint)


def _in_batches(run: Callable[[Tensor], Tensor], batches: Sequence[Tensor], joint: bool) -> list[Tensor]:
    """Return `run` of each of the `batches`: one after the other, or `joint`ly as one batch."""
    if not joint:
        return [run(batch) for batch in batches]
    return list(run(torch.cat(list(batches))).split([len(batch) for batch in batches]))


METHOD = Mst
