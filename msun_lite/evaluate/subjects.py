"""What a command measures: a run, shipped weights, or a plain CNN with published weights, and on which images."""

from dataclasses import dataclass, replace
from pathlib import Path

from msun_lite.config import TrainConfig, make_config, read_config
from msun_lite.data import check_normalisation, has_validation, is_folder
from msun_lite.evaluate.class_names import read_class_names
from msun_lite.evaluate.options import OWN
from msun_lite.networks import (
    BEHAVIOUR,
    DEFAULT,
    MSUN,
    default_sizes,
    find_pretrained,
    is_factory,
    normalisation_line,
    override_normalisation,
    read_spec,
)
from msun_lite.results import RunFolder
from msun_lite.utils.cli import read_yaml
from msun_lite.utils.devices import use_threads
from msun_lite.utils.distributed import ALONE, World
from msun_lite.utils.errors import UserError, within
from msun_lite.utils.files import read_json

OTHERS = {"dataset", "images"}
"""Options that only transfers and adaptations have: their config.yaml is none of a training."""


@dataclass(frozen=True)
class Subject:
    """A trained network by its name, and the configuration that says on which images and sizes to measure it."""

    name: str
    model: MSUN
    config: TrainConfig


@dataclass(frozen=True)
class SavedModel:
    """A saved model: its folder, what model.json says, its method, and the options of its training if there are any."""

    folder: Path
    spec: dict
    method: str
    config: TrainConfig | None


def find_model(source: str | Path) -> SavedModel:
    """Return what holds a model: a run folder, its `best`, the result of a transfer, a saved model, or one of the Hub.

    Raises:
        CheckpointError: if there is no such model.
        UserError: if the config.yaml beside it cannot be read.
    """
    folder = find_pretrained(source)
    spec, config = read_spec(folder / "model.json"), _training(folder)
    if config is not None:
        return SavedModel(folder, spec, config.method, config)
    summary = RunFolder(folder).summary
    method = read_json(summary).get("method") if summary.is_file() else None  # a transfer's
    return SavedModel(folder, spec, method or ("vanilla" if len(spec["scales"]) == 1 else "msun"), None)


def _training(folder: Path) -> TrainConfig | None:
    """Return the options of the training that a folder is of, None if it says none."""
    path = RunFolder.of_model(folder).config
    return read_config(path) if path.is_file() and not OTHERS & read_yaml(path).keys() else None


def config_of(found: SavedModel, source: str, **options) -> TrainConfig:
    """Return the options of a model's training, or those that its description implies, with `options` on top.

    Raises:
        UserError: if nothing says on which images to measure it.
    """
    if found.config is not None:
        return replace(found.config, **options)
    if "data" not in options:
        raise UserError(f"data: expected --data beside {source}, which has no config.yaml that says what to measure on")
    spec, scales = found.spec, found.spec["scales"]
    same = {name: spec[name] for name in ("arch", "scales", *BEHAVIOUR)}
    same |= {"blocks": spec["blocks"] or 0, "split": spec.get("split"), "sizes": default_sizes(scales)}
    same |= {name: spec[name] for name in ("crop_ratio",) if name in spec}
    return TrainConfig(**{"method": found.method, **same, **options})


def crop_ratio_of(found: SavedModel, given: float | None) -> float:
    """Return the `given` side of the central square as a part of an image's shorter side.

    By default that of the training, else of the published weights.

    Raises:
        UserError: unless it is more than 0 and at most 1.
    """
    known = found.spec.get("crop_ratio", TrainConfig.crop_ratio) if found.config is None else found.config.crop_ratio
    ratio = known if given is None else given
    within("crop_ratio", ratio, above=0, most=1)
    return ratio


def on_data(config: TrainConfig, data: str) -> TrainConfig:
    """Return the options of a run with other data; its `val_share` goes on for a folder without a split alone."""
    divided = is_folder(data) and Path(data).is_dir() and not has_validation(Path(data))
    return replace(config, data=data, val_share=config.val_share if divided else None)


def find_config(options, world: World = ALONE) -> TrainConfig:
    """Return the configuration of what the options name, checked, before any weights are read.

    All processes of `world` call this.

    Raises:
        UserError: for neither or both of a run and --arch, or a value that cannot work.
    """
    if (options.run is None) == (options.arch is None):
        raise UserError(f"expected a run, or --arch in its place, got run {options.run}, arch {options.arch}")
    overrides = {name: getattr(options, name) for name in ("device", "workers", "threads")}
    overrides |= {name: options[name] for name in ("data", "data_root", "crop_ratio") if options[name] is not None}
    overrides |= {"sizes": options.sizes} if options.sizes and options.sizes != OWN else {}
    if options.arch is None:
        config = config_of(find_model(options.run), options.run, **overrides)
    else:
        config = make_config(options.grid, method="vanilla", arch=options.arch, split=options.split, **overrides)
    if options.data is not None:
        config = on_data(config, options.data)
    config.check_stored()
    check_normalisation(options.mean, options.std)
    world.pick_device(config.device)
    if config.test_size > config.scales[-1]:
        world.say(f"all sizes are made from centre crops of {config.test_size} px here, not {config.scales[-1]} px")
    return config


def find_subject(options, config: TrainConfig, world: World = ALONE) -> Subject:
    """Return the network that the options name, on the CPU, with the configuration of `find_config`.

    Published weights bring the crop of images that they were published with, where the options say none.
    """
    use_threads(config.threads)
    if options.arch is None:
        model = MSUN.from_pretrained(options.run)
    else:
        model = _published(config, options.num_classes, options.weights)
        if options.crop_ratio is None and "crop_ratio" in model.spec:
            config = replace(config, crop_ratio=model.spec["crop_ratio"])
            world.say(
                f"images are cropped to {config.crop_ratio:.3g} of their shorter side: as the weights are published"
            )
    model.spec = override_normalisation(model.spec, options.mean, options.std)
    if options.class_names is not None:
        model.spec["class_names"] = read_class_names(Path(options.class_names), model.spec["classes"])
    world.say(normalisation_line(model.spec))
    return Subject(options.arch or options.run, model, config)


def _published(config: TrainConfig, num_classes: int, weights: str) -> MSUN:
    """Return a plain CNN with trained weights, all of them; a factory's network may come with them."""
    with_it = is_factory(config.arch) and weights == DEFAULT
    model = MSUN.vanilla(config.arch, config.scales[-1], num_classes, None if with_it else weights, split=config.split)
    if with_it:
        return model.eval()
    if fresh := model.spec["weights"]["fresh"]:
        raise UserError(f"num_classes: expected that of the weights {weights}, got {num_classes}: {fresh[0]} differs")
    return model.eval()
