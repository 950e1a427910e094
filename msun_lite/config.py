"""Every option of a run, once: name, type, default, meaning; and the presets, named sets of them."""

import contextlib
import functools
import io
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msun_lite.errors import UserError, one_of, within
from msun_lite.options import OneLineParser, options_parser, read_yaml
from msun_lite.shard_patterns import PREFIX, expand

PRESETS = Path(__file__).parent / "presets"
METHODS = ("vanilla", "mst", "msun")
DEFAULT_PRESET = "quick"
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
GROUPS = {
    "the run": "preset",
    "network and sizes": "arch",
    "loss": "constraint",
    "data": "data",
    "training": "epochs",
    "device and processes": "device",
    "time, checkpoints and output": "max_minutes",
}
"""Title in --help -> the option that the group begins with; it goes on to where the next one begins."""


@dataclass(kw_only=True)
class TrainConfig:
    """The options of one training run."""

    preset: str = DEFAULT_PRESET
    """Named set of options to start from: quick, lite, lite-plus, imagenette or imagenet; or a YAML file of options."""
    method: Literal["vanilla", "mst", "msun"] = "msun"
    """vanilla: the largest scale alone; mst: every scale, upsampled to the largest; msun: a subnet a scale."""
    out: str | None = None
    """Run folder; runs/PRESET-METHOD-seedSEED by default. Nothing is written outside it but downloaded data."""
    resume: bool | Literal["auto"] = False
    """Continue the run in the run folder exactly where its checkpoint is; auto: if there is one, else begin it."""

    arch: str = "resnet_lite"
    """Backbone: resnet_lite, the name of a classifier of torchvision, timm/NAME, or package.module:factory, which is
    imported and called with num_classes=N."""
    split: str | None = None
    """Last layer of every subnet, by its name in the backbone, in place of `blocks`; a factory needs it for msun."""
    weights: str | None = None
    """Start from trained weights of the plain CNN: DEFAULT (published ones), a file, or a Vanilla run; or, for msun,
    from a run or shipped weights of the same structure, such as lite-msun."""
    blocks: int = 1
    """Stages in every subnet beside its stem (the paper's B), 0 to 3."""
    scales: list[int] = (8, 32, 56)
    """Sizes in pixels that own a subnet, rising, two or more. Training sees each of them (mst, msun); vanilla uses the
    largest alone, so one is enough."""
    sizes: list[int] = tuple(range(8, 57, 4))
    """Sizes in pixels at which accuracy is measured."""
    stems: str = "coarse"
    """Stems below the largest scale (msun): coarse (never dearer than its) or fine (early strides given up)."""
    routing: Literal["nearest", "ceil", "ratio"] = "nearest"
    """Which subnet serves a size: nearest scale (Eq. 6), smallest scale not below it, or nearest by their ratio."""
    unify: Literal["largest", "native", "none"] = "largest"
    """What g runs on (msun): features resized to the largest scale's shape, or at their native size; none: a private
    g for each scale, nothing shared."""
    norm: Literal["shared", "per_scale"] = "shared"
    """BatchNorm of g (msun): shared by all scales, or private to each."""
    antialias: bool = True
    """Low-pass images before making them smaller, in training and in testing; the crops they are made from always
    are."""

    random_sizes: bool = False
    """In every step, make half of the images of each scale some random size that the routing sends there, then that
    scale, as images will come in use (mst, msun); otherwise training sees the scales alone."""

    constraint: str | None = None
    """Scale-invariance term: sum (Eq. 8 as printed), pair (each pair below lambda dropped), weight (lambda x L_SI) or
    none; pair for msun and none for vanilla and mst by default. With mst it compares the features after `blocks`."""
    lam: float = 0.01
    """lambda of Eq. 8: the tolerance below which the scale-invariance term gives no gradient, or its weight."""
    distil: float = 0.0
    """Weight of a distillation (mst, msun): the scales learn from each other's logits too; none by default."""
    teacher: Literal["all", "larger"] = "all"
    """What teaches each scale in a distillation: the mean of all scales' logits, or of those of the larger scales."""
    joint: bool = False
    """Normalise all scales of a step as one batch (mst, msun) rather than one after the other."""
    label_smoothing: float = 0.0
    """Label smoothing of the cross-entropy, 0 to below 1."""

    data: str = "scenes"
    """scenes (built-in), imagenette (downloaded once), a folder with train/ and val/ class folders, or wds:PATTERN:
    WebDataset shards, a path or an http address with braces, or the folder of their manifest.json."""
    data_root: str = "data"
    """Folder that downloaded data sets are kept in."""
    shards_gb: float = 100.0
    """Gigabytes that shards from the web may take there; the least recently used make room."""
    scenes_train: int = 6000
    """Number of training scenes."""
    scenes_val: int = 2000
    """Number of validation scenes."""
    scenes_seed: int = 0
    """Seed of the scenes; runs with other training seeds see the same ones."""
    val_share: float | None = None
    """Of a folder without a split, train/ or class folders alone: share of each class's images that is kept for
    validation, such as 0.2; always the same images."""
    cache: bool = True
    """Decode all files once and keep them in memory, training images at most twice the largest scale,
    validation images at the size of their crop."""
    crop_min: float = 0.35
    """Smallest part of an image's area that a random training crop keeps."""
    crop_ratio: float = 1.0
    """Evaluation: side of the centre crop over the shorter side of the resized image (0.875 for 224 of 256)."""
    flip: bool = True
    """Mirror training images left to right at random."""
    mean: list[float] | None = None
    """Mean of red, green and blue, 0 to 1, as 0.5,0.5,0.5; that of the weights, or ImageNet's, by default."""
    std: list[float] | None = None
    """Standard deviation likewise."""
    max_bad_images: int = 10
    """Training stops when more images than this are unreadable; evaluation never leaves one out."""

    epochs: int = 8
    """Passes over the training images. A run that goes on, finished or not, may get more of them."""
    batch_size: int = 128
    """Images a step, over all processes and accumulated batches."""
    accumulate: int = 1
    """Batches of batch_size / accumulate images whose gradients make up a step, where memory is short."""
    lr: float = 0.1
    """Learning rate after the warm-up."""
    lr_batch_size: int | None = None
    """Images a step that lr is meant for: it is scaled linearly with batch_size. By default lr is taken as it is."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 5e-4
    """Weight decay, on all parameters."""
    warmup_epochs: float = 1.0
    """Epochs of linear warm-up from 0.01 x lr; then a cosine goes down to 0.01 x lr."""
    clip_norm: float | None = None
    """Largest norm of the gradient; no clipping by default."""
    ema: float | None = None
    """Measure and save an exponential moving average of the weights, with this decay a step, not the last ones. It
    begins with a smaller decay, so that short runs do not end with their first weights."""
    seed: int = 0
    """Seed of the weights, the order of the images and their crops."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps ..."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Training arithmetic: bf16 or fp16 autocast, or fp32; auto is bf16 where the device has it in hardware, and what
    a run that goes on began with."""
    compile: bool = False
    """Compile the training step with torch.compile: faster on GPUs after a minute or more of compiling."""
    threads: int | None = None
    """CPU threads of one process; PyTorch's choice by default."""
    workers: int = 0
    """Processes that prepare images; 0 prepares them in the main process."""
    max_minutes: float | None = None
    """Stop cleanly after so many minutes of training, everything saved."""
    checkpoint_minutes: float = 5.0
    """Save a checkpoint at least so often, beside the one after every epoch."""
    keep: int = 2
    """Checkpoints to keep beside the latest, for the case that it gets damaged."""
    eval_epochs: int | None = None
    """Measure at every size after so many epochs too, and keep the best model in OUT/best; else at the end alone."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too, into OUT/tensorboard (extra tensorboard)."""
    wandb: str | None = None
    """Send the metrics to this project of Weights & Biases too (extra wandb)."""

    def __post_init__(self):
        self.scales, self.sizes = list(self.scales), list(self.sizes)
        if self.constraint is None:
            self.constraint = "pair" if self.method == "msun" else "none"
        if self.out is None:
            self.out = f"runs/{Path(self.preset).stem}-{self.method}-seed{self.seed}"

    @property
    def test_size(self) -> int:
        """Side in pixels of the centre crop that test images of every size are made from."""
        return max(self.scales[-1], self.sizes[-1])

    @property
    def peak_lr(self) -> float:
        """Learning rate after the warm-up: `lr`, scaled linearly from `lr_batch_size` to `batch_size` images a step."""
        return self.lr if self.lr_batch_size is None else self.lr * self.batch_size / self.lr_batch_size

    def check(self, network: bool = True) -> None:
        """Raise a `UserError` for the first value that cannot work, before any work is done.

        Args:
            network: whether it has to be built from the options, rather than being given.
        """
        self.check_stored()
        if network:
            self._check_network()
        check_warmup(self.warmup_epochs, self.epochs)

    def _check_network(self) -> None:
        """Raise a `UserError` unless the backbone can be had, and cut where the method needs that."""
        from msun_lite.backbones import CUTTABLE, find_recipe, find_split

        find_recipe(self.arch)
        if self.split is not None:
            return
        if self.arch in CUTTABLE or self.method == "msun":
            find_split(self.arch, self.blocks)
        if self.method == "mst" and self.constraint != "none" and self.arch not in CUTTABLE:
            expected = f"expected none for mst with {self.arch}, of which nothing says where it is cut"
            raise UserError(f"constraint: {expected}, got {self.constraint!r}; --split says where")

    def check_stored(self) -> None:
        """Raise a `UserError` for the first value that a run which was begun cannot have."""
        # Not at the top: reading options needs no torch, and --help does not wait for it.
        from msun_lite.losses import CONSTRAINTS, TEACHERS
        from msun_lite.norms import NORMS
        from msun_lite.scales import check_scales
        from msun_lite.spec import UNIFY
        from msun_lite.surgery import STEMS

        one_of("method", self.method, METHODS)
        one_of("stems", self.stems, STEMS)
        one_of("unify", self.unify, UNIFY)
        one_of("norm", self.norm, NORMS)
        one_of("constraint", self.constraint, CONSTRAINTS)
        one_of("precision", self.precision, PRECISIONS)
        one_of("teacher", self.teacher, TEACHERS)
        if self.method == "vanilla" and self.constraint != "none":
            raise UserError(f"constraint: expected none for vanilla, which sees one scale, got {self.constraint!r}")
        if self.unify == "none" and self.norm != "shared":
            raise UserError(f"norm: expected shared where unify is none, as no layer of g is shared, got {self.norm}")
        if self.joint and (self.unify, self.norm) != ("largest", "shared"):
            raise UserError(f"joint: expected unify largest and norm shared beside it, got {self.unify}, {self.norm}")
        if self.data.startswith(PREFIX):
            expand(self.data.removeprefix(PREFIX))
        check_scales(self.scales, at_least=1 if self.method == "vanilla" else 2)
        check_sizes(self.sizes)
        within("batch_size", self.batch_size, least=2)  # BatchNorm needs two
        for name in ("epochs", "scenes_train", "scenes_val", "shards_gb", "lr", "checkpoint_minutes", "accumulate"):
            within(name, getattr(self, name), above=0)
        for name in ("threads", "max_minutes", "clip_norm", "lr_batch_size", "eval_epochs"):
            if getattr(self, name) is not None:
                within(name, getattr(self, name), above=0)
        for name in ("lam", "distil", "momentum", "weight_decay", "warmup_epochs", "workers", "max_bad_images", "keep"):
            within(name, getattr(self, name), least=0)
        for name in ("seed", "scenes_seed"):
            within(name, getattr(self, name), least=0, below=2**63)
        if self.ema is not None:
            within("ema", self.ema, above=0, below=1)
        check_normalisation(self.mean, self.std)
        within("label_smoothing", self.label_smoothing, least=0, below=1)
        within("crop_min", self.crop_min, above=0, most=1)
        within("crop_ratio", self.crop_ratio, above=0, most=1)
        if self.val_share is not None:
            within("val_share", self.val_share, above=0, below=1)
            if self.data in ("scenes", "imagenette") or self.data.startswith("wds:"):
                raise UserError(f"val_share: expected none for {self.data}, which has a split, got {self.val_share}")


def check_sizes(sizes: list[int]) -> None:
    """Raise a `UserError` unless `sizes` are positive and rising, one or more."""
    if not sizes or any(size < 1 for size in sizes) or sorted(set(sizes)) != list(sizes):
        raise UserError(f"sizes: expected rising positive numbers of pixels, got {list(sizes)}")


def check_warmup(warmup_epochs: float, epochs: int) -> None:
    """Raise a `UserError` if the warm-up is longer than the run."""
    if warmup_epochs > epochs:
        raise UserError(f"warmup_epochs: expected at most as many as epochs, {epochs}, got {warmup_epochs}")


def check_normalisation(mean: list[float] | None, std: list[float] | None) -> None:
    """Raise a `UserError` unless a mean and a standard deviation are three numbers each, or None."""
    for name, values in (("mean", mean), ("std", std)):
        if values is not None and (len(values) != 3 or not all(map(math.isfinite, values))):
            raise UserError(f"{name}: expected three numbers, of red, green and blue in 0 to 1, got {values}")
    if std is not None and min(std) <= 0:
        raise UserError(f"std: expected three numbers above 0, got {std}")


def preset_options(preset: str | None) -> dict:
    """Return the options of a preset: by its name, of the default one for None, or those in a YAML file of one's own.

    Such a file may name the preset that it goes on from as its own `preset`.
    """
    preset = DEFAULT_PRESET if preset is None else str(preset)
    if preset in shipped_presets():
        return read_yaml(PRESETS / f"{preset}.yaml") | {"preset": preset}
    if not os.path.isfile(preset):
        known = ", ".join(shipped_presets())
        raise UserError(f"preset: unknown preset {preset!r}, expected one of {known}, or a YAML file of options")
    options = read_yaml(Path(preset))
    if (base := options.get("preset", DEFAULT_PRESET)) not in shipped_presets():
        raise UserError(f"{preset}: preset: expected one of {', '.join(shipped_presets())}, got {base!r}")
    return preset_options(base) | options | {"preset": preset}


@functools.cache
def shipped_presets() -> tuple[str, ...]:
    """Return the names of the presets that come with the package."""
    return tuple(sorted(path.stem for path in PRESETS.glob("*.yaml")))


def make_config(preset: str = DEFAULT_PRESET, **options) -> TrainConfig:
    """Return the checked configuration of a preset with `options` on top, as the chapters need it."""
    config = _parsed({**preset_options(preset), **options})
    config.check()
    return config


def _parsed(options: dict) -> TrainConfig:
    """Return the configuration of these options, each of its type."""
    parser = make_parser("make_config", "")
    with contextlib.redirect_stderr(io.StringIO()):
        checked = parser.parse_object(options)
    checked.pop("config", None)
    return TrainConfig(**checked.as_dict())


def read_config(path: Path) -> TrainConfig:
    """Return the checked configuration that a run's config.yaml holds.

    Raises:
        UserError: naming the file and what is wrong in it.
    """
    options = read_yaml(path)
    try:
        if "dataset" in options:
            raise UserError("expected the options of a training run, got those of a transfer")
        # What the file lacks is as in the preset; one of one's own may be gone by now, or say something else.
        base = preset_options(options.get("preset")) if options.get("preset") in (None, *shipped_presets()) else {}
        config = _parsed(base | options)
        config.check_stored()
        return config
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def make_parser(prog: str, description: str, skip: set[str] | None = None) -> OneLineParser:
    """Return a parser of all options of `TrainConfig` but `skip`, with --config and --print_config."""
    stored = None if "resume" in (skip or ()) else read_config
    return options_parser(TrainConfig, GROUPS, prog, description, skip, presets=preset_options, stored=stored)
