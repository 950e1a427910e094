"""Transferring a network to another data set: the task, the probe or the fine-tuning, the run folder."""

import copy
import dataclasses
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from msun_lite.config import TrainConfig, as_word, check_warmup
from msun_lite.data import (
    DataOptions,
    DataSet,
    FileSource,
    check_memory,
    eval_loader,
    in_memory,
    load_data,
    refuse_unreadable,
    shorter_sides,
    sizes_line,
)
from msun_lite.evaluate import find_model, fitting_batch, measure
from msun_lite.networks import MSUN, classifiers, fingerprint, flops, parameters
from msun_lite.per_scale import PerScale
from msun_lite.results import RunFolder
from msun_lite.scales import route
from msun_lite.train import Trainer, is_finished, resolve_resume
from msun_lite.transfer.options import FREE_ON_RESUME, TransferConfig, read_transfer_config
from msun_lite.transfer.probe import Features, accuracy, cached, compute, fit
from msun_lite.transfer.public_sets import SETS, open_set
from msun_lite.utils.cli import dump_yaml
from msun_lite.utils.devices import pick_device, use_threads
from msun_lite.utils.environment import environment
from msun_lite.utils.errors import DataError
from msun_lite.utils.files import write_json, write_text
from msun_lite.utils.progress import note
from msun_lite.utils.stopping import StopRequest

SCENES_SIZE = 56
"""Size of the built-in drawn scenes."""


@dataclass(frozen=True)
class Task:
    """What a network is transferred to.

    Args:
        data: the images; `val` are the test images.
        size: in pixels, what they are made.
        crop_ratio: side of the centre crop over the shorter side.
    """

    data: DataSet
    size: int
    crop_ratio: float


@dataclass(frozen=True)
class TransferJob:
    """One transfer, under way.

    Args:
        config: its options.
        folder: its run folder.
        task: what the network is transferred to.
        model: the network, with a new classifier.
        scale: the subnet that serves the size.
        weights: fingerprint of the network as it was.
    """

    config: TransferConfig
    folder: RunFolder
    task: Task
    model: MSUN
    scale: int
    weights: str

    @property
    def plan(self) -> TrainConfig:
        """The options of the training that this is."""
        return self.config.training(self.task.size, self.task.crop_ratio)


def transfer(config: TransferConfig) -> Path:
    """Run what `config` describes; this is what the command calls.

    Returns:
        The run folder. It has a summary.json if the run is finished, and can be resumed if not.

    Raises:
        UserError: for options, data or a run that cannot be used; see `errors`.
        KeyboardInterrupt: after Ctrl-C, once everything is saved.
    """
    config.check()
    folder = RunFolder(config.out)
    with StopRequest() as stop, stop.planned(note, folder.config, _go_on(folder)):
        _transfer(config, folder, stop)
    return folder.path


def _transfer(config: TransferConfig, folder: RunFolder, stop: StopRequest) -> None:
    config = resolve_resume(config, folder, note)
    if config.mode == "finetune" and not config.resume:
        check_warmup(config.warmup_epochs, config.epochs)
    pick_device(config.device)
    if is_finished(folder, config, read_transfer_config, FREE_ON_RESUME):
        note(f"{folder.path}: finished already")
        return
    use_threads(config.threads)
    found = find_model(config.run)
    source, task = MSUN.from_pretrained(found.folder), find_task(config)
    torch.manual_seed(config.seed)
    model = with_new_classifier(source, task.data.classes, config.routing)
    scale = route(task.size, model.scales, model.routing)
    served = f"{task.data.name} at {task.size} px, served by the subnet of {scale} px"
    note(f"{Path(config.run).name}: {served}")
    job, params = TransferJob(config, folder, task, model, scale, fingerprint(source)), parameters(model)
    with folder.held(note):
        if not config.resume:
            is_finished(folder, config, read_transfer_config, FREE_ON_RESUME)  # nobody was faster
        measured = _probe(job) if config.mode == "linear" else _finetune(job, stop)
        if measured is not None:
            write_json(folder.summary, _record(job, source, found.method) | measured | {"params": params})
    if measured is not None:
        note(f"{folder.path}: {measured['top1']:.2f} % of {len(task.data.val)} test images")
        return
    note(f"stopped, everything saved; go on with: {_go_on(folder)}")
    if not stop.by_scheduler:
        raise KeyboardInterrupt


def _record(job: TransferJob, source: MSUN, method: str) -> dict:
    """Return what summary.json says of a transfer beside what is measured: of the network, and of where it goes."""
    config, task, model = job.config, job.task, job.model
    return {
        "run": Path(config.run).name,
        "weights": job.weights,
        "method": method,
        "arch": source.spec["arch"],
        "blocks": source.spec["blocks"],
        "scales": list(model.scales),
        "mode": config.mode,
        "size": task.size,
        "routing": model.routing,
        "scale": job.scale,
        "flops": flops(model)[job.scale],
        "epochs": config.epochs,
        "data": task.data.describe(),
        "bad_images": list(task.data.bad_images.seen),
        "seed": config.seed,
        "config": dataclasses.asdict(config),
        "command": _command(config),
    }


def _go_on(folder: RunFolder) -> str:
    return f"python -m msun_lite.transfer --out {folder.path} --resume"


def find_task(config: TransferConfig) -> Task:
    """Return the data that `config` names, its size and its crops.

    Raises:
        DataError: if the data set is missing or incomplete, a folder has no class folders, or no image can be read.
    """
    if config.dataset in SETS:
        about = SETS[config.dataset]
        data = open_set(config.dataset, Path(config.data_root), config.max_bad_images)
        size, crop_ratio = about.size, about.crop_ratio
    elif config.dataset == "scenes":
        size, crop_ratio = SCENES_SIZE, 1.0
        data = load_data(DataOptions(scales=[size], sizes=[size]))
    elif Path(config.dataset).is_dir():
        options = DataOptions(data=config.dataset, cache=False, max_bad_images=config.max_bad_images)
        data = load_data(options, train=False)
        size, crop_ratio = config.size or median_size(data), 1.0
        if sides := shorter_sides(data.train):
            note(sizes_line(data.name, sides, [size]))
    else:
        raise DataError(
            f"dataset: expected one of {', '.join(SETS)}, scenes, or a folder with train/ and val/, "
            f"got {config.dataset!r}"
        )
    return Task(data, config.size or size, crop_ratio if config.crop_ratio is None else config.crop_ratio)


def median_size(data: DataSet) -> int:
    """Return the median of the shorter sides of a sample of the test images of class folders.

    Raises:
        DataError: if none of them can be read.
    """
    sides = shorter_sides(data.val)
    if not sides:
        raise DataError(f"{data.name}: expected images, not one can be read, such as {data.val.paths[0]}")
    return round(median(sides))


def with_new_classifier(source: MSUN, classes: tuple[str, ...], routing: str | None = None) -> MSUN:
    """Return a copy of a network with fresh last linear layers for other classes, and another routing if given."""
    spec = {**source.spec, "classes": len(classes), "class_names": list(classes)}
    spec.pop("crop_ratio", None)  # that of the source's images
    if "split" in source.spec:
        return _own_with_new_classifier(source, spec, routing)
    model = MSUN.from_spec({**spec, "routing": routing or source.routing})
    fresh = {id(parameter) for layer in classifiers(model) for parameter in layer.parameters()}
    names = [name for name, parameter in model.named_parameters() if id(parameter) in fresh]
    own = model.state_dict()
    model.load_state_dict(source.state_dict() | {name: own[name] for name in names})
    return model.eval()


def _own_with_new_classifier(source: MSUN, spec: dict, routing: str | None) -> MSUN:
    """Return a copy of a network that nothing may be known to build again, see `with_new_classifier`."""
    model = copy.deepcopy(source)
    old = {id(layer) for layer in classifiers(model)}
    for name, layer in list(model.named_modules()):
        if id(layer) in old:
            fresh = torch.nn.Linear(layer.in_features, spec["classes"], layer.bias is not None)
            model.set_submodule(name, fresh.to(layer.weight))
    model.spec, model.routing = spec, routing or source.routing
    return model.eval()


def serving_classifier(model: MSUN, scale: int) -> torch.nn.Linear:
    """Return the classifier that images served by the subnet of `scale` get to."""
    layers = classifiers(model)
    return layers[model.scales.index(scale)] if model.unify == "none" else layers[0]


def _probe(job: TransferJob) -> dict:
    """Train and measure a classifier on the frozen network's features; return what a record says of it."""
    folder, device = job.folder, pick_device(job.config.device)
    env = environment(device, "fp32")  # now: the checkout may job on during the run
    model = job.model.to(device, memory_format=torch.channels_last)
    _begin(job)
    start = time.perf_counter()
    train, test = (_features(job, split) for split in ("train", "test"))
    refuse_unreadable(test.unreadable)
    for message in train.unreadable:
        job.task.data.bad_images.add(message)
    computed = time.perf_counter()
    classifier = serving_classifier(model, job.scale)
    folder.drop_metrics_after(0)
    rows = []
    fit(classifier, train, job.plan, rows.append)
    for row in rows:
        folder.append_metrics(row)
    model.save(folder.path)
    return {
        "top1": round(accuracy(classifier, test), 2),
        "train_top1": round(accuracy(classifier, train), 2),
        "trained": sum(parameter.numel() for parameter in classifier.parameters()),
        "dimensions": train.views.shape[-1],
        "views": ["centre", "mirrored"][: len(train.views)],
        "feature_seconds": round(computed - start, 1),
        "seconds": round(time.perf_counter() - computed, 1),
        "env": env,
    }


def _features(job: TransferJob, split: str) -> Features:
    """Return the features of the training or test images, from the cache if they are there."""
    config, task, model, scale = job.config, job.task, job.model, job.scale
    mirror = config.flip and split == "train"
    images = task.data.train if split == "train" else task.data.val
    device = next(model.parameters()).device
    loader = eval_loader(images, task.size, task.crop_ratio, fitting_batch(model), config.workers, device=device)
    behaviour = {name: model.spec[name] for name in ("arch", "antialias", "unify", "normalisation")}
    about = {"split": split, "data": task.data.fingerprint, "size": task.size, "crop_ratio": task.crop_ratio}
    about |= {"mirror": mirror, "weights": job.weights, "scale": scale, **behaviour}
    place = Path(config.features) if config.features is not None else job.folder.path / "features"
    return cached(place, about, lambda: compute(model, loader, scale, device, mirror))


def _finetune(job: TransferJob, stop: StopRequest) -> dict | None:
    """Train all that serves the size, and measure it; return what a record says of it, None if stopped."""
    config, folder, task, plan = job.config, job.folder, job.task, job.plan
    model, scale = job.model, job.scale
    data = task.data
    if config.cache and _on_disk(data):
        check_memory(data, plan)
        data = in_memory(data, plan, train=True)
    _freeze_others(model, scale)
    trainer = Trainer(plan, data, model, folder, title=f"{Path(config.run).name} on {data.name},")
    _begin(job, trainer.disk_space())
    if config.resume and folder.has_checkpoint():
        trainer.load()
        note(f"{folder.path}: going on at step {trainer.state.step}, epoch {trainer.state.epoch + 1} of {plan.epochs}")
    else:
        if config.resume:
            note(f"{folder.path}: stopped before its first checkpoint, so it starts at step 0")
        trainer.save()
    if not trainer.fit(stop):
        return None
    model.eval().save(folder.path)
    batch = fitting_batch(model)
    loader = eval_loader(data.val, task.size, task.crop_ratio, batch, config.workers, device=trainer.device)
    start = time.perf_counter()
    top1 = measure(model, loader, [task.size], trainer.device, scales=[scale])[scale][task.size]
    return {
        "top1": round(top1, 2),
        "train_top1": round(folder.read_metrics()[-1]["train_top1"], 2),
        "trained": parameters(model),
        "steps": trainer.state.step,
        "seconds": round(trainer.state.seconds, 1),
        "evaluation_seconds": round(time.perf_counter() - start, 1),
        "env": trainer.env,
    }


def _on_disk(data: DataSet) -> bool:
    return isinstance(data.train, FileSource)


def _freeze_others(model: MSUN, scale: int) -> None:
    """Leave all that belongs to scales that do not serve out of the training: subnets, and what of g they own."""
    owned = [model.subnets, *(module for module in model.modules() if isinstance(module, PerScale))]
    for parts in owned:
        for other, part in parts.items():
            if other != str(scale):
                part.requires_grad_(False)


def _begin(job: TransferJob, space: int = 0) -> None:
    """Make the run folder, and write its configuration if this is a new run."""
    job.folder.create(space)
    if not job.config.resume:
        write_text(job.folder.config, dump_yaml(job.config))


def _command(config: TransferConfig) -> str:
    """Return a command line that repeats the run: what differs from the defaults."""
    base = dataclasses.asdict(TransferConfig())
    words = [config.run, "--dataset", config.dataset, "--mode", config.mode]
    for name, value in dataclasses.asdict(config).items():
        if name not in (*FREE_ON_RESUME, "run", "dataset", "mode") and base[name] != value:
            words += [f"--{name}", as_word(value)]
    return f"python -m msun_lite.transfer {shlex.join(words)}"
