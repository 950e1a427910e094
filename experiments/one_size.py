"""What fitting a trained network to images of one size is worth: FixRes and Tent, beside averages of the size.

    python experiments/one_size.py lite-vanilla lite-mst lite-msun --json book/results/rivals/one-size.json

For each network and each of --sizes: accuracy as it is; with BatchNorm averages of the size; by FixRes, the classifier,
the last BatchNorm's averages, or both, fitted to test-time crops of training images; and by Tent on the stream of test
images in a random order, and with the averages of each batch alone. Networks that the file has are kept.
"""

import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from msun_lite.adapt.fixres import PARTS, fix_resolution
from msun_lite.adapt.tent import tent
from msun_lite.config import TrainConfig
from msun_lite.data.crops import Crops
from msun_lite.data.dataset import DataSet
from msun_lite.data.loaders import eval_loader, opened, to_float
from msun_lite.data.named import load_data
from msun_lite.data.sources import ImageSource, Subset
from msun_lite.evaluate.accuracy import BATCH, measure
from msun_lite.evaluate.class_names import match_classes
from msun_lite.evaluate.subjects import config_of, find_model
from msun_lite.networks.msun import MSUN
from msun_lite.utils.cli import OneLineParser, parse
from msun_lite.utils.devices import use_threads
from msun_lite.utils.environment import environment
from msun_lite.utils.errors import one_line_errors
from msun_lite.utils.files import check_output, read_json, write_json
from msun_lite.utils.progress import progress

CPU = torch.device("cpu")
STREAM = 128
"""Images a batch that Tent gets."""


class Labelled:
    """Normalised test-time crops with their labels, in batches, in a random order that is always the same."""

    def __init__(self, source: ImageSource, config: TrainConfig, count: int, normalisation: dict):
        order = torch.randperm(len(source), generator=torch.Generator().manual_seed(config.seed)).tolist()
        loader = eval_loader(Subset(source, order[:count]), config.test_size, config.crop_ratio, STREAM, workers=0)
        with opened(loader) as batches:
            self._batches = [(batch.images, batch.labels) for batch in progress(batches, desc="crops", leave=False)]
        self.normalisation = normalisation

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in self._batches:
            yield to_float(images, CPU, self.normalisation), labels


def network_record(model: MSUN, config: TrainConfig, data: DataSet, sizes: list[int], count: int) -> dict:
    """Return the accuracy by each way: {way: {size: percent}}."""
    normalisation = model.spec["normalisation"]
    loader = eval_loader(data.val, config.test_size, config.crop_ratio, BATCH, workers=0)
    learn = Labelled(data.train, config, count, normalisation)
    stream = Labelled(data.val, config, len(data.val), normalisation)
    crops = Crops(data.train, config, count, config.seed, CPU, normalisation, config.epochs)
    adapted = model.with_averages(crops, sizes)
    found: dict[str, dict[str, float]] = {}
    for size in progress(sizes, desc="sizes", unit="size", leave=False):
        scale = model.router.scale(size)
        fixed = {f"FixRes, {part}": fix_resolution(model, learn, size, part) for part in PARTS}
        for way, network in {"as it is": model, "averages of the size": adapted, **fixed}.items():
            top1 = measure(network, loader, [size], CPU, scales=[scale])[scale][size]
            found.setdefault(way, {})[str(size)] = round(top1, 2)
        for way, lr in {"averages of the batch": 0.0, "Tent": 1e-3}.items():
            found.setdefault(way, {})[str(size)] = round(_streamed(model, stream, size, lr), 2)
    return found


def _streamed(model: MSUN, stream: Labelled, size: int, lr: float) -> float:
    """Return the accuracy of Tent on a stream, in percent."""
    labels = torch.cat([part for _, part in stream])
    answers = torch.cat([logits.argmax(1) for logits in tent(model, (images for images, _ in stream), size, lr)])
    return 100 * float((answers == labels).double().mean())


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = OneLineParser(description="FixRes and Tent beside averages of the size.")
    parser.add_argument("runs", type=str, nargs="+", help="Run folders, or names of shipped weights, on the same data.")
    parser.add_argument("--json", type=str, required=True, help="File to write the result to.")
    parser.add_argument("--sizes", type=list[int], default=[16, 40, 64, 112], help="Sizes in pixels.")
    parser.add_argument("--images", type=int, default=2048, help="Training images that are fitted to.")
    parser.add_argument("--data_root", type=str, default="data", help="Folder of downloaded data sets.")
    parser.add_argument("--threads", type=int | None, default=None, help="CPU threads; PyTorch's choice by default.")
    options = parse(parser, argv)
    check_output(options.json)
    use_threads(options.threads)
    path = Path(options.json)
    networks = read_json(path)["networks"] if path.exists() else {}
    words = sys.argv[1:] if argv is None else argv
    for run in (run for run in options.runs if Path(run).name not in networks):
        model = MSUN.from_pretrained(run)
        config = replace(config_of(find_model(run), run), data_root=options.data_root)
        data = match_classes(load_data(config, train=False), model)
        networks[Path(run).name] = network_record(model, config, data, options.sizes, options.images)
        print(f"{run}: {networks[Path(run).name]}", flush=True)
        record = {
            "command": shlex.join(["python", "experiments/one_size.py", *words]),
            "networks": networks,
            "images": options.images,
            "seed": config.seed,
            "data": data.describe(),
            "env": environment(CPU, "fp32"),
        }
        write_json(path, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
