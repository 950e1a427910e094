"""Where trained weights come from: published ones by name, files, and finished Vanilla runs.

All of them are states of the *plain* network, under its own layer names; `load_plain` puts one into a network that
may have another number of classes.
"""

import argparse
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import safetensors.torch
import torch
import torchvision
from huggingface_hub import hf_hub_download
from huggingface_hub.constants import HF_HUB_CACHE
from torch import Tensor, nn

from msun_lite.data import imagenet_classes, imagenet_words
from msun_lite.networks.backbones import EFFICIENTNET_LITE0, TF_EFFICIENTNET_LITE0, TIMM, import_timm
from msun_lite.networks.packaged import by_timms_names, is_published, packaged_weights
from msun_lite.networks.spec import normalisation_spec, read_spec
from msun_lite.results import RunFolder
from msun_lite.utils.errors import CheckpointError, UserError, first_line, unreadable

SHIPPED = Path(__file__).parents[1] / "weights"
"""Where the weights that come with the package lie, a folder each."""

DEFAULT = "DEFAULT"
"""The best weights that torchvision or timm publishes for an architecture, or those of an installed package."""


@dataclass
class PlainWeights:
    """The state of a plain network.

    Args:
        state: its tensors by name.
        normalisation: what it was trained with if that is known, see `spec.normalisation_spec`.
        entry: which of several states in a file it is.
        class_names: what its logits stand for, if that is known.
        crop_ratio: side of the centre crop over the shorter side of an image that it was published with, if it was.
    """

    state: dict[str, Tensor]
    normalisation: dict | None = None
    entry: str | None = None
    class_names: Sequence[str] | None = None
    crop_ratio: float | None = None


MODEL_FILES = ("model.json", "model.safetensors")
"""What a folder with a model in it has."""


def find_pretrained(source: str | Path, **download: object) -> Path:
    """Return the folder of a run, of shipped weights by their name, or of a model downloaded from the Hub.

    A folder wins over a name. What looks like a path into an existing folder is not sought on the Hub. `download` are
    options of the Hub's client, see `MSUN.from_pretrained`.

    Raises:
        CheckpointError: if there is no such model.
    """
    for folder in (Path(source), SHIPPED / str(source)):
        if all((folder / name).is_file() for name in MODEL_FILES):
            return folder
    if RunFolder(source).checkpoint.is_file():
        raise CheckpointError(f"{source}: expected a finished run, found a checkpoint alone: --resume goes on with it")
    shipped = ", ".join(sorted(path.parent.name for path in SHIPPED.glob("*/model.json"))) or "none"
    expected = f"expected a run folder with {' and '.join(MODEL_FILES)}, or a shipped name ({shipped})"
    if str(source).count("/") != 1 or Path(source).parent.exists():
        raise CheckpointError(f"{source}: {expected}")
    try:
        files = [hf_hub_download(str(source), name, **download) for name in MODEL_FILES]
    except Exception as error:  # the Hub's client raises many kinds
        reason = first_line(error)
        raise CheckpointError(f"{source}: {expected}, or a model on the Hub: {reason}") from None
    return Path(files[0]).parent


def is_downloaded(folder: Path) -> bool:
    """Return whether a folder is one of the Hub's client, which keeps what it downloads as models--USER--NAME."""
    return folder.absolute().parent.name == "snapshots" and folder.absolute().parents[1].name.startswith("models--")


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file."""
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: expected a whole safetensors file, got {error}") from None


def find_plain(arch: str, weights: str) -> PlainWeights:
    """Return trained weights of the plain network `arch`.

    Args:
        arch: a name that `backbones.find_recipe` knows.
        weights: DEFAULT, or another name that torchvision has for this architecture, such as IMAGENET1K_V1; a file
            (.safetensors, .pth) with the state of the plain network, of several in it the average; a finished
            Vanilla run, or a shipped one. DEFAULT of `efficientnet_lite0` is the file of an installed package.

    Raises:
        UserError: if there are no such weights, or they cannot be had.
        CheckpointError: if a file is damaged or of another kind.
    """
    if Path(weights).is_file():
        return _of_file(Path(weights), arch)
    if any((folder / "model.json").is_file() for folder in (Path(weights), SHIPPED / weights)):
        return _of_vanilla_run(find_pretrained(weights), arch)
    if arch == EFFICIENTNET_LITE0 and weights == DEFAULT:
        return _of_file(packaged_weights(), arch)
    return _of_timm(arch, weights) if arch.startswith(TIMM) else _of_torchvision(arch, weights)


def is_multi_scale(weights: str | None) -> bool:
    """Return whether weights are those of an MSUN, in a folder or shipped, not of a plain network."""
    paths = [] if weights is None else [folder / "model.json" for folder in (Path(weights), SHIPPED / weights)]
    found = [path for path in paths if path.is_file()]
    return bool(found) and len(read_spec(found[0]).get("scales", ())) > 1


def load_plain(cnn: nn.Module, weights: PlainWeights, name: str) -> list[str]:
    """Load `weights` into `cnn`; its classifier stays fresh if it has another number of classes.

    Args:
        name: what the weights are called in messages.

    Returns:
        The names of the tensors left fresh.

    Raises:
        CheckpointError: naming the first tensor that does not fit.
    """
    own = cnn.state_dict()
    state = _by_own_names(weights.state, own)
    classifier = [own_name for own_name in own if own_name.startswith(_last_linear(cnn) + ".")]
    fresh = [key for key in classifier if key in state and state[key].shape[1:] == own[key].shape[1:]]
    fresh = [key for key in fresh if state[key].shape != own[key].shape]
    for key in sorted(own.keys() | state.keys()):
        if key in fresh:
            continue
        if key not in own or key not in state or own[key].shape != state[key].shape:
            expected = tuple(own[key].shape) if key in own else "no such tensor"
            found = tuple(state[key].shape) if key in state else "none"
            raise CheckpointError(f"{name}: weights of another network: {key}: expected {expected}, got {found}")
    cnn.load_state_dict({**state, **{key: own[key] for key in fresh}})
    return fresh


WRAPPERS = ("model.", "backbone.")
"""What frameworks put before the name of every tensor."""


def _by_own_names(state: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state by a network's own names: without a prefix that all share, and with BatchNorm's counts of batches.

    Files of early PyTorch lack `num_batches_tracked`.
    """
    counts = {name: count for name, count in own.items() if name.endswith(".num_batches_tracked")}
    for prefix in WRAPPERS:
        bare = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        if len(bare) == len(state) and (counts | bare).keys() == own.keys():
            return counts | bare
    return counts | state


def _last_linear(cnn: nn.Module) -> str:
    return [name for name, module in cnn.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]


ENTRIES = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Where training scripts put the state of a network; an average of the weights goes first, as it does in timm."""


def _read_plain_file(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """Return a state from a file as training scripts write them, and its entry there; nothing in it is executed."""
    state, entry = read_safetensors(path) if path.suffix == ".safetensors" else _load_values(path), None
    if isinstance(state, dict):
        entry = next((name for name in ENTRIES if isinstance(state.get(name), dict)), None)
        state = state if entry is None else state[entry]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path}: expected the state of a network, tensors by name")
    if not state:
        raise CheckpointError(f"{path}: expected the state of a network, got no tensor")
    # What torch.compile, DataParallel and AveragedModel put in, each around the others.
    names = {name: name.replace("_orig_mod.", "").removeprefix("module.") for name in state if name != "n_averaged"}
    return {names[name]: state[name] for name in names}, entry


def _of_file(path: Path, arch: str) -> PlainWeights:
    """Return the weights in a file; that of the package of EfficientNet-Lite0 is recognised wherever it lies."""
    state, entry = _read_plain_file(path)
    if arch != EFFICIENTNET_LITE0:
        return PlainWeights(state, _usual_normalisation(arch), entry)
    found = PlainWeights(by_timms_names(state, path), _usual_normalisation(arch), entry)
    if is_published(path):
        config = import_timm().get_pretrained_cfg(TF_EFFICIENTNET_LITE0)
        found.class_names, found.crop_ratio = imagenet_classes(), config.crop_pct
    return found


def _load_values(path: Path) -> object:
    """Return what a file holds: tensors, plain values and, as timm stores them, the arguments of a script."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for what is no checkpoint, or a hostile one
        raise CheckpointError(f"{path}: expected a file of weights, got {unreadable(error)}") from None


def _of_vanilla_run(folder: Path, arch: str) -> PlainWeights:
    spec = read_spec(folder / "model.json")
    if spec.get("arch") != arch or len(spec.get("scales", ())) != 1:
        expected = f"expected a Vanilla run of {arch}"
        raise CheckpointError(f"{folder}: {expected}, got {spec.get('arch')} at scales {spec.get('scales')}")
    prefixes = (f"subnets.{spec['scales'][0]}.", "unified.")
    state = {
        key.removeprefix(prefixes[0]).removeprefix(prefixes[1]): value
        for key, value in read_safetensors(folder / "model.safetensors").items()
    }
    return PlainWeights(state, run_normalisation(spec, folder))


def run_normalisation(spec: dict, folder: Path) -> dict | None:
    """Return the normalisation of a run, by its description."""
    return (
        normalisation_spec(**spec["normalisation"], source=f"the run {folder.name}")
        if spec.get("normalisation")
        else None
    )


def _usual_normalisation(arch: str) -> dict | None:
    """Return the normalisation that an architecture's published weights have: that of weights that do not say."""
    if arch.startswith(TIMM) or arch == EFFICIENTNET_LITE0:
        name = TF_EFFICIENTNET_LITE0 if arch == EFFICIENTNET_LITE0 else arch.removeprefix(TIMM)
        config = import_timm().get_pretrained_cfg(name)
        return config and normalisation_spec(config.mean, config.std, f"timm's configuration of {config.architecture}")
    try:
        return _torchvision_normalisation(torchvision.models.get_model_weights(arch).DEFAULT)
    except ValueError:
        return None


def _torchvision_normalisation(weights: torchvision.models.WeightsEnum) -> dict:
    transform = weights.transforms()
    return normalisation_spec(transform.mean, transform.std, f"torchvision's {weights}")


def normalisation_of(model: nn.Module) -> dict | None:
    """Return the normalisation that a network carries with it, as timm's do; None if it carries none."""
    config = getattr(model, "pretrained_cfg", None)
    if not isinstance(config, dict) or not {"mean", "std", "architecture"} <= config.keys():
        return None
    return normalisation_spec(config["mean"], config["std"], f"timm's configuration of {config['architecture']}")


def _of_torchvision(arch: str, weights: str) -> PlainWeights:
    try:
        published = torchvision.models.get_model_weights(arch)
    except ValueError:
        expected = "expected a file or a Vanilla run of it"
        raise UserError(f"weights: {arch} has none published, {expected}, got {weights!r}") from None
    if weights not in published.__members__:
        names = ", ".join(published.__members__)
        raise UserError(f"weights: expected one of {names}, a file or a Vanilla run, got {weights!r}")
    url = published[weights].url
    copy = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name
    came_before = copy.is_file()
    try:
        state = torchvision.models.get_model(arch, weights=published[weights]).state_dict()
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:  # no network, a full disk, a torn copy
        if came_before:
            what = f"expected the whole file of {url}, got: {unreadable(error)}"
            raise UserError(f"weights: {copy}: {what}; remove it, and it is downloaded again") from None
        raise UserError(f"weights: {url} cannot be had: {unreadable(error)}") from None
    state = {key: value for key, value in state.items() if not key.startswith("AuxLogits.")}
    transform, words = published[weights].transforms(), published[weights].meta["categories"]
    return PlainWeights(
        state,
        _torchvision_normalisation(published[weights]),
        class_names=imagenet_classes() if words == list(imagenet_words()) else None,
        crop_ratio=transform.crop_size[0] / transform.resize_size[0],
    )


def _of_timm(arch: str, weights: str) -> PlainWeights:
    if weights != DEFAULT:
        raise UserError(f"weights: expected DEFAULT, a file or a Vanilla run for {arch}, got {weights!r}")
    try:
        model = import_timm().create_model(arch.removeprefix(TIMM), pretrained=True)
    except Exception as error:  # the hub's client raises many kinds
        torn = isinstance(error, safetensors.SafetensorError | RuntimeError | EOFError | pickle.UnpicklingError)
        hint = f"; if its copy below {HF_HUB_CACHE} or {torch.hub.get_dir()} is damaged, remove it" if torn else ""
        raise UserError(f"weights: those of {arch} cannot be had: {unreadable(error)}{hint}") from None
    of_imagenet = model.num_classes == len(imagenet_classes())  # as timm itself infers
    names = imagenet_classes() if of_imagenet else None
    ratio = min(model.pretrained_cfg["crop_pct"], 1.0)  # that of a few is more: they see a frame around the image
    return PlainWeights(model.state_dict(), normalisation_of(model), class_names=names, crop_ratio=ratio)
