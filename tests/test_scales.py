import numpy as np
import pytest
import torch
from PIL import Image

from msun_lite.scales import (
    RESAMPLINGS,
    Router,
    check_scales,
    image_size,
    pyramid,
    resample,
    resize,
    resize_features,
    route,
    served_sizes,
)
from msun_lite.utils.errors import UserError

SCALES = (32, 128, 224)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize(
    ("size", "scale"),
    [(1, 32), (32, 32), (79, 32), (80, 32), (81, 128), (128, 128), (175, 128), (176, 128), (177, 224), (500, 224)],
)
def test_nearest_follows_equation_6_and_sends_ties_to_the_smaller_scale(size, scale):
    assert route(size, SCALES) == scale


@pytest.mark.parametrize(
    ("size", "scale"), [(1, 32), (32, 32), (33, 128), (128, 128), (129, 224), (224, 224), (300, 224)]
)
def test_ceil_takes_the_smallest_scale_not_below_the_size(size, scale):
    assert route(size, SCALES, "ceil") == scale


@pytest.mark.parametrize(
    ("size", "scale"), [(1, 32), (63, 32), (64, 32), (65, 128), (128, 128), (169, 128), (170, 224), (300, 224)]
)
def test_ratio_takes_the_scale_that_differs_by_the_smallest_factor(size, scale):
    assert route(size, SCALES, "ratio") == scale


@pytest.mark.parametrize("rule", ["nearest", "ceil", "ratio"])
def test_served_sizes_share_out_every_size_between_the_scales(rule):
    shares = [served_sizes(scale, SCALES, rule) for scale in SCALES]
    assert [size for share in shares for size in share] == list(range(32, 225))
    assert all(
        route(size, SCALES, rule) == scale for scale, share in zip(SCALES, shares, strict=True) for size in share
    )


@pytest.mark.parametrize("rule", ["oracle", "farthest"])
def test_a_rule_that_needs_more_than_the_size_is_refused(rule):
    with pytest.raises(UserError, match=rule):
        route(32, SCALES, rule)


@pytest.mark.parametrize("scales", [(), (32,), (128, 32), (32, 32, 64), (0, 32)])
def test_scales_must_be_two_or_more_positive_and_rising(scales):
    with pytest.raises(UserError, match="scales"):
        check_scales(scales)


def test_antialiased_halving_averages_and_plain_bilinear_aliases():
    stripes = torch.tensor([1.0, 0.0]).repeat(8).expand(1, 3, 16, 16)
    assert resize(stripes, 4, antialias=True).std() < 0.05
    fine = torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(4).expand(1, 3, 16, 16)
    interior = resize(fine, 4, antialias=True)[..., 1:-1]
    assert torch.allclose(interior, torch.full_like(interior, 0.25), atol=0.02)
    assert not torch.allclose(resize(fine, 4, antialias=False), torch.full((1, 3, 4, 4), 0.25), atol=0.02)


@pytest.fixture(scope="module")
def photograph():
    """Something like a photograph, uint8 [375, 500, 3]: smooth, with noise."""
    rows, columns, colours = np.mgrid[:375, :500, :3]
    smooth = 120 + 80 * np.sin(columns / 47 + colours) * np.cos(rows / 31)
    return (smooth + np.random.default_rng(0).normal(0, 15, smooth.shape)).round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [224, 128, 32])
def test_antialiased_resizing_is_that_of_pil_within_one_grey_level(photograph, size, device):
    expected = torch.tensor(np.array(Image.fromarray(photograph).resize((size, size), Image.Resampling.BILINEAR)))
    images = torch.tensor(photograph, device=device, dtype=torch.float32).permute(2, 0, 1)[None]
    found = resize(images, size)[0].permute(1, 2, 0).cpu()
    assert (found - expected).abs().max() <= 1


def test_resizing_to_the_present_size_is_the_identity():
    images = torch.rand(2, 3, 8, 8)
    assert resize(images, 8) is images
    assert resize_features(images, (8, 8)) is images


def test_pyramid_has_one_square_view_a_scale():
    views = pyramid(torch.rand(2, 3, 16, 16), (4, 8, 16))
    assert {scale: tuple(view.shape) for scale, view in views.items()} == {s: (2, 3, s, s) for s in (4, 8, 16)}


def test_the_size_of_an_image_is_its_shorter_side():
    assert image_size(torch.empty(3, 40, 30)) == 30


def test_sizes_can_be_given_to_subnets_outright():
    assert [route(size, (16, 64, 112), "upto:32,72") for size in (8, 32, 33, 72, 73, 500)] == [16, 16, 64, 64, 112, 112]
    assert served_sizes(64, (16, 64, 112), "upto:32,72") == range(33, 73)


def test_a_native_image_is_fed_at_its_own_size_within_the_range_of_its_subnet():
    router = Router((16, 64, 112), "upto:32,72", subnet_input="native")
    assert [router.side(size, 64) for size in (16, 33, 50, 72, 112)] == [33, 33, 50, 72, 72]
    assert [router.side(size, 16) for size in (4, 16, 20, 40)] == [16, 16, 20, 32]
    assert [Router((16, 64, 112), subnet_input=way).side(40, 16) for way in ("scale", "largest")] == [16, 112]


@pytest.mark.parametrize("resampling", ["antialiased", "bicubic"])
def test_what_a_gpu_cannot_resize_is_resized_by_the_cpu(monkeypatch, resampling):
    images, whole = torch.rand(1, 3, 64, 64), torch.nn.functional.interpolate
    asked = []

    class OnGpu(torch.Tensor):
        is_cuda = True

        def cpu(self):
            return self.as_subclass(torch.Tensor)

    def refusing(tensor, *arguments, **options):
        asked.append(type(tensor))
        if isinstance(tensor, OnGpu):
            raise RuntimeError("Provided interpolation parameters can not be handled with current algorithm")
        return whole(tensor, *arguments, **options)

    monkeypatch.setattr("msun_lite.scales.F.interpolate", refusing)
    found = resample(images.as_subclass(OnGpu), 2, resampling)
    assert torch.equal(found.as_subclass(torch.Tensor), whole(images, (2, 2), **RESAMPLINGS[resampling]))
    assert asked[0] is OnGpu
