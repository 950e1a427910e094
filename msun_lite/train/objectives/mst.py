"""MST, multi-scale training: every scale, upsampled to the largest, through one network."""

from torch import Tensor

from msun_lite.model import in_batches
from msun_lite.train.objectives.objective import Objective, view_at


class Mst(Objective):
    """The cross-entropies at all scales; a constraint compares their features where an MSUN would be cut (Table VI)."""

    def views(self, images: Tensor) -> dict[int, Tensor]:
        """Return the images made each scale small, then upsampled to the largest."""
        scales = self.config.scales
        return {scale: view_at(images, scale, self.config, scales[-1]) for scale in scales}

    def run(self, views: dict[int, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the features, if there is a constraint, and the logits."""
        model, joint, batches = self.model, self.config.joint, list(views.values())
        if self.config.constraint == "none":
            return [], in_batches(model, batches, joint)
        (scale,) = model.scales
        features = in_batches(lambda batch: model.features(batch, scale), batches, joint)
        return features, in_batches(lambda batch: model.classify(batch, scale), features, joint)


METHOD = Mst
