"""Every option of an adaptation, once: name, type, default, meaning."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from msun_lite.config import PRECISIONS, Averages, Precision, TrainConfig
from msun_lite.utils.cli import OneLineParser, options_parser, read_options
from msun_lite.utils.errors import UserError, one_of, within

OWN = ("norms", "subnets")

MATCHES = ("predictions", "features", "both")

GROUPS = {
    "what is adapted": "run",
    "to which images": "images",
    "the multi-scale network": "scales",
    "training": "match",
    "device and processes": "device",
    "time, checkpoints and output": "max_minutes",
}
"""Title in --help -> the option that the group begins with; it goes on to where the next one begins."""

FREE_ON_RESUME = ("out", "resume", "max_minutes", "checkpoint_minutes", "workers", "threads", "device", "data")
"""Options that may differ when a run goes on: they change neither what is learnt nor what that is called."""


@dataclass(kw_only=True)
class AdaptConfig:
    """The options of one adaptation."""

    run: str | None = None
    """A plain CNN: the run folder of a Vanilla or MST, or shipped weights (lite-vanilla ...). May stand first."""
    arch: str | None = None
    """In place of a run: a plain CNN with published weights, or weights from a file; as in a training."""
    weights: str = "DEFAULT"
    """Its weights: DEFAULT (published), or a file."""
    num_classes: int = 1000
    """Its number of classes."""
    split: str | None = None
    """The last layer of each subnet, by its name in the backbone, in place of `blocks`."""

    images: str | None = None
    """Folder of images without labels, in folders of any depth: of the kind that the network will be used on."""
    labels: bool = False
    """The folder that each image lies in is named as its class, one of the network's: this is learnt as well."""
    data: str | None = None
    """Folder with val/ class folders, or imagenette: labelled images that the result is measured on in the end."""
    data_root: str = "data"
    """Folder that downloaded data sets are kept in."""
    held_out: float = 0.1
    """Share of the images, a thousand at most, on which it is measured how often the result agrees with the network."""
    cache: bool = True
    """Decode all files once and keep them in memory."""
    crop_min: float = 0.35
    """Smallest part of an image's area that a random training crop keeps."""
    crop_ratio: float | None = None
    """Evaluation: side of the centre crop over the shorter side of the image; that of the run or of the published
    weights by default, else 0.875."""
    flip: bool = True
    """Mirror training images left to right at random."""
    max_bad_images: int = 10
    """The run stops when more images than this are unreadable."""

    scales: list[int] = field(default_factory=list)
    """Sizes in pixels that own a subnet, rising, the last one the size that the network was trained at; by default a
    seventh of that, four sevenths and all of it, such as 32,128,224."""
    sizes: list[int] = field(default_factory=list)
    """Sizes in pixels at which the result is measured; 13 between the scales by default."""
    blocks: int = 1
    """Stages in every subnet beside its stem, 0 to 3."""
    own: Literal["norms", "subnets"] = "subnets"
    """What each smaller scale gets of its own and learns: all BatchNorms of the one CNN (norms); or its lower layers,
    and BatchNorms in the deeper ones, which stay shared (subnets)."""
    routing: str = "ratio"
    """Which subnet serves a size: nearest, ceil, ratio or upto:SIZES."""
    subnet_input: str = "scale"
    """What a smaller scale's layers get: images resized to its `scale`; or `at:128,144`, resized to so many pixels for
    the first of three scales, so many for the second. A published CNN of large images begins best with enlarged ones,
    which it knows, at the cost of their size."""
    antialias: bool = True
    """Low-pass images before making them smaller."""

    match: Literal["predictions", "features", "both"] = "predictions"
    """What the smaller scales learn: the network's predictions at its own size, its features where it is cut (the
    constraint of Eq. 7), or both."""
    keep: bool = True
    """Leave all that serves the largest scale as it is, bit for bit; else the deeper layers and the largest subnet
    learn with the others, from the network as it was."""
    random_sizes: bool = True
    """Train on sizes around each scale, as the routing will send them there, not on the scales alone."""
    epochs: int = 10
    """Passes over the images."""
    batch_size: int = 64
    """Images a step."""
    lr: float = 2e-3
    """Learning rate of AdamW after the warm-up."""
    weight_decay: float = 0.0
    """Weight decay of AdamW, on kernels alone."""
    warmup_epochs: float = 0.5
    """Epochs of linear warm-up from 0.01 x lr; then a cosine goes down to 0.01 x lr."""
    clip_norm: float | None = None
    """Largest norm of the gradient; no clipping by default."""
    averages: Averages = "trained"
    """BatchNorm's averages in the end: as `trained`; or a set for each of `sizes` (`size`), of training crops of that
    size, saved with the network. With `keep` the largest scale's own size has those that it had."""
    seed: int = 0
    """Seed of the new layers, the order of the images and their crops."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps ..."""
    precision: Precision = "auto"
    """Training arithmetic: bf16 or fp16 autocast, or fp32; auto is bf16 where the device has it in hardware."""
    threads: int | None = None
    """CPU threads; PyTorch's choice by default."""
    workers: int = 0
    """Processes that prepare images; 0 prepares them in the main process."""

    max_minutes: float | None = None
    """Stop cleanly after so many minutes of training, everything saved."""
    checkpoint_minutes: float = 5.0
    """Save a checkpoint at least so often, beside the one after every epoch."""
    out: str | None = None
    """Run folder; runs/adapt-NAME-seedSEED by default."""
    resume: bool | Literal["auto"] = False
    """Continue the run in the run folder; auto: if there is one, else begin it."""

    def __post_init__(self):
        name = self.run or self.arch
        if self.out is None and name is not None:
            self.out = f"runs/adapt-{Path(name).name}-seed{self.seed}"

    def check(self) -> None:
        """Raise a `UserError` for the first value that cannot work, before any work is done."""
        if (self.run is None) == (self.arch is None):
            raise UserError(f"expected a run, or --arch in its place, got run {self.run}, arch {self.arch}")
        for name, of_arch in (("weights", "DEFAULT"), ("num_classes", 1000)):
            if self.run is not None and getattr(self, name) != of_arch:
                raise UserError(f"{name}: expected none beside a run, which has its own, got {getattr(self, name)}")
        if self.images is None:
            raise UserError("images: expected a folder of images, got none")
        one_of("own", self.own, OWN)
        one_of("match", self.match, MATCHES)
        one_of("precision", self.precision, PRECISIONS)
        one_of("averages", self.averages, get_args(Averages))
        within("held_out", self.held_out, above=0, below=1)
        within("blocks", self.blocks, least=0, most=3)
        if self.crop_ratio is not None:
            within("crop_ratio", self.crop_ratio, above=0, most=1)
        if self.subnet_input == "native":
            raise UserError("subnet_input: expected scale, largest or at:SIDES for an adaptation, got native")
        if self.own == "norms" and self.match != "predictions":
            raise UserError(f"match: expected predictions beside own norms, whose features are one, got {self.match}")

    def training(self, arch: str, scales: Sequence[int], sizes: Sequence[int], crop_ratio: float) -> TrainConfig:
        """Return the options of the training that this is."""
        same = (
            "split",
            "blocks",
            "routing",
            "subnet_input",
            "antialias",
            "cache",
            "crop_min",
            "flip",
            "max_bad_images",
            "random_sizes",
        )
        same += ("epochs", "batch_size", "lr", "weight_decay", "warmup_epochs", "clip_norm", "seed", "device")
        same += ("precision", "threads", "workers", "max_minutes", "checkpoint_minutes", "out", "averages")
        options = {name: getattr(self, name) for name in same}
        network = {"arch": arch, "scales": list(scales), "sizes": list(sizes), "unify": "native", "norm": "per_scale"}
        network |= {"private": self.own, "constraint": "none", "optimizer": "adamw", "decay_norms": False}
        return TrainConfig(method="msun", crop_ratio=crop_ratio, data=self.images, **network, **options)


def make_adapt_parser(prog: str, description: str) -> OneLineParser:
    """Return the parser of `adapt`: that of `AdaptConfig`, whose run may stand first."""
    parser = _config_parser(prog, description)
    parser.add_argument("first", type=str | None, nargs="?", default=None, help="The run, without --run.")
    return parser


def _config_parser(prog: str, description: str) -> OneLineParser:
    """Return a parser of all options of `AdaptConfig`, with --config and --print_config."""
    return options_parser(AdaptConfig, GROUPS, prog, description, stored=read_adapt_config)


def read_adapt_config(path: Path) -> AdaptConfig:
    """Return the checked configuration that an adaptation's config.yaml holds.

    Raises:
        UserError: naming the file and what is wrong in it.
    """
    return read_options(path, _config_parser("read_adapt_config", ""), AdaptConfig)
