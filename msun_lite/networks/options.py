"""The options of how a network is made, once: name, type, default, meaning."""

from dataclasses import dataclass

from msun_lite.utils.errors import one_of


@dataclass(kw_only=True)
class ModelOptions:
    """How a network is made and how it behaves, beside its scales and classes."""

    arch: str = "resnet_lite"
    """Backbone: resnet_lite, resnet_lite_gn (GroupNorm), densenet_lite, vgg_lite or mobilenet_lite; efficientnet_lite0
    (extra pretrained); the name of a classifier of torchvision; timm/NAME; or package.module:factory, which is imported
    and called with num_classes=N; the weights that its network comes with are kept."""
    split: str | None = None
    """Last layer of every subnet, by its name in the backbone, in place of `blocks`; a factory needs it for msun."""
    weights: str | None = None
    """Start from trained weights of the plain CNN: DEFAULT (published ones; of efficientnet_lite0 those of an installed
    package), a file, or a Vanilla run; or, for msun, from a run or shipped weights of the same structure, such as
    lite-msun."""
    blocks: int = 1
    """Stages in every subnet beside its stem (the paper's B), 0 to 3."""
    stems: str = "coarse"
    """Stems below the largest scale (msun): coarse (never dearer than its) or fine (early strides given up)."""
    routing: str = "nearest"
    """Which subnet serves a size: that of the `nearest` scale (Eq. 6), of the smallest not below it (`ceil`), of the
    nearest by their `ratio`; or `upto:32,72`, the first up to 32 px, the second up to 72, the last above."""
    subnet_input: str = "scale"
    """What a subnet gets (msun): images resized to its `scale`; images at their own size, of the range that the routing
    sends there (`native`); all upsampled to the `largest` scale; or `at:128,144`, resized to so many pixels for the
    first, so many for the second, those of the last to its scale."""
    private: str = "subnets"
    """What each scale owns (msun): its lower layers (`subnets`), or all BatchNorms of one CNN (`norms`)."""
    unify: str = "largest"
    """What g runs on (msun): features resized to the `largest` scale's shape, or at their own size (`native`); `none`:
    a private g for each scale, nothing shared."""
    norm: str = "shared"
    """BatchNorm of g (msun): `shared` by all scales, or private to each (`per_scale`)."""
    antialias: bool = True
    """Low-pass images before making them smaller, in training and in testing; the crops they are made from always
    are."""

    def check_model(self) -> None:
        """Raise a `UserError` for the first value that cannot work; nothing is built."""
        # Not at the top: reading options needs no torch, and --help does not wait for it.
        from msun_lite.model import check_parts
        from msun_lite.networks.stems import STEMS

        one_of("stems", self.stems, STEMS)
        check_parts(self.unify, self.norm, self.private)
