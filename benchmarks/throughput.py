"""Training steps of Vanilla, MST and MSUN from JPEG files to new weights, beside torchvision's and timm's loops.

    python benchmarks/throughput.py [--data data/imagenette] [--json book/results/throughput.json]
    python benchmarks/throughput.py --device cuda --compile true --workers 16

On a GPU ResNet-50 at 32, 128 and 224 px with 256 images a batch, on a CPU ResNet-lite at 16, 64 and 112 px with 64.
All read the same files, and train at the same batch size and precision, channels last. The two other loops train the
plain CNN, as Vanilla does: torchvision's as its references do (PIL, RandomResizedCrop, flip and normalised floats in
the worker; the loss read in every step), timm's with the defaults of its train.py (colour jitter among them) and its
prefetching loader.

Prints images a second (median, minimum and maximum over the rounds) with files decoded on the way and, for ours, held
in memory; how many times as fast Vanilla is as the two other loops; and the time of MSUN's step without loading over
what its FLOPs promise: Vanilla's time x the FLOPs of all scales / Vanilla's.
"""

import shlex
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from pipeline import photographs
from timm.data import ImageDataset, create_loader
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from msun_lite.config import TrainConfig, make_config
from msun_lite.data.loaders import Batch, TrainView
from msun_lite.data.named import load_data
from msun_lite.data.sources import ImageSource
from msun_lite.methods import COMPARED
from msun_lite.networks.backbones import find_recipe
from msun_lite.networks.counting import flops
from msun_lite.networks.spec import IMAGENET_NORMALISATION
from msun_lite.results.run_folder import RunFolder
from msun_lite.train.batches import train_loader
from msun_lite.train.start import make_model
from msun_lite.train.trainer import Trainer
from msun_lite.utils.cli import OneLineParser, parse
from msun_lite.utils.devices import pick_device
from msun_lite.utils.environment import environment
from msun_lite.utils.files import check_output, write_json
from msun_lite.utils.precision import arithmetic, pick_precision
from msun_lite.utils.timing import images_per_second, measure_interleaved, median_and_range

DEFAULTS = {
    "gpu": {"arch": "resnet50", "scales": [32, 128, 224], "batch_size": 256, "workers": 8, "steps": 20},
    "cpu": {"arch": "resnet_lite", "scales": [16, 64, 112], "batch_size": 64, "workers": 0, "steps": 2},
}
"""What is measured where the command does not say."""


class PlainLoop:
    """The training step of the plain CNN as other code bases write it: SGD on the cross-entropy, in autocast."""

    def __init__(self, config: TrainConfig, classes: int, read_loss: bool):
        self.device = pick_device(config.device)
        self.precision = pick_precision(config.precision, self.device)
        network = find_recipe(config.arch).build(classes).to(self.device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(
            network.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.network: nn.Module = torch.compile(network) if config.compile else network
        self.read_loss = read_loss

    def step(self, batch: tuple[Tensor, Tensor]) -> int:
        """Train on images [B, 3, L, L] and labels [B]; return B."""
        images, labels = (part.to(self.device, non_blocking=True) for part in batch)
        images = images.contiguous(memory_format=torch.channels_last)
        with arithmetic(self.precision, self.device):
            loss = F.cross_entropy(self.network(images), labels)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.read_loss:
            loss.item()
        return len(labels)


def torchvision_loader(folder: Path, config: TrainConfig) -> DataLoader:
    """Return the loader of torchvision's references for classification."""
    steps = [
        v2.RandomResizedCrop(config.scales[-1], scale=(config.crop_min, 1.0)),
        v2.RandomHorizontalFlip(),
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(**IMAGENET_NORMALISATION),
    ]
    images = ImageFolder(str(folder / "train"), v2.Compose(steps))
    pin = torch.cuda.is_available()
    return DataLoader(
        images, config.batch_size, shuffle=True, num_workers=config.workers, drop_last=True, pin_memory=pin
    )


def timm_loader(folder: Path, config: TrainConfig) -> Iterable:
    """Return the loader of timm's train.py with its defaults."""
    return create_loader(
        ImageDataset(str(folder / "train")),
        input_size=(3, config.scales[-1], config.scales[-1]),
        batch_size=config.batch_size,
        is_training=True,
        interpolation="random",
        num_workers=config.workers,
        device=pick_device(config.device),
        persistent_workers=False,  # a new loader is made in every round
    )


def our_loader(source: ImageSource, config: TrainConfig) -> DataLoader:
    """Return the loader of a training run."""
    view = TrainView(source, config.scales[-1], config.seed, config.crop_min, config.flip)
    return train_loader(view, config, epoch=0)


def our_step(trainer: Trainer, batch: Batch) -> int:
    """Take a training run's step on a batch; return the number of its images."""
    trainer.state.model.train()
    trainer.take_step([batch], len(batch.labels))
    return len(batch.labels)


def class_folders(data: Path, images: int, folder: Path) -> None:
    """Link that many training images, and one of each class to validate on, into `folder`."""
    for path in map(Path, photographs(data, images)):
        for split in ("train", "val"):
            link = folder / split / path.parent.name / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if split == "train" or not any(link.parent.iterdir()):
                link.symlink_to(path.resolve())


def trainers(config: TrainConfig, folder: Path) -> dict[str, Trainer]:
    """Return a run of each method, at its first step."""
    data = load_data(config)
    found = {}
    for method in COMPARED:
        own = make_config(**{**vars(config), "method": method, "constraint": None})  # as is usual for the method
        found[method] = Trainer(own, data, make_model(own, data.classes), RunFolder(folder / "run"))
    return found


def measurements(config: TrainConfig, folder: Path, runs: dict[str, Trainer], steps: int) -> dict[str, Callable]:
    """Return what is measured, by name: functions that return images a second."""
    device = pick_device(config.device)
    memory = load_data(make_config(**{**vars(config), "cache": True})).train
    loops = {
        name: PlainLoop(config, len(set(memory.labels)), name == "torchvision") for name in ("torchvision", "timm")
    }
    loaders = {"torchvision": torchvision_loader, "timm": timm_loader}
    pixels = torch.randint(0, 256, (config.batch_size, 3, config.scales[-1], config.scales[-1]), dtype=torch.uint8)
    batch = Batch(pixels, torch.zeros(config.batch_size, dtype=torch.int64), [])
    batch = batch.pin_memory() if device.type == "cuda" else batch

    def measure(load: Callable[[], Iterable], step: Callable, workers: int = config.workers) -> float:
        return images_per_second(load(), step, device, workers)

    found = {}
    for method, trainer in runs.items():
        step = partial(our_step, trainer)
        found[f"{method}, files"] = partial(measure, partial(our_loader, trainer.data.train, config), step)
        found[f"{method}, memory"] = partial(measure, partial(our_loader, memory, config), step)
        if method != "mst":
            found[f"{method}, step"] = partial(measure, lambda: [batch] * steps, step, workers=0)
    for name, loop in loops.items():
        found[f"{name}, files"] = partial(measure, partial(loaders[name], folder, config), loop.step)
    return found


def promised_time(runs: dict[str, Trainer]) -> float:
    """Return the FLOPs of an MSUN's training step over those of Vanilla's: all scales over the largest."""
    (vanilla,) = flops(runs["vanilla"].state.model).values()
    return sum(flops(runs["msun"].state.model).values()) / vanilla


def ratios(rates: dict[str, list[float]], fast: str, slow: str, over: float = 1) -> dict[str, float]:
    """Return the spread of rate `fast` over rate `slow`, round by round, divided by `over`."""
    return median_and_range([a / b / over for a, b in zip(rates[fast], rates[slow], strict=True)])


def main() -> None:
    """Run the benchmark."""
    parser = OneLineParser(description="Images a second in training, beside torchvision's and timm's loops.")
    parser.add_argument("--data", type=str, default="data/imagenette", help="Folder with JPEGs in train/CLASS/.")
    parser.add_argument("--arch", type=str | None, default=None, help="Backbone.")
    parser.add_argument("--scales", type=list[int] | None, default=None, help="Scales in pixels.")
    parser.add_argument("--batch_size", type=int | None, default=None, help="Images a batch.")
    parser.add_argument("--workers", type=int | None, default=None, help="Processes that prepare images.")
    parser.add_argument("--steps", type=int | None, default=None, help="Steps of each a round.")
    parser.add_argument("--rounds", type=int, default=5, help="Times each is run.")
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda ...")
    parser.add_argument("--precision", type=str, default="auto", help="auto, fp32, bf16 or fp16.")
    parser.add_argument("--threads", type=int | None, default=None, help="CPU threads; PyTorch's choice by default.")
    parser.add_argument("--compile", type=bool, default=False, help="Compile all networks with torch.compile.")
    parser.add_argument("--json", type=str | None, default=None, help="File to write the result to.")
    options = parse(parser)
    check_output(options.json)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    defaults = DEFAULTS["cpu" if device.type == "cpu" else "gpu"]
    chosen = {name: default if options[name] is None else options[name] for name, default in defaults.items()}
    steps = chosen.pop("steps")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        class_folders(Path(options.data), (steps + chosen["workers"]) * chosen["batch_size"], folder)
        same = {"device": str(device), "precision": options.precision, "compile": options.compile}
        config = make_config("imagenet", data=name, sizes=chosen["scales"][-1:], **chosen, **same)
        runs = trainers(config, folder)
        rates = measure_interleaved(measurements(config, folder, runs, steps), options.rounds)
    promised = promised_time(runs)
    record = {
        "command": shlex.join(["python", "benchmarks/throughput.py", *sys.argv[1:]]),
        **chosen,
        "compile": options.compile,
        "steps": steps,
        "images_per_second": {name: median_and_range(values) for name, values in rates.items()},
        "vanilla_over_torchvision": ratios(rates, "vanilla, files", "torchvision, files"),
        "vanilla_over_timm": ratios(rates, "vanilla, files", "timm, files"),
        "msun_step_over_vanilla_step": ratios(rates, "vanilla, step", "msun, step"),
        "promised_by_flops": round(promised, 3),
        "of_the_promised_time": ratios(rates, "vanilla, step", "msun, step", over=promised),
        "env": environment(device, runs["msun"].precision),
    }
    report(record)
    if options.json:
        write_json(Path(options.json), record)


def report(record: dict) -> None:
    """Print the record."""
    shown = ("vanilla_over_torchvision", "vanilla_over_timm", "msun_step_over_vanilla_step", "of_the_promised_time")
    for name, found in [*record["images_per_second"].items(), *((name, record[name]) for name in shown)]:
        print(f"{name.replace('_', ' '):28} {found['median']:8.2f}  ({found['min']:.2f} to {found['max']:.2f})")
    print(f"the FLOPs promise an MSUN step of {record['promised_by_flops']:.2f} Vanilla steps")


if __name__ == "__main__":
    main()
