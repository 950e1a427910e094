import io
import struct

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, features

from msun_lite import decode
from msun_lite.data.images import UnreadableImage
from msun_lite.runtime.images import FORMATS, image_size
from tests.pictures import png16, tiff

RAMP = np.tile(np.linspace(0, 1, 64), (8, 1))
COLOURS = np.stack([RAMP] * 3, axis=2)
KINDS = {"AVIF": "AVIF" in FORMATS, "JPEG2000": features.check("jpg_2000")}


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def opened(content):
    return decode(io.BytesIO(content), "it")


def noise(height=6, width=9, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "MPO", "AVIF"])
def test_images_are_seen_upright_however_the_camera_was_held(tmp_path, kind, orientation):
    if not KINDS.get(kind, True):
        pytest.skip(f"this Pillow has no {kind}")
    path = tmp_path / "image"
    path.write_bytes(saved(noise(), kind, exif=exif(orientation)))
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    assert torch.equal(decode(path), torch.from_numpy(np.array(upright)).permute(2, 0, 1))
    assert image_size(path) == upright.size


@pytest.mark.filterwarnings("ignore:Corrupt EXIF:UserWarning")  # Pillow's, looking for the density of dots
@pytest.mark.parametrize(
    "block",
    [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\0\0", b"Exif\0\0II*\0\x08"]
    + [b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x0112, 3, 1, value, 0) for value in (0, 9, 65535)],
)
def test_a_healthy_photograph_with_a_damaged_exif_block_is_read_as_it_is(block):
    assert torch.equal(opened(saved(noise(), "JPEG", exif=block)), opened(saved(noise(), "JPEG")))


def levels(bits, kind=np.uint16, most=1.0):
    return np.rint(RAMP * most * (2.0**bits - 1)).astype(kind)


DEEP = {
    "16 bits": png16(levels(16)),
    "12 bits in 16": png16(levels(12)),
    "10 bits in 16": png16(levels(10)),
    "14 bits in 16": png16(levels(14)),
    "8 bits in 16": png16(levels(8)),
    "TIFF of 16 bits": tiff(levels(16, "<u2")),
    "TIFF of 16 bits, the other order": tiff(levels(16, ">u2")),
    "TIFF of 16 bits, white is 0": tiff(65535 - levels(16, "<u2"), photometric=0),
    "TIFF of 32 bits": tiff(levels(32, "<u4")),
    "TIFF of 16 bits in 32": tiff(levels(16, "<i4"), sample_format=2),
    "TIFF of floats": saved(Image.fromarray(RAMP.astype(np.float32)), "TIFF"),
    "TIFF of whole floats": saved(Image.fromarray(levels(8, np.float32)), "TIFF"),
    "PGM of 12 bits": b"P5 64 8 4095\n" + levels(12, ">u2").tobytes(),
    "PFM": b"Pf\n64 8\n-1.0\n" + RAMP.astype("<f4").tobytes(),
    "colours of 16 bits": png16(np.rint(COLOURS * 65535).astype(np.uint16)),
    "TIFF of colours of 16 bits": tiff(np.rint(COLOURS * 65535).astype("<u2"), photometric=2),
}


@pytest.mark.parametrize("name", DEEP)
def test_every_depth_of_levels_is_scaled_to_eight_bits(name):
    pixels = opened(DEEP[name])
    assert pixels.dtype == torch.uint8
    assert (pixels.float() - torch.from_numpy(RAMP * 255)).abs().max() <= 1


def test_a_png_says_how_many_of_its_bits_count():
    dark = levels(16, most=0.02)  # as if of 12 bits, if nothing were said
    assert opened(png16(dark)).max() == 81
    assert opened(png16(dark, significant=(16,))).max() == 5
    assert opened(png16(levels(12, most=0.2), significant=(12,))).max() == 51
    assert opened(png16(levels(16), significant=(12,))).max() == 255  # levels that were scaled up, as the format wants


def test_a_tiff_says_its_largest_level():
    grey = Image.fromarray(levels(12, most=0.2))
    assert opened(saved(grey, "TIFF", tiffinfo={281: 4095})).max() == 51
    assert opened(saved(grey, "TIFF", tiffinfo={281: 65535})).max() == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (saved(Image.fromarray((RAMP * 300).astype(np.float32)), "TIFF"), "expected floats from 0 to 1, got 0 to 300"),
        (saved(Image.fromarray((RAMP - 0.5).astype(np.float32)), "TIFF"), r"expected floats from 0 to 1, got -0.5"),
        (saved(Image.fromarray((RAMP * np.nan).astype(np.float32)), "TIFF"), "expected floats from 0 to 1, got nan"),
        (tiff((RAMP * 3000 - 1000).astype("<i2"), sample_format=2), "expected grey levels from 0 on, got -1000"),
        (png16(np.rint(COLOURS * 4095).astype(np.uint16)), "only the lower 12 are used"),
        (tiff(np.rint(COLOURS * 4095).astype("<u2"), photometric=2), "only the lower 12 are used"),
    ],
)
def test_levels_that_do_not_say_what_is_white_are_refused_in_words(content, said):
    with pytest.raises(UnreadableImage, match=f"^it: .*{said}"):
        opened(content)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_of_an_animation_it_is_the_first_picture(kind):
    red, blue = (Image.new("RGB", (7, 5), colour) for colour in ("red", "blue"))
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = opened(saved(red, kind, save_all=True, append_images=[blue], **options))
    assert pixels.shape == (3, 5, 7)
    assert (pixels.float() - torch.tensor([255.0, 0, 0])[:, None, None]).abs().max() <= 2


def test_formats_that_start_other_programs_are_not_read():
    assert not {"EPS", "WMF", "GBR"} & set(FORMATS)
    with pytest.raises(UnreadableImage, match="cannot identify image file"):
        opened(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")


def test_a_lack_of_memory_is_no_damaged_image(monkeypatch):
    def starve(image):
        raise MemoryError

    monkeypatch.setattr("msun_lite.data.images.pil_to_tensor", starve)
    with pytest.raises(MemoryError):
        opened(saved(noise(), "PNG"))
