"""A trained model as one graph a scale, and the small runtime that routes images to them."""

import copy
import json
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from msun_lite.model import AtScale
from msun_lite.scales import route_images
from msun_lite.utils.errors import CheckpointError, UserError, first_line

SUFFIXES = {"torch": "pt2", "onnx": "onnx"}
"""Format -> ending of its files."""


TOLERANCE = 1e-3
"""Largest difference between a graph's logits and the model's, relative to the largest logit."""


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
            self.spec = json.loads((folder / "model.json").read_text(encoding="utf-8"))
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
        options = (self.spec["scales"], self.spec["routing"], self.spec["antialias"])
        return route_images(images, *options, self._run)

    def _run(self, images: Tensor, scale: int) -> Tensor:
        return self.graphs[scale](images.to("cpu", torch.float32).contiguous())


def export(model: nn.Module, path: str | Path, format: str = "torch") -> Path:  # noqa: A002 the field's word
    """Write `model` to the folder `path`, checked against the model itself; see `MSUN.export`."""
    path = Path(path)
    if format not in SUFFIXES:
        raise UserError(f"format: expected one of {', '.join(SUFFIXES)}, got {format!r}")
    refuse_existing(path)
    write = _write_torch if format == "torch" else _write_onnx
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
        unfinished.mkdir()
    except OSError as error:
        raise UserError(f"{path}: the folder cannot be made: {error}") from None
    try:
        copied = copy.deepcopy(model).eval().to("cpu", torch.float32)  # the model itself may be serving
        for scale in copied.scales:
            write(AtScale(copied, scale).eval(), scale, unfinished / f"scale-{scale}.{SUFFIXES[format]}")
        spec = {**copied.description, "format": format}
        (unfinished / "model.json").write_text(json.dumps(spec, indent=2) + "\n", encoding="utf-8")
        _check(copied, Exported(unfinished))
        unfinished.rename(path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return path


def refuse_existing(path: Path) -> None:
    """Raise a `UserError` if there is something at `path`."""
    if os.path.lexists(path):
        raise UserError(f"{path}: exists already, expected a new folder")


@torch.no_grad()
def _check(model: nn.Module, exported: Exported) -> None:
    """Raise a `UserError` unless every graph gives the model's logits, for one image and for three."""
    for scale in model.scales:
        for count in (1, 3):
            images = torch.randn(count, 3, scale, scale, generator=torch.Generator().manual_seed(count))
            expected = model.forward_at(images, scale)
            difference = float((exported.graphs[scale](images) - expected).abs().max() / expected.abs().max())
            if not difference <= TOLERANCE:
                raise UserError(
                    f"export: the graph at {scale} px differs from the model by {difference:.2g}, "
                    f"expected at most {TOLERANCE}; nothing written"
                )


def _write_torch(network: nn.Module, scale: int, path: Path) -> None:
    batch = torch.export.Dim("batch", min=1)
    example = torch.zeros(2, 3, scale, scale)
    program = torch.export.export(network, (example,), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)


def _load_torch(path: Path) -> Callable[[Tensor], Tensor]:
    try:
        return torch.export.load(path).module()
    except Exception as error:  # torch raises many kinds for a damaged archive
        raise CheckpointError(f"{path}: expected a torch.export file, got {first_line(error)}") from None


def _write_onnx(network: nn.Module, scale: int, path: Path) -> None:
    _import("onnxscript")
    batch = torch.export.Dim("batch", min=1)
    torch.onnx.export(
        network,
        (torch.zeros(2, 3, scale, scale),),
        path,
        dynamo=True,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: batch},),
        external_data=False,
        verbose=False,
    )


def _load_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    onnxruntime = _import("onnxruntime")
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises many kinds for a damaged file
        raise CheckpointError(f"{path}: expected an ONNX file, got {first_line(error)}") from None
    return lambda images: torch.from_numpy(session.run(None, {"images": images.detach().numpy()})[0])


def _import(name: str):
    try:
        return __import__(name)
    except ImportError:
        raise UserError(f"export: ONNX needs {name}: pip install 'msun-lite[onnx]'") from None
