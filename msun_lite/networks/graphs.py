"""A trained model as one graph a scale, and what routes images to them: with torch here, without it in `runtime`."""

import contextlib
import copy
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor, nn

from msun_lite import runtime
from msun_lite.networks.shared_graphs import WEIGHTS_FILE, SharedWeights, finish, round_to_half
from msun_lite.networks.spec import LATER, class_names, sizes_from_json
from msun_lite.scales import Router, served_sizes
from msun_lite.utils.errors import CheckpointError, UserError, first_line, one_of, within

SUFFIXES = {"torch": "pt2", "onnx": "onnx"}
"""Format -> ending of its files."""

WEIGHTS = ("apart", "shared", "half")
"""Where weights are: in each graph its own; or once for all graphs, in a file beside them, as they are or in half
precision."""

INPUTS = ("images", "place")
"""What a graph takes: images, and which set of averages they have where there are several."""

TOLERANCE = 1e-3
"""Largest difference between a graph's logits and the model's, relative to the largest logit."""


SERVE = '''"""Serve this model over HTTP, without PyTorch: Python 3.11, numpy, pillow and onnxruntime; see --help."""

import sys
from pathlib import Path

from runtime.serve import main

if __name__ == "__main__":
    sys.exit(main(Path(__file__).parent))
'''
"""The file that starts the server of an exported model, beside its graphs."""


class AtScale(nn.Module):
    """The part of a model that serves one scale: images [B, 3, side, side] as its subnet gets them -> [B, classes]."""

    def __init__(self, model: nn.Module, scale: int):
        super().__init__()
        self.model, self.scale = model, scale

    def forward(self, images: Tensor, place: int | Tensor | None = None) -> Tensor:
        """Return g(f_i(x_i)), with the averages at a `place`."""
        return self.model.serve(images, self.scale, place)


class Exported:
    """An exported model, called as the model itself: images of any size in, one logits tensor out.

    Args:
        folder: what `MSUN.export` wrote.

    Raises:
        CheckpointError: if a file is missing or cannot be read.
        UserError: if ONNX Runtime is needed and missing.
    """

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        try:
            self.spec = LATER | json.loads((folder / "model.json").read_text(encoding="utf-8"))
            ways = [self.spec[name] for name in ("scales", "routing", "antialias", "subnet_input")]
            self.router = Router(*ways, averages=sizes_from_json(self.spec["averages"]))
            load = _load_torch if self.spec["format"] == "torch" else _load_onnx
            suffix = SUFFIXES[self.spec["format"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{folder}: expected an exported model, got {error!r}") from None
        self.graphs = {scale: load(folder / f"scale-{scale}.{suffix}") for scale in self.spec["scales"]}

    def __call__(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """Return the logits [B, classes] of normalised images [B, 3, H, W], or of a list of [3, H, W].

        Images of any float type and device are brought to single precision and the CPU, where the logits are. Gradients
        pass through the format `torch`, not through `onnx`.

        Raises:
            UserError: for anything else.
        """
        return self.router.serve(images, self._run)

    def _run(self, images: Tensor, scale: int, place: int) -> Tensor:
        inputs = [images.to("cpu", torch.float32).contiguous()]
        if self.router.averages:
            inputs.append(torch.tensor([place]))
        return self.graphs[scale](*inputs)


def export(
    model: nn.Module,
    path: str | Path,
    format: str = "torch",  # noqa: A002
    crop_ratio: float = 1.0,
    weights: str = "apart",
) -> Path:
    """Write `model` to the folder `path`, checked against the model itself; see `MSUN.export`."""
    path = Path(path)
    if format not in SUFFIXES:
        raise UserError(f"format: expected one of {', '.join(SUFFIXES)}, got {format!r}")
    one_of("weights", weights, WEIGHTS)
    if weights != "apart" and format != "onnx":
        raise UserError(f"weights: expected apart with the format {format}, got {weights}")
    within("crop_ratio", crop_ratio, above=0, most=1)
    with new_folder(path) as unfinished:
        copied = copy.deepcopy(model).eval().to("cpu", torch.float32)  # the model itself may be serving
        if weights == "half":
            round_to_half(copied)
        with _writer(unfinished, format, weights) as write:
            for scale in copied.scales:
                write(AtScale(copied, scale).eval(), unfinished / f"scale-{scale}.{SUFFIXES[format]}")
        spec = {**copied.description, "format": format, "crop_ratio": crop_ratio}
        spec |= {"class_words": class_names(spec), "serving": serving(copied.router)}
        (unfinished / "model.json").write_text(json.dumps(spec, indent=2) + "\n", encoding="utf-8")
        _check(copied, Exported(unfinished))
        if format == "onnx":
            _copy_runtime(unfinished)
    return path


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder that becomes `path` once what is inside is done, and is removed if it fails.

    Raises:
        UserError: if there is something at `path`, or the folder cannot be made.
    """
    refuse_existing(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
        unfinished.mkdir()
    except OSError as error:
        raise UserError(f"{path}: the folder cannot be made: {error}") from None
    try:
        yield unfinished
        unfinished.rename(path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextlib.contextmanager
def _writer(folder: Path, format: str, weights: str) -> Iterator[Callable[[AtScale, Path], None]]:  # noqa: A002
    """Give what writes a graph."""
    if weights == "apart":
        yield _write_torch if format == "torch" else _write_onnx
        return
    with (folder / WEIGHTS_FILE).open("wb") as file:
        shared = SharedWeights(file, weights == "half")
        yield lambda network, path: finish(_record_onnx(network, optimize=False), path, shared)


def serving(router: Router) -> list[dict]:
    """Return what serves each size from 1 px to the largest scale, as rows of sizes that are served alike, rising.

    A row holds: sizes `upto` how many pixels it is of, the `scale`, the `side` that they are resized to for its subnet,
    and the `place` of their averages.
    """

    def ways(size: int) -> tuple[int, int, int]:
        scale = router.scale(size)
        return scale, router.side(size, scale), router.place(size, scale)

    alike = groupby(range(1, router.scales[-1] + 1), ways)
    return [{"upto": max(sizes), "scale": scale, "side": side, "place": place} for (scale, side, place), sizes in alike]


def _copy_runtime(folder: Path) -> None:
    """Put what answers and serves without torch beside the graphs."""
    copied = folder / runtime.__name__.rpartition(".")[2]
    copied.mkdir()
    for file in Path(runtime.__file__).parent.glob("*.py"):
        shutil.copy(file, copied)
    (folder / "serve.py").write_text(SERVE, encoding="utf-8")


def refuse_existing(path: Path) -> None:
    """Raise a `UserError` if there is something at `path`."""
    if os.path.lexists(path):
        raise UserError(f"{path}: exists already, expected a new folder")


@torch.no_grad()
def _check(model: nn.Module, exported: Exported) -> None:
    """Raise a `UserError` unless every graph gives the model's logits, for one image and for three."""
    for scale in model.scales:
        for count in (1, 3):
            side = _sides(model, scale)[0 if count == 1 else -1]
            images = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(count))
            place = model.router.place(side, scale)
            expected = model.serve(images, scale, place)
            difference = float((exported._run(images, scale, place) - expected).abs().max() / expected.abs().max())
            if not difference <= TOLERANCE:
                raise UserError(
                    f"export: the graph at {scale} px differs from the model by {difference:.2g}, "
                    f"expected at most {TOLERANCE}; nothing written"
                )


def _sides(model: nn.Module, scale: int) -> list[int]:
    """Return the sides in pixels at which the subnet of a scale gets images, rising."""
    return sorted({model.router.side(size, scale) for size in served_sizes(scale, model.scales, model.routing)})


def _inputs(network: AtScale) -> tuple[tuple[Tensor, ...], tuple[dict | None, ...]]:
    """Return what a graph is recorded with, images and the place of averages if there are some; what is dynamic."""
    sides, shape = _sides(network.model, network.scale), {0: torch.export.Dim("batch", min=1)}
    if len(sides) > 1:
        names = {2: "height", 3: "width"}
        shape |= {axis: torch.export.Dim(name, min=sides[0], max=sides[-1]) for axis, name in names.items()}
    middle = sides[len(sides) // 2]
    images = torch.zeros(2, 3, middle, middle)
    return ((images, torch.tensor([0])), (shape, None)) if network.model.averages else ((images,), (shape,))


def _write_torch(network: AtScale, path: Path) -> None:
    example, shapes = _inputs(network)
    torch.export.save(torch.export.export(network, example, dynamic_shapes=shapes), path)


def _load_torch(path: Path) -> Callable[..., Tensor]:
    try:
        return torch.export.load(path).module()
    except Exception as error:  # torch raises many kinds for a damaged archive
        raise CheckpointError(f"{path}: expected a torch.export file, got {first_line(error)}") from None


def _write_onnx(network: AtScale, path: Path) -> None:
    _record_onnx(network).save(path, external_data=False)


def _record_onnx(network: AtScale, optimize: bool = True) -> torch.onnx.ONNXProgram:
    """Return the graph of a network; unless it is optimised, with all that recording left in it."""
    _import("onnxscript")
    example, shapes = _inputs(network)
    return torch.onnx.export(
        network,
        example,
        dynamo=True,
        input_names=list(INPUTS[: len(example)]),
        output_names=["logits"],
        dynamic_shapes=shapes,
        verbose=False,
        optimize=optimize,
    )


def _load_onnx(path: Path) -> Callable[..., Tensor]:
    onnxruntime = _import("onnxruntime")
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises many kinds for a damaged file
        raise CheckpointError(f"{path}: expected an ONNX file, got {first_line(error)}") from None

    def run(*inputs: Tensor) -> Tensor:
        named = dict(zip(INPUTS, (tensor.detach().numpy() for tensor in inputs), strict=False))
        return torch.from_numpy(session.run(None, named)[0])

    return run


def _import(name: str):
    try:
        return __import__(name)
    except ImportError:
        raise UserError(f"export: ONNX needs {name}: pip install 'msun-lite[onnx]'") from None
