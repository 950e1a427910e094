"""The Multi-scale Unified Network: private subnets f_i below, one unified network g above (Eqs. 3-5).

    x_1 (32 px)  -> f_1 -> resize \\
    x_2 (128 px) -> f_2 -> resize  >-> g -> logits
    x_3 (224 px) -> f_3 ----------/

With the largest scale alone it is the ordinary CNN of Eq. 3, F(x) = g(f_N(x_N)), which is what the
methods `vanilla` and `mst` train: one class, one way to load, to measure and to explain.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from huggingface_hub import ModelHubMixin
from torch import Tensor, nn

from msun_lite.building import Parts, load_state, parts_of_backbone, parts_of_module, start_from
from msun_lite.devices import as_weights
from msun_lite.errors import CheckpointError, UserError, one_of
from msun_lite.export import AtScale, export
from msun_lite.factories import is_factory
from msun_lite.files import atomic_write, write_text
from msun_lite.norms import NORMS, PerScale, at_scale, own_norms
from msun_lite.pretrained import find_pretrained, is_downloaded, is_multi_scale, read_safetensors
from msun_lite.scales import check_scales, resize, resize_features, route, route_images
from msun_lite.spec import (
    UNIFY,
    adopted,
    behaviour,
    check_spec,
    make_spec,
    normalised,
    read_spec,
    stems_from_json,
)
from msun_lite.states import stored_state
from msun_lite.surgery import Stem, dry_run, map_shape


class MSUN(
    nn.Module,
    ModelHubMixin,
    library_name="msun_lite",
    paper_url="https://arxiv.org/abs/2403.18294",
    pipeline_tag="image-classification",
):
    """A CNN whose lower layers exist once for every scale, and whose deeper layers are shared.

    Args:
        subnets: scale in pixels -> f_i, all with the same number of output channels.
        unified: g, from the largest subnet's features to the logits; where `unify` is `none`, one a scale (`PerScale`).
        routing: `nearest` (Eq. 6), `ceil` or `ratio`, see `scales.route`.
        antialias: low-pass images before making them smaller.
        unify: `largest` resizes every subnet's features to the largest subnet's shape before g (Eq. 4);
            `native` runs g on them as they are, so that small images cost less there too. `none` shares nothing: every
            scale has a g of its own behind the resize of `largest`, a whole network each (SNet in Table VI).
        norm: `shared` BatchNorms in g, or `per_scale`: a private copy of each for every scale.
        spec: how the model was made, saved as model.json beside its weights; see `from_backbone`.

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
        spec: dict | None = None,
    ):
        super().__init__()
        self.scales = check_scales(list(subnets), at_least=1)
        route(self.scales[0], self.scales, routing)  # refuses an unknown rule now, not at the first image
        self._hub_mixin_config = None  # model.json says it all
        self.routing = routing
        self.antialias = antialias
        one_of("unify", unify, UNIFY)
        one_of("norm", norm, NORMS)
        self.unify, self.norm = unify, norm
        if unify == "none" and norm != "shared":
            raise UserError(f"norm: expected shared where unify is none, as no layer of g is shared, got {norm}")
        self.spec = {**(spec or {})}
        self.spec |= normalised(self.spec)
        self.subnets = nn.ModuleDict({str(scale): f for scale, f in subnets.items()})
        self.unified = unified
        if norm == "per_scale":
            own_norms(unified, self.scales)
        self.feature_shape = map_shape(subnets[self.scales[-1]], self.scales[-1])

    @classmethod
    def from_backbone(
        cls,
        arch: str,
        scales: Sequence[int] = (32, 128, 224),
        blocks: int = 1,
        num_classes: int = 1000,
        stems: str | dict[int, Stem] = "coarse",
        routing: str = "nearest",
        antialias: bool = True,
        unify: str = "largest",
        norm: str = "shared",
        normalisation: dict | None = None,
        class_names: Sequence[str] | None = None,
        weights: str | None = None,
        split: str | None = None,
    ) -> "MSUN":
        """Turn the CNN `arch` into an MSUN.

        Args:
            arch: a name in `backbones.RECIPES`, of a classifier of torchvision, timm/NAME, or package.module:factory,
                which is imported and called with `num_classes=N`; the weights that its network comes with are kept.
            scales: two or more sizes in pixels, rising; each gets its own subnet.
            blocks: stages in every subnet beside its stem (the paper's B), 0 to 3.
            num_classes: length of the logits.
            stems: `coarse` or `fine`, see `surgery.choose_stem`; or your own, {scale: Stem}, for each but the largest.
            routing: `nearest`, `ceil` or `ratio`, see `scales.route`.
            antialias: low-pass images before making them smaller.
            unify: `largest`, `native` or `none`, see the class.
            norm: `shared` or `per_scale`, see the class.
            normalisation: {"mean": [3], "std": [3]} of the images it expects; that of `weights`, or ImageNet's.
            class_names: what the logits stand for, if known.
            weights: trained weights of the plain CNN to start from, see `pretrained.find_plain`; fresh by default.
                The large subnet and g take them as they are, smaller subnets with a resampled first kernel; the
                classifier starts afresh if the number of classes differs. Or those of an MSUN of the same structure.
            split: name of the last layer of f, in place of `blocks`; a factory needs it.

        Raises:
            UserError: for an unknown name, or scales that are unsorted, repeated or fewer than two.
            CheckpointError: if the weights do not fit.
        """
        options = (num_classes, blocks, routing, antialias, unify, norm, normalisation, class_names, split)
        spec, of_msun = make_spec(arch, check_scales(scales), *options), is_multi_scale(weights)
        model = cls._assemble(parts_of_backbone(spec, stems, None if of_msun else weights))
        if of_msun:
            start_from(model, weights)
        return model

    @classmethod
    def vanilla(
        cls, arch: str, scale: int = 224, num_classes: int = 1000, weights: str | None = None, **options
    ) -> "MSUN":
        """Return the ordinary CNN of Eq. 3: the largest subnet alone, every image resized to `scale`.

        `weights` and the other `options` (`blocks`, `antialias`, `normalisation`, `class_names`, `split`) are those of
        `from_backbone`; `blocks` and `split` only say where the features are taken. Without `split`, those of
        architectures not in `backbones.CUTTABLE` are the images themselves.
        """
        return cls._assemble(parts_of_backbone(make_spec(arch, (scale,), num_classes, **options), weights=weights))

    @classmethod
    def from_module(
        cls,
        model: nn.Module,
        split: str,
        scales: Sequence[int] = (32, 128, 224),
        stems: str | dict[int, Stem] = "coarse",
        factory: str | None = None,
        **options,
    ) -> "MSUN":
        """Turn a CNN of your own, trained or not, into an MSUN that starts from its weights.

        Args:
            model: images [B, 3, H, W] -> logits [B, classes], copied. Its forward, all else that it takes at its
                default, must be recordable by torch.fx down to the layer `split`, on maps of several sizes.
            split: name of the last layer of f, as in `model.named_modules()`; all that comes after it is g.
            factory: what builds the same network when a saved model is loaded: package.module:callable, called with
                `num_classes=N`. By default it is found out: torchvision's and timm's networks are known by name, and
                a class in a module is called with `num_classes=N` or nothing, if that gives the same network.

        `scales`, `stems` and the other `options` (`routing`, `antialias`, `unify`, `norm`, `normalisation`,
        `class_names`) are those of `from_backbone`. Such a model is saved as any other. `from_pretrained` loads it
        where its network can be built again; where not, `load` reads it into a model made by this method.

        Raises:
            UserError: if the model cannot be cut there, or cannot take images of these scales, or if `factory` builds
                another one.
        """
        return cls._assemble(parts_of_module(model, split, check_scales(scales), stems, factory, **options))

    @classmethod
    def from_spec(cls, spec: dict) -> "MSUN":
        """Build the model that a model.json describes, with fresh weights.

        Raises:
            CheckpointError: if the description lacks something, or nothing is known to build its network again.
            UserError: if a value in it cannot be used.
        """
        check_spec(spec)
        return cls._assemble(parts_of_backbone(spec, stems_from_json(spec["stems"])))

    @classmethod
    def _assemble(cls, parts: Parts) -> "MSUN":
        """Put a model together of its parts."""
        spec = parts.spec
        unified = PerScale(parts.upper) if spec["unify"] == "none" else parts.upper[spec["scales"][-1]]
        return cls(parts.lower, unified, **behaviour(spec), spec=spec)._check_scales()

    def _check_scales(self) -> "MSUN":
        """Return the model, or raise a `UserError` for a scale that it cannot take to the end; nothing is computed."""
        for scale in self.scales if self.unify == "native" else self.scales[-1:]:  # else g runs on one shape alone
            dry_run(AtScale(self, scale), scale, self.spec["arch"])
        return self

    def features(self, images: Tensor, scale: int) -> Tensor:
        """Return f_i(x_i) of images [B, 3, scale, scale], resized to the largest scale's feature shape."""
        return resize_features(self._maps(images, scale), self.feature_shape)

    def classify(self, features: Tensor, scale: int) -> Tensor:
        """Return g of the features [B, C, h, w] that the subnet of `scale` gave: logits [B, classes]."""
        if self.unify != "native":
            features = resize_features(features, self.feature_shape)
        differs = self.unify == "none" or self.norm == "per_scale"
        return (at_scale(self.unified, scale) if differs else self.unified)(features)

    def forward_at(self, images: Tensor, scale: int) -> Tensor:
        """Return g(f_i(x_i)) [B, classes]: images [B, 3, H, W] of any size, through the subnet of `scale`."""
        return self._serve(resize(images, scale, self.antialias), scale)

    def forward_native(self, images: Tensor) -> Tensor:
        """Return the logits [B, classes] of a plain CNN for images [B, 3, H, W] at their own size (Table I's stars).

        Raises:
            UserError: if there are several scales: their subnets expect images of their scale.
        """
        if len(self.scales) > 1:
            raise UserError(f"feeding: expected a network with one scale for native, got {list(self.scales)}")
        return self.unified(self._maps(images, self.scales[0]))

    def _maps(self, images: Tensor, scale: int) -> Tensor:
        return self.subnets[str(scale)](as_weights(images, self))

    def _serve(self, images: Tensor, scale: int) -> Tensor:
        return self.classify(self._maps(images, scale), scale)

    def forward(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """Return the logits [B, classes] of images of any size (Eqs. 5 and 6).

        Args:
            images: a batch [B, 3, H, W], routed by its size (the shorter side); or a list of B images
                [3, H, W] of mixed sizes, grouped by subnet, the logits in the list's order.

        Raises:
            UserError: for anything else.
        """
        return route_images(images, self.scales, self.routing, self.antialias, self._serve)

    def forward_scales(
        self, views: dict[int, Tensor], joint: bool = False
    ) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Run all scales in one call (Eq. 4), as training does.

        Args:
            views: scale -> x_i [B, 3, scale, scale].
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
            if scale not in self.scales or images.shape[-2:] != (scale, scale):
                expected = f"[B, 3, s, s] for scales s of {list(self.scales)}"
                raise UserError(f"views: expected {expected}, got {list(images.shape)} for {scale}")
            if len(images) != first:
                raise UserError(f"views: expected {first} images at each scale, got {len(images)} for {scale}")
        if joint and (self.unify, self.norm) != ("largest", "shared"):
            raise UserError("joint: expected unify 'largest' and norm 'shared': one batch has one shape and one norm")
        own = {scale: self._maps(images, scale) for scale, images in views.items()}
        features = {scale: resize_features(maps, self.feature_shape) for scale, maps in own.items()}
        if joint:
            batches = in_batches(self.unified, list(features.values()), joint)
            return features, dict(zip(views, batches, strict=True))
        served = own if self.unify == "native" else features
        return features, {scale: self.classify(maps, scale) for scale, maps in served.items()}

    @property
    def description(self) -> dict:
        """How the model was made, and how it routes and resizes now, as model.json has it."""
        return {**self.spec, **behaviour(vars(self))}

    def save(self, folder: str | Path) -> None:
        """Write model.json and model.safetensors into `folder`, each whole or not at all."""
        write_text(Path(folder) / "model.json", json.dumps(self.description, indent=2) + "\n")
        with atomic_write(Path(folder) / "model.safetensors") as file:
            file.write(stored_state(self))

    def save_pretrained(self, save_directory: str | Path, **options) -> str | None:
        """Save the model with a card for the Hugging Face Hub; `options` are those of the mixin.

        Raises:
            UserError: if the folder cannot be made.
        """
        try:
            Path(save_directory).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{save_directory}: the folder cannot be made: {error}") from None
        return super().save_pretrained(save_directory, **options)

    def _save_pretrained(self, save_directory: Path) -> None:
        """What `save_pretrained` and `push_to_hub` of the Hugging Face mixin call."""
        self.save(save_directory)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        revision: str | None = None,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        trust_remote_code: bool = False,
    ) -> "MSUN":
        """Load a trained model, ready for evaluation, on the CPU.

        Args:
            source: a run folder, the name of shipped weights such as `lite-msun`, or a model's id on the Hugging Face
                Hub such as `user/model`, downloaded once.
            revision: branch, tag or commit on the Hub.
            force_download: download it again.
            token: for a private model; True takes the stored one.
            cache_dir: where downloads are kept.
            local_files_only: take what has been downloaded before, and ask nobody.
            trust_remote_code: let a model of the Hub name the package.module:factory, installed here, that is imported
                and called to build its network. A model in a folder of yours may do so unasked.

        Raises:
            CheckpointError: if there is no such model, or its files are damaged or do not fit each other.
        """
        hub = {"token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
        folder = find_pretrained(source, revision=revision, force_download=force_download, **hub)
        spec = read_spec(folder / "model.json")
        if is_factory(spec.get("arch", "")) and is_downloaded(folder) and not trust_remote_code:
            expected = f"expected trust_remote_code=True to import and call {spec['arch']}, which its model.json names"
            raise CheckpointError(f"{source}: {expected}, got False")
        try:
            model = cls.from_spec(spec)
        except (UserError, TypeError, ValueError, KeyError, IndexError, RuntimeError) as error:
            reason = str(error).removeprefix("model.json: ")
            raise CheckpointError(f"{folder / 'model.json'}: does not describe a model: {reason}") from None
        return model.load(folder).eval()

    def export(self, path: str | Path, format: str = "torch") -> Path:  # noqa: A002 the field's word
        """Write the model to a new folder, one graph a scale, in single precision, checked against the model itself.

        Args:
            path: the folder, which must not exist yet. `export.Exported(path)` runs it.
            format: `torch` (torch.export) or `onnx` (extra `onnx`).

        Returns:
            The folder.

        Raises:
            UserError: for an unknown format, a folder that exists, or a graph that gives other logits.
        """
        return export(self, path, format)

    def load(self, folder: str | Path) -> "MSUN":
        """Load the model.safetensors of a run folder and return the model; half precision is widened.

        Routing, antialiasing, normalisation and class names become those of the model.json beside it, if there is one.

        Raises:
            CheckpointError: if a file is damaged, or made for another architecture or for one cut in another way.
        """
        path = Path(folder) / "model.safetensors"
        found = adopted(path.with_name("model.json"), self.description)
        load_state(self, read_safetensors(path), path)
        self.spec = self.description | found
        self.routing, self.antialias = self.spec["routing"], self.spec["antialias"]
        return self


def in_batches(network: nn.Module, batches: Sequence[Tensor], joint: bool) -> list[Tensor]:
    """Return `network` of each of the `batches`: one after the other, or `joint`ly as one batch."""
    if not joint:
        return [network(batch) for batch in batches]
    return list(network(torch.cat(list(batches))).split([len(batch) for batch in batches]))


def fingerprint(model: MSUN) -> str:
    """Return a short hash of a model's weights and statistics."""
    return hashlib.sha256(stored_state(model)).hexdigest()[:16]
