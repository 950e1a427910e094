import json

import pytest

from msun_lite import MSUN
from msun_lite.evaluate.__main__ import main
from msun_lite.networks.counting import parameters
from msun_lite.train.run import train


@pytest.fixture
def run(tiny):
    return str(train(tiny(method="mst")))


def measured(words, path):
    assert main([*words, "--json", str(path), "--device", "cpu"]) == 0
    return json.loads(path.read_text())


def test_averages_of_each_size_are_taken_from_training_crops(run, tmp_path):
    plain = measured([run], tmp_path / "plain.json")
    first, again = (measured([run, "--averages", "size"], tmp_path / f"{name}.json") for name in ("one", "two"))
    assert first["averages"] == {"of": "size", "images": 40}
    assert first["top1"] == again["top1"]
    assert first["params"] > plain["params"]
    assert "averages" not in plain


def test_a_network_that_is_fed_natively_has_averages_of_images_fed_so(run, tmp_path, monkeypatch):
    asked, real = [], MSUN.with_averages

    def noted(*arguments, **options):
        asked.append(options)
        return real(*arguments, **options)

    monkeypatch.setattr(MSUN, "with_averages", noted)
    for feeding in ("native", "upsampled"):
        measured([run, "--feeding", feeding, "--averages", "size"], tmp_path / f"{feeding}.json")
    assert asked == [{"native": True}, {"native": False}]


def test_averages_are_taken_from_a_folder_without_labels(run, photos, tmp_path, capsys):
    words = [run, "--averages", str(photos), "--averages_images", "10"]
    record = measured(words, tmp_path / "folder.json")
    assert record["averages"] == {"of": str(photos), "images": 10}
    assert record["command"].endswith(
        f"--averages {photos} --averages_images 10 --json {tmp_path / 'folder.json'} --device cpu"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--averages", "nowhere"], "nowhere: no such folder of images"),
        (["--averages", "size", "--averages_images", "1"], "averages_images: expected"),
        (["--routing", "upto:9,12"], "routing: expected upto: and the largest size of each subnet but the last"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(run, capsys, words, message):
    capsys.readouterr()
    assert main([run, *words, "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert message in error


def test_a_training_can_end_with_averages_of_each_size(tiny):
    folder = train(tiny(method="msun", subnet_input="native", random_sizes=True, routing="upto:12", averages="size"))
    model = MSUN.from_pretrained(folder)
    assert model.averages == {8: (8, 12), 16: (16,)}
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["params"] == parameters(model)
    assert summary["config"]["averages"] == "size"
    assert summary["flops"]["8"] < summary["flops"]["12"]
    assert main([str(folder), "--device", "cpu", "--json", str(folder / "again.json")]) == 0
    assert json.loads((folder / "again.json").read_text())["top1"] == summary["top1"]
