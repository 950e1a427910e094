"""The pictures in examples/: what the drawing gives, and answered as the README says."""

import json

import pytest
import torch

from msun_lite import decode
from msun_lite.commands import main
from msun_lite.networks import SHIPPED
from tools.examples import FOLDER, pictures


def test_the_examples_are_what_the_drawing_gives():
    drawn = pictures()
    assert {path.name for path in FOLDER.iterdir()} == drawn.keys()
    for name, picture in drawn.items():
        assert torch.equal(decode(FOLDER / name), picture)
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 10_000


@pytest.mark.parametrize(
    ("network", "classes", "scales"),
    [("quick-msun", ["fish", "fish"], [8, 56]), ("quick-vanilla", ["moon", "fish"], [56, 56])],
)
def test_the_small_example_is_a_fish_to_msun_and_a_moon_to_vanilla(network, classes, scales, tmp_path):
    assert main(["predict", network, str(FOLDER), "--json", str(tmp_path / "answers.json")]) == 0
    answers = json.loads((tmp_path / "answers.json").read_text())["images"]
    assert [(one["width"], one["size"]) for one in answers] == [(12, 12), (56, 56)]
    assert [one["classes"][0] for one in answers] == classes
    assert [one["scale"] for one in answers] == scales


def test_the_readme_says_what_the_first_evaluation_ends_with():
    record = json.loads((SHIPPED / "quick-msun" / "summary.json").read_text())
    assert f"13 sizes, {record['mean_top1']:.2f} % on average" in (FOLDER.parent / "README.md").read_text()
