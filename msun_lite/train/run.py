"""Training one network: from its options to a run folder, begun, gone on with, or lengthened."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch

from msun_lite.config import FREE_ON_RESUME, TrainConfig, command_line, read_config
from msun_lite.data import (
    FileSource,
    fetch_data,
    fitting_scales,
    is_folder,
    load_data,
    read_splits,
    shorter_sides,
)
from msun_lite.evaluate import averaged_by_size, check_images, evaluate_on
from msun_lite.networks import MSUN, can_build, normalisation_line, read_spec, size_grid
from msun_lite.results import RunFolder, Summary, accuracy_table, check_folder, read_summary, subnet_table
from msun_lite.train.metrics import check_packages
from msun_lite.train.start import GIVEN_MODEL, fit_to_data, make_model, with_model_options
from msun_lite.train.trainer import Trainer
from msun_lite.utils.cli import dump_yaml
from msun_lite.utils.devices import use_threads
from msun_lite.utils.distributed import World, join
from msun_lite.utils.errors import UserError
from msun_lite.utils.files import read_json, write_json, write_text
from msun_lite.utils.progress import note, show
from msun_lite.utils.stopping import StopRequest

CHECKED = (*FREE_ON_RESUME, "data", "epochs")
"""These, where the images are, as a checkpoint knows the images themselves, and the epochs, which may become more."""

Settings = TypeVar("Settings")
"""The options of a command, a dataclass."""

GIVEN_COMMAND = "msun_lite.train.train(msun_lite.config.read_config('config.yaml'), model=...)"
"""What repeats a run of a network that was given to it."""


def train(config: TrainConfig, model: MSUN | None = None) -> Path:
    """Run what `config` describes; this is what the command and the chapters call.

    Started by torchrun, every process calls it, and the first one writes.

    Args:
        config: the options.
        model: a network of one's own to train, in place, as `MSUN.from_module` makes it; by default one is made as
            `config` says. What `config` says of the network is replaced by what it is. A run of it that was stopped
            goes on with `resume`, and the same model, or none where it can be built again.

    Returns:
        The run folder. It has a summary.json if the run is finished, and can be resumed if not.

    Raises:
        UserError: for options, data or a checkpoint that cannot be used; see `errors`.
        KeyboardInterrupt: after Ctrl-C, once everything is saved.
    """
    if model is not None:
        config = with_model_options(config, model)
    config.check_stored()
    check_packages(config)
    folder = RunFolder(config.out)
    with (
        StopRequest(config.max_minutes) as stop,
        join() as world,
        stop.planned(world.say, folder.config, _go_on(folder)),
        contextlib.ExitStack() as held,
    ):
        _train(config, model, folder, world, stop, held)
    return folder.path


def _train(
    config: TrainConfig,
    model: MSUN | None,
    folder: RunFolder,
    world: World,
    stop: StopRequest,
    held: contextlib.ExitStack,
) -> None:
    """Run what `config` describes; the folder is `held` once there is something in it that another could write to."""
    # A run that goes on reads it from its folder, which the first process can reach.
    config = world.on_first(lambda: resolve_resume(config, folder, world.say))
    if not config.resume:
        config.check(network=model is None)
    world.pick_device(config.device)
    if world.on_first(lambda: is_finished(folder, config, read_config, CHECKED)):
        world.say(f"{folder.path}: finished already")
        return
    if config.resume:
        world.on_first(lambda: held.enter_context(folder.held(world.say)))
    use_threads(config.threads)
    if model is None and config.resume:
        spec = world.on_first(lambda: _given_to(folder))
        model = spec and MSUN.from_spec(spec)
    given = model is not None
    if not given:
        make_model(config, ("one class", "another"))  # refuses what cannot be built before the data takes its time
    world.on_first(lambda: fetch_data(config))
    data = load_data(config, world=world)
    if not (config.cache or config.resume):
        # Minutes for ImageNet; found after the training, an unreadable image would cost the run, which could be
        # measured neither with it nor, as other data than it began with, without it.
        check_images(data, config, world)
    torch.manual_seed(config.seed)
    model = fit_to_data(model, config, data.classes) if given else make_model(config, data.classes)
    if config.weights is not None:
        world.say(_started_from(model.spec["weights"]))
    world.say(normalisation_line(model.spec))
    trainer = Trainer(config, data, model, folder, world)
    if not config.resume:
        world.on_first(lambda: held.enter_context(folder.held(world.say)))
        world.on_first(lambda: is_finished(folder, config, read_config, CHECKED))  # nobody was faster
    _open(trainer, given)
    if trainer.fit(stop):
        _finish(trainer, given)
        return
    state = trainer.state
    world.say(
        f"stopped after step {state.step} of {config.epochs * state.steps_per_epoch}, everything saved; "
        f"go on with: {_go_on(folder)}"
    )
    if stop.signal is not None and not stop.by_scheduler:
        raise KeyboardInterrupt


def _given_to(folder: RunFolder) -> dict | None:
    """Return the description of the network that a run was given, None if it was given none."""
    spec = read_spec(folder.model) if folder.model.is_file() else {}
    if (spec.get("weights") or {}).get("source") != GIVEN_MODEL:
        return None
    if not can_build(spec.get("arch", "")):
        expected = "expected train(config, model=...) with the network that it was begun with"
        raise UserError(f"{folder.path}: {expected}, as nothing builds {spec.get('arch')} again")
    return spec


def _started_from(weights: dict) -> str:
    entry = f" ({weights['entry']} of it)" if "entry" in weights else ""
    fresh = ", ".join(weights["fresh"]) or "nothing"
    return f"starts from the weights {weights['source']}{entry}; starting afresh: {fresh}"


def _go_on(folder: RunFolder) -> str:
    return f"python -m msun_lite.train --out {folder.path} --resume"


def resolve_resume(config: Settings, folder: RunFolder, say: Callable[[str], None]) -> Settings:
    """Return the options with `auto` of `resume` replaced by whether there is a run to go on with, saying which."""
    if config.resume != "auto":
        return config
    begun = folder.config.exists()
    say(f"{folder.path}: {'goes on with the run there' if begun else 'no run there yet, begins one'}")
    return dataclasses.replace(config, resume=begun)


def is_finished(folder: RunFolder, config, read: Callable[[Path], object], free: Sequence[str]) -> bool:
    """Refuse a folder that does not fit `config.resume`; return whether its run is done.

    Args:
        folder: the run's.
        config: the options that are wanted, a dataclass.
        read: what reads the stored ones from config.yaml.
        free: the options that may differ when a run goes on.
    """
    if not os.path.exists(folder.summary):
        check_folder(folder.path)
    if not config.resume:
        if folder.config.exists():
            raise UserError(f"{folder.path}: holds a run already; add --resume to go on, or choose another --out")
        return False
    if not folder.config.exists():
        raise UserError(f"{folder.path}: expected a run to resume, found no config.yaml")
    stored, wanted = dataclasses.asdict(read(folder.config)), dataclasses.asdict(config)
    for name, value in wanted.items():
        if name not in free and stored[name] != value:
            raise UserError(
                f"{folder.config}: cannot go on with another {name}: expected {stored[name]!r}, got {value!r}; "
                "or choose another --out"
            )
    if wanted["epochs"] < stored["epochs"]:
        raise UserError(
            f"{folder.config}: epochs: a run can be lengthened, not shortened: expected at least "
            f"{stored['epochs']}, got {wanted['epochs']}"
        )
    return folder.summary.exists() and wanted["epochs"] == stored["epochs"]


def _open(trainer: Trainer, given: bool) -> None:
    """Write the first files of a new run, or load the checkpoint of one that goes on.

    Args:
        trainer: what trains the network.
        given: whether the network was; then model.json says from the start how it is made, as the options do not.
    """
    folder, config, world = trainer.folder, trainer.config, trainer.world
    world.on_first(lambda: folder.create(trainer.disk_space()))
    if world.on_first(lambda: config.resume and folder.has_checkpoint()):
        trainer.load()
        world.on_first(lambda: _note_place(folder, config.data, world.say))
        world.on_first(lambda: _lengthen(folder, config.epochs, trainer.state.step, world.say))
        step, epoch = trainer.state.step, trainer.state.epoch + 1
        world.say(f"{folder.path}: going on at step {step}, epoch {epoch} of {config.epochs}")
        return
    if config.resume:
        world.say(f"{folder.path}: stopped before its first checkpoint, so it starts at step 0")
    world.on_first(lambda: write_text(folder.config, dump_yaml(dataclasses.replace(config, resume=False))))
    trainer.save()
    if given:
        world.on_first(lambda: write_json(folder.model, trainer.state.model.description))


def _note_place(folder: RunFolder, data: str, say: Callable[[str], None]) -> None:
    """Let the run folder's config.yaml say where the images are now."""
    stored = read_config(folder.config)
    if stored.data != data:
        say(f"{folder.path}: the images in {data} are those of {stored.data}")
        write_text(folder.config, dump_yaml(dataclasses.replace(stored, data=data)))


def _lengthen(folder: RunFolder, epochs: int, step: int, say: Callable[[str], None]) -> None:
    """Let the run folder say that a run goes on to more epochs from a step on; an earlier summary gets another name."""
    stored = read_config(folder.config)
    if stored.epochs == epochs:
        return
    schedule = "the learning rate follows their schedule from here"
    say(f"{folder.path}: {epochs} epochs rather than {stored.epochs}: {schedule}")
    write_json(folder.lengthened, _lengthened(folder) | {str(step): stored.epochs})
    if folder.summary.exists():
        folder.summary.replace(folder.path / f"summary-{stored.epochs}-epochs.json")
    # Last, so that all of this is done again after a kill.
    write_text(folder.config, dump_yaml(dataclasses.replace(stored, epochs=epochs)))


def _lengthened(folder: RunFolder) -> dict[str, int]:
    """Return at which steps a run was lengthened: {step: epochs that it had until then}."""
    return read_json(folder.lengthened) if folder.lengthened.exists() else {}


def _finish(trainer: Trainer, given: bool) -> None:
    """Write the weights, measure them, write and print the summary."""
    config, folder, model = trainer.config, trainer.folder, trainer.state.trained.eval()
    if config.averages == "size":
        model = averaged_by_size(model, trainer.data.train, config, trainer.device)
    trainer.world.on_first(lambda: model.save(folder.path))
    start = time.perf_counter()
    record = evaluate_on(model, trainer.data, config, trainer.device, trainer.world)
    if not trainer.world.first:
        return
    lengthened = _lengthened(folder)
    begun = dataclasses.replace(config, epochs=next(iter(lengthened.values()), config.epochs))
    summary: Summary = {
        "method": config.method,
        "arch": config.arch,
        "blocks": config.blocks if config.split is None else None,
        **record,
        "scales": config.scales,
        "epochs": config.epochs,
        "steps": trainer.state.step,
        **({} if trainer.state.best is None else {"best": trainer.state.best}),
        "seconds": round(trainer.state.seconds, 1),
        "evaluation_seconds": round(time.perf_counter() - start, 1),
        "bad_images": list(trainer.data.bad_images.seen),
        "data": trainer.data.describe(),
        "env": trainer.env,
        "seed": config.seed,
        "config": dataclasses.asdict(config),
        "command": GIVEN_COMMAND if given else command_line(begun),
        **({"lengthened": lengthened} if lengthened else {}),
    }
    write_json(folder.summary, summary)
    show(accuracy_table({config.method: summary}))
    if len(record["per_subnet"]) > 1:
        show(subnet_table(summary))
    note(f"weights: {folder.weights}   curves: {folder.curves}.png   metrics: {folder.table}")


def train_or_resume(folder: Path, options: dict, deadline: float | None) -> Summary | None:
    """Train one of several runs, or go on with it; return its summary, or None when the time is over.

    Args:
        folder: its run folder, in the folder for all.
        options: options of `TrainConfig` but `resume`; `out` and `max_minutes` are those for all.
        deadline: time by `time.monotonic` when all have to stop, if at all.
    """
    run = RunFolder(folder)
    minutes = None
    if deadline is not None:
        minutes = (deadline - time.monotonic()) / 60
        if minutes <= 0 and not run.summary.exists():
            return None
        minutes = max(minutes, 1e-3)
    values = {"out": str(folder), "resume": run.config.exists(), "max_minutes": minutes}
    if values["resume"] and (had := read_config(run.config).epochs) != options["epochs"]:
        # `train` would lengthen it, but then it could not be compared with the others.
        raise UserError(
            f"{run.config}: cannot go on with another epochs: expected {had}, got {options['epochs']}; "
            "or choose another --out"
        )
    try:
        train(TrainConfig(**{**options, **values}))
    except KeyboardInterrupt:
        note(f"or, for all runs, call the same command again to go on in {folder.parent}")
        raise
    return read_summary(run.summary) if run.summary.exists() else None


def choose_scales(config: TrainConfig, given: Collection[str]) -> TrainConfig:
    """Return the options of a command; for a folder of images, with scales that suit their sizes.

    They are as they were where they were `given`, the names of options in the command line, and those of the run where
    one goes on.
    """
    if {"preset", "config", "scales"} & set(given) or not is_folder(config.data):
        return config
    stored = RunFolder(config.out).config
    if config.resume and stored.exists():
        begun = read_config(stored)
        return dataclasses.replace(config, scales=begun.scales, sizes=config.sizes if "sizes" in given else begun.sizes)
    config = fit_scales(config, sizes="sizes" not in given)
    if os.environ.get("RANK", "0") == "0":  # torchrun's; the processes have not joined yet
        chosen = ",".join(map(str, config.scales))
        show(f"the scales are chosen by the images' sizes: {chosen}; --scales or --preset choose others")
    return config


def fit_scales(config: TrainConfig, sizes: bool) -> TrainConfig:
    """Return the options with scales that suit the training images of their data, a folder; `sizes` too, if asked.

    They are as they were if not one image can be read.

    Raises:
        DataError: if the folder cannot be used.
    """
    train, _ = read_splits(Path(config.data), config.val_share)
    sides = shorter_sides(FileSource(train.samples))
    if not sides:
        return config
    scales = fitting_scales(sides)
    return replace(config, scales=scales, sizes=size_grid(scales) if sizes else config.sizes)
