"""Every option of a transfer, once: name, type, default, meaning. The defaults are the paper's schedule."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msun_lite.config import PRECISIONS, Precision, TrainConfig
from msun_lite.utils.cli import OneLineParser, options_parser, read_options
from msun_lite.utils.errors import UserError, one_of, within

MODES = ("linear", "finetune")

GROUPS = {
    "the transfer": "run",
    "data": "data_root",
    "training": "epochs",
    "device and processes": "device",
}
"""Title in --help -> the option that the group begins with; it goes on to where the next one begins."""

FREE_ON_RESUME = ("out", "resume", "workers", "threads", "device", "data_root", "features")
"""Options that may differ when a run goes on: they change neither what is learnt nor what is measured."""


@dataclass(kw_only=True)
class TransferConfig:
    """The options of one transfer."""

    run: str | None = None
    """What is transferred: run folder, or name of shipped weights (lite-msun ...). May stand first, without --run."""
    dataset: str | None = None
    """What it is transferred to: the name of a data set of Table III (cifar10, stl10, pets ...), put into the data
    folder by msun-lite data get_transfer, scenes (built-in), or a folder with train/ and val/ class folders."""
    mode: Literal["linear", "finetune"] = "linear"
    """linear: a linear classifier on the features of the frozen network; finetune: train all of it that serves the
    size: the subnet, the unified network and a new classifier."""
    size: int | None = None
    """Size in pixels that the images are made before they are routed; the data set's own size by default, of a
    folder the median of its shorter sides."""
    routing: str | None = None
    """Which subnet serves the size, `nearest`, `ceil` or `ratio`; the run's own rule by default."""
    out: str | None = None
    """Run folder; runs/transfer/RUN-DATASET-SIZE-MODE[-ROUTING]-seedSEED by default."""
    resume: bool | Literal["auto"] = False
    """Continue the run in the run folder; auto: if there is one, else begin it."""

    data_root: str = "data"
    """Folder that data sets are kept in."""
    features: str | None = None
    """Folder to keep the frozen network's features in, where other runs find them (linear); OUT/features by default."""
    cache: bool = True
    """Decode all files once and keep them in memory, training images at most twice the size (finetune)."""
    crop_ratio: float | None = None
    """Side of a test image's centre crop over its shorter side; that of the data set by default, 1 for a folder. The
    linear probe trains on such crops too."""
    crop_min: float = 0.08
    """Smallest part of an image's area that a random training crop keeps (finetune)."""
    flip: bool = True
    """Mirror training images left to right at random."""
    max_bad_images: int = 10
    """The run stops when more training images than this are unreadable; no test image is ever left out."""

    epochs: int = 30
    """Passes over the training images."""
    batch_size: int = 64
    """Images a step."""
    lr: float = 0.1
    """Learning rate after the warm-up."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 2e-5
    """Weight decay, on all parameters that are trained."""
    warmup_epochs: float = 5.0
    """Epochs of linear warm-up from 0.01 x lr; then a cosine goes down to 0.01 x lr."""
    clip_norm: float | None = None
    """Largest norm of the gradient; no clipping by default (finetune)."""
    seed: int = 0
    """Seed of the classifier, the order of the images and their crops."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps ..."""
    precision: Precision = "auto"
    """Arithmetic of fine-tuning: bf16 or fp16 autocast, or fp32; auto is bf16 where the device has it in hardware."""
    threads: int | None = None
    """CPU threads; PyTorch's choice by default."""
    workers: int = 0
    """Processes that prepare images; 0 prepares them in the main process."""

    def __post_init__(self):
        if self.out is None and self.run is not None and self.dataset is not None:
            size = "own" if self.size is None else f"{self.size}px"
            parts = [Path(self.run).name, Path(self.dataset).name, size, self.mode]
            parts += [self.routing] if self.routing else []
            self.out = f"runs/transfer/{'-'.join(parts)}-seed{self.seed}"

    def check(self) -> None:
        """Raise a `UserError` for the first value that cannot work, before any work is done."""
        for name, expected in (("run", "a run folder or shipped weights"), ("dataset", "a data set's name or folder")):
            if getattr(self, name) is None:
                raise UserError(f"{name}: expected {expected}, got none")
        one_of("mode", self.mode, MODES)
        one_of("precision", self.precision, PRECISIONS)
        if self.routing is not None:
            from msun_lite.scales import SIZE_ROUTINGS  # not at the top: reading options needs no torch

            one_of("routing", self.routing, SIZE_ROUTINGS)
        within("batch_size", self.batch_size, least=2)  # BatchNorm needs two
        for name in ("epochs", "lr"):
            within(name, getattr(self, name), above=0)
        for name in ("size", "threads", "clip_norm"):
            if getattr(self, name) is not None:
                within(name, getattr(self, name), above=0)
        for name in ("momentum", "weight_decay", "warmup_epochs", "workers", "max_bad_images"):
            within(name, getattr(self, name), least=0)
        within("seed", self.seed, least=0, below=2**63)
        within("crop_min", self.crop_min, above=0, most=1)
        if self.crop_ratio is not None:
            within("crop_ratio", self.crop_ratio, above=0, most=1)

    def training(self, size: int, crop_ratio: float) -> TrainConfig:
        """Return the options of the training that this is, for images of `size` pixels: that size is all it sees."""
        same = ("out", "crop_min", "flip", "max_bad_images", "epochs", "batch_size", "lr", "momentum", "weight_decay")
        same += ("warmup_epochs", "clip_norm", "seed", "device", "precision", "threads", "workers", "cache")
        options = {name: getattr(self, name) for name in same}
        return TrainConfig(method="vanilla", scales=[size], sizes=[size], crop_ratio=crop_ratio, **options)


def make_transfer_parser(prog: str, description: str) -> OneLineParser:
    """Return the parser of `transfer`: that of `TransferConfig`, and what else its command line may hold."""
    parser = _config_parser(prog, description)
    runs_help = "Run folder or shipped weights to transfer; with --table, the folders of finished transfers."
    parser.add_argument("runs", type=str, nargs="*", default=[], help=runs_help)
    table_help = "Assemble finished transfers in the layout of Table III, beside the paper's figures."
    parser.add_argument("--table", type=bool, default=False, help=table_help)
    return parser


def _config_parser(prog: str, description: str) -> OneLineParser:
    """Return a parser of all options of `TransferConfig`, with --config and --print_config."""
    return options_parser(TransferConfig, GROUPS, prog, description, stored=read_transfer_config)


def read_transfer_config(path: Path) -> TransferConfig:
    """Return the checked configuration that a transfer's config.yaml holds.

    Raises:
        UserError: naming the file and what is wrong in it.
    """
    return read_options(path, _config_parser("read_transfer_config", ""), TransferConfig)
