import pytest
import torch

from msun_lite import MSUN
from msun_lite.utils.errors import UserError

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


@torch.no_grad()
def test_with_nothing_shared_each_scale_has_a_whole_network_of_its_own():
    model, shared = make(unify="none").eval(), make()
    parts = {
        scale: [*model.subnets[str(scale)].parameters(), *model.unified[str(scale)].parameters()] for scale in SCALES
    }
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for part in parts.values() for p in part)
    names = {scale: set(model.unified[str(scale)].state_dict()) for scale in SCALES}
    assert names[8] == names[16] == names[32] == set(shared.unified.state_dict())
    assert not torch.equal(model.unified["8"].fc.weight, model.unified["32"].fc.weight)
    given = views()
    features, logits = model.forward_scales(given)
    for scale in SCALES:
        assert features[scale].shape == (4, 32, *model.feature_shape)
        assert torch.equal(logits[scale], model.unified[str(scale)](features[scale]))
        assert torch.equal(model(given[scale]), logits[scale])


def test_with_nothing_shared_a_step_at_one_scale_moves_that_scale_alone():
    model = make(unify="none")
    model.forward_at(views()[16], 16).sum().backward()
    touched = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert any(name.startswith("unified.16.") for name in touched)
    assert all(name.startswith(("subnets.16.", "unified.16.")) for name in touched)


@torch.no_grad()
def test_with_nothing_shared_a_model_survives_saving_and_starts_from_weights(tmp_path):
    model = make(unify="none").eval()
    model.save(tmp_path)
    again = MSUN.from_pretrained(tmp_path)
    images = [torch.rand(3, size, size) for size in (32, 8, 17)]
    assert torch.equal(again(images), model(images))
    plain = MSUN.vanilla("resnet_lite", 32, num_classes=5).eval()
    plain.save(tmp_path)
    started = make(unify="none", weights=str(tmp_path)).eval()
    assert torch.equal(started(torch.ones(1, 3, 32, 32)), plain(torch.ones(1, 3, 32, 32)))
    assert torch.equal(started.unified["8"].fc.weight, plain.unified.fc.weight)
    assert started.unified["8"].fc.weight is not started.unified["32"].fc.weight


def test_with_nothing_shared_there_are_no_norms_to_keep_per_scale():
    with pytest.raises(UserError, match="norm: expected shared where unify is none"):
        make(unify="none", norm="per_scale")
