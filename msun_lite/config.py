"""Every option of a run, once: name, type, default, meaning; and the presets, named sets of them."""

import contextlib
import functools
import io
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from msun_lite.data import DataOptions
from msun_lite.methods import METHODS
from msun_lite.networks import ModelOptions
from msun_lite.utils.cli import OneLineParser, options_parser, read_yaml
from msun_lite.utils.errors import UserError, one_of, within

PRESETS = Path(__file__).parent / "presets"

DEFAULT_PRESET = "quick"

Averages = Literal["trained", "size"]

Optimizer = Literal["sgd", "adamw"]

ClassWeights = Literal["none", "balanced"]

Precision = Literal["auto", "fp32", "bf16", "fp16"]

PRECISIONS = get_args(Precision)

GROUPS = {
    "the run": "preset",
    "network": "arch",
    "sizes": "scales",
    "loss": "random_sizes",
    "data": "data",
    "training": "epochs",
    "device and processes": "device",
    "time, checkpoints and output": "max_minutes",
}
"""Title in --help -> the option that the group begins with; it goes on to where the next one begins."""

FREE_ON_RESUME = (
    *("out", "resume", "max_minutes", "checkpoint_minutes", "keep", "workers", "threads", "device", "data_root"),
    *("compile", "tensorboard", "wandb", "shards_gb", "eval_images"),
)
"""Options that may differ when a run goes on: they change neither what is learnt nor what is measured."""


@dataclass(kw_only=True)
class TrainConfig(ModelOptions, DataOptions):
    """The options of one training run."""

    preset: str = DEFAULT_PRESET
    """Named set of options to start from: quick, lite, lite-plus, finetune, imagenette, imagenette-lite0 or imagenet;
    or a YAML file of options."""
    method: str = "msun"
    """vanilla: the largest scale alone; mst: every scale, upsampled to the largest; msun: a subnet a scale; rs: one
    CNN, each scale fed as it is, with BatchNorms of its own (RS-Nets)."""
    out: str | None = None
    """Run folder; runs/PRESET-METHOD-seedSEED by default. Nothing is written outside it but downloaded data."""
    resume: bool | Literal["auto"] = False
    """Continue the run in the run folder exactly where its checkpoint is; auto: if there is one, else begin it."""

    random_sizes: bool = False
    """In every step, make half of the images of each scale some random size that the routing sends there, then that
    scale, as images will come in use; otherwise training sees the scales alone. Where `subnet_input` is native, each
    subnet gets all images of half of the steps at one random size of its range."""

    constraint: str | None = None
    """Scale-invariance term: sum (Eq. 8 as printed), pair (each pair below lambda dropped), weight (lambda x L_SI) or
    none; pair for msun and none for vanilla and mst by default. With mst it compares the features after `blocks`."""
    lam: float = 0.01
    """lambda of Eq. 8: the tolerance below which the scale-invariance term gives no gradient, or its weight."""
    pairs: str = "all"
    """Which pairs of scales it compares: `all` (Eq. 7), or each smaller one with the `largest`."""
    distil: float | None = None
    """Weight of a distillation: the scales learn from each other's logits too; 1 for rs, else none by default."""
    teacher: str = "all"
    """What teaches each scale in a distillation: the mean of all scales' logits, or of those of the larger scales."""
    joint: bool = False
    """Normalise all scales of a step as one batch (mst, msun) rather than one after the other."""
    label_smoothing: float = 0.0
    """Label smoothing of the cross-entropy, 0 to below 1."""
    class_weights: ClassWeights = "none"
    """Weight of each class in the cross-entropy: `none`, every image counts alike; `balanced`, every class does,
    however many images it has."""
    mixup: float | None = None
    """Mix each training image with another one, and their labels (mixup, Zhang et al., 2018): alpha of the Beta
    distribution that the share is drawn from, such as 0.2; none by default."""

    epochs: int = 8
    """Passes over the training images. A run that goes on, finished or not, may get more of them."""
    batch_size: int = 128
    """Images a step, over all processes and accumulated batches."""
    accumulate: int = 1
    """Batches of batch_size / accumulate images whose gradients make up a step, where memory is short."""
    optimizer: Optimizer = "sgd"
    """sgd, with momentum; or adamw, which wants a far smaller lr, about 0.001 to 0.003."""
    lr: float = 0.1
    """Learning rate after the warm-up."""
    lr_batch_size: int | None = None
    """Images a step that lr is meant for: it is scaled linearly with batch_size. By default lr is taken as it is."""
    momentum: float = 0.9
    """Momentum of SGD; of AdamW, its first beta."""
    weight_decay: float = 5e-4
    """Weight decay; AdamW's is decoupled from the gradient, and wants about 0.05."""
    decay_norms: bool = True
    """Weight decay on the biases and the norms' scales as well, as in the paper; else on the kernels alone."""
    warmup_epochs: float = 1.0
    """Epochs of linear warm-up from 0.01 x lr; then a cosine goes down to 0.01 x lr."""
    clip_norm: float | None = None
    """Largest norm of the gradient; no clipping by default."""
    averages: Averages = "trained"
    """BatchNorm's averages in the end: as `trained`; or a set for each of `sizes` (`size`), taken from training crops
    of that size, saved with the network."""
    ema: float | None = None
    """Measure and save an exponential moving average of the weights, with this decay a step, not the last ones. It
    begins with a smaller decay, so that short runs do not end with their first weights."""
    seed: int = 0
    """Seed of the weights, the order of the images and their crops."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps ..."""
    precision: Precision = "auto"
    """Training arithmetic: bf16 or fp16 autocast, or fp32; auto is bf16 where the device has it in hardware, and what
    a run that goes on began with."""
    compile: bool = False
    """Compile the training step with torch.compile: faster on GPUs after a minute or more of compiling."""
    threads: int | None = None
    """CPU threads of one process; PyTorch's choice by default."""
    max_minutes: float | None = None
    """Stop cleanly after so many minutes of training, everything saved."""
    checkpoint_minutes: float = 5.0
    """Save a checkpoint at least so often, beside the one after every epoch."""
    keep: int = 2
    """Checkpoints to keep beside the latest, for the case that it gets damaged."""
    eval_images: int = 512
    """Validation images, always the same, that are measured at the scales after every epoch; 0: none. Those of shards
    on the web are left where they are."""
    eval_epochs: int | None = None
    """Measure at every size after so many epochs too, and keep the best model in OUT/best; else at the end alone."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too, into OUT/tensorboard (extra tensorboard)."""
    wandb: str | None = None
    """Send the metrics to this project of Weights & Biases too (extra wandb)."""

    def __post_init__(self):
        super().__post_init__()
        if self.constraint is None:
            one_of("method", self.method, METHODS)
            self.constraint = METHODS[self.method].constraint
        if self.distil is None:
            one_of("method", self.method, METHODS)
            self.distil = METHODS[self.method].distil
        if self.out is None:
            self.out = f"runs/{Path(self.preset).stem}-{self.method}-seed{self.seed}"

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
        from msun_lite.networks import CUTTABLE, find_recipe, find_split

        find_recipe(self.arch)
        if self.split is not None:
            return
        if self.arch in CUTTABLE or METHODS[self.method].subnets or self.method == "rs":
            find_split(self.arch, self.blocks)
        if self.constraint != "none" and self.arch not in CUTTABLE:
            expected = f"expected none for {self.method} with {self.arch}, of which nothing says where it is cut"
            raise UserError(f"constraint: {expected}, got {self.constraint!r}; --split says where")

    def check_stored(self) -> None:
        """Raise a `UserError` for the first value that a run which was begun cannot have."""
        # Not at the top: reading options needs no torch, and --help does not wait for it.
        from msun_lite.losses import CONSTRAINTS, PAIRS, TEACHERS
        from msun_lite.scales import check_routing, check_scales, side_of

        one_of("method", self.method, METHODS)
        self.check_model()
        self.check_data()
        one_of("constraint", self.constraint, CONSTRAINTS)
        one_of("precision", self.precision, PRECISIONS)
        one_of("teacher", self.teacher, TEACHERS)
        one_of("pairs", self.pairs, PAIRS)
        for name, kind in (("averages", Averages), ("optimizer", Optimizer), ("class_weights", ClassWeights)):
            one_of(name, getattr(self, name), get_args(kind))
        least = METHODS[self.method].scales
        if least == 1 and self.constraint != "none":
            expected = f"expected none for {self.method}, which sees one scale"
            raise UserError(f"constraint: {expected}, got {self.constraint!r}")
        if self.joint and (self.unify, self.norm) != ("largest", "shared"):
            raise UserError(f"joint: expected unify largest and norm shared beside it, got {self.unify}, {self.norm}")
        check_scales(self.scales, at_least=least)
        check_routing(self.routing, self.scales)
        side_of(self.scales[-1], self.scales, self.subnet_input)  # refuses an unknown one
        within("batch_size", self.batch_size, least=2)  # BatchNorm needs two
        for name in ("epochs", "lr", "checkpoint_minutes", "accumulate"):
            within(name, getattr(self, name), above=0)
        for name in ("threads", "max_minutes", "clip_norm", "lr_batch_size", "eval_epochs"):
            if getattr(self, name) is not None:
                within(name, getattr(self, name), above=0)
        for name in ("lam", "distil", "weight_decay", "warmup_epochs", "keep", "eval_images"):
            within(name, getattr(self, name), least=0)
        within("momentum", self.momentum, least=0, below=1)
        within("seed", self.seed, least=0, below=2**63)
        if self.ema is not None:
            within("ema", self.ema, above=0, below=1)
        if self.mixup is not None:
            within("mixup", self.mixup, above=0)
        within("label_smoothing", self.label_smoothing, least=0, below=1)


def check_warmup(warmup_epochs: float, epochs: int) -> None:
    """Raise a `UserError` if the warm-up is longer than the run."""
    if warmup_epochs > epochs:
        raise UserError(f"warmup_epochs: expected at most as many as epochs, {epochs}, got {warmup_epochs}")


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
        for name, other in (("dataset", "a transfer"), ("images", "an adaptation")):
            if name in options:
                raise UserError(f"expected the options of a training run, got those of {other}")
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


def as_word(value: object) -> str:
    """Return an option's value as the command line takes it."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def command_line(config: TrainConfig, name: str = "train", without: Sequence[str] = ()) -> str:
    """Return a command line that repeats a run: its preset, method and seed, and what else differs from the preset.

    A preset of one's own may change or go: the line starts from the default one in its place.

    Args:
        name: the command.
        without: options of a training that this command does not have.
    """
    preset = config.preset if config.preset in shipped_presets() else DEFAULT_PRESET
    base = asdict(make_config(preset, method=config.method, seed=config.seed))
    fixed = (*FREE_ON_RESUME, "preset")
    own = {option: value for option, value in asdict(config).items() if option not in fixed and base[option] != value}
    chosen = {"preset": preset, "method": config.method, "seed": config.seed} | own
    chosen = {option: value for option, value in chosen.items() if option not in without}
    words = [word for option, value in chosen.items() for word in (f"--{option}", as_word(value))]
    return f"python -m msun_lite.{name} {shlex.join(words)}"
