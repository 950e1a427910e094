"""Where images come from: files, memory, or the drawing of scenes."""

import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from msun_lite.data import scenes
from msun_lite.data.images import UnreadableImage, decode
from msun_lite.runtime import image_size


class ImageSource:
    """Labelled images of one split: `read(i)` gives uint8 [3, H, W], `labels[i]` its class."""

    near = True
    """Whether the images are on this machine, so that none has to be downloaded to look at it."""

    def __init__(self, labels: Sequence[int]):
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> Tensor:
        """Return image `index` as uint8 [3, H, W], or raise `UnreadableImage`."""
        raise TypeError(f"{type(self).__name__} does not say how to read an image")

    def name(self, index: int) -> str:
        """Return what image `index` is called: by its file, if it has one."""
        return f"image {index}"

    def size(self, index: int) -> tuple[int, int] | None:
        """Return width and height of image `index`, without decoding it where that can be; None if it is unreadable."""
        try:
            height, width = self.read(index).shape[1:]
        except UnreadableImage:
            return None
        return width, height

    def sample(self, count: int) -> range:
        """Return the indices of a sample of `count` images at most: the first, for others may have to be downloaded."""
        return range(min(count, len(self)))

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

    def name(self, index: int) -> str:
        """Return the path of file `index`."""
        return self.paths[index]

    def size(self, index: int) -> tuple[int, int] | None:
        """Return width and height from the header of file `index`; None if it cannot be read."""
        return image_size(self.paths[index])

    def sample(self, count: int) -> range:
        """Return the indices of a sample of `count` images at most, evenly spaced: one file is as near as another."""
        return range(0, len(self), max(1, -(-len(self) // count)))


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

    def name(self, index: int) -> str:
        """Return the other source's name of the image that is at `index` here."""
        return self.source.name(self.indices[index])


def part_of(source: ImageSource, count: int) -> Subset:
    """Return `count` images of a source at most, in their order: drawn at random, and always the same."""
    drawn = torch.randperm(len(source), generator=torch.Generator().manual_seed(0))[:count]
    return Subset(source, sorted(drawn.tolist()))


class Labelled(ImageSource):
    """Another source, its images in the same order, each with a label of its own.

    Args:
        source: the other.
        labels: one for each image.
    """

    def __init__(self, source: ImageSource, labels: Sequence[int]):
        super().__init__(labels)
        self.source, self.near = source, source.near

    def read(self, index: int) -> Tensor:
        """Return image `index` as the other source gives it."""
        return self.source.read(index)

    def name(self, index: int) -> str:
        """Return the other source's name of image `index`."""
        return self.source.name(index)

    def sample(self, count: int) -> range:
        """Return the indices of a sample of the other source."""
        return self.source.sample(count)

    def order(self, generator: torch.Generator) -> list[int]:
        """Return the order of the other source."""
        return self.source.order(generator)


class Relabelled(Labelled):
    """Another source, its images in the same order, with another label in the place of each.

    Args:
        source: the other.
        labels: new label of each of its labels.
    """

    def __init__(self, source: ImageSource, labels: Sequence[int]):
        super().__init__(source, [labels[label] for label in source.labels])


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
