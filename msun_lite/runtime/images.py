"""Image files of any kind, read as upright RGB: what every command, chapter, script and server sees of them."""

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

ENDINGS = {
    "BMP": ("bmp", "dib"),
    "GIF": ("gif",),
    "JPEG": ("jpg", "jpeg", "jpe", "jfif", "jif", "mpo"),
    "PNG": ("png", "apng"),
    "PPM": ("ppm", "pgm", "pbm", "pnm", "pfm"),
    "TIFF": ("tif", "tiff"),
    "WEBP": ("webp",),
    "JPEG2000": ("jp2", "j2k", "j2c", "jpc", "jpf", "jpx"),
    "QOI": ("qoi",),
    "AVIF": ("avif", "avifs"),
}
"""Format that is decoded -> endings of its files. Pillow knows more, some of it by starting other programs."""

Image.init()  # an older Pillow has no AVIF
FORMATS = tuple(name for name in ENDINGS if name in Image.OPEN)
"""The formats that this Pillow decodes, the quickly told ones first."""

IMAGE_ENDINGS = frozenset(ending for name in FORMATS for ending in ENDINGS[name])
"""What the names of images end in, in small letters and without the dot."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation -> what makes such an image upright."""

WIDTH, HEIGHT, ORIENTATION, MAX_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT, BITS = 256, 257, 274, 281, 262, 339, 258
"""Tags of EXIF and TIFF."""

DEPTHS = (8, 10, 12, 14, 16, 32)
"""Bits that grey levels come in, in files of 16 or 32."""


class UnreadableImage(Exception):
    """An image that cannot be decoded; the message says why, in a line."""


def read_image(file: str | Path | BinaryIO) -> Image.Image:
    """Decode an image file of any format, colour mode and depth to an upright image of mode RGB, 8 bits a channel.

    A camera's note on how it was held (EXIF's orientation) is followed. Grey, palette, CMYK and alpha images are
    converted; of an animation it is the first picture. Grey levels of more than 8 bits are scaled by the depth that
    the file states; where it states none, by the smallest usual one (8, 10, 12, 14, 16, 32 bits) that holds them all.
    Floats are levels from 0 to 1, or whole numbers to 255.

    Args:
        file: its path, or an open file.

    Raises:
        UnreadableImage: if the file is missing, empty, damaged or no image, or if it leaves open which of its levels
            is white.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            pixels = _to_rgb(image)
            turn = TURNS.get(_orientation(image.info.get("exif", b"")))
            upright = pixels if turn is None else pixels.transpose(turn)
            upright.load()  # while the file is open
            return upright
    except MemoryError:
        raise
    except Exception as error:  # decoders raise nearly anything for damaged files
        raise UnreadableImage(_reason(error)) from None


def image_size(file: str | Path | BinaryIO) -> tuple[int, int] | None:
    """Return width and height of an upright image, from its header alone; None if that cannot be read."""
    try:
        with Image.open(file, formats=FORMATS) as image:
            if (tags := getattr(image, "tag_v2", None)) is None:
                (width, height), orientation = image.size, _orientation(image.info.get("exif", b""))
            else:  # a TIFF, whose size some Pillows turn by themselves
                (width, height), orientation = (tags[WIDTH], tags[HEIGHT]), tags.get(ORIENTATION, 1)
    except MemoryError:
        raise
    except Exception:  # decoding it will name it
        return None
    return (height, width) if 5 <= orientation <= 8 else (width, height)


def _reason(error: Exception) -> str:
    # Pillow names an open file by its address, which is another at every reading.
    if isinstance(error, UnidentifiedImageError):
        return "cannot identify image file"
    bombs = Image.DecompressionBombError | Image.DecompressionBombWarning
    kind, said = type(error).__name__, str(error).strip().splitlines()
    if isinstance(error, OSError | ValueError | SyntaxError | bombs):
        return said[0] if said else kind
    return f"damaged ({kind}: {said[0] if said else kind})"


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        return Image.fromarray(_from_floats(np.asarray(image))).convert("RGB")
    if image.mode.startswith("I"):
        return Image.fromarray(_from_levels(image)).convert("RGB")
    deep = image.format in ("PNG", "TIFF") and ";16" in str(image.tile)
    if "transparency" in image.info:
        image = image.convert("RGBA")
    pixels = image if image.mode == "RGB" else image.convert("RGB")  # convert always copies
    if deep and np.asarray(pixels).max() < 16:  # Pillow keeps the upper 8 bits of each
        raise ValueError("of its 16 bits a colour only the lower 12 are used; save it with 8 bits, or with full range")
    return pixels


def _from_floats(levels: np.ndarray) -> np.ndarray:
    low, high = (levels.min(), levels.max()) if np.isfinite(levels).all() else (np.nan, np.nan)
    if low >= 0 and high <= 1:
        return np.rint(levels * 255).astype(np.uint8)
    if low >= 0 and high <= 255 and (levels == np.rint(levels)).all():
        return levels.astype(np.uint8)
    raise ValueError(f"expected floats from 0 to 1, got {low:g} to {high:g}; scale them to that")


def _from_levels(image: Image.Image) -> np.ndarray:
    stated = _stated_bits(image)  # before the pixels are read
    levels, tags = np.asarray(image), getattr(image, "tag_v2", {})
    if levels.dtype == np.int32 and tags.get(BITS) == (32,) and tags.get(SAMPLE_FORMAT, (1,)) == (1,):
        levels = levels.view(np.uint32)
    if levels.min() < 0:
        raise ValueError(f"expected grey levels from 0 on, got {levels.min()}; save it with 8 bits")
    brightest = max(int(levels.max()), *tags.get(MAX_SAMPLE, (0,)), 0)
    if stated is None:
        stated = next(bits for bits in DEPTHS if brightest < 1 << bits)
    elif brightest >= 1 << stated:
        stated = 16  # a PNG whose levels were scaled up, as it should be
    grey = (levels >> max(stated - 8, 0)).astype(np.uint8)
    return 255 - grey if tags.get(PHOTOMETRIC) == 0 else grey


def _stated_bits(image: Image.Image) -> int | None:
    """Return the depth of an image's grey levels, if its file says so."""
    if image.format in ("PPM", "JPEG2000"):
        return 16  # Pillow has scaled them
    if image.format == "PNG":
        return _significant_bits(image.fp)
    bits = getattr(image, "tag_v2", {}).get(BITS, (16,))[0]
    return bits if bits not in (16, 32) else None  # those are containers of anything


def _significant_bits(file: BinaryIO) -> int | None:
    """Return what a PNG's sBIT chunk says, which Pillow does not read; the file stays where it is."""
    place = file.tell()
    try:
        file.seek(8)
        while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
            length = int.from_bytes(head[:4], "big")
            if head[4:] == b"sBIT":
                return file.read(1)[0]
            file.seek(length + 4, 1)
        return None
    finally:
        file.seek(place)


def _orientation(exif: bytes) -> int:
    """Return the orientation in an EXIF block, 1 (upright) if it has none or is damaged."""
    # Pillow reads it too, but more slowly, and with warnings for the damaged blocks of healthy photographs.
    data = exif.removeprefix(b"Exif\x00\x00")
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(data[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", data, entry)
            if tag == ORIENTATION:
                return value if kind == 3 and 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1
