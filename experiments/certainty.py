"""How certain trained networks are at every size, and what choosing the subnet by certainty is worth.

    python experiments/certainty.py lite-vanilla lite-mst lite-msun lite-plus --json book/results/rivals/certainty.json

For each network and size: the accuracy and the calibration error of the subnet that the routing takes; with several
subnets also the accuracy by least entropy, by the mean of the probabilities, and by asking the smallest first and going
on until one is sure (RANet's idea), against the FLOPs of all that were asked. Networks that the file has are kept.
"""

import sys
from statistics import mean

from msun_lite.config import TrainConfig
from msun_lite.data.dataset import DataSet
from msun_lite.data.loaders import eval_loader
from msun_lite.evaluate.accuracy import BATCH
from msun_lite.evaluate.certainty import Certainty, calibration_error, cascade, least_entropy, measure_certainty
from msun_lite.evaluate.network_records import CPU, networks_parser, record_networks
from msun_lite.networks.counting import flops_by_size
from msun_lite.networks.msun import MSUN
from msun_lite.utils.cli import parse
from msun_lite.utils.errors import one_line_errors

THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Confidences below which a cascade goes on to the next subnet."""


def network_record(model: MSUN, config: TrainConfig, data: DataSet) -> dict:
    """Return what the record says of a network."""
    sizes = config.sizes
    loader = eval_loader(data.val, config.test_size, config.crop_ratio, BATCH, workers=0)
    certainty = measure_certainty(model, loader, sizes, CPU)
    served = [model.scales.index(model.router.scale(size)) for size in sizes]
    confidence, correct = (
        [part[place] for part, place in zip(whole, served, strict=True)]
        for whole in (certainty.confidence, certainty.correct)
    )
    errors = [calibration_error(one, right) for one, right in zip(confidence, correct, strict=True)]
    record = {
        "routing": model.routing,
        "scales": list(model.scales),
        "top1": _by_size(sizes, correct),
        "calibration_error": {str(size): round(error, 2) for size, error in zip(sizes, errors, strict=True)},
        "confidence": _by_size(sizes, confidence),
    }
    if len(model.scales) == 1:
        return record
    costs = flops_by_size(model, sizes)
    return {
        **record,
        "least_entropy": _by_size(sizes, least_entropy(certainty)),
        "mean_of_probabilities": _by_size(sizes, certainty.mixed_correct),
        "any_subnet": _by_size(sizes, certainty.correct.any(1)),
        "cascade": {str(threshold): _cascade(certainty, costs, sizes, threshold) for threshold in THRESHOLDS},
    }


def _by_size(sizes: list[int], values: list) -> dict:
    """Return means over the images in percent: their mean over the sizes, and each."""
    found = {str(size): 100 * float(row.double().mean()) for size, row in zip(sizes, values, strict=True)}
    return {"mean": round(mean(found.values()), 2)} | {size: round(value, 2) for size, value in found.items()}


def _cascade(certainty: Certainty, costs: dict, sizes: list[int], threshold: float) -> dict:
    """Return the mean over the sizes of a cascade's accuracy and FLOPs."""
    found = [
        cascade(confidence, correct, [row[size] for row in costs.values()], threshold)
        for size, confidence, correct in zip(sizes, certainty.confidence, certainty.correct, strict=True)
    ]
    accuracies, paid = zip(*found, strict=True)
    return {"mean_top1": round(mean(accuracies), 2), "mean_flops": round(mean(paid))}


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    options = parse(networks_parser("Certainty of networks at every size, and choosing the subnet by it."), argv)
    words = sys.argv[1:] if argv is None else argv
    record_networks(options, ["experiments/certainty.py", *words], network_record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
