"""Accuracy at every size, through every subnet and under every routing rule.

    python -m msun_lite.evaluate runs/quick-msun-seed0
    python -m msun_lite.evaluate lite-msun --data imagenette --routing ceil --json result.json
    python -m msun_lite.evaluate --arch timm/resnet50 --data IMAGENET      # published weights, as Vanilla

The protocol: centre crop at the largest scale (or at the largest size, if that is above it), resize to the
size under test (this is the small image), then to the scale of the subnet that serves it, or to the largest
scale for Vanilla and MST.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from msun_lite.config import OneLineParser, TrainConfig, parse
from msun_lite.cost import flops, parameters
from msun_lite.data import DataSet, load_data, refuse_unreadable
from msun_lite.devices import to_float
from msun_lite.distributed import ALONE, World, join
from msun_lite.errors import UserError, one_line_errors
from msun_lite.loaders import eval_loader
from msun_lite.model import MSUN
from msun_lite.progress import progress
from msun_lite.records import check_output, environment, write_json
from msun_lite.scales import ROUTINGS, resize, route
from msun_lite.subjects import add_subject_options, check_classes, find_config, find_subject
from msun_lite.tables import accuracy_table, subnet_table

BATCH = 250
"""Images a batch in evaluation."""

PerSubnet = dict[int, dict[int, float]]
"""scale -> size -> top-1 accuracy in percent."""


@torch.no_grad()
def measure(
    model: MSUN, loader: DataLoader, sizes: Sequence[int], device: torch.device, world: World = ALONE
) -> PerSubnet:
    """Return the accuracy of every subnet at every size, in percent (the layout of Table IV).

    Args:
        model: put into evaluation mode for the measurement, and left in the mode it was found in.
        loader: batches (`loaders.Batch`) of centre crops, no smaller than any of the sizes: this process's images.
        sizes: sizes in pixels.
        device: where `model` is.
        world: the processes that share the images; each of them gets the accuracy over all.

    Raises:
        DataError: if an image is unreadable; no image is ever left out or replaced.
    """
    training, total, unreadable = model.training, 0, []
    correct = torch.zeros(len(model.scales), len(sizes), dtype=torch.int64, device=device)
    model.eval()
    bar = {"desc": f"measuring at {len(sizes)} sizes", "unit": "batch", "leave": False, "disable": not world.first}
    try:
        for batch in progress(loader, **bar):
            unreadable += batch.bad
            if unreadable:
                continue  # all that is left to do is to name them all
            images, labels = to_float(batch.images, device, model.spec["normalisation"]), batch.labels.to(device)
            total += len(labels)
            for column, size in enumerate(sizes):
                small = resize(images, size, model.antialias)
                for row, scale in enumerate(model.scales):
                    correct[row, column] += _hits(model, small, scale, labels)
    finally:
        model.train(training)
    refuse_unreadable(sum(world.gather(unreadable), []))
    correct, (total,) = world.sum(correct).tolist(), world.totals(total)
    return {
        scale: {size: 100 * hits / total for size, hits in zip(sizes, row, strict=True)}
        for scale, row in zip(model.scales, correct, strict=True)
    }


def _hits(model: MSUN, images: Tensor, scale: int, labels: Tensor) -> Tensor:
    return (model.forward_at(images, scale).argmax(1) == labels).sum()


def routed(per_subnet: PerSubnet, routing: str) -> dict[int, int]:
    """Return {size: scale that serves it}; `oracle` takes the most accurate subnet at each size."""
    scales = sorted(per_subnet)
    sizes = next(iter(per_subnet.values()))
    if routing == "oracle":
        return {size: max(scales, key=lambda scale: (per_subnet[scale][size], -scale)) for size in sizes}
    return {size: route(size, scales, routing) for size in sizes}


def accuracy_record(model: MSUN, per_subnet: PerSubnet, routing: str) -> dict:
    """Return the accuracy and cost part of summary.json; accuracies in percent, FLOPs of one image.

    `routings` has all rules side by side; `top1`, `flops` and their means are those of `routing`.
    """
    costs = flops(model)
    rules = {rule: _routing_record(per_subnet, costs, rule) for rule in ROUTINGS}
    chosen = rules[routing]
    return {
        "scales": list(model.scales),
        "sizes": list(next(iter(per_subnet.values()))),
        "routing": routing,
        "top1": chosen["top1"],
        "mean_top1": chosen["mean_top1"],
        "per_subnet": {str(scale): _keyed(row) for scale, row in per_subnet.items()},
        "routings": rules,
        "params": parameters(model),
        "flops": chosen["flops"],
        "mean_flops": chosen["mean_flops"],
    }


def all_routings(record: dict) -> dict[str, dict]:
    """Return `routings` of a summary.json with every rule there is today.

    A rule that the record was made before follows from its `per_subnet`, which is rounded to two decimals.
    """
    per_subnet = {
        int(scale): {int(size): value for size, value in row.items()} for scale, row in record["per_subnet"].items()
    }
    found = record["routings"].values()
    costs = {scale: one["flops"][size] for one in found for size, scale in one["scale"].items()}
    return {
        rule: record["routings"].get(rule) or _routing_record(per_subnet, costs, rule)
        for rule in ROUTINGS
        if rule in record["routings"] or costs.keys() == per_subnet.keys()
    }


def _routing_record(per_subnet: PerSubnet, costs: dict[int, int], routing: str) -> dict:
    served = routed(per_subnet, routing)
    top1 = {size: per_subnet[scale][size] for size, scale in served.items()}
    spent = {size: costs[scale] for size, scale in served.items()}
    return {
        "top1": _keyed(top1),
        "mean_top1": round(sum(top1.values()) / len(top1), 2),
        "flops": {str(size): cost for size, cost in spent.items()},
        "mean_flops": round(sum(spent.values()) / len(spent)),
        "scale": {str(size): scale for size, scale in served.items()},
    }


def _keyed(row: dict[int, float]) -> dict[str, float]:
    return {str(size): round(accuracy, 2) for size, accuracy in row.items()}


def evaluate_on(
    model: MSUN,
    data: DataSet,
    config: TrainConfig,
    device: torch.device,
    world: World = ALONE,
    routing: str | None = None,
) -> dict:
    """Measure `model`, which is on `device`, at `config.sizes` on the validation images; see `accuracy_record`.

    With several processes each measures its share of the images with the first one's weights.
    """
    world.share_state(model)
    loader = eval_loader(data.val, config.test_size, config.crop_ratio, BATCH, config.workers, world)
    return accuracy_record(model, measure(model, loader, config.sizes, device, world), routing or config.routing)


def evaluate(model: MSUN, config: TrainConfig, routing: str, world: World = ALONE) -> dict:
    """Measure `model` at `config.sizes` on the validation images of `config.data`; see `accuracy_record`."""
    data = load_data(config, train=False)
    check_classes(model, data)
    device = world.pick_device(config.device)
    model = model.to(device, memory_format=torch.channels_last)
    record = evaluate_on(model, data, config, device, world, routing)
    env = environment(device, "fp32", world.size)
    return {**record, "scales": config.scales, "data": data.describe(), "env": env}


def _parser() -> OneLineParser:
    parser = OneLineParser(prog="python -m msun_lite.evaluate", description="Accuracy at every image size.")
    add_subject_options(parser)
    parser.add_argument("--routing", type=str | None, default=None, help="nearest, ceil, ratio or oracle.")
    parser.add_argument("--json", type=str | None, default=None, help="File to write the result to.")
    return parser


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    options = parse(_parser(), argv)
    config = find_config(options)
    routing = options.routing or config.routing
    if routing not in ROUTINGS:
        raise UserError(f"routing: expected one of {', '.join(ROUTINGS)}, got {routing!r}")
    check_output(options.json)
    with join() as world:
        subject = find_subject(options, config)
        record = {"run": subject.name, **evaluate(subject.model, config, routing, world)}
        if world.first:
            _report(record, options.json)
    return 0


def _report(record: dict, path: str | None) -> None:
    print(accuracy_table({Path(record["run"]).name: record}))
    if len(record["per_subnet"]) > 1:
        print(subnet_table(record))
    if path:
        write_json(Path(path), record)


if __name__ == "__main__":
    sys.exit(main())
