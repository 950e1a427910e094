"""What an MSUN is put together of: a CNN is built or taken as it is, cut, and fitted to each scale."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from msun_lite.networks.backbones import CUTTABLE, find_recipe, find_split
from msun_lite.networks.cutting import cut, keep_features
from msun_lite.networks.factories import is_factory
from msun_lite.networks.layers import classifiers
from msun_lite.networks.options import ModelOptions
from msun_lite.networks.pretrained import (
    PlainWeights,
    find_plain,
    find_pretrained,
    load_plain,
    normalisation_of,
    run_normalisation,
)
from msun_lite.networks.rebuilding import builder_of
from msun_lite.networks.spec import GIVEN, STRUCTURE, make_spec, read_spec, stems_to_json, with_default_normalisation
from msun_lite.networks.stems import Stem, choose_stems, fit_stem
from msun_lite.networks.tracing import check_cuttable
from msun_lite.shapes import count_classes
from msun_lite.utils.errors import CheckpointError, UserError, within


@dataclass(frozen=True)
class Parts:
    """The parts of a model: scale -> f, scale -> g where each has its own, else that of the largest, and model.json."""

    lower: dict[int, nn.Module]
    upper: dict[int, nn.Module]
    spec: dict


def parts_of_backbone(spec: dict, stems: str | dict[int, Stem] = "coarse", weights: str | None = None) -> Parts:
    """Return the parts of the model that a description has, its CNN's weights fresh or as `find_plain` has them.

    For errors see `MSUN.from_backbone`.
    """
    arch, scales = spec["arch"], spec["scales"]
    recipe, largest = find_recipe(arch), scales[-1]
    within("num_classes", spec["classes"], least=1)
    cnn = recipe.build(spec["classes"])
    if is_factory(arch):
        _check_classes(cnn, spec)
    if weights is not None:
        found = find_plain(arch, weights)
        fresh = load_plain(cnn, found, weights)
        spec = _with_what_weights_bring(spec, found, fresh) | {"weights": _origin(weights, fresh, found.entry)}
    if is_factory(arch) and (carried := normalisation_of(cnn)):
        spec = with_default_normalisation(spec, carried)
    if len(scales) == 1 and arch not in CUTTABLE and "split" not in spec:
        return Parts({largest: nn.Identity()}, {largest: cnn}, spec)
    split = spec["split"] if "split" in spec else find_split(arch, spec["blocks"])
    f, g = cut(cnn, split)
    if spec["private"] == "norms":
        return _keeping_features({largest: f}, {largest: g}, {**spec, "stems": {}})
    own = (recipe.places, recipe.kernels, spec["unify"] != "native", spec["subnet_input"])
    stems = choose_stems(f, scales, stems, *own)
    subnets, private = {}, {}
    classes = spec["classes"] if spec["unify"] == "none" else 1  # a g that is thrown away may be small
    trained = weights is not None or is_factory(arch)  # a network of one's own may come with weights
    for scale, stem in stems.items():
        lower, private[scale] = copy.deepcopy((f, g)) if trained else cut(recipe.build(classes), split)
        subnets[scale] = fit_stem(lower, stem, resample=trained)
    spec = {**spec, "stems": stems_to_json(stems)}
    return _keeping_features({**subnets, largest: f}, {**private, largest: g}, spec)


def _with_what_weights_bring(spec: dict, found: PlainWeights, fresh: list[str]) -> dict:
    """Return a description with what is known of the weights `found`, but for the names of a `fresh` classifier."""
    if found.normalisation or not is_factory(spec["arch"]):  # what a factory builds may carry its own
        spec = with_default_normalisation(spec, found.normalisation)
    crops = {} if found.crop_ratio is None else {"crop_ratio": found.crop_ratio}
    names = spec["class_names"]
    if names is None and found.class_names and not fresh:
        names = list(found.class_names)
    return {**spec, **crops, "class_names": names}


def _origin(source: str, fresh: list[str], entry: str | None = None) -> dict:
    """Return what a description says of the weights that a model started from."""
    return {"source": source, "fresh": fresh, **({} if entry is None else {"entry": entry})}


def start_from(model: nn.Module, weights: str, found: dict[str, Tensor]) -> None:
    """Load into an MSUN, just built, the weights of another of the same structure; of other classes, all but the last.

    Args:
        model: the MSUN; its description says afterwards where its weights and its normalisation are from.
        weights: a run folder, or a shipped name.
        found: the state that is stored there.

    Raises:
        CheckpointError: if they are of another architecture or structure, or do not fit.
    """
    folder = find_pretrained(weights)
    spec, own = read_spec(folder / "model.json"), model.spec
    for name in ("arch", *STRUCTURE):
        if own.get(name) != spec.get(name):
            expected = f"expected {own.get(name)}, got {spec.get(name)}"
            raise CheckpointError(f"{weights}: weights of another model: {name}: {expected}")
    state, fresh = model.state_dict(), []
    if own["classes"] != spec["classes"]:
        heads = {id(parameter) for layer in classifiers(model) for parameter in layer.parameters()}
        fresh = [name for name, parameter in model.named_parameters() if id(parameter) in heads]
    load_state(model, found | {name: state[name] for name in fresh}, folder / "model.safetensors")
    if own["normalisation_source"] != GIVEN:
        own |= run_normalisation(spec, folder) or {}
    own["weights"] = _origin(weights, fresh)


def load_state(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load `state` into an MSUN, or name the first tensor that does not fit; `path` is for the message."""
    own = model.state_dict()
    for name in sorted(own.keys() | state.keys()):
        if name not in own or name not in state or own[name].shape != state[name].shape:
            expected = tuple(own[name].shape) if name in own else "no such tensor"
            found = tuple(state[name].shape) if name in state else "none"
            raise CheckpointError(
                f"{path}: made for another model: {name}: expected {expected} for "
                f"{model.spec.get('arch')} at scales {list(model.scales)}, got {found}"
            )
    model.load_state_dict(state)


def _check_classes(cnn: nn.Module, spec: dict) -> None:
    if (got := count_classes(cnn, spec["scales"][-1])) != spec["classes"]:
        raise UserError(f"num_classes: expected {spec['classes']} logits of {spec['arch']}, got {got}")


def parts_of_module(
    model: nn.Module,
    split: str,
    scales: Sequence[int],
    stems: str | dict[int, Stem] = "coarse",
    factory: str | None = None,
    normalisation: dict | None = None,
    class_names: Sequence[str] | None = None,
    **options,
) -> Parts:
    """Return the parts of an MSUN that starts from a network of one's own, which is copied.

    For the arguments and errors see `MSUN.from_module`.
    """
    check_cuttable(model, split)  # now: what it refuses cannot all be copied
    f, g = cut(copy.deepcopy(model), split)
    classes = count_classes(model, scales[-1])
    arch = builder_of(model, split, scales[-1], classes, factory)
    spec = make_spec(ModelOptions(arch=arch, split=split, **options), scales, classes, normalisation, class_names)
    if spec["private"] == "norms":
        spec = {**with_default_normalisation(spec, normalisation_of(model)), "stems": {}}
        return _keeping_features({scales[-1]: f}, {scales[-1]: g}, spec)
    stems = choose_stems(f, scales, stems, finer=spec["unify"] != "native", subnet_input=spec["subnet_input"])
    subnets = {scale: fit_stem(copy.deepcopy(f), stem, resample=True) for scale, stem in stems.items()}
    private = {scale: copy.deepcopy(g) for scale in stems}
    spec = {**with_default_normalisation(spec, normalisation_of(model)), "stems": stems_to_json(stems)}
    return _keeping_features({**subnets, scales[-1]: f}, {**private, scales[-1]: g}, spec)


def _keeping_features(lower: dict[int, nn.Module], upper: dict[int, nn.Module], spec: dict) -> Parts:
    """Return the parts, of which no g that serves works on its features in place."""
    largest = spec["scales"][-1]
    for g in upper.values() if spec["unify"] == "none" else (upper[largest],):
        keep_features(g, lower[largest], largest)
    return Parts(lower, upper, spec)
