import copy
import math

import pytest
import torch
from torch import nn

from msun_lite import MSUN
from msun_lite.export import Exported
from msun_lite.networks.averages import interpolated
from msun_lite.networks.counting import parameters
from msun_lite.networks.size_norm import SizeNorm, set_averages, size_norms_of
from msun_lite.per_scale import norms_of
from msun_lite.scales import resize
from msun_lite.utils.errors import CheckpointError, UserError

SCALES = (8, 16, 32)
SIZES = [8, 12, 16, 20, 24, 28, 32]
KINDS = {
    "vanilla": {},
    "msun": {},
    "norms per scale": {"norm": "per_scale"},
    "native": {"norm": "per_scale", "subnet_input": "native", "routing": "upto:12,20"},
    "private norms": {"private": "norms", "norm": "per_scale", "unify": "native"},
    "nothing shared": {"unify": "none"},
}


def make(kind="msun", arch="resnet_lite"):
    torch.manual_seed(0)
    if kind == "vanilla":
        return MSUN.vanilla(arch, SCALES[-1], 5).eval()
    return MSUN.from_backbone(arch, SCALES, num_classes=5, **KINDS[kind]).eval()


def batches(count=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(4, 3, 32, 32, generator=generator) for _ in range(count)]


def by_hand(model, images, size):
    """Return a copy whose BatchNorms have seen nothing but images of a size, through the subnet that serves them."""
    found = copy.deepcopy(model)
    for module in found.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None
            module.train()
    with torch.no_grad():
        for batch in images:
            found.forward_at(resize(batch, size), found.router.scale(size))
    return found.eval()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_each_size_has_the_averages_that_its_own_images_give(kind):
    model = make(kind)
    adapted = model.with_averages(batches(), SIZES)
    for size in SIZES:
        image = torch.rand(2, 3, size, size)
        assert torch.equal(adapted(image), by_hand(model, batches(), size)(image))


@pytest.mark.parametrize("kind", ["vanilla", "norms per scale", "private norms"])
@pytest.mark.parametrize("sizes", [SIZES, SIZES[:-1]], ids=["with the largest", "without"])
@torch.no_grad()
def test_the_largest_size_keeps_its_own_averages_if_asked_to(kind, sizes):
    model, image = make(kind), torch.rand(2, 3, SCALES[-1], SCALES[-1])
    kept = model.with_averages(batches(), sizes, keep=True)
    assert torch.equal(kept(image), model(image))
    assert not torch.equal(model.with_averages(batches(), SIZES)(image), model(image))
    assert kept.averages[SCALES[-1]][-1] == SCALES[-1]
    for size in SIZES[:-1]:
        small = torch.rand(2, 3, size, size)
        assert torch.equal(kept(small), by_hand(model, batches(), size)(small))


@torch.no_grad()
def test_the_network_that_is_given_stays_as_it_is():
    model = make()
    before = copy.deepcopy(model.state_dict())
    model.with_averages(batches(), SIZES)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.averages == {}


@torch.no_grad()
def test_an_image_between_two_sizes_has_the_averages_of_the_nearer():
    adapted = make("vanilla").with_averages(batches(), [8, 32])
    assert [adapted.router.place(size, 32) for size in (2, 8, 19, 21, 32, 99)] == [0, 0, 0, 1, 1, 1]


@torch.no_grad()
def test_a_share_of_none_changes_nothing_and_of_a_half_mixes():
    model = make()
    image = torch.rand(2, 3, 12, 12)
    assert torch.equal(model.with_averages(batches(), SIZES, share=0.0)(image), model(image))
    whole, half = (model.with_averages(batches(), SIZES, share=share) for share in (1.0, 0.5))
    name = "subnets.8.bn1"
    old = model.get_submodule(name).running_mean
    expected = (whole.get_submodule(name).running_mean + old) / 2
    torch.testing.assert_close(half.get_submodule(name).running_mean, expected)


@torch.no_grad()
def test_averages_taken_again_replace_those_that_there_were():
    once = make().with_averages(batches(), SIZES)
    other = make().with_averages(batches(seed=2), [8, 32]).with_averages(batches(), SIZES)
    image = torch.rand(1, 3, 20, 20)
    assert torch.equal(once(image), other(image))
    assert once.averages == other.averages


@torch.no_grad()
def test_a_tensor_of_images_is_taken_as_batches():
    images = torch.cat(batches())
    image = torch.rand(1, 3, 12, 12)
    assert torch.equal(make().with_averages(images, SIZES)(image), make().with_averages([images], SIZES)(image))


@torch.no_grad()
def test_a_number_of_images_that_leaves_one_over_is_no_trouble_where_maps_are_single_pixels():
    model = make("private norms")
    adapted = model.with_averages(torch.rand(129, 3, 32, 32), [8, 16, 32])
    assert adapted(torch.rand(1, 3, 8, 8)).isfinite().all()


@torch.no_grad()
def test_weights_have_the_same_names_with_averages_and_without():
    model = MSUN.from_backbone("resnet_lite", scales=(8, 16), num_classes=3, norm="per_scale")
    adapted = model.with_averages(torch.rand(4, 3, 16, 16), [8, 12, 16])
    counts = {name for name in model.state_dict() if name.endswith("num_batches_tracked")}
    assert adapted.state_dict().keys() == model.state_dict().keys() - counts
    own = adapted.state_dict()
    assert all(
        torch.equal(own[name], value)
        for name, value in model.state_dict().items()
        if name in own and own[name].shape == value.shape
    )
    again = adapted.with_averages(torch.rand(4, 3, 16, 16), [8, 16])
    assert again.state_dict().keys() == own.keys()


def test_a_batchnorm_that_does_more_than_normalise_goes_on_doing_it():
    torch.manual_seed(0)
    model = MSUN.vanilla("timm/test_efficientnet", 32, 5).eval()  # its BatchNorms hold the activation
    classes = {type(norm) for norm in norms_of(model).values()}
    assert classes - {nn.BatchNorm2d}
    image = torch.rand(2, 3, 12, 12)
    assert torch.equal(model.with_averages(batches(), SIZES, share=0.0)(image), model(image))
    assert torch.equal(model.with_averages(batches(), SIZES)(image), by_hand(model, batches(), 12)(image))


@torch.no_grad()
def test_batchnorms_that_keep_no_averages_stay_as_they_are():
    model = make("vanilla")
    without = nn.BatchNorm2d(32, track_running_stats=False).eval()
    model.subnets["32"].bn1 = without
    adapted = model.with_averages(batches(), SIZES)
    assert isinstance(adapted.subnets["32"].bn1, nn.BatchNorm2d)
    assert adapted(torch.rand(2, 3, 12, 12)).isfinite().all()


@torch.no_grad()
def test_native_averages_are_those_of_images_fed_as_they_are():
    model = make("vanilla")
    adapted, expected = model.with_averages(batches(), [16, 32], native=True), copy.deepcopy(model)
    for norm in norms_of(expected).values():
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for batch in batches():
        expected.forward_native(resize(batch, 16))
    image = torch.rand(2, 3, 16, 16)
    assert torch.equal(adapted.forward_native(image), expected.eval().forward_native(image))


@torch.no_grad()
def test_numbers_in_the_names_of_layers_are_not_taken_for_scales():
    torch.manual_seed(0)
    model = MSUN.from_backbone("vgg_lite", (22, 32), num_classes=5).eval()
    assert "22" in {name.split(".")[2] for name in norms_of(model) if name.startswith("unified")}
    adapted = model.with_averages(batches(), [22, 26, 32])
    for size in (22, 26, 32):
        image = torch.rand(1, 3, size, size)
        assert torch.equal(adapted(image), by_hand(model, batches(), size)(image))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_averages_are_saved_loaded_and_exported(kind, tmp_path):
    adapted = make(kind).with_averages(batches(), SIZES)
    images = [torch.rand(3, size, size) for size in (32, 8, 13, 40, 24)]
    expected = adapted(images)
    torch.testing.assert_close(torch.cat([adapted(image[None]) for image in images]), expected)
    adapted.save(tmp_path)
    loaded = MSUN.from_pretrained(tmp_path)
    assert torch.equal(loaded(images), expected)
    assert loaded.averages == adapted.averages
    exported = Exported(adapted.export(tmp_path / "exported"))
    torch.testing.assert_close(exported(images), expected)


@torch.no_grad()
def test_averages_are_a_part_of_an_onnx_graph_too(tmp_path):
    pytest.importorskip("onnxscript")
    adapted = make("native").with_averages(batches(), SIZES)
    images = [torch.rand(3, size, size) for size in (32, 8, 13, 40, 24)]
    exported = Exported(adapted.export(tmp_path / "exported", format="onnx"))
    torch.testing.assert_close(exported(images), adapted(images), rtol=1e-3, atol=1e-3)


def test_weights_with_averages_do_not_load_into_a_network_without(tmp_path):
    make().with_averages(batches(), SIZES).save(tmp_path)
    with pytest.raises(CheckpointError, match="made for another model: averages: expected {}, got"):
        make().load(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_added_is_counted_among_the_parameters(kind):
    model = make(kind)
    adapted = model.with_averages(batches(), SIZES)
    added = sum(2 * norm.norm.num_features * (len(norm.running_mean) - 1) for norm in size_norms_of(adapted).values())
    assert parameters(adapted) - parameters(model) == added > 0


def test_a_scale_that_serves_none_of_the_sizes_has_averages_of_its_own():
    adapted = make().with_averages(batches(), [8, 10])
    assert adapted.averages == {8: (8, 10), 16: (16,), 32: (32,)}


def test_what_cannot_be_averaged_is_said_in_one_line():
    with pytest.raises(UserError, match="averages: expected images, which are gone through once a size, got none"):
        make().with_averages([], SIZES)
    with pytest.raises(UserError, match="averages: expected images, which are gone through once a size, got none"):
        make().with_averages(iter(batches()), SIZES)  # gone after the first size
    with pytest.raises(UserError, match="averages: expected batches of at least 2 images, got 1"):
        make().with_averages(torch.rand(1, 3, 32, 32), SIZES)
    for sizes in ([32, 16], [16, 16], [0, 16], []):
        with pytest.raises(UserError, match="sizes: expected rising positive numbers of pixels"):
            make().with_averages(batches(), sizes)
    with pytest.raises(UserError, match="feeding: expected a network with one scale for native"):
        make().with_averages(batches(), SIZES, native=True)
    with pytest.raises(UserError, match="share: expected"):
        make().with_averages(batches(), SIZES, share=1.5)
    with pytest.raises(UserError, match="averages: expected BatchNorm layers that keep averages, found none"):
        MSUN.vanilla("resnet_lite_gn", 32, 5).with_averages(batches(), SIZES)
    with pytest.raises(UserError, match="averages: expected sizes for each of the scales"):
        set_averages(make(), {8: (8,)})
    with pytest.raises(UserError, match="averages: expected a network without averages of sizes"):
        set_averages(make().with_averages(batches(), SIZES), {scale: (scale,) for scale in SCALES})


def test_a_norm_that_was_told_no_size_says_so():
    norm = SizeNorm(nn.BatchNorm2d(4), {8: (8, 12)})
    with pytest.raises(UserError, match="averages: expected a size"):
        norm(torch.rand(1, 4, 2, 2))


@torch.no_grad()
def test_between_two_stored_sizes_averages_are_linear_in_the_sizes_logarithm():
    model = make("vanilla")
    stored = model.with_averages(batches(), [8, 32])
    found = interpolated(stored, [8, 16, 24, 32, 40])
    means = found.get_submodule("subnets.32.bn1").running_mean
    low, high = stored.get_submodule("subnets.32.bn1").running_mean
    assert torch.equal(means[0], low)
    assert torch.equal(means[3], high)
    assert torch.equal(means[4], high)  # beyond the last
    torch.testing.assert_close(means[1], (low + high) / 2)
    torch.testing.assert_close(means[2], torch.lerp(low, high, math.log(3) / math.log(4)))
    with pytest.raises(UserError, match="averages: expected a network that has some"):
        interpolated(model, [8, 16])
