"""MSUN as it is used: built from a CNN, saved, loaded, exported."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import safetensors.torch
from huggingface_hub import ModelCard, ModelCardData, ModelHubMixin
from torch import Tensor, nn

from msun_lite.model import MultiScaleUnifiedNetwork
from msun_lite.networks.averages import with_averages
from msun_lite.networks.building import Parts, load_state, parts_of_backbone, parts_of_module, start_from
from msun_lite.networks.difference import base_of, check_base, difference
from msun_lite.networks.factories import is_factory
from msun_lite.networks.graphs import AtScale, export
from msun_lite.networks.model_card import PAPER, REPOSITORY, model_card, read_result
from msun_lite.networks.options import ModelOptions
from msun_lite.networks.pretrained import find_pretrained, is_downloaded, is_multi_scale, read_safetensors
from msun_lite.networks.size_norm import set_averages
from msun_lite.networks.spec import (
    behaviour,
    check_spec,
    make_spec,
    read_spec,
    sizes_from_json,
    spec_update,
    stems_from_json,
    with_default_normalisation,
)
from msun_lite.networks.states import stored_state
from msun_lite.networks.stems import Stem
from msun_lite.per_scale import PerScale
from msun_lite.scales import check_scales, served_sizes
from msun_lite.shapes import dry_run
from msun_lite.utils.errors import CheckpointError, UserError
from msun_lite.utils.files import atomic_write, write_text

BATCH = 128
"""Images of which averages are taken together."""


class MSUN(
    MultiScaleUnifiedNetwork,
    ModelHubMixin,
    library_name="msun_lite",
    repo_url=REPOSITORY,
    paper_url=PAPER,
    pipeline_tag="image-classification",
    tags=["arxiv:2403.18294", "multi-scale", "pytorch"],
):
    """A multi-scale unified network that knows how it was made, and can be saved.

    Args:
        subnets, unified, options: those of `MultiScaleUnifiedNetwork`.
        spec: how the model was made, saved as model.json beside its weights; see `from_backbone`.
        averages: scale -> the sizes in pixels for which BatchNorms have averages of their own, see `SizeNorm`.
    """

    def __init__(
        self,
        subnets: dict[int, nn.Module],
        unified: nn.Module,
        spec: dict | None = None,
        averages: Mapping[int, Sequence[int]] | None = None,
        **options,
    ):
        super().__init__(subnets, unified, **options)
        if averages:
            set_averages(self, averages)
        self._hub_mixin_config = None  # model.json says it all
        self._folder: Path | None = None  # where it was loaded from
        self.spec = {**with_default_normalisation(spec or {})}

    @classmethod
    def from_backbone(
        cls,
        arch: str,
        scales: Sequence[int] = (32, 128, 224),
        blocks: int = 1,
        num_classes: int = 1000,
        stems: str | dict[int, Stem] = "coarse",
        normalisation: dict | None = None,
        class_names: Sequence[str] | None = None,
        weights: str | None = None,
        **options,
    ) -> "MSUN":
        """Turn the CNN `arch` into an MSUN.

        Args:
            arch: as in `ModelOptions`.
            scales: two or more sizes in pixels, rising; each gets its own subnet.
            blocks: stages in every subnet beside its stem (the paper's B), 0 to 3.
            num_classes: length of the logits.
            stems: `coarse` or `fine`, see `stems.choose_stem`; or your own, {scale: Stem}, for each but the largest.
            normalisation: {"mean": [3], "std": [3]} of the images it expects; that of `weights`, or ImageNet's.
            class_names: what the logits stand for, if known; of published weights of ImageNet its WordNet ids.
            weights: trained weights of the plain CNN to start from, see `pretrained.find_plain`; fresh by default.
                The large subnet and g take them as they are, smaller subnets with a resampled first kernel; the
                classifier starts afresh if the number of classes differs. Or those of an MSUN of the same structure.
            options: others of `ModelOptions`: `split`, `routing`, `unify`, `norm` and `antialias`.

        Raises:
            UserError: for an unknown name, or scales that are unsorted, repeated or fewer than two.
            CheckpointError: if the weights do not fit.
        """
        options = ModelOptions(arch=arch, blocks=blocks, **options)
        spec = make_spec(options, check_scales(scales), num_classes, normalisation, class_names)
        of_msun = is_multi_scale(weights)
        model = cls._assemble(parts_of_backbone(spec, stems, None if of_msun else weights))
        if of_msun:
            start_from(model, weights, cls._stored(find_pretrained(weights)))
        return model

    @classmethod
    def vanilla(
        cls,
        arch: str,
        scale: int = 224,
        num_classes: int = 1000,
        weights: str | None = None,
        normalisation: dict | None = None,
        class_names: Sequence[str] | None = None,
        **options,
    ) -> "MSUN":
        """Return the ordinary CNN of Eq. 3: the largest subnet alone, every image resized to `scale`.

        `weights`, `normalisation`, `class_names` and the other `options` (`blocks`, `antialias`, `split`) are those of
        `from_backbone`; `blocks` and `split` only say where the features are taken. Without `split`, those of
        architectures not in `backbones.CUTTABLE` are the images themselves.
        """
        spec = make_spec(ModelOptions(arch=arch, **options), (scale,), num_classes, normalisation, class_names)
        return cls._assemble(parts_of_backbone(spec, weights=weights))

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
    def _as_made(cls, spec: dict) -> "MSUN":
        """Build the model that a description has, as it is made of the plain CNN that is its `base`."""
        return cls._assemble(parts_of_backbone(spec, stems_from_json(spec["stems"]), spec["base"]["weights"]))

    @classmethod
    def _stored(cls, folder: Path) -> dict[str, Tensor]:
        """Return the state that a folder holds; where it is what differs from a base, with the rest of that.

        Raises:
            CheckpointError: if the file is damaged, or the base is not to be had.
        """
        found, spec = read_safetensors(folder / "model.safetensors"), folder / "model.json"
        if not spec.is_file() or "base" not in (said := read_spec(spec)):
            return found
        check_base(said)
        return cls._as_made(said).state_dict() | found

    @classmethod
    def _assemble(cls, parts: Parts) -> "MSUN":
        """Put a model together of its parts."""
        spec = parts.spec
        unified = PerScale(parts.upper) if spec["unify"] == "none" else parts.upper[spec["scales"][-1]]
        averages = sizes_from_json(spec.get("averages", {}))
        made = cls(parts.lower, unified, **behaviour(spec), scales=spec["scales"], averages=averages, spec=spec)
        return made._check_scales()

    def _check_scales(self) -> "MSUN":
        """Return the model, or raise a `UserError` for a scale that it cannot take to the end; nothing is computed."""
        one_shape = self.unify != "native" and self.subnet_input != "native"
        for scale in self.scales[-1:] if one_shape else self.scales:  # g runs on that of the largest alone
            served = served_sizes(scale, self.scales, self.routing)
            for side in sorted({self.router.side(size, scale) for size in (scale, served[0], served[-1])}):
                dry_run(AtScale(self, scale), side, self.spec["arch"])
        return self

    @property
    def description(self) -> dict:
        """How the model was made, and how it routes and resizes now, as model.json has it."""
        averages = {str(scale): list(sizes) for scale, sizes in self.averages.items()}
        return {**self.spec, **behaviour(vars(self)), "averages": averages}

    def save(self, folder: str | Path) -> None:
        """Write model.json and model.safetensors into `folder`, each whole or not at all."""
        write_text(Path(folder) / "model.json", json.dumps(self.description, indent=2) + "\n")
        with atomic_write(Path(folder) / "model.safetensors") as file:
            file.write(stored_state(self))

    def save_difference(self, folder: str | Path) -> None:
        """Write the model as `save` does, but of its weights only those that the plain CNN it was made of has not.

        They are in half precision. `from_pretrained` loads such a folder where the CNN's weights can be had.

        Raises:
            UserError: if the model was not made of trained weights, all of them.
        """
        spec = {**self.description, "base": base_of(self.spec)}
        own = difference(self.state_dict(), self._as_made(spec).state_dict())
        write_text(Path(folder) / "model.json", json.dumps(spec, indent=2) + "\n")
        with atomic_write(Path(folder) / "model.safetensors") as file:
            file.write(safetensors.torch.save(own))

    def save_pretrained(self, save_directory: str | Path, **options) -> str | None:
        """Save the model with a card, a README.md, for the Hugging Face Hub; one that is there already is kept.

        `options` are those of the mixin; `model_card_kwargs` are those of `generate_model_card`.

        Raises:
            UserError: if the folder cannot be made.
        """
        try:
            Path(save_directory).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{save_directory}: the folder cannot be made: {error}") from None
        return super().save_pretrained(save_directory, **options)

    def generate_model_card(self, **metadata) -> ModelCard:
        """Return the card that `save_pretrained` and `push_to_hub` write: what the model is, does and cannot do.

        It has the accuracies of the run, or of the shipped weights, that the model was loaded from, so long as it is
        the same model.

        Args:
            metadata: what else it says at its top, such as `license="mit"`; `tags` come to those that it has.
        """
        own = self._hub_mixin_info.model_card_data.to_dict()
        tags = sorted({*own["tags"], *metadata.get("tags", ())})
        return model_card(self, ModelCardData(**{**own, **metadata, "tags": tags}), self._result())

    def _result(self) -> dict | None:
        """Return the summary.json beside what the model was loaded from, None if it is another model by now."""
        found = None if self._folder is None else read_result(self._folder)
        if found is None:
            return None
        again, free = type(self).from_pretrained(self._folder), {"routing", "class_names", "normalisation_source"}
        changed = {name for name, value in again.description.items() if self.description.get(name) != value}
        return found if changed <= free and fingerprint(again) == fingerprint(self) else None

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
            model = cls.from_spec({name: value for name, value in spec.items() if name != "base"})
        except (UserError, TypeError, ValueError, KeyError, IndexError, RuntimeError) as error:
            reason = str(error).removeprefix("model.json: ")
            raise CheckpointError(f"{folder / 'model.json'}: does not describe a model: {reason}") from None
        model._folder = folder
        return model.load(folder).eval()

    def with_averages(
        self,
        images: Tensor | Iterable[Tensor],
        sizes: Sequence[int],
        share: float = 1.0,
        native: bool = False,
        keep: bool = False,
    ) -> "MSUN":
        """Return a copy whose BatchNorms have averages of each size, those of the nearest being used; see `averages`.

        No weight changes. Such a network is saved, loaded and exported as any other, and `load` reads it into one that
        has averages of the same sizes.

        Args:
            images: of the kind that it will be used on, normalised, on the model's device: [N, 3, H, W], or batches of
                them, which are gone through once a size. A thousand are enough, two hundred do.
            sizes: in pixels, rising.
            share: of these averages in the mixture with those that the network has.
            native: feed a plain CNN the small images as they are, as `forward_native` does.
            keep: the largest scale's own size keeps the averages that the network has, bit for bit.

        Raises:
            UserError: if there are no images or no BatchNorm, a batch of one image, a share outside 0 to 1, sizes that
                do not rise, or native feeding of several scales.
        """
        if isinstance(images, Tensor):
            images = images.tensor_split(max(1, round(len(images) / BATCH)))  # of one length or nearly: none of one
        return with_averages(self, images, sizes, share, native, keep)

    def export(
        self,
        path: str | Path,
        format: str = "torch",  # noqa: A002 the field's word
        crop_ratio: float | None = None,
        weights: str = "apart",
    ) -> Path:
        """Write the model to a new folder, one graph a scale, in single precision, checked against the model itself.

        Args:
            path: the folder, which must not exist yet. `export.Exported(path)` runs it.
            format: `torch` (torch.export) or `onnx` (extra `onnx`), which comes with the room `runtime` and `serve.py`:
                they answer to photographs without PyTorch.
            crop_ratio: side of the central square that they look at, as a part of a photograph's shorter side; that of
                published weights, else 1, by default.
            weights: `apart`, each graph carries its own. Of `onnx` they can also be `shared`: what several graphs have
                is stored once, in weights.bin beside them, in half precision where that loses nothing. `half` is the
                same, all in half precision. Such graphs also give class-activation maps [B, classes, h, w], `maps`,
                where the classifier is a linear layer on the means of a last map.

        Returns:
            The folder.

        Raises:
            UserError: for an unknown format, a ratio outside 0 to 1, a folder that exists, or a graph that gives other
                logits.
        """
        ratio = self.spec.get("crop_ratio", 1.0) if crop_ratio is None else crop_ratio
        return export(self, path, format, ratio, weights)

    def load(self, folder: str | Path) -> "MSUN":
        """Load the model.safetensors of a run folder and return the model; half precision is widened.

        Routing, antialiasing, normalisation and class names become those of the model.json beside it, if there is one.

        Raises:
            CheckpointError: if a file is damaged, or made for another architecture or for one cut in another way.
        """
        path = Path(folder) / "model.safetensors"
        found = spec_update(path.with_name("model.json"), self.description)
        load_state(self, self._stored(path.parent), path)
        self.spec = self.description | found
        self.routing, self.antialias = self.spec["routing"], self.spec["antialias"]
        return self


def fingerprint(model: MSUN) -> str:
    """Return a short hash of a model's weights and statistics."""
    return hashlib.sha256(stored_state(model)).hexdigest()[:16]
