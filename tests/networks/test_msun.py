import json
import re

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

from msun_lite import MSUN
from msun_lite.networks.stems import Stem
from msun_lite.utils.errors import CheckpointError, UserError


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MSUN.from_backbone("resnet_lite", scales=(8, 16, 32), num_classes=5).eval()


def test_the_large_subnet_and_g_are_torchvisions_resnet50():
    torch.manual_seed(0)
    reference = torchvision.models.resnet50(num_classes=7).eval()
    model = MSUN.from_backbone("resnet50", num_classes=7).eval()
    weights = reference.state_dict()
    large, unified = model.subnets["224"], model.unified
    assert set(weights) == set(large.state_dict()) | set(unified.state_dict())
    large.load_state_dict({name: weights[name] for name in large.state_dict()})
    unified.load_state_dict({name: weights[name] for name in unified.state_dict()})
    images = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(model(images), reference(images))


@pytest.mark.parametrize("size", [5, 8, 12, 16, 20, 24, 28, 32, 50])
def test_any_size_gives_one_logits_tensor_through_the_routed_subnet(model, size):
    images = torch.rand(2, 3, size, size)
    logits = model(images)
    assert logits.shape == (2, 5)
    scale = min((8, 16, 32), key=lambda s: (abs(s - size), s))
    assert torch.equal(logits, model.forward_at(images, scale))


def test_images_need_not_be_square(model):
    images = torch.rand(2, 3, 9, 30)
    assert torch.equal(model(images), model.forward_at(images, 8))


@torch.no_grad()
def test_a_list_of_mixed_sizes_gives_each_image_the_logits_it_has_alone(model):
    images = [torch.rand(3, size, size) for size in (32, 8, 17, 9, 40)]
    alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(model(images), alone)


@torch.no_grad()
@pytest.mark.parametrize("joint", [False, True])
def test_all_scales_in_one_call_equal_each_scale_alone(model, joint):
    views = {scale: torch.rand(3, 3, scale, scale) for scale in model.scales}
    features, logits = model.forward_scales(views, joint)
    assert list(features) == list(logits) == [8, 16, 32]
    for scale in model.scales:
        assert features[scale].shape == (3, 32, 8, 8)
        torch.testing.assert_close(logits[scale], model.forward_at(views[scale], scale))


def test_subnets_are_private_and_g_is_shared(model):
    views = {scale: torch.rand(2, 3, scale, scale) for scale in model.scales}
    model.forward_scales(views)[1][8].sum().backward()
    touched = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert any(name.startswith("subnets.8.") for name in touched)
    assert any(name.startswith("unified.") for name in touched)
    own = [p.grad for n, p in model.named_parameters() if n.startswith(("subnets.16.", "subnets.32."))]
    assert all(grad is None or grad.abs().sum() == 0 for grad in own)


def test_vanilla_resizes_every_image_to_its_one_scale():
    model = MSUN.vanilla("resnet_lite", 32, num_classes=5).eval()
    images = torch.rand(2, 3, 10, 10)
    upsampled = torch.nn.functional.interpolate(images, (32, 32), mode="bilinear")
    torch.testing.assert_close(model(images), model(upsampled))
    assert model.scales == (32,)


def test_oracle_routing_is_for_evaluation_only():
    with pytest.raises(UserError, match="oracle"):
        MSUN.from_backbone("resnet_lite", routing="oracle")


def test_building_a_model_leaves_batchnorm_statistics_untouched():
    model = MSUN.from_backbone("resnet_lite", scales=(8, 32))
    fresh = [b for name, b in model.named_buffers() if name.endswith("num_batches_tracked")]
    assert fresh
    assert all(count == 0 for count in fresh)


def test_a_saved_model_comes_back_bit_for_bit(model, tmp_path):
    model.save(tmp_path)
    again = MSUN.from_pretrained(tmp_path)
    assert not again.training
    assert again.spec == model.spec
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_a_saved_model_routes_and_resizes_as_it_did_last(model, tmp_path):
    model.routing, model.antialias = "ratio", False
    model.save(tmp_path)
    again = MSUN.from_pretrained(tmp_path)
    assert (again.routing, again.antialias) == ("ratio", False)
    assert (again.spec["routing"], again.spec["antialias"]) == ("ratio", False)


def own_cnn(*layers):
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 8, 5, 2, 2), nn.BatchNorm2d(8), nn.MaxPool2d(2))
    return nn.Sequential(stem, *(layers or (nn.Conv2d(8, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())))


def test_a_network_of_ones_own_takes_how_it_was_used_from_the_run_that_it_loads(tmp_path):
    normalisation = {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}
    used = {"routing": "ceil", "antialias": False, "normalisation": normalisation, "class_names": list("abcd")}
    model = MSUN.from_module(own_cnn(), "0", (8, 16, 32), **used).eval()
    model.save(tmp_path)
    again = MSUN.from_module(own_cnn(), "0", (8, 16, 32)).load(tmp_path).eval()
    assert again.description == model.description
    images = torch.rand(1, 3, 20, 20)
    assert torch.equal(again(images), model(images))
    (tmp_path / "model.json").unlink()
    again = MSUN.from_module(own_cnn(), "0", (8, 16, 32), routing="ratio").load(tmp_path)
    assert again.routing == "ratio"


@pytest.mark.parametrize(
    ("split", "options", "message"),
    [
        ("0", {"unify": "native"}, "unify: expected native, got largest"),
        ("0", {"stems": {8: {"0.2": 1}, 16: {}}}, "stems: expected "),
        ("0", {"scales": (8, 16, 48)}, r"scales: expected \[8, 16, 48\], got \[8, 16, 32\]"),
        ("0.1", {}, "split: expected 0.1, got 0"),
    ],
)
def test_weights_for_a_network_that_differs_in_what_no_tensor_shows_are_refused(tmp_path, split, options, message):
    stems = {8: {"0.0": 1}, 16: {}}
    scales = (8, 16, 32)

    def make(split, scales=scales, stems=stems, **options):
        stems = {scale: Stem(3, strides) for scale, strides in stems.items()}
        return MSUN.from_module(own_cnn(), split, scales, stems, **options)

    make("0").save(tmp_path)
    with pytest.raises(CheckpointError, match=rf"model\.json: made for another model: {message}"):
        make(split, **options).load(tmp_path)


class Two(nn.Module):
    """Gives two things, or takes two."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.lower, self.upper = kind, nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        maps = self.lower(x)
        return (self.upper(maps).flatten(1), maps) if self.kind == "tuple" else maps


@pytest.mark.parametrize(
    ("cnn", "split", "options", "message"),
    [
        (own_cnn(nn.Flatten(), nn.Linear(8 * 7 * 7, 4)), "0", {}, "scales: Sequential cannot take images of 32 px"),
        (
            own_cnn(nn.Flatten(), nn.Linear(8 * 16 * 16, 4)),
            "0",
            {"scales": (8, 64), "unify": "native"},
            "scales: Sequential cannot take images of 8 px",
        ),
        (Two("tuple"), "lower", {}, r"model: expected logits \[B, classes\] of Two, got a tuple"),
        (Two("maps"), "lower", {}, r"model: expected logits \[B, classes\] of Two, got \[1, 4, 32, 32\]"),
        (nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 32), nn.Flatten()), "0", {}, "stems: expected a convolution"),
    ],
)
def test_a_network_of_ones_own_that_cannot_be_used_is_refused_in_words(cnn, split, options, message):
    with pytest.raises(UserError, match=message):
        MSUN.from_module(cnn, split, **{"scales": (8, 16, 32), **options})


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"unify": "native"}, {"unify": "none"}])
@pytest.mark.parametrize("joint", [False, True])
def test_the_features_are_those_of_the_subnets_whatever_g_does_with_them(options, joint):
    cnn = own_cnn(nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = MSUN.from_module(cnn, "0", (8, 16, 64), **options).eval()
    views = {scale: torch.rand(2, 3, scale, scale) for scale in model.scales}
    features, logits = model.forward_scales(views, joint and not options)
    for scale, images in views.items():
        assert torch.equal(features[scale], model.features(images, scale))
        torch.testing.assert_close(logits[scale], model.forward_at(images, scale))


def test_pretrained_sources_that_cannot_be_used_are_named(model, tmp_path):
    with pytest.raises(CheckpointError, match="no-such-run"):
        MSUN.from_pretrained("no-such-run")
    model.save(tmp_path)
    spec = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(spec | {"blocks": 2}))
    with pytest.raises(CheckpointError, match=r"another model: subnets.16.layer2.0.bn1.bias"):
        MSUN.from_pretrained(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps({"arch": "resnet_lite"}))
    with pytest.raises(CheckpointError, match="does not describe a model: .* missing blocks, scales"):
        MSUN.from_pretrained(tmp_path)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"model\.json"):
        MSUN.from_pretrained(tmp_path)


WRONG_SPECS = {
    "arch": [None, 3, []],
    "blocks": [-1, "1", 1.5, True],
    "scales": [None, [], 16, ["16"], [8.5], [0, 8]],
    "classes": [-1, 0, 10**12, "10", None, True],
    "class_names": ["cat", [1, 2], {}],
    "stems": [
        *([], None, "coarse", {"8": None}, {"x": {"kernel": 3, "strides": {}}}, {"8": {"kernel": 3}}),
        {"8": {"kernel": 0, "strides": {}}},
        {"8": {"kernel": 3, "strides": {"conv1": "2"}}},
    ],
    "routing": [None, "x", []],
    "antialias": ["x", None, 1],
    "unify": [None, "x"],
    "norm": [3, "x"],
    "normalisation": ["x", [1], {}, {"mean": [0, 0, 0], "std": [1, 1, 0]}, {"mean": [0, 0], "std": [1, 1]}],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG_SPECS.items() for value in values])
def test_a_damaged_description_is_one_line_that_names_the_value(model, tmp_path, name, value):
    model.save(tmp_path)
    spec = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(spec | {name: value}))
    with pytest.raises(
        CheckpointError, match=rf"model\.json: (does not describe a model: )?{name}: expected"
    ) as refused:
        MSUN.from_pretrained(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("stems", [{"8": {"kernel": 10**5, "strides": {}}}, {"8": {"kernel": 3, "strides": {"x": 1}}}])
def test_stems_that_no_network_can_have_are_refused(model, tmp_path, stems):
    model.save(tmp_path)
    spec = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(spec | {"stems": spec["stems"] | stems}))
    with pytest.raises(CheckpointError, match=r"model\.json: does not describe a model: "):
        MSUN.from_pretrained(tmp_path)


def test_truncated_weights_are_refused(model, tmp_path):
    model.save(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        MSUN.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "images",
    [
        torch.rand(3, 20, 20),
        torch.zeros(2, 3, 20, 20, dtype=torch.uint8),
        torch.rand(2, 1, 20, 20),
        [],
        [torch.rand(1, 3, 20, 20)],
        np.zeros((2, 3, 20, 20), np.float32),
        [Image.new("RGB", (20, 20))],
        {"images": torch.rand(2, 3, 20, 20)},
        None,
    ],
)
def test_what_is_no_batch_of_images_is_refused_in_words(model, images):
    with pytest.raises(UserError, match="images: expected"):
        model(images)


@pytest.mark.parametrize("views", [{20: torch.rand(1, 3, 20, 20)}, {16: torch.rand(1, 3, 20, 20)}])
def test_views_must_be_at_the_models_scales(model, views):
    with pytest.raises(UserError, match=r"scales s of \[8, 16, 32\]"):
        model.forward_scales(views)


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ([torch.rand(1, 3, 8, 8)], "views: expected images by scale, such as {32: x32}, got list"),
        ({}, "views: expected images by scale, such as {32: x32}, got none"),
        (
            {8: torch.rand(2, 3, 8, 8), 16: torch.rand(1, 3, 16, 16)},
            "views: expected 2 images at each scale, got 1 for 16",
        ),
    ],
)
def test_views_must_be_the_same_images_at_one_scale_or_more(model, views, message):
    with pytest.raises(UserError, match=re.escape(message)):
        model.forward_scales(views)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": 8}, "scales: expected whole numbers of pixels, such as (32, 128, 224), got 8"),
        ({"scales": "ab"}, "got 'ab'"),
        ({"scales": (8, 16.5)}, "got (8, 16.5)"),
        ({"scales": None}, "got None"),
        ({"num_classes": 0}, "num_classes: expected at least 1, got 0"),
        ({"num_classes": -1}, "num_classes: expected at least 1, got -1"),
    ],
)
def test_scales_and_classes_that_cannot_be_are_refused_in_words(options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        MSUN.from_backbone("resnet_lite", **options)


def test_a_place_where_nothing_can_be_saved_is_named(model):
    for save in (model.save, model.save_pretrained):
        with pytest.raises(UserError, match=r"/dev/null/x.* cannot be"):
            save("/dev/null/x")
