"""One adaptation: the network and its teacher, the images, the run folder."""

import dataclasses
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from msun_lite.adapt.distilling import Distilling, freeze_largest
from msun_lite.adapt.options import FREE_ON_RESUME, AdaptConfig, read_adapt_config
from msun_lite.config import TrainConfig, as_word, check_warmup
from msun_lite.data import (
    BadImages,
    DataSet,
    FileSource,
    ImageSource,
    Labelled,
    Subset,
    UnreadableImage,
    check_memory,
    eval_loader,
    in_memory,
    load_data,
    part_of,
    unlabelled,
)
from msun_lite.evaluate import (
    averaged_by_size,
    crop_ratio_of,
    evaluate_on,
    find_model,
    fitting_batch,
    match_classes,
    normalised_batches,
)
from msun_lite.networks import MSUN, default_sizes, find_recipe
from msun_lite.results import RunFolder, accuracy_table
from msun_lite.train import Trainer, is_finished, resolve_resume
from msun_lite.utils.cli import dump_yaml
from msun_lite.utils.devices import pick_device, use_threads
from msun_lite.utils.errors import DataError, UserError, printable
from msun_lite.utils.files import listing_fingerprint, write_json, write_text
from msun_lite.utils.precision import full_precision
from msun_lite.utils.progress import note, show
from msun_lite.utils.stopping import StopRequest

HELD_OUT = 1000
"""Images that are held out at most."""

PUBLISHED_CROP = 0.875
"""Side of the centre crop over the shorter side that most published networks are measured with."""

PUBLISHED_SIZE = 224
"""Size in pixels that published networks are trained at."""


@dataclass(frozen=True)
class Source:
    """The plain CNN that is adapted.

    Args:
        name: what it is called.
        arch: its architecture.
        weights: what `MSUN.from_backbone` takes them from.
        size: in pixels, that it was trained at.
        crop_ratio: side of the centre crop over the shorter side that it is measured with; None: what its weights say,
            else `PUBLISHED_CROP`.
        options: what else makes the same network.
    """

    name: str
    arch: str
    weights: str
    size: int
    crop_ratio: float | None
    options: dict


def adapt(config: AdaptConfig) -> Path:
    """Run what `config` describes; this is what the command calls.

    Returns:
        The run folder. It has a summary.json if the run is finished, and can be resumed if not.

    Raises:
        UserError: for options, images or a network that cannot be used; see `errors`.
        KeyboardInterrupt: after Ctrl-C, once everything is saved.
    """
    if config.out is None:
        raise UserError("expected a run, or --arch in its place, got neither")
    folder = RunFolder(config.out)
    with StopRequest(config.max_minutes) as stop, stop.planned(note, folder.config, _go_on(folder)):
        _adapt(resolve_resume(config, folder, note), folder, stop)
    return folder.path


def _adapt(config: AdaptConfig, folder: RunFolder, stop: StopRequest) -> None:
    config.check()
    if not config.resume:
        check_warmup(config.warmup_epochs, config.epochs)
    device = pick_device(config.device)
    if is_finished(folder, config, read_adapt_config, FREE_ON_RESUME):
        note(f"{folder.path}: finished already")
        return
    use_threads(config.threads)
    source = find_source(config)
    scales = config.scales or [max(1, round(source.size / 7)), round(4 * source.size / 7), source.size]
    if scales[-1] != source.size and config.run is not None:
        raise UserError(f"scales: expected the last one to be that of {source.name}, {source.size}, got {scales}")
    crop = PUBLISHED_CROP if source.crop_ratio is None else source.crop_ratio
    plan = config.training(source.arch, scales, config.sizes or default_sizes(scales), crop)
    plan.check()
    torch.manual_seed(config.seed)
    teacher, model = make_networks(source, plan)
    plan = replace(plan, crop_ratio=model.spec["crop_ratio"])
    teacher = teacher.to(device, memory_format=torch.channels_last)
    bad = BadImages(config.max_bad_images)
    train, held = _divided(config, model.spec["class_names"], bad)
    data = _as_data(config, plan, train, _taught(teacher, held, plan, device), bad)
    labelled = _labelled(config, plan, model)
    with folder.held(note):
        if not config.resume:
            is_finished(folder, config, read_adapt_config, FREE_ON_RESUME)  # nobody was faster
        if config.keep:
            freeze_largest(model)
        trainer = Trainer(
            replace(plan, eval_images=len(held)),
            data,
            model,
            folder,
            title=f"{source.name},",
            make_objective=lambda network, options, _: Distilling(network, options, config, teacher),
        )
        _open(trainer, config)
        if trainer.fit(stop):
            _finish(trainer, source, config, labelled)
            return
    note(f"stopped, everything saved; go on with: {_go_on(folder)}")
    if stop.signal is not None and not stop.by_scheduler:
        raise KeyboardInterrupt


def find_source(config: AdaptConfig) -> Source:
    """Return the plain CNN that the options name.

    Raises:
        UserError: if it has several scales, or nothing builds it.
    """
    if config.arch is not None:
        find_recipe(config.arch)
        size = config.scales[-1] if config.scales else PUBLISHED_SIZE
        options = {"num_classes": config.num_classes}
        return Source(config.arch, config.arch, config.weights, size, config.crop_ratio, options)
    found = find_model(config.run)
    spec = found.spec
    if len(spec["scales"]) > 1:
        raise UserError(f"run: expected a plain CNN, such as lite-vanilla, got {config.run} of scales {spec['scales']}")
    given = {"num_classes": spec["classes"], "class_names": spec.get("class_names")}
    given["normalisation"] = spec["normalisation"]
    ratio = crop_ratio_of(found, config.crop_ratio)
    return Source(Path(config.run).name, spec["arch"], str(found.folder), spec["scales"][0], ratio, given)


def make_networks(source: Source, plan: TrainConfig) -> tuple[MSUN, MSUN]:
    """Return the plain CNN, which teaches, and the multi-scale network made of it.

    The description of the latter has the crop that both are measured with, so that other commands look at the same part
    of an image.

    Raises:
        UserError: if the weights are of another number of classes.
    """
    cut = {"blocks": plan.blocks} if plan.split is None else {"split": plan.split}
    same = {"weights": source.weights, "antialias": plan.antialias, **cut, **source.options}
    ways = {name: getattr(plan, name) for name in ("routing", "subnet_input", "unify", "norm", "private")}
    model = MSUN.from_backbone(source.arch, plan.scales, **ways, **same)
    published = model.spec.get("crop_ratio", plan.crop_ratio)
    model.spec |= {"crop_ratio": published if source.crop_ratio is None else source.crop_ratio}
    if fresh := model.spec["weights"]["fresh"]:
        got = f"got {source.options['num_classes']}: {fresh[0]} differs"
        raise UserError(f"num_classes: expected that of the weights {source.weights}, {got}")
    return MSUN.vanilla(source.arch, plan.scales[-1], **same).eval(), model.eval()


def _divided(config: AdaptConfig, class_names: Sequence[str] | None, bad: BadImages) -> tuple[Subset, Subset]:
    """Return the images that are learnt from, and those that are held out, all of them readable; note `bad` ones.

    Raises:
        UserError: if labels are wanted, and the network's classes have no names.
        DataError: if there are too few, or one lies in a folder that is no class.
    """
    images, left_out = unlabelled(Path(config.images))
    if left_out:
        note(f"{config.images}: {left_out}")
    if config.labels:
        images = _by_folders(images, class_names)
    held = part_of(images, min(HELD_OUT, round(config.held_out * len(images))))
    kept = set(held.indices)
    train = Subset(images, [index for index in range(len(images)) if index not in kept])
    held = Subset(images, [index for index in held.indices if _is_readable(images, index, bad)])
    if not len(held) or len(train) < config.batch_size:
        expected = f"expected {config.batch_size} or more to learn from, as --batch_size says, and one or more held out"
        raise DataError(f"{config.images}: {expected}, got {len(train)} and {len(held)}")
    return train, held


def _by_folders(images: FileSource, class_names: Sequence[str] | None) -> FileSource:
    """Return the images with the classes that the folders are named as which they lie in."""
    if class_names is None:
        raise UserError("labels: expected a network that knows the names of its classes, got one of nameless ones")
    places, labelled = {name: place for place, name in enumerate(class_names)}, []
    for path in images.paths:
        folder = Path(path).parent.name
        if folder not in places:
            expected = f"expected it in a folder named as a class of the network, such as {class_names[0]}"
            raise DataError(printable(f"{path}: labels: {expected}, got {folder}"))
        labelled.append((path, places[folder]))
    return FileSource(labelled)


def _is_readable(images: ImageSource, index: int, bad: BadImages) -> bool:
    try:
        images.read(index)
    except UnreadableImage as error:
        bad.add(str(error))
        return False
    return True


@torch.inference_mode()
@full_precision()
def _taught(teacher: MSUN, held: ImageSource, plan: TrainConfig, device: torch.device) -> ImageSource:
    """Return the images held out, with what the network says of them at its own size as their labels."""
    loader = eval_loader(held, plan.scales[-1], plan.crop_ratio, fitting_batch(teacher), plan.workers, device=device)
    batches = normalised_batches(teacher, loader, device, "what the network says")
    return Labelled(held, torch.cat([teacher(images).argmax(1).cpu() for images, _ in batches]).tolist())


def _as_data(config: AdaptConfig, plan: TrainConfig, train: Subset, held: ImageSource, bad: BadImages) -> DataSet:
    """Return the images as the data of a training, decoded into memory unless the options say otherwise."""
    folder = Path(config.images)
    names = tuple(str(label) for label in range(max(max(held.labels), max(train.labels)) + 1))
    data = DataSet(folder.name, names, train, held, listing_fingerprint(folder, train.source.paths), bad)
    if not config.cache:
        return data
    check_memory(data, plan)
    return in_memory(data, plan, train=True)


def _labelled(config: AdaptConfig, plan: TrainConfig, model: MSUN) -> DataSet | None:
    """Return the labelled images that the result is measured on, if there are some."""
    if config.data is None:
        return None
    options = replace(plan, data=config.data, data_root=config.data_root)
    return match_classes(load_data(options, train=False), model, say=note)


def _open(trainer: Trainer, config: AdaptConfig) -> None:
    """Begin the run folder, or go on from its checkpoint."""
    folder = trainer.folder
    folder.create(trainer.disk_space())
    if config.resume and folder.has_checkpoint():
        trainer.load()
        step, epoch = trainer.state.step, trainer.state.epoch + 1
        note(f"{folder.path}: going on at step {step}, epoch {epoch} of {config.epochs}")
        return
    if config.resume:
        note(f"{folder.path}: stopped before its first checkpoint, so it starts at step 0")
    else:
        write_text(folder.config, dump_yaml(replace(config, resume=False)))
    trainer.save()


def _finish(trainer: Trainer, source: Source, config: AdaptConfig, labelled: DataSet | None) -> None:
    """Write the weights, measure them, write and print the summary."""
    folder, plan, model = trainer.folder, trainer.config, trainer.state.model.requires_grad_(True).eval()
    if config.averages == "size":
        model = averaged_by_size(model, trainer.data.train, plan, trainer.device, keep=config.keep)
    model.save(folder.path)
    start = time.perf_counter()
    agreement = evaluate_on(model, trainer.data, plan, trainer.device)
    measured = evaluate_on(model, labelled, plan, trainer.device) if labelled else {}
    summary = {
        "method": "msun",
        "adapted": source.name,
        "arch": plan.arch,
        "blocks": plan.blocks if plan.split is None else None,
        "scales": plan.scales,
        "sizes": plan.sizes,
        "routing": plan.routing,
        **measured,
        "agreement": {"images": len(trainer.data.val), "top1": agreement["top1"], "mean_top1": agreement["mean_top1"]},
        **{name: agreement[name] for name in ("params", "flops", "mean_flops")},
        "epochs": config.epochs,
        "steps": trainer.state.step,
        "seconds": round(trainer.state.seconds, 1),
        "evaluation_seconds": round(time.perf_counter() - start, 1),
        "bad_images": list(trainer.data.bad_images.seen),
        "images": trainer.data.describe(),
        **({"data": labelled.describe()} if labelled else {}),
        "env": trainer.env,
        "seed": config.seed,
        "config": dataclasses.asdict(config),
        "command": _command(config),
    }
    write_json(folder.summary, summary)
    rows = {"agreement with its own size": agreement} | ({f"accuracy on {labelled.name}": measured} if labelled else {})
    show(accuracy_table(rows))
    note(f"weights: {folder.weights}   curves: {folder.curves}.png   metrics: {folder.table}")


def _go_on(folder: RunFolder) -> str:
    return f"python -m msun_lite.adapt --out {folder.path} --resume"


def _command(config: AdaptConfig) -> str:
    """Return a command line that repeats the run: what differs from the defaults."""
    base = dataclasses.asdict(AdaptConfig())
    here = ("out", "resume", "max_minutes", "checkpoint_minutes", "workers", "threads", "device")
    own = {name: value for name, value in dataclasses.asdict(config).items() if name not in here}
    words = [word for name, value in own.items() if base[name] != value for word in (f"--{name}", as_word(value))]
    return f"python -m msun_lite.adapt {shlex.join(words)}"
