"""What every chapter of the book starts with: networks, images and records, from two switches.

chapter = Chapter(DATA, RUN)
chapter.models["msun"], chapter.images(20), chapter.records["msun"]["top1"], photographs()["msun"]["top1"]
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from IPython import get_ipython
from matplotlib_inline.backend_inline import set_matplotlib_formats
from numpy.typing import NDArray
from torch import Tensor

from msun_lite.book.published import CHECKOUT, analyses, photographs, photographs_by_seed, results, transfers
from msun_lite.book.skipping import Skipping
from msun_lite.config import TrainConfig, read_config
from msun_lite.data import (
    DataSet,
    EvalView,
    MemorySource,
    denormalise,
    in_words,
    is_folder,
    load_data,
    refuse_unreadable,
    to_float,
)
from msun_lite.evaluate import config_of, find_model, match_classes, on_data
from msun_lite.methods import COMPARED
from msun_lite.networks import MODEL_FILES, MSUN, SHIPPED, find_pretrained
from msun_lite.results import NAMES, RunFolder, Summary, read_summary
from msun_lite.scales import resize
from msun_lite.utils.devices import pick_device
from msun_lite.utils.errors import DataError, UserError, did_you_mean

SCENES = 400
"""Validation scenes that a chapter draws."""

FEWEST = 4
"""Validation images that a chapter needs: an unbiased CKA is of four at least."""

DEFAULT = ("scenes", "quick-msun")
"""The data and the run that a chapter is built with."""


@dataclass(frozen=True)
class Sample:
    """Some images at the largest scale.

    Args:
        images: [B, 3, L, L], normalised as the networks want them.
        labels: [B], their classes.
        normalisation: {"mean": [3], "std": [3]}.
    """

    images: Tensor
    labels: Tensor
    normalisation: dict

    def picture(self, index: int, size: int | None = None) -> NDArray:
        """Return image `index` to look at, [H, W, 3] from 0 to 1; made `size` pixels small first, if given."""
        image = self.images[index : index + 1]
        return self.to_picture(image if size is None else resize(image, size))

    def to_picture(self, image: Tensor) -> NDArray:
        """Return an image [1, 3, H, W], normalised as the sample's are, to look at: [H, W, 3] from 0 to 1."""
        return denormalise(image[0].cpu(), self.normalisation).permute(1, 2, 0).numpy()


class Chapter:
    """The networks, images and records that a chapter runs on.

    Args:
        data: `scenes` (built-in), `imagenette`, a folder with `train/` and `val/`, or `wds:PATTERN`; the run's classes
            must fit.
        run: name of a shipped network, a run folder, or a folder with run folders `vanilla`, `mst` and `msun`. Its
            companions, the same by other methods, come with it: shipped ones by their names, a folder's from beside it,
            where names differ in the method alone.

    Attributes:
        config: the options of the given run (of a folder with runs: of MSUN's, or of the last of `COMPARED` that is
            there), with the data that the chapter runs on.
        scales, sizes: those of the run up to the largest scale, and that; the presets' parts of it, a seventh and four,
            where the run has no smaller one.
        default: whether these are the data and the run that the book is built with; a chapter checks what it says of
            their results in that case alone.

    A folder may be given as seen from the notebook, from the checkout, or from `book/`.

    Raises:
        UserError: if there is no such run, its options cannot be read, the data's classes are not those it was trained
            on, or there are fewer than `FEWEST` validation images. Asking `models` for a method that there is no run of
            raises one too, and so does asking `records` for a run without results, such as OUT/best.
    """

    def __init__(self, data: str = DEFAULT[0], run: str = DEFAULT[1]):
        self.run = str(run)
        self.default = (str(data), self.run) == DEFAULT
        own, folders = _companions(self.run)
        self.config = _config(_options(folders[own]), data)
        self.scales, self.sizes = tuple(self.config.scales), self.config.sizes
        self.largest = self.scales[-1]
        models = {method: MSUN.from_pretrained(folder) for method, folder in folders.items()}
        models = {method: model for method, model in models.items() if _belongs(model, models[own])}
        folders = {method: folders[method] for method in models}
        self.models = ByMethod(_missing(self.run, own, folders), models)
        records = {method: record for method, folder in folders.items() if (record := _record(folder))}
        self.records = ByMethod(_missing(self.run, own, folders, records), records)
        if len(self.data.val.labels) < FEWEST:
            raise UserError(f"DATA: expected {FEWEST} validation images or more, got {len(self.data.val.labels)}")
        self.class_names = in_words(self.data.classes)

    @cached_property
    def data(self) -> DataSet:
        """The data set, with the networks' classes in the networks' order."""
        data, models = load_data(self.config, train=False), list(self.models.values())
        try:
            return match_classes(data, *models)
        except DataError as error:
            known = "".join(f", {name} ..." for name in (models[0].spec.get("class_names") or ())[:1])
            raise UserError(f"DATA: expected the classes that {self.run} was trained on{known}: {error}") from None

    def images(self, count: int, each: int = 1) -> Sample:
        """Return `count` validation images, or all if there are fewer, drawn at random but always the same.

        They are as many of each class as can be. Of more classes than there is room for, `each` images of a class, some
        are left out, evenly over their order.

        Raises:
            DataError: naming one that cannot be read.
        """
        view = EvalView(self.data.val, self.config.test_size, self.config.crop_ratio)
        chosen = _balanced(self.data.val.labels, count, max(1, count // each))
        items = [view[index] for index in chosen]
        refuse_unreadable([item for item in items if isinstance(item, str)])
        normalisation = next(iter(self.models.values())).spec["normalisation"]
        pixels = torch.stack([image for image, _ in items])
        return Sample(
            to_float(pixels, torch.device("cpu"), normalisation),
            torch.tensor([label for _, label in items]),
            normalisation,
        )

    def sample(self, image: Tensor) -> Sample:
        """Return one image, uint8 [3, H, W], centre-cropped as validation images are; its label is unknown, -1."""
        view = EvalView(MemorySource([image], [-1]), self.config.test_size, self.config.crop_ratio)
        normalisation = next(iter(self.models.values())).spec["normalisation"]
        pixels, label = view[0]
        images = to_float(pixels[None], torch.device("cpu"), normalisation)
        return Sample(images, torch.tensor([label]), normalisation)

    @torch.inference_mode()
    def probabilities(self, method: str, images: Tensor, size: int) -> Tensor:
        """Return the probabilities [B, classes] that a network gives to images once they are `size` pixels small."""
        model = self.models[method]
        return model(resize(images, size, model.antialias)).softmax(1)


def begin(data: str, run: str) -> Chapter:
    """Return the chapter's networks, images and records; figures are shown as SVG, and a line says what it runs on.

    In a notebook, cells that ask for a method that there is no run of are skipped from here on, each with a sentence.
    """
    set_matplotlib_formats("svg")
    device = pick_device("auto")
    gpu = "no GPU here, and none needed" if device.type == "cpu" else f"a GPU for trainings of your own, {device}"
    print(f"{gpu}: this runs on the CPU")
    chapter = Chapter(data, run)
    if (shell := get_ipython()) is not None:
        _skip_in(shell, skipping(chapter, shell.user_ns))
    return chapter


def skipping(chapter: Chapter, names: dict[str, object]) -> Skipping:
    """Return what skips cells of a notebook, whose names are `names`, that the chapter has no network or record for."""
    return Skipping({kind: getattr(chapter, kind).missing for kind in ("models", "records")}, names)


def _skip_in(shell, skip: Skipping) -> None:
    """Let a notebook skip cells; what an earlier call of `begin` put there makes room."""
    kept = [one for one in shell.input_transformers_post if not isinstance(one, Skipping)]
    shell.input_transformers_post[:] = [*kept, skip]


class ByMethod(dict):
    """Method -> what a chapter has of it; a method that is not there is refused in one line.

    Args:
        missing: method -> what to say if it is asked for.
        found: method -> what there is.
    """

    def __init__(self, missing: dict[str, str], found: dict):
        super().__init__(found)
        self.missing = missing

    def __missing__(self, method: str) -> None:
        if method in self.missing:
            raise UserError(self.missing[method])
        raise KeyError(method)


def _companions(run: str) -> tuple[str, dict[str, Path]]:
    """Return the run's method, and method -> folder of it and of those that belong to it, as in `COMPARED`."""
    given = _seen(run)
    if (SHIPPED / run).is_dir() and not given.is_dir():
        family, own = run.rpartition("-")[0], read_config(SHIPPED / run / "config.yaml").method
        found = {method: SHIPPED / f"{family}-{method}" for method in COMPARED} | {own: SHIPPED / run}
        return own, {method: folder for method, folder in found.items() if folder.is_dir()}
    if not given.is_dir():
        shipped = sorted(path.parent.name for path in SHIPPED.glob("*/model.json"))
        places = f"as seen from {Path.cwd()}, {CHECKOUT} or its book/"
        expected = f"expected a run folder, {places}, or a shipped name ({', '.join(shipped)})"
        raise UserError(f"RUN: {run}: {expected}{did_you_mean(run, shipped)}")
    inside = [given / method for method in reversed(COMPARED) if _is_model(given / method)]
    folder = find_pretrained(inside[0] if inside and not _is_model(given) else given)
    own = _options(folder).method
    found = {method: path for method, path in _beside(folder, own).items() if (path / "summary.json").is_file()}
    found |= {own: folder}
    return own, {method: found[method] for method in COMPARED if method in found}


def _is_model(folder: Path) -> bool:
    return all((folder / name).is_file() for name in MODEL_FILES)


def _options(folder: Path) -> TrainConfig:
    """Return the options of a run's training, or, of a model alone, those that its description implies."""
    return config_of(find_model(folder), str(folder), data=DEFAULT[0])  # `DATA` takes its place


def _beside(folder: Path, own: str) -> dict[str, Path]:
    """Return method -> where the run by it would be, for a run folder that is called by its own method."""
    run = RunFolder.of_model(folder).path
    return {method: run.with_name(run.name.replace(own, method)) for method in COMPARED if own in run.name}


def _belongs(model: MSUN, own: MSUN) -> bool:
    """Return whether a network that was found beside another can be compared with it."""
    return model.scales[-1] == own.scales[-1] and all(
        model.spec.get(name) == own.spec.get(name) for name in ("classes", "class_names", "normalisation")
    )


def _missing(run: str, own: str, folders: dict[str, Path], there: Collection[str] | None = None) -> dict[str, str]:
    """Return method -> what to say if a chapter needs it, for the methods of which there is no run, or no record.

    Args:
        run: as it was given.
        own: its method.
        folders: method -> folder.
        there: the methods that have records; those that have networks by default.
    """
    return {
        method: _without_record(folders[method]) if method in folders else _without_run(run, own, folders[own], method)
        for method in COMPARED
        if method not in (folders if there is None else there)
    }


def _without_run(run: str, own: str, folder: Path, method: str) -> str:
    place, beside = RunFolder.of_model(folder).path, _beside(folder, own)
    if not beside:
        reason = f"{place.name} is not called by its method, {own}, so there is no telling what belongs to it"
    elif (beside[method] / "summary.json").is_file():
        reason = f"that in {beside[method]} has other classes, or another largest scale"
    else:
        reason = f"there is none in {beside[method]}"
    return f"RUN: expected a run by {method} beside {run}: {reason}"


def _without_record(folder: Path) -> str:
    return f"RUN: expected the results of a finished run, there is no summary.json in {folder}"


def _seen(path: str) -> Path:
    """Return a folder as it is found: from here, from the checkout, or from the book's folder; as given if nowhere."""
    given = Path(path)
    places = (given, CHECKOUT / given, CHECKOUT / "book" / given)
    return next((place for place in places if place.is_dir()), given)


def _record(folder: Path) -> Summary | None:
    """Return a run's summary, None if it has none."""
    return read_summary(folder / "summary.json") if (folder / "summary.json").is_file() else None


def _config(config: TrainConfig, data: str) -> TrainConfig:
    largest = config.scales[-1]
    smaller = [round(largest / 7), round(4 * largest / 7)]  # as in the presets
    sizes = [*([size for size in config.sizes if size < largest] or smaller), largest]
    config = replace(config, sizes=sizes, scales=config.scales if len(config.scales) > 1 else [*smaller, largest])
    config = on_data(config, str(_seen(data)) if is_folder(str(data)) else data)
    if data == "scenes":
        return replace(config, scenes_val=SCENES, crop_ratio=1.0)
    if data == "imagenette":
        return replace(config, cache=False, data_root=str(_data_root(config.data_root)))
    return replace(config, cache=False)


def _data_root(path: str) -> Path:
    """Return the folder that downloaded data is in, or goes to: the checkout's if there is none where we are."""
    found = _seen(path)
    return found if found.is_dir() or not (CHECKOUT / "book").is_dir() else CHECKOUT / path


def _balanced(labels: Sequence[int], count: int, most: int) -> list[int]:
    """Return the indices of `count` images: class after class in turns, within a class in a random order.

    They are of at most `most` classes.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).tolist()
    by_class: dict[int, list[int]] = {}
    for index in order:
        by_class.setdefault(labels[index], []).append(index)
    groups = [group for _, group in sorted(by_class.items())]
    if len(groups) > most:
        groups = [groups[place * len(groups) // most] for place in range(most)]
    longest = max(map(len, groups))
    turns = [group[turn] for turn in range(longest) for group in groups if turn < len(group)]
    return turns[:count]


def glue(name: str, value: object) -> None:
    """Let the text of the book quote a value by name; outside of the book's build it does nothing."""
    try:
        from myst_nb import glue as put
    except ImportError:
        return
    put(name, value, display=False)


__all__ = [
    "COMPARED",
    "NAMES",
    "Chapter",
    "Sample",
    "analyses",
    "begin",
    "glue",
    "photographs",
    "photographs_by_seed",
    "results",
    "transfers",
]
