import pytest
import torch

from msun_lite import MSUN
from msun_lite.backbones import COARSE, FINE, LARGE, SMALL, build, cut, stem_for
from msun_lite.cost import flops, parameters
from msun_lite.errors import UserError

PARAMETERS = {
    # configuration: (scales, blocks, exact count, millions as the paper prints them)
    "B1-S3": ((32, 128, 224), 1, 25_995_432, "26.0"),
    "B0-S3": ((32, 128, 224), 0, 25_563_816, "25.6"),
    "B2-S3": ((32, 128, 224), 2, 28_434_600, "28.4"),
    "B3-S3": ((32, 128, 224), 3, 42_631_336, "42.6"),
    "B1-S2": ((128, 224), 1, 25_777_768, "25.8"),
    "B1-S4": ((32, 96, 160, 224), 1, 26_216_168, "26.2"),
    "B1-S5": ((32, 80, 128, 176, 224), 1, 26_436_904, "26.4"),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_resnet50_has_the_papers_parameters(name):
    scales, blocks, exact, printed = PARAMETERS[name]
    with torch.device("meta"):
        count = parameters(MSUN.from_backbone("resnet50", scales, blocks))
    assert count == exact
    assert f"{count / 1e6:.1f}" == printed


@pytest.mark.parametrize(
    ("arch", "count"), [("resnet50", 25_557_032), ("resnext50_32x4d", 25_028_904), ("resnet_lite", 1_487_240)]
)
def test_plain_networks_have_their_known_parameters(arch, count):
    with torch.device("meta"):
        assert parameters(MSUN.vanilla(arch)) == count


def test_stems_of_the_papers_scales():
    assert [stem_for(scale, 224) for scale in (32, 128, 224)] == [SMALL, COARSE, LARGE]
    assert [stem_for(scale, 224, "fine") for scale in (32, 128, 224)] == [SMALL, FINE, LARGE]


def test_a_scale_up_to_half_the_largest_keeps_stride_one_even_when_coarse():
    assert stem_for(80, 224) == FINE


@pytest.mark.parametrize("largest", [56, 112, 224])
def test_no_coarse_map_is_larger_than_the_largest_scales(largest):
    maps = [stem_for(scale, largest).map_size(scale) for scale in range(1, largest + 1)]
    assert max(maps) == maps[-1]


@pytest.mark.parametrize("arch", ["resnet50", "resnext50_32x4d", "resnet_lite"])
def test_a_smaller_scale_is_always_cheaper_with_coarse_stems(arch):
    with torch.device("meta"):
        costs = flops(MSUN.from_backbone(arch))
    assert costs[32] < costs[128] < costs[224]


def test_the_fine_medium_stem_makes_resnet50s_medium_subnet_the_dearest():
    with torch.device("meta"):
        costs = flops(MSUN.from_backbone("resnet50", medium_stem="fine"))
    assert costs[128] > costs[224]


@pytest.mark.parametrize("blocks", [0, 1, 2, 3])
def test_cutting_does_not_change_what_a_network_computes(blocks):
    cnn = build("resnet_lite", num_classes=5).eval()
    f, g = cut(cnn, blocks)
    images = torch.rand(2, 3, 40, 40)
    assert torch.equal(g(f(images)), cnn(images))


@pytest.mark.parametrize(
    ("arch", "blocks", "word"), [("resnet51", 1, "resnet51"), ("resnet50", 4, "blocks"), ("resnet50", -1, "blocks")]
)
def test_unknown_architectures_and_impossible_cuts_are_refused(arch, blocks, word):
    with pytest.raises(UserError, match=word):
        MSUN.from_backbone(arch, blocks=blocks)


def test_an_unknown_medium_stem_is_refused():
    with pytest.raises(UserError, match="medium_stem"):
        MSUN.from_backbone("resnet_lite", medium_stem="5x5")
