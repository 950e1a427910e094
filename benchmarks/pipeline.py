"""From JPEG files to the views of three scales, beside torchvision's usual way.

    python benchmarks/pipeline.py [--data data/imagenette] [--json book/results/pipeline.json]

Ours decodes, crops and flips an image once and hands over bytes at the largest scale; the device makes normalised
floats of them, and the pyramid. torchvision's way makes the floats of every scale in the worker: PIL,
RandomResizedCrop, RandomHorizontalFlip, then for each scale Resize, PILToTensor, ToDtype and Normalize. Both see the
same files, in one process with one thread and through a DataLoader with two workers.

Prints images a second (median, minimum and maximum over the rounds) up to the batch that leaves the loader and up to
the views on the device, and the ratios round by round. The photographs are taken as they are, and enlarged to
500 x 375 with noise in place of the detail that they lack: about 90 kB a file, where ImageNet's have about 110.
"""

import shlex
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets.folder import default_loader
from torchvision.transforms import v2

from msun_lite.config import TrainConfig, make_config
from msun_lite.data.loaders import Batch, TrainView, to_float
from msun_lite.data.sources import FileSource
from msun_lite.networks.spec import IMAGENET_NORMALISATION
from msun_lite.scales import pyramid
from msun_lite.train.batches import train_loader
from msun_lite.utils.cli import OneLineParser, parse
from msun_lite.utils.devices import pick_device
from msun_lite.utils.environment import environment
from msun_lite.utils.errors import DataError
from msun_lite.utils.files import check_output, write_json
from msun_lite.utils.timing import images_per_second, measure_interleaved, median_and_range

LARGE = (500, 375)
"""Width and height of an ordinary photograph of ImageNet."""

WORKERS = (0, 2)


class SeparateViews(Dataset):
    """A normalised float image a scale, [3, s, s], of one crop, as torchvision's references make that of one scale."""

    def __init__(self, paths: Sequence[str], config: TrainConfig):
        self.paths = paths
        self.crop = v2.Compose(
            [v2.RandomResizedCrop(config.scales[-1], scale=(config.crop_min, 1.0)), v2.RandomHorizontalFlip()]
        )
        floats = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(**IMAGENET_NORMALISATION)]
        self.views = [v2.Compose([v2.Resize(scale), *floats]) for scale in config.scales]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[list[Tensor], int]:
        image = self.crop(default_loader(self.paths[index]))
        return [view(image) for view in self.views], 0


def ours(paths: Sequence[str], config: TrainConfig) -> DataLoader:
    """Return the loader that training uses."""
    source = FileSource([(path, 0) for path in paths])
    view = TrainView(source, config.scales[-1], config.seed, config.crop_min, config.flip)
    return train_loader(view, config, epoch=0)


def torchvisions(paths: Sequence[str], config: TrainConfig) -> DataLoader:
    """Return a loader of batches of `SeparateViews`."""
    views = SeparateViews(paths, config)
    pin = torch.cuda.is_available()
    return DataLoader(
        views, config.batch_size, shuffle=True, num_workers=config.workers, drop_last=True, pin_memory=pin
    )


def measurements(paths: Sequence[str], config: TrainConfig, device: torch.device) -> dict[str, Callable[[], float]]:
    """Return what is measured: images a second by name, ours and torchvision's, up to the batch and to the views."""

    def our_views(batch: Batch) -> int:
        pyramid(to_float(batch.images, device, IMAGENET_NORMALISATION), config.scales)
        return len(batch.labels)

    def their_views(batch: list) -> int:
        views, labels = batch
        for view in views:
            view.to(device, non_blocking=True)
        return len(labels)

    ways = {
        "batch, ours": (ours, lambda batch: len(batch.labels)),
        "batch, torchvision": (torchvisions, lambda batch: len(batch[1])),
        "views, ours": (ours, our_views),
        "views, torchvision": (torchvisions, their_views),
    }
    return {
        name: lambda loader=loader, consume=consume: images_per_second(
            loader(paths, config), consume, device, config.workers
        )
        for name, (loader, consume) in ways.items()
    }


def compare(paths: Sequence[str], config: TrainConfig, device: torch.device, rounds: int) -> dict:
    """Return images a second up to the batch and up to the views, and how many times as fast ours is."""
    rates = measure_interleaved(measurements(paths, config, device), rounds)
    found = {}
    for stage in ("batch", "views"):
        pair = {name: rates[f"{stage}, {name}"] for name in ("ours", "torchvision")}
        found[stage] = {
            "images_per_second": {name: median_and_range(values) for name, values in pair.items()},
            "ratio": median_and_range([fast / slow for fast, slow in zip(*pair.values(), strict=True)]),
        }
    return found


def photographs(folder: Path, count: int, split: str = "train") -> list[str]:
    """Return `count` JPEG files in the class folders of a split, as many of each class; `*` stands for all splits."""
    paths = sorted(str(path) for path in folder.glob(f"{split}/*/*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if len(paths) < count:
        raise DataError(f"{folder}: expected {count} JPEG files under {split}/, found {len(paths)}")
    return [paths[index * len(paths) // count] for index in range(count)]


def enlarged(paths: Sequence[str], folder: Path) -> list[str]:
    """Write the images at `LARGE` into `folder`, with noise in place of the detail that they lack; return the files."""
    generator = np.random.default_rng(0)
    for number, path in enumerate(paths):
        pixels = np.asarray(default_loader(path).resize(LARGE, Image.Resampling.BICUBIC), np.float32)
        noisy = (pixels + generator.normal(0, 15, pixels.shape)).round().clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{number}.jpg", quality=90)
    return [str(folder / f"{number}.jpg") for number in range(len(paths))]


def described(paths: Sequence[str]) -> dict:
    """Return what a record says of JPEG files: how many, the commonest size and the median weight."""
    sizes = [Image.open(path).size for path in paths]
    kilobytes = statistics.median(Path(path).stat().st_size for path in paths) / 1000
    return {"images": len(paths), "pixels": list(statistics.mode(sizes)), "kilobytes": round(kilobytes, 1)}


def main() -> None:
    """Run the benchmark."""
    parser = OneLineParser(description="Images a second of the input pipeline, beside torchvision's.")
    parser.add_argument("--data", type=str, default="data/imagenette", help="Folder with JPEGs in train/CLASS/.")
    parser.add_argument("--images", type=int, default=256, help="Images a round.")
    parser.add_argument("--batch_size", type=int, default=32, help="Images a batch.")
    parser.add_argument("--scales", type=list[int], default=[32, 128, 224], help="Scales in pixels.")
    parser.add_argument("--rounds", type=int, default=7, help="Times each is run.")
    parser.add_argument("--device", type=str, default="cpu", help="Where the views are made: cpu, cuda ...")
    parser.add_argument("--json", type=str | None, default=None, help="File to write the result to.")
    options = parse(parser)
    check_output(options.json)
    torch.set_num_threads(1)
    device = pick_device(options.device)
    paths, found = photographs(Path(options.data), options.images), {}
    with tempfile.TemporaryDirectory() as folder:
        for files in (paths, enlarged(paths, Path(folder))):
            entry = described(files)
            for workers in WORKERS:
                config = make_config("imagenet", scales=options.scales, batch_size=options.batch_size, workers=workers)
                entry[f"{workers} workers"] = compare(files, config, device, options.rounds)
            found["x".join(str(side) for side in entry["pixels"])] = entry
    record = {
        "command": shlex.join(["python", "benchmarks/pipeline.py", *sys.argv[1:]]),
        "scales": options.scales,
        "batch": options.batch_size,
        "crop_min": config.crop_min,
        "files": found,
        "env": environment(device, "fp32"),
    }
    report(record)
    if options.json:
        write_json(Path(options.json), record)


def report(record: dict) -> None:
    """Print the record."""
    for files, entry in record["files"].items():
        for workers in WORKERS:
            for stage, found in entry[f"{workers} workers"].items():
                print(f"{files}, {workers} workers, up to the {stage}")
                for name, values in [*found["images_per_second"].items(), ("ratio", found["ratio"])]:
                    print(f"  {name:12} {values['median']:8.2f}  ({values['min']:.2f} to {values['max']:.2f})")


if __name__ == "__main__":
    main()
