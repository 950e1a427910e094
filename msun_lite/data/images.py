"""Image files as tensors; how they are decoded is in the room `runtime`, which needs no torch."""

from pathlib import Path
from typing import BinaryIO

from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from msun_lite.runtime import UnreadableImage, read_image
from msun_lite.utils.errors import printable


def decode(file: str | Path | BinaryIO, name: str | None = None) -> Tensor:
    """Decode an image file of any format, colour mode and depth to upright RGB: uint8 [3, H, W]; see `read_image`.

    Args:
        file: its path, or an open file.
        name: what the error calls it, where that is not the path.

    Raises:
        UnreadableImage: if it cannot be decoded; the message names it and says why.
    """
    try:
        return pil_to_tensor(read_image(file))
    except UnreadableImage as error:
        raise UnreadableImage(printable(f"{name or file}: {error}")) from None
