"""What BatchNorm averages of each size need: how many images, how much of the old averages, how many stored sizes.

    python experiments/averages.py runs/small/vanilla-seed0 runs/small/mst-seed0 --json book/results/small/averages.json

For each network and every size of its run: accuracy with averages of the size from few to many training crops, with
mixtures of the averages of --few crops and those of the training, and with averages that are interpolated between
those of fewer sizes. Networks that the file has are kept.
"""

import sys
from functools import partial
from statistics import mean

from torch.utils.data import DataLoader

from msun_lite.config import TrainConfig
from msun_lite.data.crops import Crops
from msun_lite.data.dataset import DataSet
from msun_lite.data.loaders import eval_loader
from msun_lite.evaluate.accuracy import BATCH, measure
from msun_lite.evaluate.network_records import CPU, networks_parser, record_networks
from msun_lite.networks.averages import interpolated
from msun_lite.networks.msun import MSUN
from msun_lite.utils.cli import parse
from msun_lite.utils.errors import one_line_errors

COUNTS = (8, 32, 128, 512, 2048)
"""Crops that averages are taken from."""

SHARES = (0.25, 0.5, 0.75)
"""Of the new averages in a mixture with those of the training."""


def network_record(model: MSUN, config: TrainConfig, data: DataSet, few: int) -> dict:
    """Return the accuracy in percent, {size: percent} and its mean: as trained, by count, by share, by stored sizes."""
    sizes = config.sizes
    loader = eval_loader(data.val, config.test_size, config.crop_ratio, BATCH, workers=0)

    def crops(count: int) -> Crops:
        return Crops(data.train, config, count, config.seed, CPU, model.spec["normalisation"], config.epochs)

    def accuracy(network: MSUN) -> dict[str, float]:
        return _accuracy(network, loader, sizes)

    stored = {len(some): some for some in (config.scales, sizes[::2])}
    many, little = crops(max(COUNTS)), crops(few)
    return {
        "as trained": accuracy(model),
        "images": {str(count): accuracy(model.with_averages(crops(count), sizes)) for count in COUNTS},
        "share": {str(share): accuracy(model.with_averages(little, sizes, share)) for share in SHARES},
        "stored": {
            str(count): accuracy(interpolated(model.with_averages(many, some), sizes)) for count, some in stored.items()
        },
    }


def _accuracy(model: MSUN, loader: DataLoader, sizes: list[int]) -> dict[str, float]:
    """Return the accuracy at each size through the subnet that serves it, and their mean."""
    served: dict[int, list[int]] = {}
    for size in sizes:
        served.setdefault(model.router.scale(size), []).append(size)
    found = {}
    for scale, own in served.items():
        found |= measure(model, loader, own, CPU, scales=[scale])[scale]
    return {"mean": round(mean(found.values()), 2)} | {str(size): round(found[size], 2) for size in sizes}


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = networks_parser("What averages of each size need: images, a share of the old ones, stored sizes.")
    parser.add_argument("--few", type=int, default=32, help="Training crops of which mixtures are made.")
    options = parse(parser, argv)
    words = sys.argv[1:] if argv is None else argv
    record_networks(options, ["experiments/averages.py", *words], partial(network_record, few=options.few))
    return 0


if __name__ == "__main__":
    sys.exit(main())
