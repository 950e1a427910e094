"""Accuracy at every size, through every subnet and under every routing rule."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from msun_lite.config import TrainConfig
from msun_lite.data import (
    Crops,
    DataSet,
    EvalView,
    ImageSource,
    eval_loader,
    load_data,
    opened,
    refuse_unreadable,
    unlabelled,
)
from msun_lite.evaluate.answered import AnswerLog
from msun_lite.evaluate.batches import normalised_batches
from msun_lite.evaluate.class_names import match_classes
from msun_lite.evaluate.report import Report
from msun_lite.networks import MSUN, class_names, flops_by_size, native_flops, parameters
from msun_lite.results import ORACLE, ROUTINGS, Accuracy, Measurement, PerSubnet, by_size, routing_record
from msun_lite.scales import resize
from msun_lite.utils.distributed import ALONE, World
from msun_lite.utils.environment import environment
from msun_lite.utils.errors import UserError, first_line
from msun_lite.utils.modes import preserve_modes
from msun_lite.utils.precision import full_precision
from msun_lite.utils.progress import progress

BATCH = 250
"""Most images a batch in evaluation."""


LAYER_BYTES = 2**28
"""What the largest map of one layer may take for a batch; a whole network takes a few times that."""


AS_TRAINED, OF_SIZE = "trained", "size"
"""Whose averages BatchNorms have: those that the network comes with, or of each size from training crops."""

AVERAGED = 2048
"""Images that averages of a size are taken from."""

FEEDINGS = ("upsampled", "native")
"""How a plain CNN gets small images: made as large as its scale first, or as they are."""


AMONG = ("all", "data")
"""Which classes answers are from where the data has some of a network's alone: all of them, or those of the data."""


def barred_classes(data: DataSet, among: str, device: torch.device) -> Tensor | None:
    """Return which of a network's classes are no answer to data from `match_classes`: bool [classes]; None: all are."""
    if among == "all" or data.present is None:
        return None
    barred = torch.ones(len(data.classes), dtype=torch.bool, device=device)
    barred[list(data.present)] = False
    return barred


def among_record(data: DataSet, among: str) -> dict:
    """Return what a record says of the classes that answers are from, if the data has some of the network's alone."""
    if data.present is None:
        return {}
    count = len(data.classes)
    return {"among": {"classes": count if among == "all" else len(data.present), "of": count}}


def among_words(record: dict) -> str:
    """Return what to say behind the number of images or classes of a record, see `among_record`."""
    if "among" not in record:
        return ""
    classes, of = record["among"]["classes"], record["among"]["of"]
    return (
        f", answered among {of:,} classes"
        if classes == of
        else f", answered among the data's {classes:,} classes alone"
    )


@torch.no_grad()
@full_precision()
def measure(
    model: MSUN,
    loader: DataLoader,
    sizes: Sequence[int],
    device: torch.device,
    world: World = ALONE,
    feeding: str = "upsampled",
    scales: Sequence[int] | None = None,
    log: AnswerLog | None = None,
    barred: Tensor | None = None,
) -> PerSubnet:
    """Return the accuracy of every subnet at every size, in percent (the layout of Table IV).

    Args:
        model: put into evaluation mode for the measurement, all its modules left in the mode they were found in.
        loader: batches (`loaders.Batch`) of centre crops, no smaller than any of the sizes: this process's images.
        sizes: sizes in pixels.
        device: where `model` is.
        world: the processes that share the images; each of them gets the accuracy over all.
        feeding: `native` does not resize the images to the scale of a plain CNN, see `refused_native`.
        scales: the subnets to measure; all by default.
        log: notes the answers of the subnets that the model's routing chooses.
        barred: the classes that are no answer, see `barred_classes`.

    Raises:
        DataError: if an image is unreadable; no image is ever left out or replaced.
    """
    total = 0
    scales = model.scales if scales is None else scales
    correct = torch.zeros(len(scales), len(sizes), dtype=torch.int64, device=device)
    for images, labels in normalised_batches(model, loader, device, f"measuring at {len(sizes)} sizes", world):
        numbers = range(total, total + len(labels))
        total += len(labels)
        for column, size in enumerate(sizes):
            small = resize(images, size, model.antialias)
            for row, scale in enumerate(scales):
                logits = model.forward_native(small) if feeding == "native" else model.forward_at(small, scale)
                if barred is not None:
                    logits = logits.masked_fill(barred, -torch.inf)
                correct[row, column] += (logits.argmax(1) == labels).sum()
                if log is not None and scale == model.router.scale(size):
                    log.add(numbers, size, scale, logits)
    correct, (total,) = world.sum(correct).tolist(), world.totals(total)
    return {
        scale: {size: 100 * hits / total for size, hits in zip(sizes, row, strict=True)}
        for scale, row in zip(scales, correct, strict=True)
    }


@torch.no_grad()
@full_precision()
def routed_accuracy(
    model: MSUN, loader: DataLoader, sizes: Sequence[int], device: torch.device, world: World = ALONE
) -> dict[int, float]:
    """Return the accuracy in percent at each size, by the subnets that the model's routing chooses alone.

    For the arguments and errors see `measure`.
    """
    total, correct = 0, torch.zeros(len(sizes), dtype=torch.int64, device=device)
    for images, labels in normalised_batches(model, loader, device, "validating", world):
        total += len(labels)
        answers = [model(resize(images, size, model.antialias)).argmax(1) for size in sizes]
        correct += torch.stack([(answer == labels).sum() for answer in answers])
    correct, (total,) = world.sum(correct).tolist(), world.totals(total)
    return {size: 100 * hits / total for size, hits in zip(sizes, correct, strict=True)}


def with_own_averages(
    model: MSUN,
    data: DataSet,
    config: TrainConfig,
    device: torch.device,
    feeding: str,
    averages: str,
    count: int,
    world: World = ALONE,
) -> tuple[MSUN, dict]:
    """Return a model with BatchNorm averages of each of `config.sizes`, and what a record says of them.

    Args:
        averages: `trained` leaves the model as it is; `size` takes them from crops of the data's training images; else
            the name of a folder whose images they are taken from.
        count: of the images that they are taken from.

    For the other arguments and errors see `evaluate`.
    """
    if averages == AS_TRAINED:
        return model, {}
    crops = _unseen_crops(model, _averaged_images(averages, data, world), config, device, count)
    found = model.with_averages(crops, config.sizes, native=feeding == "native")
    return found, {"averages": {"of": averages, "images": len(crops)}}


def averaged_by_size(
    model: MSUN, source: ImageSource, config: TrainConfig, device: torch.device, keep: bool = False
) -> MSUN:
    """Return a model with BatchNorm averages of each of `config.sizes`, from `AVERAGED` crops of the training images.

    For `keep` and errors see `MSUN.with_averages`.
    """
    return model.with_averages(_unseen_crops(model, source, config, device, AVERAGED), config.sizes, keep=keep)


def _unseen_crops(model: MSUN, source: ImageSource, config: TrainConfig, device: torch.device, count: int) -> Crops:
    """Return batches of the crops of an epoch that was not trained."""
    return Crops(source, config, count, config.seed, device, model.spec["normalisation"], config.epochs)


def _averaged_images(averages: str, data: DataSet, world: World) -> ImageSource:
    """Return the images that averages are taken from: those of the training, or of a folder."""
    if averages == OF_SIZE:
        return data.train
    source, left_out = unlabelled(Path(averages))
    if left_out:
        world.say(f"{averages}: {left_out}")
    return source


class _LargestMap(TorchDispatchMode):
    """Notes how many numbers the largest map that an operation inside gives has."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Do the operation, and note its map."""
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dim() > 2:  # a map, no weight of a linear layer
            self.numbers = max(self.numbers, result.numel())
        return result


@torch.no_grad()
def fitting_batch(model: MSUN, native: int | None = None) -> int:
    """Return how many images a batch may have: `BATCH`, or as many as keep each map below `LAYER_BYTES`.

    Args:
        model: on any device; it sees one image at each of its scales.
        native: size in pixels of the largest image that a plain CNN is fed as it is, if it is.
    """
    parameter = next(model.parameters())
    with preserve_modes(model), _LargestMap() as seen:
        model.eval()
        for size in model.scales if native is None else [native]:
            image = torch.zeros(1, 3, size, size, device=parameter.device, dtype=parameter.dtype)
            _ = model.forward_at(image, size) if native is None else model.forward_native(image)
    return max(1, min(BATCH, LAYER_BYTES // (seen.numbers * parameter.element_size())))


@torch.no_grad()
def refused_native(model: MSUN, sizes: Sequence[int]) -> dict[int, str]:
    """Return the sizes of images that a plain CNN cannot take as they are, and why: {size: reason}.

    Raises:
        UserError: if the network has several scales.
    """
    device, refused = next(model.parameters()).device, {}
    with preserve_modes(model):
        model.eval()
        for size in sizes:
            try:
                model.forward_native(torch.zeros(1, 3, size, size, device=device))
            except RuntimeError as error:
                refused[size] = first_line(error)
    return refused


def accuracy_record(model: MSUN, per_subnet: PerSubnet, routing: str, feeding: str = "upsampled") -> Accuracy:
    """Return the accuracy and cost part of summary.json; accuracies in percent, FLOPs of one image.

    `routings` has all rules side by side; `top1`, `flops` and their means are those of `routing`.
    """
    sizes = list(next(iter(per_subnet.values())))
    if feeding == "native":
        costs = {model.scales[0]: {size: native_flops(model, size) for size in sizes}}
    else:
        costs = flops_by_size(model, sizes)
    rules = {rule: routing_record(per_subnet, costs, rule) for rule in dict.fromkeys([*ROUTINGS, routing])}
    chosen = rules[routing]
    return {
        "scales": list(model.scales),
        "sizes": sizes,
        "routing": routing,
        "top1": chosen["top1"],
        "mean_top1": chosen["mean_top1"],
        "per_subnet": {str(scale): by_size(row) for scale, row in per_subnet.items()},
        "routings": rules,
        "params": parameters(model),
        "flops": chosen["flops"],
        "mean_flops": chosen["mean_flops"],
    }


def check_images(data: DataSet, config: TrainConfig, world: World = ALONE) -> None:
    """Read all validation images, each process its share; raise a `DataError` that names those that cannot be read."""
    loader = eval_loader(data.val, config.test_size, config.crop_ratio, BATCH, config.workers, world)
    bar = {"desc": "checking val", "unit": "batch", "leave": False, "disable": not world.first}
    with opened(loader) as batches:
        shown = progress(batches, total=len(loader), **bar)
        unreadable = [message for batch in shown for message in batch.bad]
    refuse_unreadable(sum(world.gather(unreadable), []))


def evaluate_on(
    model: MSUN,
    data: DataSet,
    config: TrainConfig,
    device: torch.device,
    world: World = ALONE,
    routing: str | None = None,
    feeding: str = "upsampled",
    batch_size: int | None = None,
    log: AnswerLog | None = None,
    barred: Tensor | None = None,
) -> dict:
    """Measure `model`, which is on `device`, at `config.sizes` on the validation images; see `accuracy_record`.

    With several processes each measures its share of the images with the first one's weights. Without a `batch_size` it
    is `fitting_batch`. For `log` and `barred` see `measure`.
    """
    world.share_state(model)
    batch_size = batch_size or fitting_batch(model, max(config.sizes) if feeding == "native" else None)
    loader = eval_loader(data.val, config.test_size, config.crop_ratio, batch_size, config.workers, world, device)
    per_subnet = measure(model, loader, config.sizes, device, world, feeding, log=log, barred=barred)
    return accuracy_record(model, per_subnet, routing or config.routing, feeding)


def _at_size(view: EvalView, index: int, size: int) -> Tensor:
    """Return an image as it is at a size under test: uint8 [3, size, size]."""
    image, _ = view[index]
    return resize(image[None].float(), size)[0].round().byte()


def evaluate(
    model: MSUN,
    config: TrainConfig,
    routing: str,
    world: World = ALONE,
    feeding: str = "upsampled",
    batch_size: int | None = None,
    averages: str = AS_TRAINED,
    averaged: int = AVERAGED,
    report: Report | None = None,
    among: str = "all",
) -> Measurement:
    """Measure `model` at `config.sizes` on the validation images of `config.data`; see `accuracy_record`.

    With `averages` the network gets BatchNorm averages of each size first, from `averaged` images: from crops of the
    data's training images for `size`, else of the images in the folder of that name.

    With a `report` it explains the numbers; one process does that.

    Where the data has some of the model's classes alone, `among` says whether the others can be answers: see `AMONG`.

    The sizes that it cannot take fed `native` are left out, and listed under `refused` with the reason.

    Raises:
        UserError: for native feeding of a network with several scales, or one that can take none of the sizes so.
        DataError: if the data has classes that the model lacks, or an image is unreadable.
    """
    refused = refused_native(model, config.sizes) if feeding == "native" else {}
    sizes = [size for size in config.sizes if size not in refused]
    if not sizes:
        raise UserError(f"sizes: expected one that {model.spec['arch']} can take as it is, got {config.sizes}")
    if report is not None:
        config = replace(config, cache=False)  # in memory images have no names
    data = load_data(config, train=False, world=world)
    data = match_classes(data, model, say=world.say)
    device = world.pick_device(config.device)
    model = model.to(device, memory_format=torch.channels_last)
    if routing != ORACLE:
        model.routing = routing  # whose subnets get averages, and whose answers a report has
    config = replace(config, sizes=sizes)
    model, taken = with_own_averages(model, data, config, device, feeding, averages, averaged, world)
    log = None if report is None else AnswerLog()
    barred, chosen = barred_classes(data, among, device), among_record(data, among)
    record = evaluate_on(model, data, config, device, world, routing, feeding, batch_size, log, barred)
    if log is not None:
        ranges = {f"{size} px": (size, size) for size in sizes}
        view = EvalView(data.val, config.test_size, config.crop_ratio)
        about = f"{data.name}, {len(data.val):,} images{among_words(chosen)}, routing {routing}"
        report.write(log.table(data.val, class_names(model.spec), ranges), about, partial(_at_size, view))
    return {
        "feeding": feeding,
        "antialias": model.antialias,
        "crop_ratio": config.crop_ratio,
        **taken,
        **chosen,
        **record,
        "refused": {str(size): why for size, why in refused.items()},
        "scales": config.scales,
        "data": data.describe(),
        "env": environment(device, "fp32", world.size),
    }
