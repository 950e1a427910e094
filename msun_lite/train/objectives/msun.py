"""MSUN: every scale through its own subnet, and all through the unified network."""

from torch import Tensor

from msun_lite.config import TrainConfig
from msun_lite.networks import BEHAVIOUR, MSUN
from msun_lite.train.objectives.objective import Objective, view_at, view_in_range


class Msun(Objective):
    """The cross-entropies at all scales and the scale-invariance constraint on their features (Eqs. 7 and 8)."""

    @classmethod
    def make_model(cls, config: TrainConfig, num_classes: int, **options) -> MSUN:
        """Return a network with a subnet for each scale."""
        options |= {name: getattr(config, name) for name in ("stems", *BEHAVIOUR)}
        return MSUN.from_backbone(config.arch, config.scales, config.blocks, num_classes, **options)

    def views(self, images: Tensor) -> dict[int, Tensor]:
        """Return the images made each scale small; where `subnet_input` says so, another size of its range."""
        if self.model.subnet_input == "native" and self.config.random_sizes:
            return {scale: view_in_range(images, scale, self.config) for scale in self.config.scales}
        sides = {scale: self.model.router.side(scale, scale) for scale in self.config.scales}
        return {scale: view_at(images, scale, self.config, side) for scale, side in sides.items()}

    def run(self, views: dict[int, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the features, of one shape, and the logits."""
        features, logits = self.model.forward_scales(views, self.config.joint)
        return list(features.values()), list(logits.values())


METHOD = Msun
