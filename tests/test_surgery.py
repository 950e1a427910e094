import pytest
import torch
import torchvision
from torch import nn

from msun_lite import MSUN
from msun_lite.backbones import RECIPES, ResNetLite
from msun_lite.errors import UserError
from msun_lite.surgery import Stem, choose_stem, cut, fit_stem, map_shape, resample_kernel, strided_places


def stem_of(arch, scale, rule="coarse", blocks=1, largest=224):
    recipe = RECIPES[arch]
    with torch.device("meta"):
        f, _ = cut(recipe.build(1), recipe.splits[blocks])
    return choose_stem(f, scale, largest, rule, recipe.places, recipe.kernels)


@pytest.mark.parametrize("split", ["maxpool", "layer1", "layer2", "layer3"])
def test_cutting_does_not_change_what_a_network_computes(split):
    cnn = ResNetLite(num_classes=5).eval()
    f, g = cut(cnn, split)
    images = torch.rand(2, 3, 40, 40)
    assert torch.equal(g(f(images)), cnn(images))
    assert set(f.state_dict()) | set(g.state_dict()) == set(cnn.state_dict())
    assert not set(f.state_dict()) & set(g.state_dict())


def test_a_cut_network_still_runs_at_other_sizes_and_batches():
    f, g = cut(torchvision.models.mobilenet_v2(num_classes=3).eval(), "features.9")
    for size in (32, 64, 100):
        assert g(f(torch.rand(2, 3, size, size))).shape == (2, 3)


def test_layers_of_f_and_g_can_be_hooked_by_their_own_names():
    f, g = cut(ResNetLite(num_classes=5).eval(), "layer1")
    seen = []
    for name, module in (("layer1.0.conv1", f), ("layer3", g)):
        module.get_submodule(name).register_forward_hook(lambda *_, name=name: seen.append(name))
    g(f(torch.rand(1, 3, 32, 32)))
    assert seen == ["layer1.0.conv1", "layer3"]


class Skipping(nn.Module):
    """Something leads around `middle`, or it runs twice, or the forward depends on the values."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.first, self.middle, self.last = (nn.Conv2d(3, 3, 1) for _ in range(3))

    def forward(self, x):
        x = self.first(x)
        y = self.middle(x)
        if self.kind == "twice":
            return self.last(self.middle(y)).mean((2, 3))
        if self.kind == "values" and y.sum() > 0:
            return self.last(y).mean((2, 3))
        return self.last(x + y).mean((2, 3))


@pytest.mark.parametrize(
    ("kind", "message"),
    [("around", "all of the network passes through"), ("twice", "got 2 times"), ("values", "cannot be recorded")],
)
def test_a_layer_that_does_not_divide_the_network_is_refused(kind, message):
    with pytest.raises(UserError, match=message):
        cut(Skipping(kind), "middle")


@pytest.mark.parametrize("split", ["layer9", ""])
def test_an_unknown_layer_is_refused_naming_some_that_are_there(split):
    with pytest.raises(UserError, match=r"such as one of conv1, bn1.*got"):
        cut(ResNetLite(num_classes=5), split)


def test_stems_of_the_papers_scales():
    assert stem_of("resnet50", 32) == Stem(3, {"maxpool": 1, "conv1": 1})
    assert stem_of("resnet50", 128) == Stem(5, {})
    assert stem_of("resnet50", 128, "fine") == Stem(5, {"conv1": 1})
    assert stem_of("vgg16_bn", 32).strides == {"features.23": 1, "features.13": 1, "features.6": 1}
    assert stem_of("vgg16_bn", 128) == Stem(3, {"features.23": 1})
    names = ("features.0.0", "features.2.conv.1.0", "features.4.conv.1.0")
    assert stem_of("mobilenet_v2", 32) == Stem(1, dict.fromkeys(names, 1))
    assert stem_of("mobilenet_v2", 128, "fine") == Stem(3, {"features.0.0": 1})


def test_where_g_runs_on_the_map_as_it_is_no_map_is_finer_than_the_largest_scales():
    with torch.device("meta"):
        for arch in ("mobilenet_v2", "vgg16_bn", "resnet_lite"):
            model = MSUN.from_backbone(arch, unify="native")
            sides = [map_shape(f, int(scale))[0] for scale, f in model.subnets.items()]
            assert max(sides) == sides[-1]


def test_branches_of_one_block_give_up_their_stride_together():
    f, _ = cut(ResNetLite(num_classes=1), "layer2")
    assert strided_places(f, 64) == [("conv1",), ("maxpool",), ("layer2.0.conv1", "layer2.0.downsample.0")]
    f = fit_stem(f, Stem(7, {"layer2.0.conv1": 1, "layer2.0.downsample.0": 1}))
    assert map_shape(f, 64) == (16, 16)


def test_a_stride_of_four_can_be_halved():
    f, _ = cut(nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 4, 1), nn.Flatten()), "1")
    assert choose_stem(f, 32, 64) == Stem(4, {"0": 2})
    assert map_shape(fit_stem(f, Stem(4, {"0": 2})), 32) == (16, 16)


def test_a_stem_for_layers_that_are_not_there_is_refused():
    f, _ = cut(ResNetLite(num_classes=1), "layer1")
    with pytest.raises(UserError, match="'pool'"):
        fit_stem(f, Stem(3, {"pool": 1}))


def test_own_stems_are_used_and_stored():
    stems = {8: Stem(3, {"conv1": 1, "maxpool": 1}), 16: Stem(3, {"maxpool": 1})}
    model = MSUN.from_backbone("resnet_lite", (8, 16, 32), stems=stems)
    assert model.subnets["16"].conv1.kernel_size == (3, 3)
    assert model.spec["stems"]["16"] == {"kernel": 3, "strides": {"maxpool": 1}}
    assert MSUN.from_spec(model.spec).subnets["16"].conv1.stride == (2, 2)
    with pytest.raises(UserError, match=r"one for each of the scales \[8, 16\], got \[8\]"):
        MSUN.from_backbone("resnet_lite", (8, 16, 32), stems={8: stems[8]})


def test_a_resampled_kernel_answers_to_shrunken_patches_as_the_old_one_to_smooth_patches():
    """B x is the patch, shrunk: for x in the span of B^T the two answers must be the same."""
    weights = torch.randn(4, 3, 7, 7, dtype=torch.float64)
    small = resample_kernel(weights, 5)
    shrink = nn.functional.interpolate(
        torch.eye(49, dtype=torch.float64).view(-1, 1, 7, 7), (5, 5), mode="bilinear", antialias=True
    ).flatten(1)
    w, w_small = weights.flatten(2), small.flatten(2)
    residual = w_small @ shrink.T - w  # B^T w' - w must be orthogonal to the range of B^T
    torch.testing.assert_close(residual @ shrink, torch.zeros(4, 3, 25, dtype=torch.float64), atol=1e-9, rtol=0)
    assert resample_kernel(weights, 7).allclose(weights)
