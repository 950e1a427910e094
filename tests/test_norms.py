import pytest
import torch

from msun_lite import MSUN
from msun_lite.errors import UserError

SCALES = (8, 16, 32)


def make(**options):
    torch.manual_seed(0)
    return MSUN.from_backbone("resnet_lite", SCALES, num_classes=5, **options)


def views(count=4):
    return {scale: torch.rand(count, 3, scale, scale) for scale in SCALES}


def test_norms_per_scale_add_their_parameters_and_nothing_else():
    shared, private = make(), make(norm="per_scale")
    norms = [m for m in shared.unified.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    extra = 2 * sum(p.numel() for norm in norms for p in norm.parameters())
    count = [sum(p.numel() for p in model.parameters()) for model in (shared, private)]
    assert count[1] == count[0] + extra


def test_each_scale_moves_its_own_statistics_only():
    model = make(norm="per_scale").train()
    before = {name: buffer.clone() for name, buffer in model.unified.named_buffers()}
    model.forward_at(views()[16], 16)
    moved = {name for name, buffer in model.unified.named_buffers() if not torch.equal(buffer, before[name])}
    assert moved
    assert all(".16." in name for name in moved)


def test_with_equal_norms_both_options_compute_the_same():
    shared, private = make().eval(), make(norm="per_scale").eval()
    images = [torch.rand(3, size, size) for size in (8, 17, 40)]
    assert torch.equal(shared(images), private(images))


@pytest.mark.parametrize("norm", ["shared", "per_scale"])
@torch.no_grad()
def test_native_features_stay_at_their_own_size_in_g_and_meet_in_the_loss(norm):
    model = make(unify="native", norm=norm).eval()
    seen = []
    model.unified.get_submodule("layer2").register_forward_hook(lambda _, x, __: seen.append(x[0].shape[-1]))
    features, logits = model.forward_scales(views())
    assert seen == [8, 8, 8]  # as many strides are given up as lead to the 8 of the largest scale
    model = MSUN.from_backbone("resnet_lite", (8, 32, 64), num_classes=5, unify="native", norm=norm).eval()
    model.unified.get_submodule("layer2").register_forward_hook(lambda _, x, __: seen.append(x[0].shape[-1]))
    features, logits = model.forward_scales({scale: torch.rand(2, 3, scale, scale) for scale in (8, 32, 64)})
    assert seen[3:] == [8, 16, 16]  # 8 px have no more
    assert {feature.shape for feature in features.values()} == {(2, 32, 16, 16)}
    assert {part.shape for part in logits.values()} == {(2, 5)}


@torch.no_grad()
def test_a_list_of_mixed_sizes_gives_each_image_the_logits_it_has_alone():
    model = make(unify="native", norm="per_scale").eval()
    images = [torch.rand(3, size, size) for size in (32, 8, 17, 9, 40)]
    torch.testing.assert_close(model(images), torch.cat([model(image[None]) for image in images]))


def test_one_batch_over_all_scales_needs_one_shape_and_one_norm():
    for options in ({"unify": "native"}, {"norm": "per_scale"}):
        with pytest.raises(UserError, match="joint"):
            make(**options).forward_scales(views(), joint=True)


def test_a_network_without_batchnorm_has_none_to_keep_per_scale():
    with pytest.raises(UserError, match="norm: expected BatchNorm"):
        MSUN.from_backbone("timm/test_convnext", (32, 64), norm="per_scale")


def test_both_options_survive_saving(tmp_path):
    model = make(unify="native", norm="per_scale").eval()
    model.save(tmp_path)
    again = MSUN.from_pretrained(tmp_path)
    assert (again.unify, again.norm) == ("native", "per_scale")
    images = torch.rand(2, 3, 12, 12)
    assert torch.equal(again(images), model(images))
