"""A model that was exported in the format `onnx`, answering to photographs as `predict` does.

    from runtime import ExportedModel         # beside the model; with the package, msun_lite.runtime

    model = ExportedModel("exported")
    print(model.answer("photo.jpg", top=3))

It crops, resizes and routes with numpy and Pillow, by what model.json says.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from .images import read_image

TOP = 5
"""Classes that are named of an image, if there are so many."""


class BadInput(ValueError):
    """Something given from outside is wrong; the message names it, its value and what was expected."""


@dataclass(frozen=True)
class Answer:
    """What a model answers to one image."""

    width: int
    """Of the upright image, in pixels; so is the height."""
    height: int
    size: int
    """Side in pixels of the square that the model looks at, which the routing goes by."""
    scale: int
    """Whose subnet answers."""
    classes: tuple[str, ...]
    """The likeliest first."""
    confidences: tuple[float, ...]
    """Their probabilities, by the softmax of the logits."""


class ExportedModel:
    """An exported model that answers to image files; threads may share it.

    Args:
        folder: what `MSUN.export` wrote in the format `onnx`.
        threads: CPU threads for one image; ONNX Runtime's choice by default.

    Raises:
        BadInput: if a file is missing, cannot be read, or was exported before there was this class.
        ImportError: if ONNX Runtime is missing.
    """

    def __init__(self, folder: str | Path, threads: int | None = None):
        import onnxruntime  # here, as who only reads images needs none

        folder = Path(folder)
        try:
            self.about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
            if self.about["format"] != "onnx":
                raise ValueError(f"format {self.about['format']}")
            self.class_names, self.serving = self.about["class_words"], self.about["serving"]
            self.crop_ratio, self.largest = self.about["crop_ratio"], self.about["scales"][-1]
            self._mean, self._std = (255 * np.float32(self.about["normalisation"][name]) for name in ("mean", "std"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{folder}: expected a model exported as onnx by this version, got {error!r}") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        self._sessions = {}
        for scale in self.about["scales"]:
            path = folder / f"scale-{scale}.onnx"
            try:
                self._sessions[scale] = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
            except Exception as error:  # ONNX Runtime raises many kinds for a damaged file
                raise BadInput(f"{path}: expected an ONNX file, got {str(error).splitlines()[0]}") from None

    def answer(self, image_file: str | Path | BinaryIO, top: int | None = None) -> Answer:
        """Return what the model sees on an image file of any size, format and colour mode.

        Args:
            image_file: its path, or an open file.
            top: how many classes to name; 5 by default, if there are so many.

        Raises:
            UnreadableImage: if it cannot be decoded.
            BadInput: for a `top` that is no number of classes.
        """
        known = len(self.class_names)
        top = min(TOP, known) if top is None else top
        if not 1 <= top <= known:
            raise BadInput(f"top: expected 1 to {known}, got {top}")
        image = read_image(image_file)
        square = self.square(image)
        size = len(square)
        served = next(row for row in self.serving if size <= row["upto"])
        shares = _softmax(self._logits(square, served))
        likeliest = np.argsort(-shares, kind="stable")[:top]
        names = tuple(self.class_names[label] for label in likeliest)
        return Answer(*image.size, size, served["scale"], names, tuple(shares[likeliest].tolist()))

    def square(self, image: Image.Image) -> np.ndarray:
        """Return the central square that the model looks at, no larger than its largest scale: uint8 [side, side, 3].

        Where the square is larger than that scale, the whole image is made smaller first.
        """
        shorter, longer = sorted(image.size)
        side = max(1, round(self.crop_ratio * shorter))
        if side >= self.largest:
            side, reduced = self.largest, round(self.largest / self.crop_ratio)
            others = int(reduced * longer / shorter)
            shape = (reduced, others) if image.width <= image.height else (others, reduced)
            image = image.resize(shape, Image.Resampling.BILINEAR)
        left, top = (round((length - side) / 2) for length in image.size)
        return np.asarray(image.crop((left, top, left + side, top + side)))

    def _logits(self, square: np.ndarray, served: dict) -> np.ndarray:
        """Return the logits [classes] of a square, through the subnet that serves it."""
        pixels = ((square.astype(np.float32) - self._mean) / self._std).transpose(2, 0, 1)
        if len(square) != served["side"]:
            weights = bilinear_weights(len(square), served["side"], self.about["antialias"])
            pixels = weights @ pixels @ weights.T
        inputs = {"images": np.ascontiguousarray(pixels[None])}
        if self.about["averages"]:
            inputs["place"] = np.array([served["place"]], np.int64)
        return self._sessions[served["scale"]].run(None, inputs)[0][0]


def bilinear_weights(size: int, side: int, antialias: bool) -> np.ndarray:
    """Return the matrix [side, size] that resizes one axis bilinearly, low-passed first if `antialias` and it shrinks.

    It is what torch's `interpolate` computes with corners not aligned: a triangle around each new pixel's centre.
    """
    step = size / side
    reach = max(step, 1.0) if antialias else 1.0
    centres, pixels = (np.arange(side) + 0.5) * step, np.arange(size) + 0.5
    weights = np.maximum(0, 1 - np.abs(pixels - centres[:, None]) / reach)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max())
    return shares / shares.sum()
