"""Why a network fails or holds at small sizes: CKA, Grad-CAM, feature space, and what resizing itself does.

    python -m msun_lite.analyse runs/quick-msun-seed0
    python -m msun_lite.analyse lite-msun --what cka,pca --images 500 --out runs/why
    python -m msun_lite.analyse --arch resnet50 --data IMAGENET --what cka      # published weights, as Vanilla

Each study is saved as it ends, into analysis.json and analysis.npz of the run folder; `--resume` goes on after an
interruption and leaves out what is there. The pictures beside them are drawn from these two files by `figures`.
"""

import sys

from msun_lite.commands import start

if __name__ == "__main__":  # here, as help and errors in options need not wait for the imports below
    sys.exit(start("analyse"))

import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jsonargparse import Namespace
from matplotlib.figure import Figure
from numpy.typing import NDArray

from msun_lite.analyse_options import STUDIES
from msun_lite.cka import LEAST
from msun_lite.class_names import match_classes
from msun_lite.data import DataSet, load_data
from msun_lite.devices import full_precision, pick_device
from msun_lite.distributed import refuse_several
from msun_lite.errors import CheckpointError, UserError
from msun_lite.explain import check_target, import_extra
from msun_lite.figures import analysis_figures, map_figure, save_figure
from msun_lite.files import atomic_write
from msun_lite.imagenette import CLASS_NAMES
from msun_lite.loaders import eval_loader
from msun_lite.model import MSUN, fingerprint
from msun_lite.progress import note, show
from msun_lite.records import check_folder, environment, read_json, write_json
from msun_lite.scales import resize
from msun_lite.sources import Subset
from msun_lite.studies import Images, cka_study, gradcam_study, pca_study, resizing_study
from msun_lite.subjects import Subject, find_config, find_subject
from msun_lite.tables import attention_table, cka_table, resizing_table, space_table

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


class Analysis:
    """The two files of an analysis, study by study."""

    def __init__(self, folder: Path):
        self.json, self.npz = folder / "analysis.json", folder / "analysis.npz"

    def read(self) -> dict:
        """Return the record, empty if there is none yet."""
        return read_json(self.json) if self.json.exists() else {}

    def arrays(self) -> dict[str, NDArray]:
        """Return the arrays beside the record; their names begin with their study's."""
        if not self.npz.exists():
            return {}
        try:
            with np.load(self.npz, allow_pickle=False) as stored:
                return dict(stored)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise CheckpointError(f"{self.npz}: expected an archive of arrays, got: {error}") from None

    def add(self, about: dict, study: str, record: dict, arrays: dict[str, NDArray]) -> None:
        """Put one study in the place of an earlier one; arrays first, so that a record never lacks its own."""
        kept = {name: array for name, array in self.arrays().items() if not name.startswith(f"{study}_")}
        with atomic_write(self.npz) as file:
            np.savez_compressed(file, **kept, **arrays)
        write_json(
            self.json, {**about, **{name: self.read()[name] for name in STUDIES if name in self.read()}, study: record}
        )


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
    mean, std = (torch.tensor(images.normalisation[name])[:, None, None] for name in ("mean", "std"))
    views = [resize(batch[: len(maps)], int(sizes[column]), model.antialias).cpu() * std + mean for column in columns]
    names = model.spec.get("class_names") or [str(label) for label in range(model.spec["classes"])]
    rows = [
        (
            CLASS_NAMES.get(names[labels[index]], names[labels[index]]),
            [view[index].clamp(0, 1).permute(1, 2, 0).numpy() for view in (views[-1], *views)],
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


def _studies(text: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(","))
    if unknown := [word for word in words if word not in STUDIES]:
        raise UserError(f"what: expected some of {', '.join(STUDIES)}, with commas, got {unknown[0]!r}")
    return words


def report(record: dict) -> str:
    """Return what an analysis found as tables for the terminal, at three of its sizes."""
    network, parts = {record["run"]: record}, []
    sizes = {study: record[study]["settings"]["sizes"] for study in STUDIES if study in record}
    shown = {study: list(dict.fromkeys((some[0], some[len(some) // 2], some[-1]))) for study, some in sizes.items()}
    if "cka" in record:
        for feeding in ("native", "upsampled"):
            title = f"CKA with {record['cka']['reference']} px, images fed {feeding}, unbiased"
            parts.append(f"{title}\n{cka_table(network, shown['cka'], feeding, 'unbiased')}")
    if "gradcam" in record:
        parts.append(f"Grad-CAM, agreement with the largest size\n{attention_table(network, shown['gradcam'])}")
    if "pca" in record:
        parts.append(f"feature space\n{space_table(network, shown['pca'])}")
    if "resizing" in record:
        parts.append(f"top-1 accuracy\n{resizing_table(network, shown['resizing'])}")
    return "\n\n".join(parts)


def run(options: Namespace, command: str) -> None:
    """Measure what the options of the command say, and print it."""
    refuse_several("analyse")
    wanted = Options(_studies(options.what), options.images, options.layer, options.reference)
    if {"gradcam", "pca"} & set(wanted.what):
        import_extra("pytorch_grad_cam")
    config = find_config(options)
    name = Path(options.run or options.arch)
    folder = Path(options.out) if options.out else name if name.is_dir() else Path("runs") / name.name
    check_folder(folder)
    subject = find_subject(options, config)
    folder.mkdir(parents=True, exist_ok=True)
    show(report(analyse(subject, wanted, folder, options.resume, command)))


def main(argv: list[str] | None = None) -> int:
    """Run the command as the command line, or `argv`, says."""
    return start("analyse", argv)
