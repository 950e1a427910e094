"""Vanilla: the ordinary training of a CNN, which sees the largest scale alone."""

from torch import Tensor

from msun_lite.train.objectives.objective import Objective


class Vanilla(Objective):
    """The cross-entropy at the largest scale (Eq. 3)."""

    def views(self, images: Tensor) -> dict[int, Tensor]:
        """Return the images as they are."""
        return {self.config.scales[-1]: images}

    def run(self, views: dict[int, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return no features, and the logits."""
        return [], [self.model(images) for images in views.values()]


METHOD = Vanilla
