"""Train one network by one method, then measure it at every size.

    python -m msun_lite.train --preset quick                        # drawn scenes, CPU, a minute or two
    python -m msun_lite.train --preset lite --method vanilla        # Imagenette at 112 px, CPU
    python -m msun_lite.train --preset imagenette --out runs/r50    # ResNet-50 at 224 px, one GPU
    python -m msun_lite.train --out runs/r50 --resume               # go on where it stopped
    python -m msun_lite.train --out runs/r50 --resume auto ...      # begin it, or go on: a job's one line
    python -m msun_lite.train --out runs/r50 --resume --epochs 50   # lengthen it, finished or not
    torchrun --nproc_per_node 8 -m msun_lite.train --preset imagenet --data DIR --batch_size 1024

A run ends with a table of accuracy at every size and leaves config.yaml, metrics.jsonl, checkpoint.pt,
model.safetensors, model.json and summary.json in its folder.
"""

import sys

from msun_lite.commands import start

if __name__ == "__main__":  # here, as help and errors in options need not wait for the imports below
    sys.exit(start("train"))

import contextlib
import dataclasses
import os
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from jsonargparse import Namespace

from msun_lite.backbones import can_build
from msun_lite.config import DEFAULT_PRESET, TrainConfig, make_config, read_config, shipped_presets
from msun_lite.data import fetch_data, is_folder, load_data
from msun_lite.devices import use_threads
from msun_lite.distributed import World, join
from msun_lite.engine import Trainer
from msun_lite.errors import UserError
from msun_lite.evaluate import check_images, evaluate_on
from msun_lite.files import write_text
from msun_lite.image_sizes import with_fitting_scales
from msun_lite.methods import GIVEN_MODEL, described, fit_to_data, make_model
from msun_lite.metrics import check_packages
from msun_lite.model import MSUN
from msun_lite.options import dump_yaml
from msun_lite.progress import show
from msun_lite.records import RunFolder, check_folder, read_json, write_json
from msun_lite.spec import normalisation_line, read_spec
from msun_lite.stopping import StopRequest
from msun_lite.tables import accuracy_table, subnet_table

FREE_ON_RESUME = (
    *("out", "resume", "max_minutes", "checkpoint_minutes", "keep", "workers", "threads", "device", "data_root"),
    *("compile", "tensorboard", "wandb", "shards_gb"),
)
"""Options that may differ when a run goes on: they change neither what is learnt nor what is measured."""

CHECKED = (*FREE_ON_RESUME, "data", "epochs")
"""These, where the images are, as a checkpoint knows the images themselves, and the epochs, which may become more."""

Settings = TypeVar("Settings")
"""The options of a command, a dataclass."""


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
        config = described(config, model)
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
    config = world.on_first(lambda: begun_or_not(config, folder, world.say))
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
    world.say(
        f"stopped after step {trainer.step} of {config.epochs * trainer.steps_per_epoch}, everything saved; "
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


def begun_or_not(config: Settings, folder: RunFolder, say: Callable[[str], None]) -> Settings:
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
        world.on_first(lambda: _lengthen(folder, config.epochs, trainer.step, world.say))
        world.say(f"{folder.path}: going on at step {trainer.step}, epoch {trainer.epoch + 1} of {config.epochs}")
        return
    if config.resume:
        world.say(f"{folder.path}: stopped before its first checkpoint, so it starts at step 0")
    world.on_first(lambda: write_text(folder.config, dump_yaml(dataclasses.replace(config, resume=False))))
    trainer.save()
    if given:
        world.on_first(lambda: write_json(folder.model, trainer.model.description))


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
    config, folder, model = trainer.config, trainer.folder, trainer.trained
    trainer.world.on_first(lambda: model.eval().save(folder.path))
    start = time.perf_counter()
    record = evaluate_on(model, trainer.data, config, trainer.device, trainer.world)
    if not trainer.world.first:
        return
    lengthened = _lengthened(folder)
    begun = dataclasses.replace(config, epochs=next(iter(lengthened.values()), config.epochs))
    summary = {
        "method": config.method,
        "arch": config.arch,
        "blocks": config.blocks if config.split is None else None,
        **record,
        "scales": config.scales,
        "epochs": config.epochs,
        "steps": trainer.step,
        **({} if trainer.best is None else {"best": trainer.best}),
        "seconds": round(trainer.seconds, 1),
        "evaluation_seconds": round(time.perf_counter() - start, 1),
        "bad_images": list(trainer.bad_images.seen),
        "data": trainer.data.describe(),
        "env": trainer.env,
        "seed": config.seed,
        "command": GIVEN_COMMAND if given else _command(begun),
        **({"lengthened": lengthened} if lengthened else {}),
    }
    write_json(folder.summary, summary)
    show(accuracy_table({config.method: summary}))
    if len(record["per_subnet"]) > 1:
        show(subnet_table(summary))


GIVEN_COMMAND = "msun_lite.train.train(msun_lite.config.read_config('config.yaml'), model=...)"
"""What repeats a run of a network that was given to it."""


def _command(config: TrainConfig) -> str:
    """Return a command line that repeats the run, from its preset and what differs from it.

    A preset of one's own may change or go: the line starts from the default one in its place.
    """
    preset = config.preset if config.preset in shipped_presets() else DEFAULT_PRESET
    base = dataclasses.asdict(make_config(preset, method=config.method, seed=config.seed))
    words = ["--preset", preset, "--method", config.method, "--seed", str(config.seed)]
    for name, value in dataclasses.asdict(config).items():
        if name not in (*FREE_ON_RESUME, "preset") and base[name] != value:
            words += [f"--{name}", as_word(value)]
    return f"python -m msun_lite.train {shlex.join(words)}"


def as_word(value: object) -> str:
    """Return an option's value as the command line takes it."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def run(options: Namespace, command: str) -> None:
    """Train what the options of the command say."""
    train(with_scales_chosen(TrainConfig(**options.as_dict()), command))


def with_scales_chosen(config: TrainConfig, command: str) -> TrainConfig:
    """Return the options that a command line gave; for a folder of images, with scales that suit their sizes.

    They are as they were where the command line says them, and those of the run where one goes on.
    """
    given = {word[2:].partition("=")[0].replace("-", "_") for word in shlex.split(command) if word.startswith("--")}
    if given & {"preset", "config", "scales"} or not is_folder(config.data):
        return config
    stored = RunFolder(config.out).config
    if config.resume and stored.exists():
        begun = read_config(stored)
        return dataclasses.replace(config, scales=begun.scales, sizes=config.sizes if "sizes" in given else begun.sizes)
    config = with_fitting_scales(config, sizes="sizes" not in given)
    if os.environ.get("RANK", "0") == "0":  # torchrun's; the processes have not joined yet
        chosen = ",".join(map(str, config.scales))
        show(f"the scales are chosen by the images' sizes: {chosen}; --scales or --preset choose others")
    return config


def main(argv: list[str] | None = None) -> int:
    """Run the command as the command line, or `argv`, says."""
    return start("train", argv)
