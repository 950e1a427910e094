"""Where images come from: files, memory, or the drawing of scenes."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from msun_lite import scenes

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is decoded. Pillow knows more, some of it by starting other programs."""


class UnreadableImage(Exception):
    """An image that cannot be decoded; the message names it and says why."""


class ImageSource:
    """Labelled images of one split: `read(i)` gives uint8 [3, H, W], `labels[i]` its class."""

    def __init__(self, labels: Sequence[int]):
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> Tensor:
        """Return image `index` as uint8 [3, H, W], or raise `UnreadableImage`."""
        raise TypeError(f"{type(self).__name__} does not say how to read an image")

    def order(self, generator: torch.Generator) -> list[int]:
        """Return all indices once, shuffled by `generator` alone."""
        return torch.randperm(len(self), generator=generator).tolist()


class FileSource(ImageSource):
    """Image files, decoded whenever they are read."""

    def __init__(self, samples: Sequence[tuple[str, int]]):
        super().__init__([label for _, label in samples])
        self.paths = [path for path, _ in samples]

    def read(self, index: int) -> Tensor:
        """Decode file `index`: uint8 [3, H, W], or raise `UnreadableImage`."""
        return decode(self.paths[index])


class MemorySource(ImageSource):
    """Images in memory, of mixed sizes, in one buffer that worker processes share without a copy.

    Args:
        images: uint8 [3, H, W] each; the list is emptied.
        labels: the class of each.
    """

    def __init__(self, images: list[Tensor], labels: Sequence[int]):
        super().__init__(labels)
        self._shapes = [tuple(image.shape) for image in images]
        self._starts = np.cumsum([0] + [image.numel() for image in images])
        self._buffer = torch.empty(int(self._starts[-1]), dtype=torch.uint8)
        for index, start in reversed(list(enumerate(self._starts[:-1]))):
            image = images.pop()  # freed at once: the images are never in memory twice
            self._buffer[start : self._starts[index + 1]] = image.permute(1, 2, 0).flatten()  # resized faster so

    def read(self, index: int) -> Tensor:
        """Return image `index` as uint8 [3, H, W], a view into the buffer."""
        channels, height, width = self._shapes[index]
        pixels = self._buffer[self._starts[index] : self._starts[index + 1]]
        return pixels.view(height, width, channels).permute(2, 0, 1)


class Subset(ImageSource):
    """Some of the images of another source, in a given order."""

    def __init__(self, source: ImageSource, indices: Sequence[int]):
        super().__init__([source.labels[index] for index in indices])
        self.source, self.indices = source, indices

    def read(self, index: int) -> Tensor:
        """Return the image that is at `index` here, as the other source gives it."""
        return self.source.read(self.indices[index])


class SceneSource(ImageSource):
    """Drawn scenes, all drawn at once when the first is needed, and kept in memory."""

    def __init__(self, count: int, size: int, split: str, seed: int):
        super().__init__([index % len(scenes.CLASSES) for index in range(count)])
        self.size, self.split, self.seed = size, split, seed

    @functools.cached_property
    def images(self) -> Tensor:
        """All scenes [count, 3, size, size], uint8, drawn at the first use."""
        return scenes.draw_all(len(self), self.size, self.split, self.seed)

    def read(self, index: int) -> Tensor:
        """Return scene `index` as uint8 [3, size, size]."""
        return self.images[index]


def decode(file: str | Path | BinaryIO, name: str | None = None) -> Tensor:
    """Decode an image of any colour mode to RGB: uint8 [3, H, W].

    Grey, palette, CMYK and alpha images are converted, 16-bit grey is scaled to 8 bits.

    Args:
        file: its path, or an open file.
        name: what the error calls it, where that is not the path.

    Raises:
        UnreadableImage: if the file is missing, empty, truncated or no image.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            if image.mode.startswith("I"):
                image = image.convert("I").point(lambda level: level / 256).convert("L")
            elif "transparency" in image.info:
                image = image.convert("RGBA")
            return pil_to_tensor(image if image.mode == "RGB" else image.convert("RGB"))  # convert always copies
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        # Pillow names the file once more, an open one by its address, which is another at every reading.
        reason = "cannot identify image file" if isinstance(error, UnidentifiedImageError) else error
        raise UnreadableImage(f"{name or file}: {reason}") from None
