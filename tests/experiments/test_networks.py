import json

import pytest

from experiments.averages import SHARES
from experiments.averages import main as averages
from experiments.batchnorm import main as batchnorm
from experiments.certainty import THRESHOLDS
from experiments.certainty import main as certainty
from experiments.one_size import main as one_size
from msun_lite.adapt.fixres import PARTS
from msun_lite.evaluate.__main__ import main as evaluate
from msun_lite.train.run import train


@pytest.fixture
def runs(tiny, tmp_path):
    return [str(train(tiny(method=method, out=str(tmp_path / method)))) for method in ("vanilla", "msun")]


def measured(run, path, *words):
    assert evaluate([run, "--device", "cpu", "--json", str(path), *words]) == 0
    return json.loads(path.read_text())


def test_certainty_is_recorded_of_every_network_and_once(runs, tmp_path, capsys):
    path = tmp_path / "certainty.json"
    assert certainty([runs[0], "--json", str(path), "--threads", "1"]) == 0
    assert certainty([*runs, "--json", str(path), "--threads", "1"]) == 0
    record = json.loads(path.read_text())
    assert list(record["networks"]) == ["vanilla", "msun"]
    assert capsys.readouterr().out.count("vanilla: measured") == 1
    expected = measured(runs[1], tmp_path / "msun.json")
    found = record["networks"]["msun"]
    assert {size: found["top1"][size] for size in expected["top1"]} == expected["top1"]
    assert found["any_subnet"]["mean"] >= expected["routings"]["oracle"]["mean_top1"]
    assert list(found["cascade"]) == [str(threshold) for threshold in THRESHOLDS]
    costs = [found["cascade"][str(threshold)]["mean_flops"] for threshold in THRESHOLDS]
    assert costs == sorted(costs)
    assert "cascade" not in record["networks"]["vanilla"]
    assert record["command"].startswith("python experiments/certainty.py ")


def test_each_way_to_fit_one_size_is_measured_on_all_test_images(runs, tmp_path):
    path = tmp_path / "one.json"
    words = ["--sizes", "8,16", "--images", "20", "--threads", "1", "--json", str(path)]
    assert one_size([*runs, *words]) == 0
    record = json.loads(path.read_text())
    assert {found.pop("seed") for found in record["networks"].values()} == {0}
    ways = {"as it is", "averages of the size", *(f"FixRes, {part}" for part in PARTS), "averages of the batch", "Tent"}
    assert all(set(found) == ways for found in record["networks"].values())
    expected = measured(runs[0], tmp_path / "vanilla.json")["top1"]
    assert record["networks"]["vanilla"]["as it is"] == {size: expected[size] for size in ("8", "16")}
    assert {
        round(20 * value / 100, 6) % 1 for row in record["networks"]["msun"].values() for value in row.values()
    } == {0}


def test_own_statistics_are_averages_of_each_scales_size(runs, tmp_path):
    path = tmp_path / "batchnorm.json"
    assert batchnorm([*runs, "--images", "20", "--json", str(path)]) == 0
    record = json.loads(path.read_text())
    for run, name in zip(runs, ("vanilla", "msun"), strict=True):
        mixed = measured(run, tmp_path / "mixed.json")["top1"]
        words = ["--averages", "size", "--averages_images", "20"]
        own = measured(run, tmp_path / "own.json", *words)["top1"]
        assert record["top1"][name] == {size: {"mixed": mixed[size], "own": own[size]} for size in ("8", "16")}


def test_what_averages_need_is_measured_with_the_same_averages_as_evaluate_takes(runs, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.averages.COUNTS", (8, 20))
    path = tmp_path / "averages.json"
    assert averages([*runs, "--few", "8", "--json", str(path), "--threads", "1"]) == 0
    for run, name in zip(runs, ("vanilla", "msun"), strict=True):
        found = json.loads(path.read_text())["networks"][name]
        plain = measured(run, tmp_path / "plain.json")["top1"]
        own = measured(run, tmp_path / "own.json", "--averages", "size", "--averages_images", "20")["top1"]
        assert {size: found["as trained"][size] for size in plain} == plain
        assert {size: found["images"]["20"][size] for size in own} == own
        assert list(found["share"]) == [str(share) for share in SHARES]
        assert found["stored"]["2"]["8"] == own["8"]  # a stored size is not interpolated
