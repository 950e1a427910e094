"""Train one network by one method, then measure it at every size.

    python -m msun_lite.train --preset quick                        # drawn scenes, CPU, a minute or two
    python -m msun_lite.train --preset lite --method vanilla        # Imagenette at 112 px, CPU
    python -m msun_lite.train --preset imagenette --out runs/r50    # ResNet-50 at 224 px, one GPU
    python -m msun_lite.train --out runs/r50 --resume               # go on where it stopped

A run ends with a table of accuracy at every size and leaves config.yaml, metrics.jsonl, checkpoint.pt,
model.safetensors, model.json and summary.json in its folder.
"""

import dataclasses
import os
import shlex
import sys
import time
from pathlib import Path

import torch

from msun_lite.config import TrainConfig, dump_yaml, make_config, make_parser, parse, read_config
from msun_lite.data import DataSet, eval_loader, load_data
from msun_lite.devices import pick_device
from msun_lite.engine import Trainer
from msun_lite.errors import UserError, one_line_errors
from msun_lite.evaluate import BATCH, accuracy_record, measure
from msun_lite.files import write_text
from msun_lite.methods import make_model
from msun_lite.records import RunFolder, write_json
from msun_lite.tables import accuracy_table, subnet_table

FREE_ON_RESUME = ("out", "resume", "max_minutes", "checkpoint_minutes", "workers", "threads", "device", "data_root")
"""Options that may differ when a run goes on: they change neither what is learnt nor what is measured."""


def train(config: TrainConfig) -> Path:
    """Run what `config` describes; this is what the command and the chapters call.

    Returns:
        The run folder. It has a summary.json if the run is finished, and can be resumed if not.

    Raises:
        UserError: for options, data or a checkpoint that cannot be used; see `errors`.
        KeyboardInterrupt: after Ctrl-C, once everything is saved.
    """
    config.check()
    pick_device(config.device)
    folder = RunFolder(config.out)
    if _is_finished(folder, config):
        print(f"{folder.path}: finished already")
        return folder.path
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    data = load_data(config)
    torch.manual_seed(config.seed)
    model = make_model(config, data.classes)
    if config.weights is not None:
        fresh = ", ".join(model.spec["weights"]["fresh"]) or "nothing"
        print(f"starts from the weights {config.weights}; starting afresh: {fresh}")
    trainer = Trainer(config, data, model, folder)
    _open(trainer, config)
    if not trainer.fit():
        print(
            f"stopped after step {trainer.step} of {config.epochs * trainer.steps_per_epoch}, everything saved; "
            f"go on with: python -m msun_lite.train --out {folder.path} --resume"
        )
        if trainer.interrupted:
            raise KeyboardInterrupt
        return folder.path
    _finish(trainer, data)
    return folder.path


def _is_finished(folder: RunFolder, config: TrainConfig) -> bool:
    """Refuse a folder that does not fit `config.resume`; return whether its run is done."""
    if not config.resume:
        if folder.config.exists():
            raise UserError(f"{folder.path}: holds a run already; add --resume to go on, or choose another --out")
        return False
    if not folder.config.exists():
        raise UserError(f"{folder.path}: expected a run to resume, found no config.yaml")
    stored, wanted = dataclasses.asdict(read_config(folder.config)), dataclasses.asdict(config)
    for name, value in wanted.items():
        if name not in FREE_ON_RESUME and stored[name] != value:
            raise UserError(
                f"{folder.config}: cannot go on with another {name}: expected {stored[name]!r}, got {value!r}; "
                "or choose another --out"
            )
    return folder.summary.exists()


def _open(trainer: Trainer, config: TrainConfig) -> None:
    """Write the first files of a new run, or load the checkpoint of one that goes on."""
    folder = trainer.folder
    folder.create()
    if config.resume and folder.checkpoint.exists():
        trainer.load()
        print(f"{folder.path}: going on at step {trainer.step}, epoch {trainer.epoch + 1} of {config.epochs}")
        return
    if config.resume:
        print(f"{folder.path}: stopped before its first checkpoint, so it starts at step 0")
    write_text(folder.config, dump_yaml(dataclasses.replace(config, resume=False)))
    trainer.save()


def _finish(trainer: Trainer, data: DataSet) -> None:
    """Write the weights, measure them, write and print the summary."""
    config, folder, model = trainer.config, trainer.folder, trainer.model
    model.eval().save(folder.path)
    start = time.perf_counter()
    loader = eval_loader(data.val, config.test_size, config.crop_ratio, BATCH, config.workers)
    per_subnet = measure(model, loader, config.sizes, trainer.device)
    summary = {
        "method": config.method,
        "arch": config.arch,
        "blocks": config.blocks,
        **accuracy_record(model, per_subnet, config.routing),
        "scales": config.scales,
        "epochs": config.epochs,
        "steps": trainer.step,
        "seconds": round(trainer.seconds, 1),
        "evaluation_seconds": round(time.perf_counter() - start, 1),
        "bad_images": list(trainer.bad_images.seen),
        "data": data.describe(),
        "env": trainer.env,
        "seed": config.seed,
        "command": _command(config),
    }
    write_json(folder.summary, summary)
    print(accuracy_table({config.method: summary}))
    if len(per_subnet) > 1:
        print(subnet_table(summary))


def _command(config: TrainConfig) -> str:
    """Return a command line that repeats the run, from its preset and what differs from it."""
    base = dataclasses.asdict(make_config(config.preset, method=config.method, seed=config.seed))
    words = ["--preset", config.preset, "--method", config.method, "--seed", str(config.seed)]
    for name, value in dataclasses.asdict(config).items():
        if name not in FREE_ON_RESUME and base[name] != value:
            words += [f"--{name}", as_word(value)]
    return f"python -m msun_lite.train {shlex.join(words)}"


def as_word(value: object) -> str:
    """Return an option's value as the command line takes it."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool | None) else str(value)


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = make_parser("python -m msun_lite.train", "Train one network by one method and measure it.")
    options = parse(parser, argv)
    options.pop("config", None)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("WORLD_SIZE: training runs in one process so far, expected 1, got " + os.environ["WORLD_SIZE"])
    train(TrainConfig(**options.as_dict()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
