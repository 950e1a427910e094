"""Photographs of mixed sizes, each answered at its own size, by Vanilla and the networks that route.

    python benchmarks/own_sizes.py [--data data/imagenette-mixed] [--json book/results/own-speed.json]

The photographs are those that `evaluate --sizes own` measures, answered by the same function on one thread: from PNG
files, and as squares that were decoded and cropped before, which is what the network alone takes. Vanilla, MSUN and
lite-plus are the shipped ones. MST is the same network as Vanilla, with other weights, so Vanilla's time is its time.
The best MSUN and the best RS-Nets of `ablate --table rivals` are built as that table says and not trained, which
changes nothing about speed.

Prints images a second (median, minimum and maximum over the rounds), and how many times as fast as Vanilla each network
is, round by round, beside what the FLOPs of these photographs promise.
"""

import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean

import torch

from msun_lite import MSUN
from msun_lite.ablate.rivals import FAIR
from msun_lite.ablate.tables import BEST
from msun_lite.config import TrainConfig, make_config
from msun_lite.data import DataSet, ImageSource, MemorySource, OwnSizeView, load_data
from msun_lite.evaluate import answers
from msun_lite.networks import flops_by_size
from msun_lite.train.start import make_model
from msun_lite.utils.cli import OneLineParser, parse
from msun_lite.utils.devices import CPU
from msun_lite.utils.environment import environment
from msun_lite.utils.files import check_output, write_json
from msun_lite.utils.timing import median_and_range, time_interleaved

SHIPPED = {"vanilla": "lite-vanilla", "msun": "lite-msun", "plus": "lite-plus"}
"""Name in the record -> weights."""

BUILT = {"msun-best": BEST, "rs-best": next(row for row in FAIR if row.startswith("RS-Nets"))}
"""Name in the record -> row of the table of rivals."""

CROP_RATIO = 0.875
"""That of the presets."""


def networks() -> dict[str, MSUN]:
    """Return the networks by their names in the record, ready for evaluation."""
    torch.manual_seed(0)
    found = {name: MSUN.from_pretrained(weights) for name, weights in SHIPPED.items()}
    found |= {name: built(FAIR[row]) for name, row in BUILT.items()}
    return {name: model.to(memory_format=torch.channels_last) for name, model in found.items()}


def built(options: dict) -> MSUN:
    """Return a network of the preset lite with these options and fresh weights, its averages those of random images."""
    config = make_config("lite", **{**options, "weights": None})
    model = make_model(config, [str(label) for label in range(10)]).eval()
    return model.with_averages(torch.rand(8, 3, *2 * config.scales[-1:]), config.sizes)


def photographs(folder: str) -> DataSet:
    """Return the photographs as `evaluate` opens them."""
    config: TrainConfig = replace(make_config("lite"), data=folder, cache=False)
    return load_data(config, train=False)


def squares(source: ImageSource, largest: int) -> MemorySource:
    """Return the squares that networks look at, decoded and cropped."""
    view = OwnSizeView(source, largest, CROP_RATIO)
    return MemorySource([view[index][0] for index in range(len(view))], source.labels)


def answer_all(model: MSUN, source: ImageSource, crop_ratio: float) -> None:
    """Answer every photograph, and check that none is missing."""
    found = list(answers(model, source, crop_ratio, CPU))
    if len(found) != len(source) or any(one.error for one in found):
        raise RuntimeError(f"expected {len(source)} answers, got {sum(not one.error for one in found)}")


def calls(models: dict[str, MSUN], files: ImageSource, decoded: ImageSource) -> dict[tuple[str, str], Callable]:
    """Return what is timed: (stage, name of the network) -> a pass over all photographs."""
    stages = {"files": (files, CROP_RATIO), "decoded": (decoded, 1.0)}
    return {
        (stage, name): partial(answer_all, model, *given)
        for stage, given in stages.items()
        for name, model in models.items()
    }


def mean_flops(model: MSUN, sides: list[int]) -> int:
    """Return the FLOPs of one image, the mean over images of these sides."""
    costs = flops_by_size(model, sorted(set(sides)))
    return round(mean(costs[model.router.scale(side)][side] for side in sides))


def compare(seconds: dict[str, list[float]], images: int) -> dict:
    """Return images a second by network, and how many times as fast as Vanilla each is."""
    plain = seconds["vanilla"]
    return {
        "images_per_second": {name: median_and_range([images / one for one in own]) for name, own in seconds.items()},
        "over_vanilla": {
            name: median_and_range([slow / fast for fast, slow in zip(own, plain, strict=True)])
            for name, own in seconds.items()
            if name != "vanilla"
        },
    }


def main() -> None:
    """Run the benchmark."""
    parser = OneLineParser(description="Images a second on photographs of mixed sizes, each at its own size.")
    parser.add_argument("--data", type=str, default="data/imagenette-mixed", help="Folder with photographs in val/.")
    parser.add_argument("--rounds", type=int, default=7, help="Times each is run.")
    parser.add_argument("--json", type=str | None, default=None, help="File to write the result to.")
    options = parse(parser)
    check_output(options.json)
    torch.set_num_threads(1)
    models, data = networks(), photographs(options.data)
    decoded = squares(data.val, models["vanilla"].scales[-1])
    sides = [decoded.read(index).shape[-1] for index in range(len(decoded))]
    costs = {name: mean_flops(model, sides) for name, model in models.items()}
    seconds = time_interleaved(calls(models, data.val, decoded), options.rounds, CPU)
    record = {
        "command": shlex.join(["python", "benchmarks/own_sizes.py", *sys.argv[1:]]),
        "images": len(sides),
        "data": data.describe(),
        "mean_flops": costs,
        "promised_over_vanilla": {
            name: round(costs["vanilla"] / cost, 3) for name, cost in costs.items() if name != "vanilla"
        },
        **{
            stage: compare({name: seconds[stage, name] for name in models}, len(sides))
            for stage in ("files", "decoded")
        },
        "env": environment(CPU, "fp32"),
    }
    report(record)
    if options.json:
        write_json(Path(options.json), record)


def report(record: dict) -> None:
    """Print the record."""
    for stage in ("files", "decoded"):
        print(stage)
        for name, found in record[stage]["images_per_second"].items():
            print(f"  {name:24} {found['median']:8.2f}  ({found['min']:.2f} to {found['max']:.2f})")
        for name, found in record[stage]["over_vanilla"].items():
            print(f"  {name:10} over Vanilla {found['median']:8.2f}  ({found['min']:.2f} to {found['max']:.2f})")
    print(f"the FLOPs promise {record['promised_over_vanilla']} times Vanilla's")


if __name__ == "__main__":
    main()
