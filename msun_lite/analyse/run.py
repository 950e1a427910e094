"""Measuring why a network fails or holds: the images, the studies, the pictures."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from msun_lite.analyse.figures import analysis_figures, map_figure
from msun_lite.analyse.options import STUDIES
from msun_lite.analyse.record import Analysis
from msun_lite.analyse.studies import Images, cka_study, gradcam_study, pca_study, resizing_study
from msun_lite.cka import LEAST
from msun_lite.data import DataSet, Subset, denormalise, eval_loader, load_data
from msun_lite.evaluate import Subject, match_classes
from msun_lite.explain import check_target
from msun_lite.networks import MSUN, class_names, fingerprint
from msun_lite.results import drawn_name, save_figure
from msun_lite.scales import resize
from msun_lite.utils.devices import pick_device
from msun_lite.utils.environment import environment
from msun_lite.utils.errors import UserError
from msun_lite.utils.precision import full_precision
from msun_lite.utils.progress import note

BATCH = 250
"""Most images a batch; for CKA it is also the n of the biased estimator."""


ORDER_SEED = 0
"""Seed of the order that the validation images are taken in: batches for CKA must not be sorted by class."""


@dataclass(frozen=True)
class Options:
    """What to measure: the studies, how many images (None: all), Grad-CAM's layer and the network to compare with."""

    what: tuple[str, ...] = STUDIES
    images: int | None = None
    layer: str | None = None
    reference: str | None = None


def analyse(subject: Subject, options: Options, folder: Path, resume: bool = False, command: str = "") -> dict:
    """Measure a network and return the record, as it stands in `folder`/analysis.json.

    Raises:
        UserError: if an option cannot work, or `folder` holds the analysis of other weights.
    """
    model, config = subject.model, subject.config
    device = pick_device(config.device)
    reference = _find_reference(options.reference, model)
    data = load_data(config, train=False)
    labelled = [model] if {"gradcam", "resizing"} & set(options.what) else []
    data = match_classes(data, *labelled, *([] if reference is None else [reference]))
    for network in (model, reference):
        if network is not None and "gradcam" in options.what:
            check_target(network, options.layer, max(config.sizes))  # now, not after the studies before it
    chosen = _choose(len(data.val), options.images)
    about = _about(subject)
    analysis = Analysis(folder)
    if (there := analysis.read()) and there.get("weights") != about["weights"]:
        raise UserError(f"{analysis.json}: holds the analysis of other weights, expected another --out")
    images = _images(model, data, chosen, config, device)
    reference = reference.to(device) if reference else None
    model = model.to(device, memory_format=torch.channels_last).eval()
    studies = {
        "cka": lambda: cka_study(model, images, config.sizes),
        "gradcam": lambda: gradcam_study(model, images, config.sizes, options.layer, reference),
        "pca": lambda: pca_study(model, images, config.sizes),
        "resizing": lambda: resizing_study(model, images, config.sizes),
    }
    for study in options.what:
        settings = {"sizes": list(config.sizes), "images": len(chosen), "data": data.describe()}
        if study == "gradcam":
            settings |= {"target": options.layer, "reference_run": options.reference}
            settings["reference_weights"] = fingerprint(reference) if reference else None
        if resume and there.get(study, {}).get("settings") == settings:
            note(f"{study}: there already")
            continue
        start = time.perf_counter()
        with full_precision():
            record, arrays = studies[study]()
        made = {"seconds": round(time.perf_counter() - start, 1), "seed": ORDER_SEED, "command": command}
        made["env"] = environment(device, "fp32")
        analysis.add(about, study, {**record, "settings": settings, **made}, arrays)
        note(f"{study}: {made['seconds']:.0f} s")
    draw(analysis, images, model, data)
    return analysis.read()


def _find_reference(name: str | None, model: MSUN) -> MSUN | None:
    """Return the network that `model` is compared with on the same images, None for none.

    Raises:
        UserError: if it expects images normalised otherwise.
    """
    if name is None:
        return None
    reference = MSUN.from_pretrained(name)
    expected, got = (network.spec["normalisation"] for network in (model, reference))
    if got != expected:
        raise UserError(f"reference: expected a network for images normalised by {expected}, got {name}, by {got}")
    return reference


def draw(analysis: Analysis, images: Images, model: MSUN, data: DataSet) -> None:
    """Draw what an analysis found into its folder; attention maps lie over the images they were made from."""
    record, arrays = analysis.read(), analysis.arrays()
    figures = analysis_figures({record["method"]: record}, {record["method"]: arrays})
    if "gradcam" in record and record["gradcam"]["settings"]["data"] == data.describe():
        figures["attention-maps"] = _maps(arrays, images, model)
    for name, figure in figures.items():
        save_figure(figure, analysis.json.parent / name)


def _maps(arrays: dict[str, NDArray], images: Images, model: MSUN) -> Figure:
    """Return the kept attention maps over their images, for five sizes from the smallest to the largest."""
    batch, labels = next(iter(images))
    sizes, maps = arrays["gradcam_sizes"], arrays["gradcam_maps"][: len(batch)]  # there may be more of an earlier call
    columns = np.unique(np.linspace(0, len(sizes) - 1, min(5, len(sizes))).round().astype(int))
    small = [resize(batch[: len(maps)], int(sizes[column]), model.antialias).cpu() for column in columns]
    views = [denormalise(view, images.normalisation) for view in small]
    names = class_names(model.spec)
    rows = [
        (
            drawn_name(names[labels[index]], most=21),
            [view[index].permute(1, 2, 0).numpy() for view in (views[-1], *views)],
            [None, *(maps[index][columns] / 255)],
        )
        for index in range(len(maps))
    ]
    return map_figure(rows, ["image", *(f"{sizes[column]} px" for column in columns)])


def _about(subject: Subject) -> dict:
    """Return which network an analysis is about, recognised by its weights."""
    model, config = subject.model, subject.config
    return {
        "run": Path(subject.name).name,
        "method": config.method,
        "arch": config.arch,
        "scales": list(config.scales),
        "sizes": list(config.sizes),
        "routing": model.routing,
        "weights": fingerprint(model),
    }


def _choose(count: int, wanted: int | None) -> list[int]:
    """Return `wanted` of `count` images (None: all), in an order drawn at random but always the same."""
    if wanted is not None and not LEAST <= wanted <= count:
        raise UserError(f"images: expected {LEAST} to {count}, as many as there are, got {wanted}")
    generator = torch.Generator().manual_seed(ORDER_SEED)
    return torch.randperm(count, generator=generator)[:wanted].tolist()


def _images(model: MSUN, data: DataSet, chosen: list[int], config, device: torch.device) -> Images:
    batch = _batch_size(len(chosen))
    loader = eval_loader(
        Subset(data.val, chosen), config.test_size, config.crop_ratio, batch, config.workers, device=device
    )
    return Images(loader, device, model.spec["normalisation"])


def _batch_size(count: int) -> int:
    """Return a batch size that splits the images as evenly as can be, the last batch never too small for CKA."""
    size = -(-count // -(-count // BATCH))
    while 0 < count % size < LEAST:
        size -= 1
    return size
