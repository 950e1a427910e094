"""Images as they are in use, each at its own size and routed by it: answered, and measured.

Each is cropped to the same central square as in the protocol of `accuracy`. Where the square is larger than the largest
scale it is made as large as that; where it is smaller it stays as it is.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby
from statistics import mean
from typing import NotRequired, TypedDict

import torch
from torch import Tensor

from msun_lite.config import TrainConfig
from msun_lite.data import (
    ImageSource,
    OwnSizeView,
    load_data,
    make_loader,
    opened,
    refuse_unreadable,
    to_float,
)
from msun_lite.evaluate.accuracy import (
    AS_TRAINED,
    AVERAGED,
    among_record,
    among_words,
    barred_classes,
    with_own_averages,
)
from msun_lite.evaluate.answered import AnswerLog
from msun_lite.evaluate.class_names import match_classes
from msun_lite.evaluate.options import OWN
from msun_lite.evaluate.report import Report
from msun_lite.networks import MSUN, class_names, flops_by_size, native_flops, parameters
from msun_lite.results import styled_table
from msun_lite.scales import image_size
from msun_lite.utils.devices import pick_device
from msun_lite.utils.environment import environment
from msun_lite.utils.errors import UserError
from msun_lite.utils.precision import full_precision
from msun_lite.utils.progress import progress

WINDOW = 1024
"""Images that are held at most, so that those wait for each other that can go through the network together."""

BATCH = 32
"""Images that the network gets at once. With more a CPU is slower: their maps no longer fit into memory it reuses."""

LOADED = 16
"""Images that are read at once."""

Item = tuple[Tensor, tuple[int, int]] | str
"""What an `OwnSizeView` gives: uint8 [3, side, side] with the image's width and height, or why it cannot be read."""

Lot = tuple[Tensor, list[tuple[int, tuple[int, int]] | str]]
"""Items as they leave a loader: uint8 [n], all pixels in a row, as many short tensors are slow to hand over; and in the
place of each square its side."""

Placed = tuple[int, Tensor, tuple[int, int]]
"""Where an image stands among all, its square, and its width and height."""


@dataclass(frozen=True)
class Answer:
    """What came of one image.

    Args:
        width, height: of the whole upright image, in pixels.
        size: side in pixels of the square that is looked at, which the routing goes by.
        logits: [classes], on the CPU.
        error: why it cannot be read; then there is nothing else.
    """

    width: int = 0
    height: int = 0
    size: int = 0
    logits: Tensor | None = None
    error: str | None = None


def answers(
    model: MSUN,
    source: ImageSource,
    crop_ratio: float,
    device: torch.device,
    workers: int = 0,
    feeding: str = "upsampled",
) -> Iterator[Answer]:
    """Yield what came of each image, in their order; about a thousand are in memory at most.

    Args:
        model: on `device`, ready for evaluation.
        source: images of any size.
        crop_ratio: side of the square that is looked at, as a part of an image's shorter side.
        device: where the model is.
        workers: processes that read the images.
        feeding: `native` gives a plain CNN the squares as they are.
    """
    view = OwnSizeView(source, model.scales[-1], crop_ratio)
    waiting: dict[tuple[int, ...], list[Placed]] = {}  # those that go together; the one that waits longest is first
    found: dict[int, Answer] = {}
    done = 0
    with opened(make_loader(view, workers, device.type, batch_size=LOADED, collate_fn=_pack)) as loaded:
        for place, item in enumerate(chain.from_iterable(map(_unpack, loaded))):
            if isinstance(item, str):
                found[place] = Answer(error=item)
            else:
                way = _way(model, item[0].shape[-1], feeding)
                waiting.setdefault(way, []).append((place, *item))
                if len(waiting[way]) == BATCH:
                    found |= _answered(model, waiting.pop(way), device, feeding)
            if place - done >= WINDOW and done not in found:
                found |= _answered(model, waiting.pop(next(iter(waiting))), device, feeding)
            while done in found:
                yield found.pop(done)
                done += 1
    for together in waiting.values():
        found |= _answered(model, together, device, feeding)
    yield from (found[place] for place in sorted(found))


def _pack(items: Sequence[Item]) -> Lot:
    """Return the items of an `OwnSizeView` as they are handed over."""
    rows = [item[0].permute(1, 2, 0).flatten() for item in items if not isinstance(item, str)]  # as they are laid out
    about = [item if isinstance(item, str) else (item[0].shape[-1], item[1]) for item in items]
    return torch.cat([torch.empty(0, dtype=torch.uint8), *rows]), about


def _unpack(lot: Lot) -> Iterator[Item]:
    """Yield what `_pack` was given; the squares are views of the pixels."""
    pixels, about = lot
    start = 0
    for one in about:
        if isinstance(one, str):
            yield one
            continue
        side, size = one
        end = start + 3 * side**2
        yield pixels[start:end].view(side, side, 3).permute(2, 0, 1), size
        start = end


def _way(model: MSUN, side: int, feeding: str) -> tuple[int, ...]:
    """Return what is the same of all squares that go through the network together, given the side of one."""
    if feeding == "native":
        return (side,)
    scale = model.router.scale(side)
    return scale, model.router.place(side, scale), model.router.side(side, scale)


@torch.inference_mode()
@full_precision()
def _answered(model: MSUN, together: Sequence[Placed], device: torch.device, feeding: str) -> dict[int, Answer]:
    """Return place -> what came of the images that go through the network together."""
    together = sorted(together, key=lambda one: one[1].shape[-1])
    rows = [square.permute(1, 2, 0) for _, square, _ in together]  # as they are laid out: stacked faster so
    stacks = [torch.stack(list(same)).permute(0, 3, 1, 2) for _, same in groupby(rows, key=len)]
    images = [to_float(stack, device, model.spec["normalisation"]) for stack in stacks]
    logits = _logits(model, images, feeding).float().cpu()
    return {
        place: Answer(*size, len(row), own) for (place, _, size), row, own in zip(together, rows, logits, strict=True)
    }


def _logits(model: MSUN, images: Sequence[Tensor], feeding: str) -> Tensor:
    """Return the logits [B, classes] of images that go together: normalised, a batch [b, 3, side, side] a side."""
    if feeding == "native":
        return model.forward_native(torch.cat(images))
    router, side = model.router, image_size(images[0])
    scale = router.scale(side)
    return model.serve(torch.cat([router.fit(batch, scale) for batch in images]), scale, router.place(side, scale))


class SizeRange(TypedDict):
    """The images of a range of sizes."""

    first: int
    """Side in pixels of the smallest square that is looked at among them; `last` is that of the largest."""
    last: int
    images: int
    top1: float
    """In percent."""


class OwnSizes(TypedDict):
    """What `evaluate --sizes own` writes: a network measured on images as they are in use."""

    sizes: str
    feeding: str
    routing: str
    scales: list[int]
    crop_ratio: float
    averages: NotRequired[dict]
    among: NotRequired[dict]
    images: int
    top1: float
    """Accuracy over all images, in percent."""
    ranges: list[SizeRange]
    served: dict[str, int]
    """Scale -> the images that its subnet serves."""
    params: int
    mean_flops: int
    """Of one image, over all images."""
    data: dict
    env: dict


def evaluate_own(
    model: MSUN,
    config: TrainConfig,
    routing: str,
    feeding: str = "upsampled",
    averages: str = AS_TRAINED,
    averaged: int = AVERAGED,
    report: Report | None = None,
    among: str = "all",
) -> OwnSizes:
    """Measure `model` on the validation images of `config.data`, each at its own size.

    For averages, report and `among` see `evaluate`. With averages, an image has those of the nearest of `config.sizes`.

    Raises:
        UserError: for drawn scenes, which have no sizes of their own, or native feeding of several scales.
        DataError: if the data has classes that the model lacks, or an image is unreadable.
    """
    if config.data == "scenes":
        raise UserError("sizes: expected images from files for own, got scenes, which are drawn at one size")
    if feeding == "native" and len(model.scales) > 1:
        raise UserError(f"feeding: expected a network with one scale for native, got {list(model.scales)}")
    data = match_classes(load_data(replace(config, cache=False), train=False), model)
    device = pick_device(config.device)
    model = model.to(device, memory_format=torch.channels_last)
    model.routing = routing
    model, taken = with_own_averages(model, data, config, device, feeding, averages, averaged)
    barred, chosen = barred_classes(data, among, torch.device("cpu")), among_record(data, among)
    found = answers(model, data.val, config.crop_ratio, device, config.workers, feeding)
    sides, right, unreadable = [], [], []
    log = None if report is None else AnswerLog()
    bar = {"total": len(data.val), "desc": "measuring at own sizes", "unit": "image", "leave": False}
    for index, (answer, label) in enumerate(zip(progress(found, **bar), data.val.labels, strict=True)):
        if answer.error:
            unreadable.append(answer.error)
            continue
        logits = answer.logits if barred is None else answer.logits.masked_fill(barred, -torch.inf)
        sides.append(answer.size)
        right.append(int(logits.argmax()) == label)
        if log is not None:
            log.add([index], answer.size, model.router.scale(answer.size), logits[None])
    refuse_unreadable(unreadable)
    ranges = _ranges(sides, right, model.scales[-1])
    if log is not None:
        named = {range_name(one): (one["first"], one["last"]) for one in ranges}
        view = OwnSizeView(data.val, model.scales[-1], config.crop_ratio)
        about = f"{data.name}, {len(sides):,} images at their own sizes{among_words(chosen)}, routing {routing}"
        report.write(log.table(data.val, class_names(model.spec), named), about, lambda index, _: view[index][0])
    costs = _costs(model, sorted(set(sides)), feeding)
    served = Counter(model.router.scale(side) for side in sides)
    return {
        "sizes": OWN,
        "feeding": feeding,
        "routing": routing,
        "scales": list(model.scales),
        "crop_ratio": config.crop_ratio,
        **taken,
        **chosen,
        "images": len(sides),
        "top1": round(100 * mean(right), 2),
        "ranges": ranges,
        "served": {str(scale): served[scale] for scale in model.scales},
        "params": parameters(model),
        "mean_flops": round(mean(costs[side] for side in sides)),
        "data": data.describe(),
        "env": environment(device, "fp32"),
    }


def _costs(model: MSUN, sides: Sequence[int], feeding: str) -> dict[int, int]:
    """Return the FLOPs of one image of each side, through the subnet that serves it."""
    if feeding == "native":
        return {side: native_flops(model, side) for side in sides}
    by_scale = flops_by_size(model, sides)
    return {side: by_scale[model.router.scale(side)][side] for side in sides}


def _ranges(sides: Sequence[int], right: Sequence[bool], largest: int) -> list[SizeRange]:
    """Return the accuracy at the largest size, and in ranges down from it by factors of the root of two."""
    steps = {side: math.ceil(2 * math.log2(largest / side) - 1e-9) for side in set(sides)}
    found = []
    for step in sorted(set(steps.values()), reverse=True):
        own = [side for side in steps if steps[side] == step]
        hits = [hit for side, hit in zip(sides, right, strict=True) if steps[side] == step]
        found.append({"first": min(own), "last": max(own), "images": len(hits), "top1": round(100 * mean(hits), 2)})
    return found


def range_name(sizes: SizeRange) -> str:
    """Return what a range of sizes is called: `16-22 px`."""
    first, last = sizes["first"], sizes["last"]
    return f"{first} px" if first == last else f"{first}-{last} px"


def own_size_table(record: OwnSizes, name: str) -> str:
    """Return a record as a table: the accuracy over all images, then in each range of sizes."""
    about = [f"{record['params'] / 1e6:.2f}", f"{record['mean_flops'] / 1e9:.3f}"]
    heads = [range_name(one) for one in record["ranges"]]
    rows = [
        [name, *about, f"{record['top1']:.2f}", *(f"{one['top1']:.1f}" for one in record["ranges"])],
        ["images", "", "", f"{record['images']:,}", *(f"{one['images']:,}" for one in record["ranges"])],
    ]
    return styled_table(["method", "params M", "GFLOPs", "top-1 %", *heads], rows, "simple")
