"""What a command measures: a run, shipped weights, or a plain CNN with published weights, and on which images."""

from dataclasses import dataclass, replace
from pathlib import Path

from msun_lite.class_names import read_class_names
from msun_lite.config import TrainConfig, check_normalisation, make_config, read_config
from msun_lite.devices import use_threads
from msun_lite.distributed import ALONE, World
from msun_lite.errors import UserError
from msun_lite.model import MSUN
from msun_lite.pretrained import find_pretrained
from msun_lite.records import RunFolder
from msun_lite.spec import normalisation_line, renormalised


@dataclass(frozen=True)
class Subject:
    """A trained network by its name, and the configuration that says on which images and sizes to measure it."""

    name: str
    model: MSUN
    config: TrainConfig


def find_config(options, world: World = ALONE) -> TrainConfig:
    """Return the configuration of what the options name, checked, before any weights are read.

    All processes of `world` call this.

    Raises:
        UserError: for neither or both of a run and --arch, or a value that cannot work.
    """
    if (options.run is None) == (options.arch is None):
        raise UserError(f"expected a run, or --arch in its place, got run {options.run}, arch {options.arch}")
    overrides = {name: getattr(options, name) for name in ("device", "workers", "threads")}
    overrides |= {name: options[name] for name in ("data", "data_root") if options[name] is not None}
    overrides |= {"sizes": options.sizes} if options.sizes else {}
    if options.arch is None:
        config = replace(read_config(RunFolder(find_pretrained(options.run)).config), **overrides)
    else:
        config = make_config(options.grid, method="vanilla", arch=options.arch, **overrides)
    config.check_stored()
    check_normalisation(options.mean, options.std)
    world.pick_device(config.device)
    if config.test_size > config.scales[-1]:
        world.say(f"all sizes are made from centre crops of {config.test_size} px here, not {config.scales[-1]} px")
    return config


def find_subject(options, config: TrainConfig, world: World = ALONE) -> Subject:
    """Return the network that the options name, on the CPU, with the configuration of `find_config`."""
    use_threads(config.threads)
    if options.arch is None:
        model = MSUN.from_pretrained(options.run)
    else:
        model = _published(options.arch, config.scales[-1], options.num_classes, options.weights)
    model.spec = renormalised(model.spec, options.mean, options.std)
    if options.class_names is not None:
        model.spec["class_names"] = read_class_names(Path(options.class_names), model.spec["classes"])
    world.say(normalisation_line(model.spec))
    return Subject(options.arch or options.run, model, config)


def _published(arch: str, scale: int, num_classes: int, weights: str) -> MSUN:
    """Return a plain CNN with trained weights, all of them."""
    model = MSUN.vanilla(arch, scale, num_classes, weights)
    if fresh := model.spec["weights"]["fresh"]:
        raise UserError(f"num_classes: expected that of the weights {weights}, got {num_classes}: {fresh[0]} differs")
    return model.eval()
