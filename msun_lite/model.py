"""The Multi-scale Unified Network: private subnets f_i below, one unified network g above (Eqs. 3-5).

    x_1 (32 px)  -> f_1 -> resize \\
    x_2 (128 px) -> f_2 -> resize  >-> g -> logits
    x_3 (224 px) -> f_3 ----------/

With the largest scale alone it is the ordinary CNN of Eq. 3, F(x) = g(f_N(x_N)), which is what the
methods `vanilla` and `mst` train: one class, one way to load, to measure and to explain.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from msun_lite.per_scale import NORMS, at_scale, own_norms
from msun_lite.scales import Router, check_routing, check_scales, image_size, resize_features, side_of
from msun_lite.shapes import map_shape
from msun_lite.utils.errors import UserError, one_of

UNIFY = ("largest", "native", "none")
"""What the unified network runs on: features resized to the largest scale's shape (Eq. 4), or at their own size; or no
unified network, but a private g for each scale."""

PRIVATE = ("subnets", "norms")
"""What each scale owns: its lower layers (MSUN), or BatchNorms alone, everywhere in one CNN (RS-Nets)."""


class MultiScaleUnifiedNetwork(nn.Module):
    """A CNN whose lower layers exist once for every scale, and whose deeper layers are shared.

    Args:
        subnets: scale in pixels -> f_i, all with the same number of output channels; where `private` is `norms`, that
            of the largest scale alone, which all scales share.
        unified: g, from the largest subnet's features to the logits; where `unify` is `none`, one a scale (`PerScale`).
        routing: `nearest` (Eq. 6), `ceil`, `ratio` or `upto:SIZES`, see `scales.route`.
        antialias: low-pass images before making them smaller.
        unify: `largest` resizes every subnet's features to the largest subnet's shape before g (Eq. 4);
            `native` runs g on them as they are, so that small images cost less there too. `none` shares nothing: every
            scale has a g of its own behind the resize of `largest`, a whole network each (SNet in Table VI).
        norm: `shared` BatchNorms in g, or `per_scale`: a private copy of each for every scale.
        subnet_input: what f_i gets, see `scales.SUBNET_INPUTS` and `scales.AT`.
        private: see `PRIVATE`; `norms` needs `norm` per_scale, and `scales`.
        scales: those of `subnets` by default.

    Shapes: images [B, 3, H, W] of any size and float type, normalised; features [B, C, h, w] of the shape the largest
    subnet gives at its scale; logits [B, classes], in the weights' type. A call writes nothing into the model but
    BatchNorm's averages in training: threads may share a model in evaluation.
    """

    def __init__(
        self,
        subnets: dict[int, nn.Module],
        unified: nn.Module,
        routing: str = "nearest",
        antialias: bool = True,
        unify: str = "largest",
        norm: str = "shared",
        subnet_input: str = "scale",
        private: str = "subnets",
        scales: Sequence[int] | None = None,
    ):
        super().__init__()
        self.scales = check_scales(list(scales or subnets), at_least=1)
        check_routing(routing, self.scales)  # refuses an unknown rule now, not at the first image
        side_of(self.scales[-1], self.scales, subnet_input)  # and an unknown input
        check_parts(unify, norm, private)
        self.routing, self.antialias, self.unify, self.norm = routing, antialias, unify, norm
        self.subnet_input, self.private = subnet_input, private
        self.averages: dict[int, tuple[int, ...]] = {}  # scale -> the sizes that have a set of averages, see `Router`
        self.subnets = nn.ModuleDict({str(scale): f for scale, f in subnets.items()})
        self.unified = unified
        if norm == "per_scale":
            for shared in (unified, *(subnets.values() if private == "norms" else ())):
                own_norms(shared, self.scales)
        self.feature_shape = map_shape(self.lower(self.scales[-1]), self.scales[-1])

    @property
    def router(self) -> Router:
        """The way of images of any size to their subnet, as the model's attributes are now."""
        return Router(self.scales, self.routing, self.antialias, self.subnet_input, self.averages)

    def lower(self, scale: int, place: int | Tensor | None = None) -> nn.Module:
        """Return f_i of a scale, with its BatchNorms' averages at a `place`, see `Router`; the scale's by default."""
        owned = str(scale if self.private == "subnets" else self.scales[-1])
        return self._at(self.subnets[owned], scale, place)

    def upper(self, scale: int, place: int | Tensor | None = None) -> nn.Module:
        """Return g as a scale runs it, with its BatchNorms' averages at a `place`; the scale's by default."""
        return self._at(self.unified, scale, place)

    def _at(self, network: nn.Module, scale: int, place: int | Tensor | None) -> nn.Module:
        if self.norm == "shared" and self.unify != "none" and not self.averages:
            return network
        return at_scale(network, scale, self.router.place(scale, scale) if place is None else place)

    def features(self, images: Tensor, scale: int) -> Tensor:
        """Return f_i(x_i) of images [B, 3, side, side] as f_i gets them, resized to the largest scale's map."""
        return resize_features(self._maps(images, scale), self.feature_shape)

    def classify(self, features: Tensor, scale: int, place: int | Tensor | None = None) -> Tensor:
        """Return g of the features [B, C, h, w] that the subnet of `scale` gave: logits [B, classes]."""
        if self.unify != "native":
            features = resize_features(features, self.feature_shape)
        return self.upper(scale, place)(features)

    def forward_at(self, images: Tensor, scale: int) -> Tensor:
        """Return g(f_i(x_i)) [B, classes]: images [B, 3, H, W] of any size, through the subnet of `scale`."""
        router = self.router
        return self.serve(router.fit(images, scale), scale, router.place(image_size(images), scale))

    def serve(self, images: Tensor, scale: int, place: int | Tensor | None = None) -> Tensor:
        """Return g(f_i(x_i)) [B, classes] of images [B, 3, side, side] as the subnet of `scale` gets them.

        Args:
            images: what `router.fit` gives.
            scale: in pixels.
            place: which of its averages BatchNorms take, what `router.place` gives; in a graph, a tensor of one number.
        """
        return self.classify(self._maps(images, scale, place), scale, place)

    def forward_native(self, images: Tensor) -> Tensor:
        """Return the logits [B, classes] of a plain CNN for images [B, 3, H, W] at their own size (Table I's stars).

        Raises:
            UserError: if there are several scales: their subnets expect images of their scale.
        """
        if len(self.scales) > 1:
            raise UserError(f"feeding: expected a network with one scale for native, got {list(self.scales)}")
        scale = self.scales[0]
        place = self.router.place(image_size(images), scale)
        return self.upper(scale, place)(self._maps(images, scale, place))

    def _maps(self, images: Tensor, scale: int, place: int | Tensor | None = None) -> Tensor:
        return self.lower(scale, place)(_as_weights(images, self))

    def forward(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """Return the logits [B, classes] of images of any size (Eqs. 5 and 6).

        Args:
            images: a batch [B, 3, H, W], routed by its size (the shorter side); or a list of B images
                [3, H, W] of mixed sizes, grouped by subnet, the logits in the list's order.

        Raises:
            UserError: for anything else.
        """
        return self.router.serve(images, self.serve)

    def forward_scales(
        self, views: dict[int, Tensor], joint: bool = False
    ) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Run all scales in one call (Eq. 4), as training does.

        Args:
            views: scale -> x_i as its subnet gets it: [B, 3, scale, scale] but for another `subnet_input`.
            joint: pass all features through g as one batch rather than one batch a scale. In training
                BatchNorm then normalises all scales by the statistics of their mixture, as it does in
                evaluation; in evaluation the result is the same.

        Returns:
            Features f_i(x_i) [B, C, h, w] by scale, and logits g(f_i(x_i)) [B, classes] by scale.

        Raises:
            UserError: for no views, other sizes, unequal numbers of images, or `joint` where g is not one.
        """
        if not isinstance(views, dict) or not views:
            got = "none" if views == {} else type(views).__name__
            raise UserError(f"views: expected images by scale, such as {{32: x32}}, got {got}")
        first = len(next(iter(views.values())))
        for scale, images in views.items():
            sides = {one: self.router.side(image_size(images), one) for one in self.scales}
            if images.shape[-2:] != (sides.get(scale), sides.get(scale)):
                expected = f"[B, 3, s, s] for scales s of {list(self.scales)}, or what they get, {list(sides.values())}"
                raise UserError(f"views: expected {expected}, got {list(images.shape)} for {scale}")
            if len(images) != first:
                raise UserError(f"views: expected {first} images at each scale, got {len(images)} for {scale}")
        if joint and (self.unify, self.norm) != ("largest", "shared"):
            raise UserError("joint: expected unify 'largest' and norm 'shared': one batch has one shape and one norm")
        own = {scale: self._maps(images, scale) for scale, images in views.items()}
        features = {scale: resize_features(maps, self.feature_shape) for scale, maps in own.items()}
        if joint:
            logits = self.unified(torch.cat(list(features.values()))).split(first)
            return features, dict(zip(views, logits, strict=True))
        served = own if self.unify == "native" else features
        return features, {scale: self.classify(maps, scale) for scale, maps in served.items()}


def check_parts(unify: str, norm: str, private: str) -> None:
    """Raise a `UserError` unless the parts of a network can be put together so."""
    one_of("unify", unify, UNIFY)
    one_of("norm", norm, NORMS)
    one_of("private", private, PRIVATE)
    if unify == "none" and norm != "shared":
        raise UserError(f"norm: expected shared where unify is none, as no layer of g is shared, got {norm}")
    if private == "norms" and (unify, norm) not in (("largest", "per_scale"), ("native", "per_scale")):
        raise UserError(f"private: expected norm per_scale and one g beside norms, got norm {norm}, unify {unify}")


def _as_weights(images: Tensor, network: nn.Module) -> Tensor:
    """Return float images in the type of a network's weights: half precision, double ...

    Raises:
        UserError: if the network is on another device.
    """
    weight = next(network.parameters(), None)
    if weight is None or not weight.is_floating_point():
        return images
    if weight.device != images.device:
        raise UserError(f"images: expected on the model's device, {weight.device}, got {images.device}")
    return images.to(weight.dtype)
