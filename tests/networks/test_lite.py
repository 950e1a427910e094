"""Our own small networks can stand in for ResNet-lite: at its cost, as an MSUN, and without BatchNorm."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from msun_lite import MSUN
from msun_lite.cost import main as cost
from msun_lite.losses import scale_invariance
from msun_lite.networks.backbones import LITE
from msun_lite.networks.counting import flops
from msun_lite.networks.lite import ResNetLite, group_norm
from msun_lite.train.run import train
from msun_lite.utils.errors import UserError

SMALL, PHOTOGRAPHS = (8, 32, 56), (16, 64, 112)
BLOCKS = (0, 1, 2, 3)
LARGE = {"densenet_lite": "densenet121", "vgg_lite": "vgg16_bn", "mobilenet_lite": "mobilenet_v2"}


def views_of(model, images=8):
    """Return random images at each scale of a model, and their labels, no two alike."""
    torch.manual_seed(1)
    views = {scale: torch.randn(images, 3, scale, scale) for scale in model.scales}
    return views, torch.arange(images)


def loss_of(model, views, labels):
    features, logits = model.forward_scales(views)
    return scale_invariance(list(features.values())) + sum(F.cross_entropy(part, labels) for part in logits.values())


@pytest.mark.parametrize("arch", LITE)
def test_each_costs_what_resnet_lite_does(arch):
    with torch.device("meta"):
        (own,), (expected,) = (flops(MSUN.vanilla(name, 112, 10)).values() for name in (arch, "resnet_lite"))
    assert own == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("arch", LITE)
def test_each_takes_images_as_small_as_any_scale_as_they_are(arch):
    network = LITE[arch].build(10).eval()
    for size in (1, 8, 17, 112):
        assert network(torch.rand(1, 3, size, size)).shape == (1, 10)


@pytest.mark.parametrize("arch", LITE)
@pytest.mark.parametrize("blocks", BLOCKS)
def test_each_is_cut_after_any_number_of_stages_and_is_cheaper_at_smaller_scales(arch, blocks):
    with torch.device("meta"):
        costs = flops(MSUN.from_backbone(arch, PHOTOGRAPHS, blocks, num_classes=10))
    assert list(costs.values()) == sorted(set(costs.values()))


@pytest.mark.parametrize("arch", LARGE)
def test_at_half_the_papers_scales_each_has_the_stems_of_its_large_sibling(arch):
    def given_up(name, scales):
        stems = MSUN.from_backbone(name, scales, blocks=1).spec["stems"].values()
        return [(stem["kernel"], len(stem["strides"])) for stem in stems]

    with torch.device("meta"):
        assert given_up(arch, PHOTOGRAPHS) == given_up(LARGE[arch], (32, 128, 224))


@pytest.mark.parametrize("arch", LITE)
@pytest.mark.parametrize("blocks", BLOCKS)
def test_each_learns_a_few_images_by_heart_and_comes_back(arch, blocks, tmp_path):
    torch.manual_seed(0)
    model = MSUN.from_backbone(arch, SMALL, blocks, num_classes=10).train()
    views, labels = views_of(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.02, momentum=0.9)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = loss_of(model, views, labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert losses[-1] < 0.8 * losses[0]
    model.eval().save(tmp_path)
    again = MSUN.from_pretrained(tmp_path)
    with torch.no_grad():
        for images in views.values():
            assert torch.equal(again(images), model(images))


@pytest.mark.parametrize("arch", LITE)
def test_convolutions_start_by_their_outputs(arch):
    torch.manual_seed(0)
    for layer in LITE[arch].build(10).modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 2000:
            fan_out = layer.weight[:, 0].numel()
            assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)


@pytest.mark.parametrize("arch", LITE)
def test_the_cost_of_each_is_reported(arch, capsys):
    assert cost(["--arch", arch, "--scales", "16,64,112", "--num_classes", "10"]) == 0
    out = capsys.readouterr().out
    assert "f1 (16 px)" in out
    assert "f3 (112 px)" in out


@pytest.mark.parametrize("arch", LITE)
def test_the_trainer_takes_each(arch, tiny):
    assert (train(tiny(arch=arch, method="msun", epochs=1)) / "summary.json").exists()


def test_group_norm_is_in_the_place_of_every_batchnorm():
    plain, grouped = ResNetLite(10), ResNetLite(10, norm_layer=group_norm)
    norms = [name for name, layer in plain.named_modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norms == [name for name, layer in grouped.named_modules() if isinstance(layer, nn.GroupNorm)]
    assert [name for name, _ in plain.named_parameters()] == [name for name, _ in grouped.named_parameters()]
    assert not list(grouped.buffers())


def test_with_group_norm_an_image_is_seen_alike_in_any_company_in_training_as_in_testing():
    torch.manual_seed(0)
    model = MSUN.from_backbone("resnet_lite_gn", SMALL, num_classes=10)
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        together = model.train()(images)
        torch.testing.assert_close(model(images[:1]), together[:1])
        torch.testing.assert_close(model.eval()(images), together)


def test_group_norm_cannot_be_private_to_a_scale():
    with pytest.raises(UserError, match="norm: expected BatchNorm layers to keep per scale, found none"):
        MSUN.from_backbone("resnet_lite_gn", SMALL, norm="per_scale")
