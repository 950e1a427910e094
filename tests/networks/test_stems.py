import copy

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from msun_lite import MSUN
from msun_lite.networks.backbones import RECIPES
from msun_lite.networks.cutting import cut, keep_features
from msun_lite.networks.lite import ResNetLite
from msun_lite.networks.stems import Stem, choose_stem, choose_stems, fit_stem, resample_kernel, strided_places
from msun_lite.shapes import count_classes, map_shape
from msun_lite.utils.errors import UserError


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
        batch, size = (x.shape[0], x.size(0)) if self.kind == "shape" else (0, 0)
        x = self.first(x)
        y = self.middle(x)
        if self.kind == "shape":
            return y.reshape(batch, 3, -1).mean(2).view(size, 3)
        if self.kind == "twice":
            return self.last(self.middle(y)).mean((2, 3))
        if self.kind == "values" and y.sum() > 0:
            return self.last(y).mean((2, 3))
        return self.last(x + y).mean((2, 3))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("around", "all of the network passes through, got middle$"),
        ("shape", "got middle, after which the shape of the images is used: read it from the features there"),
        ("twice", "got 2 times"),
        ("values", "cannot be recorded"),
    ],
)
def test_a_layer_that_does_not_divide_the_network_is_refused(kind, message):
    with pytest.raises(UserError, match=message):
        cut(Skipping(kind), "middle")


def test_a_network_that_looks_at_values_is_told_so():
    with pytest.raises(UserError, match=r"test_stems\.py:\d+: expected a forward that asks for shapes alone"):
        count_classes(Skipping("values"), 8)


class Dropping(nn.Module):
    """Dropout as a function below and above `middle`, constants, and arguments that are hardly ever given."""

    def __init__(self):
        super().__init__()
        self.first, self.middle = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x, mask=None, *others, pooled=True, **options):
        x = F.dropout(self.first(x) * torch.tensor(2.0), 0.5, self.training)
        x = self.middle(x if mask is None else x * mask)
        x = F.dropout(x, p=0.5 if self.training else 0.0)
        return x.mean((2, 3)) if pooled else x


@pytest.mark.parametrize("found", [True, False])
def test_a_cut_network_trains_and_evaluates_as_the_network_does(found):
    cnn = Dropping().train(found)
    f, g = cut(cnn, "middle")
    assert {module.training for module in cnn.modules()} == {found}
    images = torch.rand(2, 3, 8, 8)
    for training in (True, False):
        f, g = (copy.deepcopy(part).train(training) for part in (f, g))
        cnn.train(training)
        torch.manual_seed(0)
        expected = cnn(images)
        torch.manual_seed(0)
        assert torch.equal(g(f(images)), expected)
        assert torch.equal(g(f(images)), expected) != training


class Branching(nn.Module):
    """Another head in training than in evaluation."""

    def __init__(self):
        super().__init__()
        self.first, self.head, self.other = (nn.Conv2d(3, 3, 1) for _ in range(3))

    def forward(self, x):
        x = self.first(x)
        return (self.other(x) if self.training else self.head(x)).mean((2, 3))


def test_a_network_of_another_course_in_training_is_refused():
    with pytest.raises(UserError, match="the same course in training and in evaluation, that of Branching does not"):
        cut(Branching().eval(), "first")


class InPlace(nn.Module):
    """A block whose first step overwrites what it is given."""

    def forward(self, x):
        x += 1
        return x.mean((2, 3))


@pytest.mark.parametrize(
    "first",
    [nn.ReLU(inplace=True), nn.Sequential(nn.Identity(), nn.ReLU(inplace=True)), InPlace(), nn.Dropout(0.5, True)],
)
def test_the_upper_part_leaves_the_features_as_they_are(first):
    cnn = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), first, nn.Flatten())
    f, g = cut(cnn, "0")
    keep_features(g, f, 8)
    features = f(torch.randn(2, 3, 8, 8)).detach()
    before = features.clone()
    expected = cnn.eval()(features.new_zeros(2, 3, 8, 8))
    assert torch.equal(g.eval()(f(features.new_zeros(2, 3, 8, 8))), expected)
    g.train()(features)
    assert torch.equal(features, before)


def test_nothing_is_copied_where_nothing_is_overwritten():
    f, g = cut(ResNetLite(num_classes=5), "layer1")
    assert "clone" not in keep_features(g, f, 32).code


class Permuted(nn.Module):
    """Maps [B, C, h, w] with their axes in another order, or tokens."""

    def __init__(self, *axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.permute(0, *self.axes) if self.axes else x.flatten(2).mT


@pytest.mark.parametrize(
    ("axes", "channels", "message"),
    [
        ((2, 3, 1), 6, r"h = w for square images, got \[1, 8, 8, 6\] at 16 px, \[1, 16, 16, 6\] at 32 px"),
        ((2, 3, 1), 16, r"one C, .* got \[1, 8, 8, 16\] at 16 px, \[1, 16, 16, 16\] at 32 px"),
        ((), 6, r"expected maps \[B, C, h, w\] of the lower layers, got \[1, 64, 6\]"),
    ],
)
def test_maps_of_another_layout_are_refused(axes, channels, message):
    f = nn.Sequential(nn.Conv2d(3, channels, 3, stride=2, padding=1), Permuted(*axes))
    with pytest.raises(UserError, match=message):
        choose_stems(f, (16, 32), {16: Stem(3, {})})


@pytest.mark.parametrize(
    ("cnn", "message"),
    [
        (nn.Flatten(0), r"model: expected logits \[B, classes\] of Flatten, got \[192\]"),
        (Permuted(), r"of Permuted, got \[1, 64, 3\]"),
        (nn.LSTM(8, 8), "scales: LSTM cannot take images of 8 px"),
        (nn.Linear(7, 2), "scales: Linear cannot take images of 8 px"),
    ],
)
def test_what_gives_no_logits_is_refused(cnn, message):
    with pytest.raises(UserError, match=message):
        count_classes(cnn, 8)


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


def test_lower_layers_without_a_convolution_are_refused():
    f, _ = cut(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 32), nn.Flatten()), "0")
    with pytest.raises(UserError, match="expected a convolution in the lower layers"):
        choose_stem(f, 16, 32)


class Standardised(nn.Conv2d):
    """A convolution that treats its weights specially."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, weight, self.bias)


@pytest.mark.parametrize("resample", [True, False])
def test_a_smaller_kernel_keeps_all_else_of_the_convolution(resample):
    old = Standardised(3, 6, 7, 2, padding=6, dilation=2, groups=3, padding_mode="reflect")
    old.weight.requires_grad_(False)
    conv = fit_stem(nn.Sequential(copy.deepcopy(old)), Stem(5, {"0": 1}), resample)[0]
    assert type(conv) is Standardised
    assert not conv.weight.requires_grad
    assert conv.bias.requires_grad
    expected = Standardised(3, 6, 5, 1, padding=4, dilation=2, groups=3, padding_mode="reflect")
    expected.load_state_dict(conv.state_dict())
    images = torch.rand(2, 3, 12, 12)
    assert torch.equal(conv(images), expected(images))
    assert conv(images).shape == (2, 6, 12, 12)
    assert torch.equal(conv.bias, old.bias) == resample


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
