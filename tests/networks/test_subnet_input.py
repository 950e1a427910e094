import pytest
import torch

from msun_lite import MSUN
from msun_lite.export import Exported
from msun_lite.networks.counting import flops, flops_by_size
from msun_lite.per_scale import PerScale
from msun_lite.utils.errors import UserError

SCALES = (8, 16, 32)
NATIVE = {"subnet_input": "native", "routing": "upto:12,20"}
PRIVATE = {"private": "norms", "norm": "per_scale"}
AT = {"subnet_input": "at:20,24", "unify": "native", "norm": "per_scale"}


def make(**options):
    torch.manual_seed(0)
    return MSUN.from_backbone("resnet_lite", SCALES, num_classes=5, **options).eval()


def first_layer_sees(model, scale):
    """Return a list that gets the side of what the first layer of a scale's subnet is given."""
    sides = []
    layer = model.subnets[str(scale)].get_submodule("conv1")
    layer.register_forward_hook(lambda _, inputs, __: sides.append(inputs[0].shape[-1]))
    return sides


@torch.no_grad()
def test_a_native_subnet_gets_images_of_its_range_as_they_are_and_others_at_its_ends():
    model = make(**NATIVE)
    sides = first_layer_sees(model, 16)
    for size in (13, 16, 20):
        model(torch.rand(1, 3, size, size))
    for size in (8, 40):
        model.forward_at(torch.rand(1, 3, size, size), 16)
    assert sides == [13, 16, 20, 13, 20]


@torch.no_grad()
def test_images_below_and_above_all_ranges_are_brought_to_their_ends():
    model = make(**NATIVE)
    small, large = first_layer_sees(model, 8), first_layer_sees(model, 32)
    model([torch.rand(3, 3, 5), torch.rand(3, 50, 90)])
    assert (small, large) == ([8], [32])


@torch.no_grad()
def test_a_subnet_with_a_side_of_its_own_gets_every_image_at_it():
    model = make(**AT)
    sides = [first_layer_sees(model, scale) for scale in SCALES]
    model([torch.rand(3, size, size) for size in (8, 10, 15, 18, 32, 50)])
    assert sides == [[20], [24], [32]]
    features, logits = model.forward_scales({8: torch.rand(2, 3, 20, 20), 32: torch.rand(2, 3, 32, 32)})
    assert {maps.shape[-2:] for maps in features.values()} == {model.feature_shape}
    with pytest.raises(UserError, match="views: expected"):
        model.forward_scales({8: torch.rand(2, 3, 8, 8)})


def test_a_stem_fits_the_side_that_its_subnet_gets():
    given_up = [
        len(make(**AT | {"subnet_input": what}).spec["stems"]["8"]["strides"]) for what in ("scale", "at:32,32")
    ]
    assert given_up == [2, 0]


def test_an_own_side_costs_what_its_pixels_cost():
    cost = flops(make(**AT | {"subnet_input": "at:32,32"}))
    assert len(set(cost.values())) == 1
    assert flops(make(**AT))[8] < cost[8]


@pytest.mark.parametrize("value", ["at:", "at:20", "at:20,24,32", "at:20,40", "at:0,24", "at:20,x", "own"])
def test_sides_that_cannot_be_are_refused(value):
    with pytest.raises(UserError, match=r"^subnet_input: expected .*, got "):
        make(subnet_input=value)


@torch.no_grad()
def test_a_graph_of_a_subnet_with_a_side_of_its_own_runs(tmp_path):
    model = make(**AT)
    exported = Exported(model.export(tmp_path / "exported"))
    for size in (6, 9, 20, 40):
        image = torch.rand(2, 3, size, size)
        torch.testing.assert_close(exported(image), model(image), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_features_of_every_size_meet_in_one_shape():
    model = make(**NATIVE)
    views = {8: torch.rand(2, 3, 11, 11), 16: torch.rand(2, 3, 20, 20), 32: torch.rand(2, 3, 25, 25)}
    features, logits = model.forward_scales(views)
    assert {maps.shape[-2:] for maps in features.values()} == {model.feature_shape}
    assert {part.shape for part in logits.values()} == {(2, 5)}
    with pytest.raises(UserError, match="views: expected"):
        make().forward_scales(views)
    with pytest.raises(UserError, match="views: expected"):
        model.forward_scales({8: torch.rand(2, 3, 11, 9)})


@pytest.mark.parametrize("options", [NATIVE, {**NATIVE, "unify": "native"}, AT, {"subnet_input": "largest", **PRIVATE}])
@torch.no_grad()
def test_a_list_gives_each_image_the_logits_it_has_alone(options):
    model = make(**options)
    images = [torch.rand(3, size, size) for size in (32, 8, 17, 9, 40, 12)]
    torch.testing.assert_close(model(images), torch.cat([model(image[None]) for image in images]))


@torch.no_grad()
def test_a_graph_of_a_native_subnet_takes_every_side_of_its_range(tmp_path):
    model = make(**NATIVE)
    exported = Exported(model.export(tmp_path / "exported"))
    for size in range(6, 36):
        image = torch.rand(2, 3, size, size)
        torch.testing.assert_close(exported(image), model(image), rtol=1e-4, atol=1e-4)


def test_what_an_image_costs_depends_on_its_size_where_it_is_fed_so():
    scaled, native = make(), make(**NATIVE)
    assert flops_by_size(scaled, [8, 12, 32]) == {
        scale: dict.fromkeys([8, 12, 32], cost) for scale, cost in flops(scaled).items()
    }
    found = flops_by_size(native, [8, 10, 12, 16, 32])
    assert found[8][8] < found[8][10] < found[8][12] == found[8][32]  # the end of its range
    assert found[16][16] == flops(native)[16]
    assert found[32][8] == found[32][16] < found[32][32]


def test_private_norms_share_every_convolution_and_no_batchnorm():
    model = make(**PRIVATE)
    names = [name for name, _ in model.named_parameters()]
    owned = {name.split(".")[-2] for name in names if name.split(".")[-2].isdecimal() and "bn" in name}
    assert owned == {"8", "16", "32"}
    plain = MSUN.vanilla("resnet_lite", 32, 5)
    convolutions = sum(p.numel() for p in plain.parameters() if p.ndim > 1)
    assert sum(p.numel() for p in model.parameters() if p.ndim > 1) == convolutions
    norms = [module for module in model.modules() if isinstance(module, PerScale)]
    assert len(norms) == sum(isinstance(module, torch.nn.BatchNorm2d) for module in plain.modules())


def test_a_step_at_one_scale_moves_the_averages_of_that_scale_alone():
    model = make(**PRIVATE, unify="native").train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.forward_at(torch.rand(4, 3, 16, 16), 16)
    moved = {name for name, buffer in model.named_buffers() if not torch.equal(buffer, before[name])}
    assert moved
    assert all(".16." in name for name in moved)


@torch.no_grad()
def test_with_equal_norms_and_images_upsampled_it_computes_what_the_plain_network_does():
    torch.manual_seed(0)
    plain = MSUN.vanilla("resnet_lite", 32, 5).eval()
    model = make(**PRIVATE, subnet_input="largest")
    for size in (8, 12, 32, 50):
        image = torch.rand(2, 3, size, size)
        assert torch.equal(model(image), plain(image))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"private": "norms"}, "private: expected norm per_scale"),
        ({**PRIVATE, "unify": "none", "norm": "shared"}, "private: expected norm per_scale"),
        ({"private": "convs"}, "private: expected one of subnets, norms, got 'convs'"),
        (
            {"subnet_input": "own"},
            "subnet_input: expected one of scale, native, largest, or at: and a side .*, got 'own'",
        ),
        ({"routing": "upto:12"}, "routing: expected upto: and the largest size of each subnet but the last"),
        ({"routing": "upto:20,12"}, "routing: expected upto:"),
        ({"routing": "upto:7,20"}, "routing: expected upto:"),
        ({"routing": "upto:a,b"}, "routing: expected upto:"),
        ({"routing": "upto:12,x,20"}, "routing: expected upto:"),
        ({"routing": "upto:12,,20"}, "routing: expected upto:"),
        ({"routing": "up"}, "routing: expected one of nearest, ceil, ratio or upto:SIZES"),
    ],
)
def test_what_does_not_fit_together_is_refused_in_one_line(options, message):
    with pytest.raises(UserError, match=message):
        make(**options)


def test_how_images_are_fed_and_what_is_private_survives_saving(tmp_path):
    model = make(**NATIVE, norm="per_scale")
    model.save(tmp_path)
    again = MSUN.from_pretrained(tmp_path)
    assert (again.subnet_input, again.routing, again.private) == ("native", "upto:12,20", "subnets")
    images = [torch.rand(3, size, size) for size in (11, 18, 30)]
    assert torch.equal(model(images), again(images))
