import pytest
import torch
import torch.nn.functional as F
from torch import nn

from msun_lite import MSUN
from msun_lite.losses import scale_invariance
from msun_lite.networks.backbones import CUTTABLE, RECIPES, find_recipe
from msun_lite.networks.counting import flops, parameters
from msun_lite.networks.stems import Stem
from msun_lite.utils.errors import UserError

PARAMETERS = {
    # configuration: (architecture, scales, blocks, exact count, millions as the paper prints them)
    "B1-S3": ("resnet50", (32, 128, 224), 1, 25_995_432, "26.0"),
    "B0-S3": ("resnet50", (32, 128, 224), 0, 25_563_816, "25.6"),
    "B2-S3": ("resnet50", (32, 128, 224), 2, 28_434_600, "28.4"),
    "B3-S3": ("resnet50", (32, 128, 224), 3, 42_631_336, "42.6"),
    "B1-S2": ("resnet50", (128, 224), 1, 25_777_768, "25.8"),
    "B1-S4": ("resnet50", (32, 96, 160, 224), 1, 26_216_168, "26.2"),
    "B1-S5": ("resnet50", (32, 80, 128, 176, 224), 1, 26_436_904, "26.4"),
    "DenseNet": ("densenet121", (32, 128, 224), 1, 8_722_280, "8.7"),
    "MobileNet": ("mobilenet_v2", (32, 128, 224), 1, 3_874_280, "3.9"),
}

PLAIN = {
    "resnet50": 25_557_032,
    "resnext50_32x4d": 25_028_904,
    "resnet_lite": 1_487_240,
    "resnet_lite_gn": 1_487_240,
    "densenet_lite": 686_529,
    "vgg_lite": 871_200,
    "mobilenet_lite": 2_482_024,
    "densenet121": 7_978_856,
    "vgg16_bn": 138_365_992,
    "mobilenet_v2": 3_504_872,
    "efficientnet_lite0": 4_652_008,
    "alexnet": 61_100_840,
    "googlenet": 6_624_904,
    "inception_v3": 23_834_568,
}

TIMM = ("timm/test_resnet", "timm/test_efficientnet", "timm/test_convnext")


@pytest.mark.parametrize("name", PARAMETERS)
def test_an_msun_has_the_papers_parameters(name):
    arch, scales, blocks, exact, printed = PARAMETERS[name]
    with torch.device("meta"):
        count = parameters(MSUN.from_backbone(arch, scales, blocks))
    assert count == exact
    assert f"{count / 1e6:.1f}" == printed


def test_vggs_parameters_are_the_papers_in_whole_millions_cut_off():
    with torch.device("meta"):
        count = parameters(MSUN.from_backbone("vgg16_bn"))
    assert count == 141_841_576
    assert count // 1_000_000 == 141


@pytest.mark.parametrize("arch", PLAIN)
def test_plain_networks_have_their_known_parameters(arch):
    with torch.device("meta"):
        assert parameters(MSUN.vanilla(arch)) == PLAIN[arch]


def test_every_architecture_is_tested():
    assert set(PLAIN) == set(RECIPES)


@pytest.mark.parametrize("arch", CUTTABLE)
@pytest.mark.parametrize("blocks", [0, 1, 2, 3])
def test_a_smaller_scale_is_never_dearer_than_the_largest(arch, blocks):
    with torch.device("meta"):
        costs = flops(MSUN.from_backbone(arch, blocks=blocks))
    assert costs[32] < costs[224]
    assert costs[128] < costs[224]


@pytest.mark.parametrize("arch", ["resnet50", "densenet121", "mobilenet_v2"])
def test_fine_stems_are_those_of_the_authors_experiments_dearer_at_the_medium_scale(arch):
    with torch.device("meta"):
        costs = flops(MSUN.from_backbone(arch, stems="fine"))
    assert costs[128] > costs[224]


@pytest.mark.parametrize("arch", ["resnet_lite", "mobilenet_v2", "timm/test_resnet"])
@pytest.mark.parametrize("scales", [(32, 64), (16, 32, 48, 64), (16, 24, 32, 48, 64)])
def test_any_number_of_scales_from_two_on(arch, scales):
    model = MSUN.from_backbone(arch, scales, num_classes=3).eval()
    for scale in scales:
        assert model(torch.rand(1, 3, scale, scale)).shape == (1, 3)


@pytest.mark.parametrize("arch", [*CUTTABLE, *TIMM])
def test_each_architecture_trains_serves_any_size_and_comes_back(arch):
    torch.manual_seed(0)
    model = MSUN.from_backbone(arch, (32, 48, 64), num_classes=4).train()
    for name, parameter in model.named_parameters():
        if name.endswith("weight") and not parameter.any():
            nn.init.ones_(parameter)  # some start their residual branches at zero, which no gradient passes
    labels = torch.tensor([0, 1, 2, 3])
    features, logits = model.forward_scales({scale: torch.randn(4, 3, scale, scale) for scale in model.scales})
    loss = scale_invariance(list(features.values())) + sum(F.cross_entropy(part, labels) for part in logits.values())
    loss.backward()
    untouched = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not untouched
    assert all(parameter.grad.abs().sum() > 0 for name, parameter in model.named_parameters() if "bias" not in name)
    torch.optim.SGD(model.parameters(), 0.01).step()
    model.eval()
    again = MSUN.from_spec(model.spec).eval()
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        for height, width in ((16, 16), (30, 30), (50, 40), (64, 64), (100, 320), (320, 320)):
            images = torch.rand(1, 3, height, width)
            expected = model(images)
            assert expected.shape == (1, 4)
            assert torch.equal(again(images), expected)


@pytest.mark.parametrize("arch", ["alexnet", "googlenet", "inception_v3", "timm/test_vit"])
def test_other_architectures_are_vanilla_only(arch):
    scale = 160 if arch == "timm/test_vit" else 96
    model = MSUN.vanilla(arch, scale, num_classes=4).eval()
    for size in (16, 96, 200):
        assert model(torch.rand(1, 3, size, size)).shape == (1, 4)
    with pytest.raises(UserError, match=f"{arch} has no stages to cut at"):
        MSUN.from_backbone(arch)


@pytest.mark.parametrize(
    ("arch", "options", "message"),
    [
        ("resnet51", {}, "unknown architecture 'resnet51'"),
        ("timm/test_resmet", {}, "did you mean test_resnet"),
        ("resnet50", {"blocks": 4}, "blocks: expected one of 0, 1, 2, 3"),
        ("resnet50", {"blocks": -1}, "blocks: expected one of 0, 1, 2, 3"),
        ("timm/test_resnet", {"blocks": 0}, "blocks: expected one of 1, 2, 3"),
        ("timm/swin_tiny_patch4_window7_224", {}, "cannot take images of 32 px"),
        ("vgg16_bn", {"scales": (1, 2)}, "scales: the lower layers cannot take images of 2 px"),
        ("vgg16_bn", {"scales": (8, 16), "blocks": 3}, "scales: the lower layers cannot take images of 16 px"),
        ("densenet121", {"scales": (8, 16)}, "scales: densenet121 cannot take images of 16 px"),
        (
            "vgg16_bn",
            {"scales": (6, 32), "unify": "native", "stems": {6: Stem(3, {})}},
            "scales: the lower layers cannot take images of 6 px",
        ),
        ("timm/mambaout_femto", {}, r"features: expected maps \[B, C, h, w\] with one C, and h = w"),
        ("timm/crossvit_tiny_240", {"scales": (120, 240)}, "cannot be recorded"),
        ("resnet_lite", {"unify": "smallest"}, "unify: expected one of largest, native"),
        ("resnet_lite", {"norm": "none"}, "norm: expected one of shared, per_scale"),
    ],
)
def test_what_cannot_become_an_msun_is_refused_in_words(arch, options, message):
    with pytest.raises(UserError, match=message), torch.device("meta"):
        MSUN.from_backbone(arch, **options)


def test_a_scale_too_small_for_a_plain_network_is_refused_at_once():
    with pytest.raises(UserError, match="cannot take images of 32 px"):
        MSUN.vanilla("alexnet", 32)


@pytest.mark.parametrize(
    ("arch", "splits"),
    [
        ("resnet18", ("maxpool", "layer1", "layer2", "layer3")),
        ("convnext_tiny", (None, "features.1", "features.3", "features.5")),
        ("efficientnet_b0", (None, "features.2", "features.3", "features.5")),
        ("regnet_y_400mf", (None, *(f"trunk_output.block{number}" for number in (1, 2, 3)))),
        ("vit_b_16", ()),
    ],
)
def test_torchvisions_classifiers_are_cut_after_their_stages(arch, splits):
    before = torch.get_rng_state()
    assert find_recipe(arch).splits == splits
    assert torch.equal(torch.get_rng_state(), before)
