"""MSUN: every scale through its own subnet, and all through the unified network."""

from torch import Tensor

from msun_lite.config import TrainConfig
from msun_lite.networks import MSUN
from msun_lite.train.objectives.objective import Objective, view_at


class Msun(Objective):
    """The cross-entropies at all scales and the scale-invariance constraint on their features (Eqs. 7 and 8)."""

    @classmethod
    def make_model(cls, config: TrainConfig, num_classes: int, **options) -> MSUN:
        """Return a network with a subnet for each scale."""
        options |= {name: getattr(config, name) for name in ("stems", "routing", "unify", "norm")}
        return MSUN.from_backbone(config.arch, config.scales, config.blocks, num_classes, **options)

    def views(self, images: Tensor) -> dict[int, Tensor]:
        """Return the images made each scale small."""
        return {scale: view_at(images, scale, self.config, scale) for scale in self.config.scales}

    def run(self, views: dict[int, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the features, of one shape, and the logits."""
        features, logits = self.model.forward_scales(views, self.config.joint)
        return list(features.values()), list(logits.values())


METHOD = Msun
