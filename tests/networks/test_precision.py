"""A model answers in the precision of its weights, whatever the precision of the images."""

import copy

import pytest
import torch
from torch import nn

from msun_lite import MSUN
from msun_lite.scales import RESAMPLINGS, resample
from msun_lite.utils.errors import UserError

TYPES = {torch.float16: 0.01, torch.bfloat16: 0.08, torch.float64: 1e-4}
"""Type -> how far its logits may be from those in single precision, relative to the largest."""


def make(**options):
    torch.manual_seed(0)
    return MSUN.from_backbone("resnet_lite", (8, 16, 32), num_classes=5, **options).eval()


@torch.no_grad()
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("options", [{}, {"norm": "per_scale", "antialias": False}])
def test_a_model_in_another_precision_answers_in_it(dtype, options):
    model = make(**options)
    other = copy.deepcopy(model).to(dtype)
    for size in (8, 12, 20, 40):
        images = torch.randn(2, 3, size, size)
        expected = model(images)
        for given in (images, images.to(dtype), list(images), [images[0].to(dtype), images[1]]):
            logits = other(given)
            assert logits.dtype == dtype
            assert (logits - expected).abs().max() <= TYPES[dtype] * expected.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("dtype", TYPES)
def test_images_of_another_precision_are_answered_in_that_of_the_model(dtype):
    model, images = make(), torch.randn(2, 3, 20, 20)
    logits = model([images[0].to(dtype), images[1]])
    assert logits.dtype == torch.float32
    assert (logits - model(images)).abs().max() <= TYPES[dtype] * logits.abs().max()


def test_training_at_all_scales_and_one_scale_at_its_own_size_take_other_precisions_too():
    model = make().to(torch.bfloat16)
    features, logits = model.forward_scales({scale: torch.rand(2, 3, scale, scale) for scale in model.scales})
    assert {part.dtype for part in (*features.values(), *logits.values())} == {torch.bfloat16}
    assert MSUN.vanilla("resnet_lite", 32).double().eval().forward_native(torch.rand(1, 3, 9, 9)).dtype == torch.float64


@torch.no_grad()
def test_autocast_around_a_call_is_that_of_the_layers():
    model, images = make(norm="per_scale"), torch.randn(2, 3, 20, 20)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
    assert logits.dtype == torch.bfloat16
    assert (logits - model(images)).abs().max() <= TYPES[torch.bfloat16] * logits.abs().max()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("resampling", RESAMPLINGS)
@pytest.mark.parametrize("size", [5, 16])
def test_every_resampling_keeps_the_type(dtype, resampling, size):
    images = torch.rand(2, 3, 9, 12, dtype=dtype)
    resized = resample(images, size, resampling)
    assert resized.dtype == dtype
    torch.testing.assert_close(resized.float(), resample(images.float(), size, resampling), atol=0.01, rtol=0.01)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(2, 3, 0, 5), r"expected at least one pixel, got \[2, 3, 0, 5\]"),
        ([torch.rand(3, 4, 4), torch.rand(3, 4, 0)], r"expected at least one pixel, got \[3, 4, 0\]"),
        (torch.rand(0, 3, 5, 5), "expected at least one, got none"),
        (torch.rand(1, 3, 9, 9, device="meta"), "expected on the model's device, cpu, got meta"),
        ([torch.rand(3, 9, 9), torch.rand(3, 9, 9, device="meta")], "expected all on one device, got cpu, meta"),
    ],
)
def test_empty_images_and_those_on_another_device_are_refused_in_words(images, message):
    with pytest.raises(UserError, match=f"images: {message}"):
        make()(images)


def test_a_model_without_weights_takes_images_as_they_are():
    model = MSUN({8: nn.Identity()}, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    assert model(torch.rand(2, 3, 8, 8).double()).dtype == torch.float64
