"""The network that a training starts from: made of its options, or given to it."""

from collections.abc import Sequence
from dataclasses import replace

from msun_lite.config import TrainConfig
from msun_lite.methods import METHODS
from msun_lite.networks import BEHAVIOUR, MSUN, override_normalisation
from msun_lite.train.objectives import find_objective
from msun_lite.utils.errors import CheckpointError, UserError

GIVEN_MODEL = "a model given to train"
"""What a description calls the weights of a network that a training was given."""


def make_model(config: TrainConfig, class_names: Sequence[str]) -> MSUN:
    """Return the network that `config.method` trains, with the weights it starts from.

    Raises:
        CheckpointError: if these cannot be had, or do not fit; a preset may have set them, so that it says what does.
    """
    options = {"antialias": config.antialias, "class_names": class_names, "weights": config.weights}
    try:
        model = find_objective(config.method).make_model(config, len(class_names), split=config.split, **options)
    except CheckpointError as error:
        hint = f"; --weights says what else {config.method} begins with, null for nothing"
        raise CheckpointError(f"{error}{hint}") from None
    model.spec = _as_configured(model.spec, config)
    return model


def _as_configured(spec: dict, config: TrainConfig) -> dict:
    """Return a description with the normalisation and the crops of a training in place of those of its weights."""
    crops = {"crop_ratio": config.crop_ratio} if "crop_ratio" in spec else {}
    return override_normalisation(spec, config.mean, config.std) | crops


def with_model_options(config: TrainConfig, model: MSUN) -> TrainConfig:
    """Return the options of a training with those of the model that is given to it: how it is made, and behaves.

    Raises:
        UserError: if the model does not fit the method, the scales or the weights that the options ask for.
    """
    if not isinstance(model, MSUN):
        raise UserError(f"model: expected an MSUN, such as MSUN.from_module gives, got {type(model).__name__}")
    spec = model.description
    if missing := {"arch", "classes"} - spec.keys():
        raise UserError(f"model: expected one of MSUN.from_..., whose description is whole, missing {min(missing)}")
    scales = config.scales if METHODS[config.method].subnets else config.scales[-1:]
    if list(model.scales) != list(scales):
        raise UserError(f"model: expected scales {list(scales)} for {config.method}, got {list(model.scales)}")
    if config.weights is not None:
        raise UserError(f"weights: expected none beside a model, which has its own, got {config.weights!r}")
    made = {name: spec[name] for name in ("arch", *BEHAVIOUR)}
    made |= {"split": spec.get("split"), "blocks": config.blocks if spec["blocks"] is None else spec["blocks"]}
    return replace(config, **made)


def fit_to_data(model: MSUN, config: TrainConfig, class_names: Sequence[str]) -> MSUN:
    """Return a model that was given, with what its description lacks: the data's classes, another normalisation.

    Raises:
        UserError: if it has other classes than the data.
    """
    count, known = model.spec["classes"], model.spec.get("class_names")
    if count != len(class_names):
        raise UserError(f"model: expected {len(class_names)} classes as the data has, got {count}")
    if known is not None and list(known) != list(class_names):
        theirs, own = next(pair for pair in zip(class_names, known, strict=True) if pair[0] != pair[1])
        raise UserError(f"model: expected the data's classes, such as {theirs!r}, got {own!r} in its place")
    origin = {"source": GIVEN_MODEL, "fresh": []}
    spec = {**model.spec, "class_names": list(class_names), "weights": origin}
    model.spec = _as_configured(spec, config)
    return model
