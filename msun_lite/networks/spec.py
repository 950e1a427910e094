"""What a model.json says: how a network is made, so that it can be made again."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from msun_lite.data import in_words
from msun_lite.networks.backbones import can_build
from msun_lite.networks.options import ModelOptions
from msun_lite.networks.stems import Stem
from msun_lite.utils.errors import CheckpointError
from msun_lite.utils.files import read_json

SPEC_KEYS = ("arch", "blocks", "scales", "classes", "stems", "routing", "antialias", "unify", "norm", "normalisation")
"""What a model.json must have."""

LATER = {"subnet_input": "scale", "private": "subnets", "averages": {}}
"""What a model.json of an earlier version lacks, and means."""

STRUCTURE = ("scales", "blocks", "split", "stems", "unify", "norm", "subnet_input", "private", "averages")
"""What decides what a network computes with the weights that it has: a stride, for instance, shows in no tensor."""

BEHAVIOUR = ("routing", "antialias", "unify", "norm", "subnet_input", "private")
"""The options that the class `MSUN` itself takes."""

ADOPTED = ("routing", "antialias", "normalisation", "class_names", "crop_ratio")
"""What a model takes from the model.json beside the weights that it loads."""

IMAGENET_NORMALISATION = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
"""Mean and standard deviation of ImageNet's RGB values in [0, 1]."""


GIVEN = "given"
"""Source of a normalisation that the caller asked for."""


def normalisation_spec(mean: Sequence[float], std: Sequence[float], source: str) -> dict:
    """Return what a description says of a normalisation: the numbers, and where they are from."""
    return {"normalisation": {"mean": list(mean), "std": list(std)}, "normalisation_source": source}


def with_default_normalisation(spec: dict, found: dict | None = None) -> dict:
    """Return a description with its normalisation, else `found` (see `normalisation_spec`), else ImageNet's."""
    if spec.get("normalisation"):
        return spec
    return {**spec, **(found or normalisation_spec(**IMAGENET_NORMALISATION, source="ImageNet's"))}


def override_normalisation(spec: dict, mean: Sequence[float] | None, std: Sequence[float] | None) -> dict:
    """Return a description with another mean, standard deviation or both, as the options --mean and --std ask for."""
    given = {name: list(values) for name, values in (("mean", mean), ("std", std)) if values is not None}
    if not given:
        return spec
    kept = [] if len(given) == 2 else [f"the rest {source_of(spec)}"]
    source = ", ".join([*(f"--{name}" for name in given), *kept])
    return {**spec, **normalisation_spec(**{**spec["normalisation"], **given}, source=source)}


def source_of(spec: dict) -> str:
    """Return where the normalisation of a description is from."""
    return spec.get("normalisation_source") or "model.json"


def normalisation_line(spec: dict) -> str:
    """Return what a command says of the normalisation that it works with."""
    mean, std = (",".join(f"{value:g}" for value in spec["normalisation"][name]) for name in ("mean", "std"))
    return f"images are normalised by mean {mean} and std {std}: {source_of(spec)}"


def make_spec(
    options: ModelOptions,
    scales: Sequence[int],
    num_classes: int,
    normalisation: dict | None = None,
    class_names: Sequence[str] | None = None,
) -> dict:
    """Return the description of a model, as model.json has it; where a `split` is named, blocks say nothing."""
    split = options.split
    return {
        "arch": options.arch,
        "blocks": options.blocks if split is None else None,
        **({} if split is None else {"split": split}),
        "scales": list(scales),
        "classes": num_classes,
        "class_names": list(class_names) if class_names else None,
        "stems": {},
        **behaviour(vars(options)),
        "averages": {},
        "normalisation": normalisation,
        "normalisation_source": GIVEN if normalisation else None,
    }


def class_names(spec: dict) -> list[str]:
    """Return what the classes of a network are called: WordNet's identifiers of ImageNet in words, else numbers."""
    return in_words(spec.get("class_names") or [str(label) for label in range(spec["classes"])])


def check_spec(spec: dict) -> None:
    """Raise a `CheckpointError` if a description lacks something, or if nothing is known to build its network again."""
    if missing := [name for name in SPEC_KEYS if name not in spec]:
        expected = ", ".join(SPEC_KEYS)
        raise CheckpointError(f"model.json: expected the keys {expected}, missing {', '.join(missing)}")
    if "split" in spec and not can_build(spec["arch"]):
        made_in = ", a class of a notebook or script" if spec["arch"].startswith("__main__.") else ""
        raise CheckpointError(
            f"model.json: made by MSUN.from_module of {spec['arch']}{made_in}, which nothing builds again: expected "
            "from_module to be called again and the weights read with load(FOLDER), or, before the model is saved, "
            "factory='package.module:callable' among from_module's arguments"
        )


def behaviour(spec: dict) -> dict:
    """Return what of a description, or of the options, the class `MSUN` itself takes."""
    return {name: spec[name] for name in BEHAVIOUR}


def sizes_from_json(averages: dict) -> dict[int, list[int]]:
    """Return the sizes of a model.json that have averages of their own, by scale."""
    return {int(scale): sizes for scale, sizes in averages.items()}


def stems_to_json(stems: dict[int, Stem]) -> dict:
    """Return stems as model.json has them."""
    return {str(scale): asdict(stem) for scale, stem in stems.items()}


def stems_from_json(stems: dict) -> dict[int, Stem]:
    """Return the stems of a model.json."""
    return {int(scale): Stem(**stem) for scale, stem in stems.items()}


MOST = 100_000
"""Most classes, pixels and so on in a model.json: what a damaged one asks for may be more memory than there is."""


def _whole(value: object, least: int = 1) -> bool:
    return type(value) is int and least <= value <= MOST


def _are_names(value: object) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(name, str) for name in value))


def _is_part(value: object) -> bool:
    return type(value) in (int, float) and 0 < value <= 1


def _is_stem(scale: str, stem: object) -> bool:
    if not scale.isdecimal() or not isinstance(stem, dict) or stem.keys() != {"kernel", "strides"}:
        return False
    strides = stem["strides"]
    return _whole(stem["kernel"]) and isinstance(strides, dict) and all(map(_whole, strides.values()))


def _are_sizes(scale: str, sizes: object) -> bool:
    return scale.isdecimal() and isinstance(sizes, list) and all(map(_whole, sizes)) and sizes == sorted(set(sizes))


def _is_base(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(name), str) for name in ("weights", "fingerprint"))


def _is_normalisation(value: object) -> bool:
    if value is None:
        return True
    if not isinstance(value, dict) or not all(isinstance(value.get(name), list) for name in ("mean", "std")):
        return False
    numbers = [number for name in ("mean", "std") for number in value[name]]
    if len(value["mean"]) != 3 or len(value["std"]) != 3 or not all(type(number) in (int, float) for number in numbers):
        return False
    return all(map(math.isfinite, numbers)) and min(value["std"]) > 0


SPEC_VALUES: dict[str, tuple[str, Callable[[object], bool]]] = {
    "arch": ("a name", lambda value: isinstance(value, str)),
    "split": ("the name of a layer", lambda value: isinstance(value, str)),
    "blocks": ("a number of stages", lambda value: value is None or _whole(value, least=0)),
    "scales": ("sizes in pixels", lambda value: isinstance(value, list) and all(map(_whole, value)) and value != []),
    "classes": (f"a number from 1 to {MOST}", _whole),
    "class_names": ("names", _are_names),
    "crop_ratio": ("a part of an image's shorter side, more than 0 and at most 1", _is_part),
    "stems": (
        "a kernel and strides for each smaller scale",
        lambda value: isinstance(value, dict) and all(_is_stem(*item) for item in value.items()),
    ),
    "routing": ("a routing rule", lambda value: isinstance(value, str)),
    "averages": (
        "sizes for each scale",
        lambda value: isinstance(value, dict) and all(_are_sizes(*item) for item in value.items()),
    ),
    "antialias": ("true or false", lambda value: isinstance(value, bool)),
    "base": ("the weights of a plain CNN and their fingerprint", _is_base),
    "normalisation": ("a mean and a standard deviation of three numbers each", _is_normalisation),
    "normalisation_source": ("a text", lambda value: value is None or isinstance(value, str)),
}
"""What the values in a model.json must be that the network's parts take unseen."""


def read_spec(path: Path) -> dict:
    """Return what a model.json says, each value of the type and in the range that a network can be made of.

    Raises:
        CheckpointError: naming the file, and the first value that is none.
    """
    spec = LATER | read_json(path)
    for name, (expected, holds) in SPEC_VALUES.items():
        if name in spec and not holds(spec[name]):
            raise CheckpointError(f"{path}: {name}: expected {expected}, got {str(spec[name])[:80]!r}")
    return spec


def spec_update(path: Path, own: dict) -> dict:
    """Return what a model takes from the model.json beside the weights that it loads: nothing if there is none.

    Args:
        own: the model's description, of the same `STRUCTURE`.

    Raises:
        CheckpointError: if the file is damaged, or describes a network of another structure.
    """
    found = read_spec(path) if path.is_file() else {}
    for name in STRUCTURE:
        if name in own and name in found and own[name] != found[name]:
            raise CheckpointError(f"{path}: made for another model: {name}: expected {own[name]}, got {found[name]}")
    taken = {name: found[name] for name in ADOPTED if found.get(name) is not None}
    return taken | ({"normalisation_source": source_of(found)} if "normalisation" in taken else {})
