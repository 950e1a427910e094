import pytest
import torch
import torch.nn.functional as F

from msun_lite.losses import constrain, pair_distances
from msun_lite.scales import pyramid, resize, served_sizes
from msun_lite.train.objectives import find_objective
from msun_lite.train.objectives.objective import RANDOM_GROUPS
from msun_lite.train.start import make_model

SCALES = [8, 16, 32]
CLASSES = list("abcdefghij")


@pytest.fixture
def objective(tiny):
    """Return a function that makes the objective of a method with fresh weights."""

    def make(method, **options):
        config = tiny(method=method, scales=SCALES, sizes=SCALES, **options)
        return find_objective(config.method)(make_model(config, CLASSES), config)

    return make


def test_training_sees_the_scales_alone(objective):
    images = torch.rand(4, 3, 32, 32)
    views = objective("msun").views(images)
    assert all(torch.equal(view, pyramid(images, SCALES)[scale]) for scale, view in views.items())
    views = objective("mst").views(images)
    assert all(torch.equal(view, resize(pyramid(images, SCALES)[scale], 32)) for scale, view in views.items())
    (view,) = objective("vanilla").views(images).values()
    assert view is images


@pytest.mark.parametrize("method", ["mst", "msun"])
def test_random_sizes_leave_half_of_the_images_at_the_scale(objective, method):
    images = torch.rand(16, 3, 32, 32)
    plain, mixed = (objective(method, random_sizes=random).views(images) for random in (False, True))
    for scale in SCALES:
        assert mixed[scale].shape == plain[scale].shape
        assert torch.equal(mixed[scale][:8], plain[scale][:8])
    assert not torch.equal(mixed[16][8:], plain[16][8:])


def test_a_random_size_is_one_that_the_routing_sends_to_the_scale(objective):
    images = torch.rand(16, 3, 32, 32)
    made = objective("msun", random_sizes=True, routing="ratio")
    allowed = [resize(resize(images, size), 16) for size in served_sizes(16, SCALES, "ratio")]
    assert len(allowed) == 11
    for _ in range(5):
        group = slice(8, 8 + 8 // RANDOM_GROUPS)
        view = made.views(images)[16][group]
        assert any(torch.equal(view, other[group]) for other in allowed)


@pytest.mark.parametrize("method", ["vanilla", "mst", "msun"])
@pytest.mark.parametrize("images", [2, 3, 5])
def test_small_batches_can_have_random_sizes_too(objective, method, images):
    terms = objective(method, random_sizes=True)(torch.rand(images, 3, 32, 32), torch.zeros(images, dtype=torch.int64))
    assert terms.loss.isfinite()


def step(config):
    """Return the network, a batch, and the terms of its loss by `config`."""
    torch.manual_seed(0)
    model = make_model(config, CLASSES)
    images, labels = torch.rand(6, 3, 16, 16), torch.arange(6)
    return model, images, labels, find_objective(config.method)(model, config)(images, labels)


def upsampled(images):
    return [resize(resize(images, scale), 16) for scale in (8, 16)]


def test_mst_without_constraint_is_the_plain_sum_of_cross_entropies(tiny):
    model, images, labels, terms = step(tiny(method="mst"))
    terms.loss.backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    torch.manual_seed(0)
    again = make_model(tiny(method="mst"), CLASSES)
    expected = torch.stack([F.cross_entropy(again(view), labels) for view in upsampled(images)]).sum()
    expected.backward()
    assert torch.equal(terms.loss, expected)
    assert torch.equal(terms.ce, expected)
    assert terms.si == 0
    pairs = zip(gradients, again.parameters(), strict=True)
    assert all(torch.equal(gradient, parameter.grad) for gradient, parameter in pairs)


@pytest.mark.parametrize("blocks", [0, 2])
@pytest.mark.parametrize("joint", [False, True])
def test_mst_with_a_constraint_compares_the_features_where_an_msun_would_be_cut(tiny, blocks, joint):
    config = tiny(method="mst", constraint="pair", blocks=blocks, lam=0.001, joint=joint)
    model, images, _, terms = step(config)
    assert set(model.state_dict()) == set(make_model(tiny(method="vanilla", blocks=blocks), CLASSES).state_dict())
    assert any(name.startswith(f"subnets.16.layer{blocks}") for name in model.state_dict()) == (blocks > 0)
    assert any(name.startswith(f"unified.layer{blocks + 1}") for name in model.state_dict())
    lower = model.subnets["16"]
    views = upsampled(images)
    features = lower(torch.cat(views)).chunk(2) if joint else [lower(view) for view in views]
    distances = pair_distances(features)
    assert distances.sum() > 0.001
    torch.testing.assert_close(terms.si, distances.sum())
    torch.testing.assert_close(terms.loss, terms.ce + constrain(distances, 0.001, "pair"))


def test_the_cross_entropies_of_mst_are_the_same_with_a_constraint(tiny):
    plain, constrained = (step(tiny(method="mst", constraint=word))[3] for word in ("none", "pair"))
    assert torch.equal(plain.ce, constrained.ce)
    assert constrained.loss > plain.loss


@pytest.mark.parametrize("method", ["mst", "msun"])
def test_distillation_is_added_by_its_weight(tiny, method):
    plain, taught, twice = (step(tiny(method=method, distil=weight))[3] for weight in (0.0, 0.5, 1.0))
    assert plain.kd == 0
    assert taught.kd > 0
    assert torch.equal(taught.kd, twice.kd)
    assert torch.equal(plain.ce, taught.ce)
    torch.testing.assert_close(taught.loss, plain.loss + 0.5 * taught.kd)
