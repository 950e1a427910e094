"""Photographs answered by `predict`, beside `evaluate` and timm's way, with one plain CNN.

    python benchmarks/predict.py [--data data/imagenette] [--json book/results/predict-speed.json]

The shipped `lite-vanilla` gets the same files in five ways, all on one thread and without workers and with two:

* `predict`: what the command of that name does;
* `evaluate, own`: `evaluate --sizes own`, each photograph at its own size;
* `evaluate, one size`: the protocol at the largest size alone, the photographs decoded as they are needed;
* `timm`: the loop of its inference.py, with the batch of 256 that is its default;
* `timm, channels last`: the same with 128 images a batch and the layout that is faster here.

inference.py is a script of timm's repository and not in its package, so its loop is written here with timm's own
functions: data set, loader and their settings, softmax, top-k, all answers kept as arrays. Size, crop, mean, standard
deviation and interpolation are the same in all ways. The photographs are no smaller than the network, so all ways run
the same FLOPs, and images a second compare them per FLOP too.

Prints images a second (median, minimum and maximum over the rounds), how many times as fast as each other way `predict`
is, round by round, and of a pass over all photographs: the peak memory of a fresh process, for a tenth and for all; the
number of photographs that were answered; how many have another top-1 class in timm's way, as PIL resizes there and
PyTorch here, which may be a level or two apart.
"""

import multiprocessing
import resource
import shlex
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import timm
import torch
from pipeline import photographs
from timm.data import create_dataset, create_loader, resolve_data_config

from msun_lite import MSUN
from msun_lite.config import TrainConfig
from msun_lite.evaluate import config_of, evaluate, evaluate_own, find_model
from msun_lite.networks import flops
from msun_lite.predict import TOP, class_names, predict
from msun_lite.utils.cli import OneLineParser, parse
from msun_lite.utils.devices import CPU
from msun_lite.utils.environment import environment
from msun_lite.utils.files import check_output, write_json
from msun_lite.utils.timing import median_and_range, time_interleaved

NETWORK = "lite-vanilla"

WORKERS = (0, 2)


class Done(NamedTuple):
    """What a way made of the photographs: how many it counts, and where it says them file -> likeliest class."""

    images: int
    classes: dict[str, str]


class Setting(NamedTuple):
    """What all ways are given: the network, its options with the photographs as the validation images of `data`."""

    model: MSUN
    config: TrainConfig


def setting(folder: str, workers: int) -> Setting:
    """Return the network and its options for the photographs in `folder`."""
    config = config_of(find_model(NETWORK), NETWORK)
    sizes = config.scales[-1:]
    config = replace(config, data=folder, sizes=sizes, cache=False, device="cpu", workers=workers)
    return Setting(MSUN.from_pretrained(NETWORK).to(memory_format=torch.channels_last), config)


def predicted(folder: str, workers: int) -> Done:
    """Answer as the command `predict` does."""
    model, config = setting(folder, workers)
    files = sorted(Path(folder).glob("val/*/*"))
    found = predict(model, files, TOP, config.crop_ratio, CPU, workers)
    classes = {Path(one.file).name: one.classes[0] for one in found}
    return Done(len(classes), classes)


def evaluated_own(folder: str, workers: int) -> Done:
    """Measure each photograph at its own size."""
    return Done(evaluate_own(*setting(folder, workers), routing="nearest")["images"], {})


def evaluated(folder: str, workers: int) -> Done:
    """Measure by the protocol at one size."""
    return Done(evaluate(*setting(folder, workers), routing="nearest")["data"]["val"], {})


def timms(folder: str, workers: int, batch_size: int, channels_last: bool) -> Done:
    """Answer as timm's inference.py does."""
    model, config = setting(folder, workers)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = model.to(memory_format=layout)
    asked = {"input_size": (3, *2 * config.sizes), "crop_pct": config.crop_ratio, "interpolation": "bilinear"}
    data_config = resolve_data_config(asked | model.spec["normalisation"])
    dataset = create_dataset(root=folder, name="", split="validation")
    loader = create_loader(
        dataset,
        batch_size=batch_size,
        num_workers=workers,
        device=CPU,
        persistent_workers=False,  # a new loader is made in every round
        **data_config,
    )
    shares, labels = [], []
    with torch.inference_mode():
        for images, _ in loader:
            output = model(images.contiguous(memory_format=layout)).softmax(-1)
            output, indices = output.topk(TOP)
            shares.append(output.numpy())
            labels.append(indices.numpy())
    names, first = class_names(model), np.concatenate(labels)[:, 0]
    files = dataset.filenames(basename=True)
    classes = {file: names[label] for file, label in zip(files, first, strict=True)}
    return Done(len(np.concatenate(shares)), classes)


WAYS: dict[str, Callable[[str, int], Done]] = {
    "predict": predicted,
    "evaluate, own": evaluated_own,
    "evaluate, one size": evaluated,
    "timm": partial(timms, batch_size=256, channels_last=False),
    "timm, channels last": partial(timms, batch_size=128, channels_last=True),
}
"""Name -> function of a folder of photographs and the number of workers."""


def link(data: Path, images: int, folder: Path) -> None:
    """Link that many photographs, of all splits, into the class folders of `folder`/val."""
    for path in map(Path, photographs(data, images, split="*")):
        place = folder / "val" / path.parent.name / f"{path.parts[-3]}-{path.name}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path.resolve())


def pass_over(name: str, folder: str, queue: multiprocessing.Queue) -> None:
    """Put what a way made of a folder, and the peak memory of this process in MiB."""
    torch.set_num_threads(1)
    done = WAYS[name](folder, 0)
    queue.put((done, round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)))


def fresh_pass(name: str, folder: str) -> tuple[Done, int]:
    """Return what `pass_over` finds in a process of its own."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=pass_over, args=(name, folder, queue))
    process.start()
    found = queue.get()
    process.join()
    return found


def passes(data: Path, counts: list[int]) -> dict:
    """Return what passes over so many photographs took and gave."""
    memory, answered, classes = {}, {}, {}
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            link(data, count, Path(folder))
            for name in WAYS:
                done, peak = fresh_pass(name, folder)
                memory.setdefault(name, {})[str(count)] = peak
                answered.setdefault(name, {})[str(count)] = done.images
                classes[name] = done.classes
    ours = classes["predict"]
    other = {
        name: sum(ours[file] != label for file, label in found.items()) for name, found in classes.items() if found
    }
    return {
        "images": counts[-1],
        "answered": answered,
        "peak_memory_mib": memory,
        "other_top1_than_predict": {name: count for name, count in other.items() if name != "predict"},
    }


def rates(data: Path, images: int, rounds: int) -> dict:
    """Return images a second of each way, and how many times as fast `predict` is."""
    with tempfile.TemporaryDirectory() as folder:
        link(data, images, Path(folder))
        calls = {(name, workers): partial(way, folder, workers) for workers in WORKERS for name, way in WAYS.items()}
        seconds = time_interleaved(calls, rounds, CPU)
    found = {}
    for workers in WORKERS:
        own = {name: seconds[name, workers] for name in WAYS}
        found[f"{workers} workers"] = {
            "images_per_second": {
                name: median_and_range([images / each for each in times]) for name, times in own.items()
            },
            "predict_over": {
                name: median_and_range([slow / fast for fast, slow in zip(own["predict"], times, strict=True)])
                for name, times in own.items()
                if name != "predict"
            },
        }
    return found


def main() -> None:
    """Run the benchmark."""
    parser = OneLineParser(description="Images a second of predict, beside evaluate and timm's inference.")
    parser.add_argument("--data", type=str, default="data/imagenette", help="Folder with JPEGs in SPLIT/CLASS/.")
    parser.add_argument("--images", type=int, default=1000, help="Images a round.")
    parser.add_argument("--all", type=int, default=10000, help="Images of the pass for memory and answers.")
    parser.add_argument("--rounds", type=int, default=7, help="Times each is run.")
    parser.add_argument("--json", type=str | None, default=None, help="File to write the result to.")
    options = parse(parser)
    check_output(options.json)
    torch.set_num_threads(1)
    data = Path(options.data)
    whole = passes(data, [options.all // 10, options.all])  # first: a process starts with the peak of its parent
    model = MSUN.from_pretrained(NETWORK)
    record = {
        "command": shlex.join(["python", "benchmarks/predict.py", *sys.argv[1:]]),
        "network": NETWORK,
        "flops": flops(model)[model.scales[-1]],
        "images": options.images,
        **rates(data, options.images, options.rounds),
        "pass": whole,
        "env": environment(CPU, "fp32") | {"timm": timm.__version__},
    }
    report(record)
    if options.json:
        write_json(Path(options.json), record)


def report(record: dict) -> None:
    """Print the record."""
    for workers in WORKERS:
        found = record[f"{workers} workers"]
        print(f"{workers} workers")
        for name, values in found["images_per_second"].items():
            print(f"  {name:36} {values['median']:8.2f}  ({values['min']:.2f} to {values['max']:.2f})")
        for name, values in found["predict_over"].items():
            print(f"  predict over {name:23} {values['median']:8.2f}  ({values['min']:.2f} to {values['max']:.2f})")
    for name, found in record["pass"].items():
        print(f"{name.replace('_', ' ')}: {found}")


if __name__ == "__main__":
    main()
