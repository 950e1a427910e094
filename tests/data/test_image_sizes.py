import pytest
from PIL import Image

from msun_lite import reproduce
from msun_lite.ablate import __main__ as ablate
from msun_lite.config import read_config
from msun_lite.data.image_sizes import fitting_scales, shorter_sides, sizes_line
from msun_lite.data.named import load_data
from msun_lite.data.sources import FileSource
from msun_lite.train.__main__ import main

SMALL = ["--method=vanilla", "--epochs=1", "--batch_size=6", "--warmup_epochs=0", "--threads=1", "--precision=fp32"]


@pytest.mark.parametrize(
    ("sides", "scales"),
    [
        ([32] * 9, [8, 32, 56]),
        ([98] * 9, [16, 64, 112]),
        ([90] * 9, [8, 32, 56]),
        ([180] * 9, [24, 96, 168]),
        ([224] * 9, [32, 128, 224]),
        ([3000] * 9 + [8] * 8, [32, 128, 224]),
    ],
)
def test_scales_suit_half_of_the_images_in_the_papers_proportions(sides, scales):
    assert fitting_scales(sides) == scales


def test_the_sizes_of_images_are_told_with_the_scales_that_would_suit_them():
    line = sizes_line("mine", [50, 100, 100, 200, 3000], [8, 32, 56])
    assert line == (
        "mine: the shorter sides of 5 images are 50 to 3000 px, half of them above 100: 20 % to 56 px, 40 % to 112 px, "
        "20 % to 224 px, 20 % above; scales 16,64,112 would suit them"
    )
    assert sizes_line("mine", [100] * 3, [16, 64, 112]).endswith("0 % above")


def test_sizes_are_read_from_headers_of_a_sample_and_damaged_ones_are_passed_over(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "0.png")
    (tmp_path / "1.png").write_bytes(b"no image")
    head = (tmp_path / "0.png").read_bytes()[:60]
    (tmp_path / "2.png").write_bytes(head)
    paths = [str(tmp_path / f"{index % 3}.png") for index in range(1500)]
    assert shorter_sides(FileSource([(path, 0) for path in paths])) == [20] * 500
    assert shorter_sides(FileSource([(path, 0) for path in paths[:3]])) == [20, 20]


def test_a_training_says_how_large_its_images_are_from_folders_and_shards(photos, shards, tiny, capsys):
    for data in (str(photos), f"wds:{shards}"):
        load_data(tiny(data=data))
        assert "the shorter sides of 12 images are 20 to 20 px" in capsys.readouterr().out
        load_data(tiny(data=data), train=False)
        assert "the shorter sides" not in capsys.readouterr().out


def test_where_nothing_says_the_scales_they_follow_from_the_images(photos, tmp_path, monkeypatch, capsys):
    for path in photos.rglob("*.png"):
        with Image.open(path) as image:
            image.resize((130, 100)).save(path)
    run = tmp_path / "run"
    line = ["--data", str(photos), "--out", str(run), *SMALL, "--resume=auto"]
    assert main(line) == 0
    config = read_config(run / "config.yaml")
    assert (config.scales, config.sizes) == ([16, 64, 112], list(range(16, 113, 8)))
    assert "chosen by the images' sizes: 16,64,112" in capsys.readouterr().out
    assert main(line) == 0
    output = capsys.readouterr().out
    assert "finished already" in output
    assert "chosen by" not in output
    monkeypatch.chdir(tmp_path)  # a run whose folder nothing names
    for _ in range(2):
        assert main(["--data", str(photos), *SMALL, "--resume=auto"]) == 0
    assert "finished already" in capsys.readouterr().out
    stated = tmp_path / "stated"
    assert main(["--data", str(photos), "--out", str(stated), *SMALL, "--scales=8,16", "--sizes=8,16"]) == 0
    assert read_config(stated / "config.yaml").scales == [8, 16]
    assert "scales 16,64,112 would suit them" in capsys.readouterr().out


def test_scales_are_chosen_for_all_runs_of_a_table_too(photos, tmp_path, monkeypatch):
    for path in photos.rglob("*.png"):
        with Image.open(path) as image:
            image.resize((130, 100)).save(path)
    asked = []
    monkeypatch.setattr(reproduce, "reproduce", lambda options, seeds: asked.append(options))
    monkeypatch.setattr(ablate, "ablate", lambda table, seeds, options: asked.append(options))
    assert reproduce.main(["--data", str(photos)]) == 0
    assert ablate.main(["--data", str(photos), "--table=6"]) == 0
    assert [(options["scales"], options["sizes"]) for options in asked] == [([16, 64, 112], [*range(16, 113, 8)])] * 2


def test_one_scale_is_measured_against_nothing():
    assert "would suit" not in sizes_line("mine", [100] * 3, [1])
