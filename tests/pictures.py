"""Image files for tests, in kinds that Pillow does not write."""

import struct
import zlib

import numpy as np


def png16(levels: np.ndarray, significant: tuple[int, ...] = ()) -> bytes:
    """Return a PNG of 16 bits a channel, [H, W] grey or [H, W, 3]; with an sBIT chunk if `significant` is given."""
    height, width = levels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, 2 if levels.ndim == 3 else 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    chunks = [(b"IHDR", header), (b"sBIT", bytes(significant)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks if chunk[0] != b"sBIT" or significant)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def tiff(levels: np.ndarray, photometric: int = 1, sample_format: int = 1) -> bytes:
    """Return an uncompressed TIFF of [H, W] or [H, W, 3] in the array's own depth and order of bytes."""
    height, width = levels.shape[:2]
    channels, bits = levels.size // (height * width), 8 * levels.itemsize
    order = ">" if levels.dtype.byteorder == ">" else "<"
    tags = {256: width, 257: height, 258: [bits] * channels, 259: 1, 262: photometric, 273: 0, 277: channels}
    tags |= {278: height, 279: levels.nbytes, 339: [sample_format] * channels}
    start = 8 + 2 + 12 * len(tags) + 4
    entries, lists = b"", b""
    for tag, value in tags.items():
        if tag == 273:
            value = start + 12 * (channels == 3)  # the pixels stand behind the two lists
        if isinstance(value, list) and channels == 3:
            entries += struct.pack(f"{order}HHII", tag, 3, 3, start + len(lists))
            lists += struct.pack(f"{order}3H", *value)
        elif isinstance(value, list):
            entries += struct.pack(f"{order}HHIHH", tag, 3, 1, value[0], 0)
        else:
            entries += struct.pack(f"{order}HHII", tag, 4, 1, value)
    head = b"MM\0*" if order == ">" else b"II*\0"
    return head + struct.pack(f"{order}IH", 8, len(tags)) + entries + bytes(4) + lists + levels.tobytes()
