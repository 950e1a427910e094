import pytest
import torch

from msun_lite.methods import RANDOM_GROUPS, Objective, make_model
from msun_lite.scales import pyramid, resize, served_sizes

SCALES = [8, 16, 32]


@pytest.fixture
def objective(tiny):
    """Return a function that makes the objective of a method with fresh weights."""

    def make(method, **options):
        config = tiny(method=method, scales=SCALES, sizes=SCALES, **options)
        return Objective(make_model(config, list("abcdefghij")), config)

    return make


def test_training_sees_the_scales_alone(objective):
    images = torch.rand(4, 3, 32, 32)
    views = objective("msun")._views(images)
    assert all(torch.equal(view, pyramid(images, SCALES)[scale]) for scale, view in views.items())
    views = objective("mst")._views(images)
    assert all(torch.equal(view, resize(pyramid(images, SCALES)[scale], 32)) for scale, view in views.items())
    (view,) = objective("vanilla")._views(images).values()
    assert view is images


@pytest.mark.parametrize("method", ["mst", "msun"])
def test_random_sizes_leave_half_of_the_images_at_the_scale(objective, method):
    images = torch.rand(16, 3, 32, 32)
    plain, mixed = (objective(method, random_sizes=random)._views(images) for random in (False, True))
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
        view = made._views(images)[16][group]
        assert any(torch.equal(view, other[group]) for other in allowed)


@pytest.mark.parametrize("method", ["vanilla", "mst", "msun"])
@pytest.mark.parametrize("images", [2, 3, 5])
def test_small_batches_can_have_random_sizes_too(objective, method, images):
    terms = objective(method, random_sizes=True)(torch.rand(images, 3, 32, 32), torch.zeros(images, dtype=torch.int64))
    assert terms.loss.isfinite()
