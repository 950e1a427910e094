"""The records of runs: what a summary.json says, key by key, and how one is read."""

from pathlib import Path
from types import UnionType
from typing import NotRequired, TypedDict, TypeVar, get_origin, get_type_hints

from msun_lite.utils.cli import read_yaml
from msun_lite.utils.errors import CheckpointError
from msun_lite.utils.files import read_json

Record = TypeVar("Record")

BySize = dict[str, float]
"""Size in pixels, as text -> top-1 accuracy in percent."""


class Routed(TypedDict):
    """What came of one routing rule."""

    top1: BySize
    mean_top1: float
    """Mean of these, in percent."""
    flops: dict[str, int]
    """Size -> FLOPs of one image, 2 x multiply-adds."""
    mean_flops: int
    scale: dict[str, int]
    """Size -> the scale whose subnet serves it."""


class Accuracy(TypedDict):
    """Accuracy and cost of a network: what both a run's summary and a measurement of its own say."""

    scales: list[int]
    sizes: list[int]
    routing: str
    """The rule that the accuracies and the FLOPs here are of."""
    top1: BySize
    mean_top1: float
    per_subnet: dict[str, BySize]
    """Scale -> the accuracy of its subnet at every size."""
    routings: dict[str, Routed]
    params: int
    flops: dict[str, int]
    mean_flops: int


class Measurement(Accuracy):
    """What `evaluate --json` writes: a network measured once more, possibly in another way than by its training."""

    feeding: str
    data: dict
    env: dict
    refused: dict[str, str]
    """Size -> why the network cannot take it; these are not among the sizes."""
    antialias: NotRequired[bool]
    crop_ratio: NotRequired[float]
    among: NotRequired[dict]
    """Of data with some of the network's classes: how many `classes` answers are from, and how many it has."""
    averages: NotRequired[dict]
    """Whose images BatchNorm's averages of each size are taken from, and how many."""
    run: NotRequired[str]
    command: NotRequired[str]


class Means(TypedDict):
    """The mean of a run's seeds, see `seeds.average_seeds`."""

    method: str
    arch: str
    sizes: list[int]
    scales: list[int]
    params: int
    mean_flops: int
    data: dict
    epochs: int
    top1: BySize
    mean_top1: float
    spread: BySize | None
    """Standard deviations under the same sizes and `mean`; None with one seed."""
    seeds: int
    """How many."""


class Summary(Accuracy):
    """A run's summary.json."""

    method: str
    arch: str
    blocks: int | None
    """Stages in every subnet; None where a `split` is named."""
    epochs: int
    steps: int
    seconds: float
    evaluation_seconds: float
    bad_images: list[str]
    data: dict
    """Name, number of classes and of images, fingerprint."""
    env: dict
    """Versions, device, precision, threads, commit."""
    seed: int
    config: dict
    """The options of the run, see `TrainConfig`."""
    command: str
    best: NotRequired[dict]
    lengthened: NotRequired[dict]
    shipped: NotRequired[dict]
    """Of shipped weights: their name, and how far rounding moved the accuracy."""


def read_summary(path: Path) -> Summary:
    """Return what a summary.json says; see `read_record`."""
    return read_record(path, Summary)


def read_measurement(path: Path) -> Measurement:
    """Return what `evaluate --json` wrote; see `read_record`."""
    return read_record(path, Measurement)


def read_record(path: Path, kind: type[Record]) -> Record:
    """Return what a file says as a `kind` of record.

    Of a run made before its options were in the record, they are those of the config.yaml beside it.

    Raises:
        CheckpointError: if the file is missing or damaged; naming the first key that is missing or of another type.
        UserError: if nothing says the options.
    """
    found = read_json(path)
    for name, hint in get_type_hints(kind).items():
        if name in kind.__required_keys__ and name not in found:
            if name != "config":
                raise CheckpointError(f"{path}: expected a {kind.__name__.lower()} with {name}, found none in it")
            found[name] = read_yaml(path.with_name("config.yaml"))
        expected = get_origin(hint) or hint
        kinds = (int, float) if expected is float else expected
        if name in found and expected is not UnionType and not isinstance(found[name], kinds):
            raise CheckpointError(f"{path}: {name}: expected {expected.__name__}, got {found[name]!r:.80}")
    return found
