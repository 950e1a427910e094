import math

import numpy as np
import pytest
from PIL import Image

from data_scripts.mixed_sizes import main
from msun_lite.data import decode


@pytest.fixture
def large(tmp_path):
    for name in ("cat", "dog"):
        folder = tmp_path / "large" / "val" / name
        folder.mkdir(parents=True)
        for number in range(40):
            pixels = np.random.default_rng(number).integers(0, 256, (64, 96, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.jpg")
    return tmp_path / "large"


def sides(folder):
    return {path.relative_to(folder): min(decode(path).shape[1:]) for path in sorted(folder.glob("val/*/*.png"))}


def test_sizes_are_drawn_log_uniformly_and_shapes_are_kept(large, tmp_path, capsys):
    assert main([str(large), str(tmp_path / "mixed"), "--least", "4", "--most", "64"]) == 0
    found = sides(tmp_path / "mixed")
    assert len(found) == 80
    assert 4 <= min(found.values()) <= max(found.values()) <= 64
    assert 25 <= sum(side < 16 for side in found.values()) <= 55  # half of the logarithms
    for path, side in found.items():
        assert decode(tmp_path / "mixed" / path).shape[2] == pytest.approx(1.5 * side, abs=1)
    assert np.mean([math.log(side) for side in found.values()]) == pytest.approx(math.log(16), abs=0.3)
    assert "80 images with shorter sides from 4 to 64 px" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_sizes_and_none_is_made_larger(large, tmp_path):
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert main([str(large), str(tmp_path / name), "--most", "200", "--seed", seed]) == 0
    one, again, other = (sides(tmp_path / name) for name in "abc")
    assert one == again != other
    assert max(one.values()) == 64


def test_bad_input_is_one_line_and_leaves_nothing(large, tmp_path, capsys):
    (large / "val" / "dog" / "7.jpg").write_bytes(b"nothing like it")
    assert main([str(large), str(tmp_path / "mixed")]) == 2
    assert "7.jpg" in capsys.readouterr().err
    assert main([str(large), str(large)]) == 2
    assert "expected a new folder" in capsys.readouterr().err
    assert main([str(large), str(tmp_path / "mixed"), "--least", "10", "--most", "9"]) == 2
    assert "most: expected at least 10, got 9" in capsys.readouterr().err
    assert not (tmp_path / "mixed").exists()
