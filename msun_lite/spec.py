"""What a model.json says: how a network is made, so that it can be made again."""

from collections.abc import Sequence
from dataclasses import asdict

from msun_lite.errors import CheckpointError
from msun_lite.surgery import Stem

UNIFY = ("largest", "native", "none")
"""What the unified network runs on: features resized to the largest scale's shape (Eq. 4), or at their own size; or no
unified network, but a private g for each scale."""

SPEC_KEYS = ("arch", "blocks", "scales", "classes", "stems", "routing", "antialias", "unify", "norm", "normalisation")
"""What a model.json must have."""

IMAGENET_NORMALISATION = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
"""Mean and standard deviation of ImageNet's RGB values in [0, 1]."""


def make_spec(
    arch: str,
    scales: Sequence[int],
    num_classes: int,
    blocks: int | None = 1,
    routing: str = "nearest",
    antialias: bool = True,
    unify: str = "largest",
    norm: str = "shared",
    normalisation: dict | None = None,
    class_names: Sequence[str] | None = None,
) -> dict:
    """Return the description of a model, as model.json has it."""
    return {
        "arch": arch,
        "blocks": blocks,
        "scales": list(scales),
        "classes": num_classes,
        "class_names": list(class_names) if class_names else None,
        "stems": {},
        "routing": routing,
        "antialias": antialias,
        "unify": unify,
        "norm": norm,
        "normalisation": normalisation,
    }


def check_spec(spec: dict) -> None:
    """Raise a `CheckpointError` if a description lacks something, or is that of a model made by `MSUN.from_module`."""
    if missing := [name for name in SPEC_KEYS if name not in spec]:
        expected = ", ".join(SPEC_KEYS)
        raise CheckpointError(f"model.json: expected the keys {expected}, missing {', '.join(missing)}")
    if "split" in spec:
        raise CheckpointError(
            f"model.json: made from a {spec['arch']} by MSUN.from_module, expected that to be called again and "
            "the weights read with load(FOLDER)"
        )


def behaviour(spec: dict) -> dict:
    """Return what of a description the class `MSUN` itself takes."""
    return {name: spec[name] for name in ("routing", "antialias", "unify", "norm")}


def stems_to_json(stems: dict[int, Stem]) -> dict:
    """Return stems as model.json has them."""
    return {str(scale): asdict(stem) for scale, stem in stems.items()}


def stems_from_json(stems: dict) -> dict[int, Stem]:
    """Return the stems of a model.json."""
    return {int(scale): Stem(**stem) for scale, stem in stems.items()}
