import pytest
import torch
import torch.nn.functional as F

from msun_lite import MSUN
from msun_lite.explain import FeatureSpace, agreement, grad_cam, import_extra
from msun_lite.networks.layers import penultimate
from msun_lite.networks.lite import ResNetLite
from msun_lite.scales import resize
from msun_lite.utils.errors import UserError


@pytest.fixture(scope="module")
def msun():
    torch.manual_seed(0)
    return MSUN.from_backbone("resnet_lite", (16, 64), num_classes=5).eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def stretched(maps):
    low, high = (getattr(maps, name)((1, 2), keepdim=True) for name in ("amin", "amax"))
    return (maps - low) / (high - low + 1e-7)


@pytest.mark.parametrize(("size", "scale"), [(16, 16), (64, 64)])
def test_the_map_is_equation_9_stretched_and_resized(msun, images, size, scale):
    images, classes = images.repeat_interleave(5, 0), list(range(5)) * 3
    with torch.no_grad():
        below = msun.features(resize(images, scale), scale)
        A = msun.unified.layer4(msun.unified.layer3(msun.unified.layer2(below)))
    A.requires_grad_()
    logits = msun.unified.fc(msun.unified.avgpool(A).flatten(1))
    logits[range(15), classes].sum().backward()
    maps = F.relu((A.grad.mean((2, 3), keepdim=True) * A).sum(1)).detach()
    expected = stretched(F.interpolate(stretched(maps)[:, None], (64, 64), mode="bilinear")[:, 0])
    found = grad_cam(msun, images, classes, size)
    assert (found.amax((1, 2)) > 0.99).sum() >= 5, "too few maps with evidence to tell anything"
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)


def test_another_layer_and_the_networks_own_class_can_be_asked_for(msun, images):
    own = msun(images).argmax(1)
    torch.testing.assert_close(grad_cam(msun, images, None, 64), grad_cam(msun, images, own, 64))
    lower, upper = (grad_cam(msun, images, own, 64, layer) for layer in ("layer1.0", "layer4.0"))
    assert not torch.allclose(lower, upper, atol=0.05)
    with pytest.raises(UserError, match="layer: resnet_lite has none called 'layer9'"):
        grad_cam(msun, images, own, 64, "layer9")


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was_found(images, fails):
    model = MSUN.vanilla("resnet_lite", 64, 5)
    model.train()
    model.unified.layer4.eval()
    model.unified.fc.weight.requires_grad_(False)
    parameter = model.unified.fc.bias
    parameter.grad = torch.ones_like(parameter)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if fails:
        failing = model.unified.fc.register_forward_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            grad_cam(model, images, [0, 1, 2], 32)
        failing.remove()
    else:
        grad_cam(model, images, [0, 1, 2], 32)
    assert model.training
    assert not model.unified.layer4.training
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["unified.fc.weight"]
    assert torch.equal(parameter.grad, torch.ones_like(parameter))
    assert model.unified.layer4[0].conv1.weight.grad is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_a_class_that_the_network_does_not_have_is_refused(msun, images):
    with pytest.raises(UserError, match=r"classes: expected 0 to 4 for each of 3 images, got \[0, 1, 99\]"):
        grad_cam(msun, images, [0, 1, 99], 64)
    for wrong in ([0, 1], 3, [0.0, 1.0, 2.0]):
        with pytest.raises(UserError, match="classes: expected 0 to 4"):
            grad_cam(msun, images, wrong, 64)


def test_another_module_or_a_layer_without_maps_is_refused(msun, images):
    with pytest.raises(UserError, match="expected an MSUN .* got a Linear"):
        grad_cam(torch.nn.Linear(1, 1), images, None, 64)
    with pytest.raises(UserError, match="expected one that gives maps, fc gives"):
        grad_cam(msun, images, None, 64, "fc")


def test_it_works_inside_of_inference_mode(msun, images):
    expected = grad_cam(msun, images, [0, 1, 2], 64)
    with torch.inference_mode():
        found = grad_cam(msun, images * 1, [0, 1, 2], 64)
    torch.testing.assert_close(found, expected)


def test_the_last_stage_of_a_network_of_your_own_is_found_and_one_that_is_not_cut_needs_the_layers_name(images):
    model = MSUN.from_module(ResNetLite(5), "layer1", (16, 64)).eval()
    assert torch.equal(grad_cam(model, images, [0, 1, 2], 32), grad_cam(model, images, [0, 1, 2], 32, "layer4"))
    whole = MSUN.vanilla("msun_lite.networks.lite:ResNetLite", 64, 5).eval()
    assert grad_cam(whole, images, [0, 1, 2], 32, "layer4").shape == (3, 64, 64)
    with pytest.raises(
        UserError, match="layer: nothing says where the stages of msun_lite.networks.lite:ResNetLite end"
    ):
        grad_cam(whole, images, [0, 1, 2], 32)


def test_agreement_of_equal_opposite_and_separate_maps():
    corner = torch.zeros(1, 10, 10)
    corner[:, :2, :5] = torch.rand(2, 5) + 0.5
    elsewhere = corner.flip(1)
    correlation, overlap = agreement(torch.cat([corner] * 3), torch.cat([corner, 1 - corner, elsewhere]))
    assert correlation[:2].tolist() == pytest.approx([1, -1])
    assert correlation[2] < 0
    assert overlap[0] == 1
    assert overlap[2] == 0


def test_the_highest_fifth_of_unrelated_maps_overlaps_by_a_fifth():
    maps, others = torch.rand(2, 50, 40, 40, generator=torch.Generator().manual_seed(0))
    correlation, overlap = agreement(maps, others)
    assert overlap.mean().item() == pytest.approx(0.2, abs=0.01)
    assert correlation.mean().item() == pytest.approx(0, abs=0.01)


def test_a_map_without_evidence_has_no_agreement_rather_than_a_false_one():
    correlation, overlap = agreement(torch.zeros(1, 4, 4), torch.rand(1, 4, 4))
    assert correlation.isnan().all()
    assert overlap.isnan().all()


def test_the_classifiers_features_are_caught_and_the_hook_removed(msun, images):
    with torch.no_grad(), penultimate(msun) as features:
        logits = msun(images)
    torch.testing.assert_close(msun.unified.fc(features[0]), logits)
    assert not msun.unified.fc._forward_pre_hooks
    with pytest.raises(UserError, match="without one"), penultimate(torch.nn.Conv2d(3, 3, 1)):
        pass


@pytest.fixture
def space():
    """Return a space of two well separated classes; at 8 px, the first one has moved to the other one's place."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 1]).repeat(20)
    centres = torch.stack([torch.zeros(6), 10 * torch.ones(6)])
    large = centres[labels] + 0.1 * torch.randn(40, 6, generator=generator)
    small = centres[torch.ones_like(labels)] + 0.1 * torch.randn(40, 6, generator=generator)
    return FeatureSpace({8: small, 16: large}, labels)


def test_separate_classes_have_high_silhouettes_and_right_neighbours(space):
    assert space.silhouette(16).min() > 0.9
    assert abs(space.silhouette(8).mean()) < 0.1
    assert space.neighbours(16, at_largest=False).all()
    assert space.neighbours(16, at_largest=True).all()
    assert space.neighbours(8, at_largest=True).mean() == 0.5  # one class is taken for the other


def test_an_image_is_never_its_own_neighbour():
    labels = torch.tensor([0, 1, 2, 3, 4, 4])
    space = FeatureSpace({8: torch.eye(6) + torch.tensor([0, 0, 0, 0, 0, 9.0])}, labels)
    assert not space.neighbours(8, at_largest=False)[:4].any()
    assert not space.neighbours(8, at_largest=True)[:4].any()


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_a_space_needs_two_classes_and_several_images_of_one(labels):
    with pytest.raises(UserError, match="feature space: expected images of two classes or more"):
        FeatureSpace({8: torch.rand(3, 2)}, torch.tensor(labels))


def test_displacement_is_relative_to_the_distance_between_images(space):
    assert space.displacement(16).max() == 0
    moved = space.displacement(8)
    distances = torch.cdist(torch.tensor(space.largest), torch.tensor(space.largest))
    expected = 10 * 6**0.5 / (distances.sum() / (40 * 39)).item()
    assert moved[::2].mean() == pytest.approx(expected, rel=0.02)
    assert moved[1::2].max() < 0.1


def test_one_basis_serves_all_sizes(space):
    points, shares = space.basis()
    assert {size: found.shape for size, found in points.items()} == {8: (40, 2), 16: (40, 2)}
    assert shares[0] > 0.9
    distance = abs(points[8][1::2].mean(0) - points[16][1::2].mean(0)).max()
    assert distance < 0.1  # the class that did not move


def test_a_missing_library_is_named_with_the_way_to_get_it():
    with pytest.raises(UserError, match=r"needs no_such_library: pip install 'msun-lite\[analyse\]'"):
        import_extra("no_such_library.part")


def test_with_nothing_shared_the_classifier_of_the_scale_is_caught():
    model = MSUN.from_backbone("resnet_lite", (8, 16), num_classes=5, unify="none").eval()
    with torch.no_grad(), penultimate(model) as features:
        logits = [model(torch.rand(2, 3, size, size)) for size in (8, 16)]
    for scale, kept, expected in zip((8, 16), features, logits, strict=True):
        torch.testing.assert_close(model.unified[str(scale)].fc(kept), expected)
    assert not any(g.fc._forward_pre_hooks for g in model.unified.values())
