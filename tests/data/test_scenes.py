import numpy as np
import pytest
import torch

from msun_lite.data.scenes import CLASSES, draw, draw_all
from msun_lite.scales import resize


def test_a_scene_depends_on_seed_split_and_index_alone():
    scene = draw(7, 56, "train", seed=3)
    draw(8, 56)
    assert np.array_equal(scene, draw(7, 56, "train", seed=3))
    for other in (draw(17, 56, "train", 3), draw(7, 56, "val", 3), draw(7, 56, "train", 4)):
        assert not np.array_equal(scene, other)


def test_scenes_are_the_same_ones_today_as_when_the_records_were_made():
    means = [draw(index, 56, "val").mean() for index in range(5)]
    assert means == pytest.approx(KNOWN_MEANS, abs=0.05)


KNOWN_MEANS = [184.13, 84.9, 157.28, 84.64, 83.98]


@pytest.mark.parametrize("size", [1, 8, 47, 48, 56, 224])
def test_any_size_can_be_drawn(size):
    scene = draw(3, size)
    assert scene.shape == (size, size, 3)
    assert scene.dtype == np.uint8


def test_a_small_scene_is_the_large_one_seen_from_afar():
    for index in range(20):
        small = draw(index, 8).astype(float)
        large = torch.from_numpy(draw(index, 56)).permute(2, 0, 1)[None].float()
        shrunk = resize(large, 8)[0].permute(1, 2, 0).numpy()
        assert np.abs(small - shrunk).mean() < 12


def test_all_scenes_at_once_are_the_single_ones_and_the_classes_take_turns():
    images = draw_all(12, 16, "val", seed=1)
    assert images.shape == (12, 3, 16, 16)
    assert images.dtype == torch.uint8
    assert np.array_equal(images[11].permute(1, 2, 0).numpy(), draw(11, 16, "val", 1))
    assert len(CLASSES) == 10


def _fine_detail(images, size):
    """Return how much of the contrast is lost by way of `size` pixels."""
    return (images - resize(resize(images, size), images.shape[-1])).std() / images.std()


def test_the_weave_lives_above_20_pixels():
    images = draw_all(50, 56, "train").float()
    assert _fine_detail(images, 20) > 1.6 * _fine_detail(images, 44)


def test_brightness_does_not_tell_the_class():
    images = draw_all(1000, 16, "train").float().mean((1, 2, 3)).view(-1, 10)
    between, within = images.mean(0).std(), images.std(0).mean()
    assert between < 0.35 * within
