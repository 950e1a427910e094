"""What fitting a trained network to images of one size is worth: FixRes and Tent, beside averages of the size.

    python experiments/one_size.py lite-vanilla lite-mst lite-msun --json book/results/rivals/one-size.json

For each network and each of --sizes: accuracy as it is; with BatchNorm averages of the size; by FixRes, the classifier,
the last BatchNorm's averages, or both, fitted to test-time crops of training images; and by Tent on the stream of test
images in a random order, and with the averages of each batch alone. Networks that the file has are kept.
"""

import sys
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from msun_lite.adapt.fixres import PARTS, fix_resolution
from msun_lite.adapt.tent import tent
from msun_lite.config import TrainConfig
from msun_lite.data.crops import Crops
from msun_lite.data.dataset import DataSet
from msun_lite.data.loaders import eval_loader, opened, to_float
from msun_lite.data.sources import ImageSource, Subset
from msun_lite.evaluate.accuracy import BATCH, measure
from msun_lite.evaluate.network_records import CPU, networks_parser, record_networks
from msun_lite.networks.msun import MSUN
from msun_lite.utils.cli import parse
from msun_lite.utils.errors import one_line_errors
from msun_lite.utils.progress import progress

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
    parser = networks_parser("FixRes and Tent beside averages of the size.")
    parser.add_argument("--sizes", type=list[int], default=[16, 40, 64, 112], help="Sizes in pixels.")
    parser.add_argument("--images", type=int, default=2048, help="Training images that are fitted to.")
    options = parse(parser, argv)
    words = sys.argv[1:] if argv is None else argv
    measured = partial(network_record, sizes=options.sizes, count=options.images)
    record_networks(options, ["experiments/one_size.py", *words], measured, images=options.images)
    return 0


if __name__ == "__main__":
    sys.exit(main())
