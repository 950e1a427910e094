import pytest
import torch

from msun_lite import decode
from msun_lite.predict import main
from tools.examples import FOLDER, SIZES, pictures


def test_the_examples_are_what_is_drawn():
    drawn = pictures()
    assert sorted(drawn) == sorted(path.name for path in FOLDER.iterdir())
    for name, image in drawn.items():
        found = decode(FOLDER / name)
        # Another processor may round to another level.
        torch.testing.assert_close(found.int(), image.int(), atol=1, rtol=0)


@pytest.mark.parametrize(
    ("network", "answers"), [("quick-vanilla", ("house", "leaf")), ("quick-msun", ("house", "house"))]
)
def test_msun_names_the_example_at_both_sizes_and_vanilla_at_one(network, answers, capsys):
    files = [str(FOLDER / f"house-{size}px.png") for size in SIZES]
    assert main([network, *files, "--top", "1", "--device", "cpu"]) == 0
    for line, size, answer in zip(capsys.readouterr().out.splitlines(), SIZES, answers, strict=True):
        assert f"({size} px, " in line
        assert f": {answer} " in line
