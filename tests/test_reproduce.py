import json
import re
import shlex

import pytest
from PIL import Image

from msun_lite.config import make_parser, read_config
from msun_lite.methods import COMPARED
from msun_lite.reproduce import main
from msun_lite.utils.cli import parse

SMALL = ["--scales", "8,16", "--sizes", "8,12,16", "--scenes_train", "40", "--scenes_val", "20", "--batch_size", "10"]


@pytest.fixture
def command(tmp_path):
    return [*SMALL, "--epochs", "1", "--out", str(tmp_path / "all")]


def test_one_command_trains_measures_and_reports(command, tmp_path, capsys):
    assert main(command) == 0
    out = tmp_path / "all"
    assert {path.name for path in out.iterdir()} == {
        "vanilla",
        "mst",
        "msun",
        "report.md",
        "accuracy.png",
        "accuracy.svg",
    }
    report, printed = (out / "report.md").read_text(), capsys.readouterr().out
    for method, name in (("vanilla", "Vanilla"), ("mst", "MST"), ("msun", "MSUN")):
        summary = json.loads((out / method / "summary.json").read_text())
        assert summary["method"] == method
        for text in (report, printed):
            assert any(name in line and f"{summary['mean_top1']:.2f}" in line for line in text.splitlines())
    with Image.open(out / "accuracy.png") as image:
        assert image.size[0] > 1000
    assert "<svg" in (out / "accuracy.svg").read_text()[:1000]


def test_finished_runs_are_kept_and_an_interrupted_one_goes_on(command, tmp_path, capsys):
    assert main([*command, "--max_minutes", "0.0005"]) == 0
    out = tmp_path / "all"
    assert (out / "vanilla" / "checkpoint.pt").exists()
    assert not (out / "report.md").exists()
    assert "call the same command again" in capsys.readouterr().out
    assert main(command) == 0
    weights = {method: (out / method / "model.safetensors").stat().st_mtime_ns for method in ("vanilla", "mst", "msun")}
    assert main(command) == 0
    assert weights == {method: (out / method / "model.safetensors").stat().st_mtime_ns for method in weights}


def test_the_constraint_is_that_of_msun_alone_and_stands_in_the_reports_command(command, tmp_path):
    assert main([*command, "--constraint", "sum", "--lam", "0.1"]) == 0
    stored = {method: read_config(tmp_path / "all" / method / "config.yaml") for method in COMPARED}
    assert {method: config.constraint for method, config in stored.items()} == {
        "vanilla": "none",
        "mst": "none",
        "msun": "sum",
    }
    report = (tmp_path / "all" / "report.md").read_text()
    words = shlex.split(re.search(r"command `(.*)`", report)[1])
    assert words[:3] == ["python", "-m", "msun_lite.reproduce"]
    again = parse(make_parser("test", "", {"method", "resume", "out"}), words[3:])
    assert {name: again[name] for name in ("constraint", "lam", "epochs")} == {
        "constraint": "sum",
        "lam": 0.1,
        "epochs": 1,
    }


def test_other_options_in_the_same_folder_are_refused(command, capsys):
    main(command)
    assert main([*command, "--lr", "0.2"]) == 2
    assert "cannot go on with another lr" in capsys.readouterr().err


def test_several_processes_are_refused(command, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(command) == 2
    assert "reproduce runs in one process" in capsys.readouterr().err


def test_several_seeds_are_reported_by_mean_and_spread(command, tmp_path, capsys):
    assert main([*command, "--seeds", "3,5"]) == 0
    out = tmp_path / "all"
    folders = [f"{method}-seed{seed}" for method in COMPARED for seed in (3, 5)]
    assert {path.name for path in out.iterdir() if path.is_dir()} == set(folders)
    means = {name: json.loads((out / name / "summary.json").read_text())["mean_top1"] for name in folders}
    printed, report = capsys.readouterr().out, (out / "report.md").read_text()
    mean = (means["msun-seed3"] + means["msun-seed5"]) / 2
    spread = abs(means["msun-seed3"] - means["msun-seed5"]) / 2**0.5
    for text in (printed, report):
        (row,) = (
            line for line in text.splitlines() if "MSUN" in line and f"{mean:.2f}" in line and "GFLOPs" not in line
        )
        after = text.splitlines()[text.splitlines().index(row) + 1]
        assert "± over two seeds" in after
        assert f"{spread:.2f}" in after
    assert "seeds 3 and 5" in report
    lead = mean - (means["mst-seed3"] + means["mst-seed5"]) / 2
    assert f"MSUN's mean is {abs(lead):.1f}" in report
    words = shlex.split(re.search(r"command `(.*)`", report)[1])
    assert words[words.index("--seeds") + 1] == "3,5"
    assert "--seed" not in words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "1,1"], "seeds: expected different whole numbers, such as 0,1,2, got [1, 1]"),
        (["--seeds", "[]"], "seeds: expected different whole numbers, such as 0,1,2, got []"),
        (["--seeds", "0,1", "--seed", "2"], "seed: expected none beside --seeds 0,1, got 2"),
    ],
)
def test_seeds_that_cannot_be_meant_are_refused_before_any_work(command, words, message, tmp_path, capsys):
    assert main([*command, *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "all").exists()
