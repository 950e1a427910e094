import json
import shutil
from types import SimpleNamespace

import pytest
import torch

from msun_lite import MSUN
from msun_lite.data import imagenet_classes
from msun_lite.data.dataset import BadImages, DataSet
from msun_lite.data.sources import ImageSource
from msun_lite.evaluate.__main__ import main
from msun_lite.evaluate.accuracy import evaluate
from msun_lite.evaluate.class_names import match_classes, read_class_names
from msun_lite.train.run import train
from msun_lite.utils.distributed import ALONE
from msun_lite.utils.errors import DataError

NUMBERS = [str(number) for number in range(12)]


def data_set(classes):
    """Return a data set with one image a class, in the order in which folders come."""
    labels = list(range(len(classes)))
    return DataSet("mine", tuple(classes), ImageSource(labels), ImageSource(labels[::-1]), "", BadImages(0))


def model(names=None, count=12):
    """Return what counts here of a network."""
    return SimpleNamespace(spec={"classes": count if names is None else len(names), "class_names": names})


def test_classes_are_matched_by_name_in_whatever_order_the_data_set_has_them():
    data = data_set(["bird", "cat", "dog"])
    assert match_classes(data, model(["bird", "cat", "dog"])) is data
    matched = match_classes(data, model(["dog", "bird", "cat"]))
    assert matched.classes == ("dog", "bird", "cat")
    assert matched.train.labels == [1, 2, 0]
    assert matched.val.labels == [0, 2, 1]
    assert matched.train.order(torch.Generator().manual_seed(3)) == data.train.order(torch.Generator().manual_seed(3))


def test_folders_that_are_numbers_are_taken_in_their_order_by_a_network_without_names(capsys):
    data = data_set(sorted(NUMBERS))
    assert data.classes[:4] == ("0", "1", "10", "11")
    matched = match_classes(data, model())
    assert matched.classes == tuple(NUMBERS)
    assert matched.train.labels == [int(name) for name in data.classes]
    assert capsys.readouterr().out == "mine: its classes are numbers and taken in their order: 0, 1, ... 11\n"
    from_one = data_set(sorted(str(number) for number in range(1, 13)))
    assert match_classes(from_one, model()).train.labels == [int(name) - 1 for name in from_one.classes]
    assert match_classes(data_set(NUMBERS), model()).train.labels == list(range(12))


def test_a_run_on_numbered_folders_keeps_the_order_that_it_was_trained_in():
    data = data_set(sorted(NUMBERS))
    assert match_classes(data, model(sorted(NUMBERS))) is data
    assert match_classes(data, model(NUMBERS)).train.labels == [int(name) for name in data.classes]
    padded = data_set([f"{number:03d}" for number in range(12)])
    assert match_classes(padded, model(sorted(NUMBERS))).train.labels == [sorted(NUMBERS).index(n) for n in NUMBERS]


def test_numbers_that_do_not_tell_their_order_are_refused():
    with pytest.raises(DataError, match="expected numbers from 0 or 1 on, or names, .*got 100, 20, 3"):
        match_classes(data_set(["100", "20", "3"]), model(count=3))
    assert match_classes(data_set(["100", "200", "300"]), model(count=3)).classes == ("100", "200", "300")


def test_other_classes_are_refused_with_a_way_to_name_numbers():
    with pytest.raises(DataError, match="mine: expected 12 classes as the model has, got 2"):
        match_classes(data_set(["a", "b"]), model())
    with pytest.raises(DataError, match="such as 'dog', got 'bird' in its place$"):
        match_classes(data_set(["bird", "cat"]), model(["cat", "dog"]))
    with pytest.raises(DataError, match="such as '0', got 'bird' in its place; say by --class_names"):
        match_classes(data_set(["bird", "cat"]), model(["0", "1"]))
    with pytest.raises(DataError, match="in one order"):
        match_classes(data_set(["a", "b"]), model(["a", "b"]), model(["b", "a"]))


def test_data_with_some_of_the_classes_is_matched_by_name(capsys):
    matched = match_classes(data_set(["cat", "dog"]), model(["dog", "bird", "cat"]))
    assert matched.classes == ("dog", "bird", "cat")
    assert matched.train.labels == [2, 0]
    assert matched.present == (0, 2)
    assert matched.describe()["classes"] == 2
    assert capsys.readouterr().out == "mine: has 2 of the network's 3 classes\n"
    assert match_classes(data_set(["007", "3"]), model(NUMBERS)).train.labels == [7, 3]


def test_classes_that_the_network_lacks_are_named():
    expected = "mine: expected some of the model's 4 classes, such as 'a', got 2 that it lacks: 'x', 'y'$"
    with pytest.raises(DataError, match=expected):
        match_classes(data_set(["a", "x", "y"]), model(["a", "b", "c", "d"]))
    with pytest.raises(DataError, match="got 1 that it lacks: '7'"):
        match_classes(data_set(["07", "7"]), model(NUMBERS))


def test_numbered_folders_of_imagenet_have_its_order_for_a_network_that_knows_its_classes(capsys):
    numbered = data_set(sorted(map(str, range(1000))))
    matched = match_classes(numbered, model(list(imagenet_classes())))
    assert matched.train.labels == [int(name) for name in numbered.classes]
    assert "its classes are numbers and taken in their order" in capsys.readouterr().out
    with pytest.raises(DataError, match="got 3 that it lacks: '0', '1', '2'; say by --class_names"):
        match_classes(data_set(["0", "1", "2"]), model(list(imagenet_classes())))


@pytest.mark.parametrize("sizes", ["8,16", "own"])
def test_classes_that_the_data_lacks_can_be_answered_unless_they_are_barred(photos, tmp_path, sizes, capsys):
    network = MSUN.vanilla("resnet_lite", 16, num_classes=3, class_names=["dog", "bird", "cat"])
    with torch.no_grad():
        bias = next(reversed(list(network.parameters())))
        bias.copy_(torch.tensor([4.0, 9.0, 0.0]))  # says bird, else dog, whatever it sees
    network.save_pretrained(tmp_path / "net")
    words = [str(tmp_path / "net"), "--data", str(photos), "--sizes", sizes, "--json", str(tmp_path / "x.json")]
    for among, count, top1, said in (
        ("all", 3, 0.0, "among 3 classes"),
        ("data", 2, 50.0, "among the data's 2 classes alone"),
    ):
        report = tmp_path / f"report-{among}"
        assert main([*words, "--among", among, "--report", str(report)]) == 0
        record = json.loads((tmp_path / "x.json").read_text())
        assert record["mean_top1" if sizes != "own" else "top1"] == top1
        assert record["among"] == {"classes": count, "of": 3}
        assert record["data"]["classes"] == 2
        assert f"images of 2 classes, answered {said}" in capsys.readouterr().out
        assert f"answered {said}, routing" in (report / "report.md").read_text()
        answers = {line.split(",")[4] for line in (report / "answers.csv").read_text().splitlines()[1:]}
        assert answers == {"bird" if among == "all" else "dog"}


def test_a_class_that_comes_twice_is_named():
    with pytest.raises(DataError, match=r"expected the model's classes, such as '8', got '7' in its place"):
        match_classes(data_set(["7", "07"]), model(["7", "8"], 2))


def test_names_are_read_as_windows_writes_them(tmp_path):
    (tmp_path / "names.txt").write_bytes("\ufeffKäfer\r\ncat\r\n\r\n".encode())
    assert read_class_names(tmp_path / "names.txt", 2) == ["Käfer", "cat"]


def test_accuracy_follows_the_names(photos, tiny):
    network = MSUN.vanilla("resnet_lite", 16, num_classes=2, class_names=["cat", "dog"])
    with torch.no_grad():
        next(reversed(list(network.parameters()))).copy_(torch.tensor([9.0, 0.0]))  # says cat, whatever it sees
    (photos / "val" / "cat" / "0.png").unlink()
    before = evaluate(network, tiny(data=str(photos)), "nearest", ALONE)
    assert before["mean_top1"] == 40.0
    network.spec["class_names"] = ["dog", "cat"]
    assert evaluate(network, tiny(data=str(photos)), "nearest", ALONE)["mean_top1"] == 60.0


def test_a_run_on_numbers_is_measured_on_folders_by_a_stated_mapping(photos, shards, tiny, tmp_path, capsys):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for shard in shards.glob("*.tar"):
        shutil.copy(shard, elsewhere)  # without the manifest nothing says what 0 and 1 are
    run = train(tiny(data=f"wds:{elsewhere}/{{train-{{000000..000002}},val-{{000000..000001}}}}.tar", epochs=1))
    command = [str(run), "--data", str(photos)]
    assert main(command) == 2
    assert "say by --class_names which they are" in capsys.readouterr().err
    found = {}
    for order in ("cat dog", "dog cat"):
        (tmp_path / "names.txt").write_text("\n".join(order.split()))
        assert main([*command, "--class_names", str(tmp_path / "names.txt"), "--json", str(tmp_path / "x.json")]) == 0
        found[order] = json.loads((tmp_path / "x.json").read_text())["top1"]["16"]
    assert found["cat dog"] == json.loads((run / "summary.json").read_text())["top1"]["16"]
    assert found["cat dog"] + found["dog cat"] == 100
    (tmp_path / "names.txt").write_text("cat\ncat\n")
    assert main([*command, "--class_names", str(tmp_path / "names.txt")]) == 2
    assert "names.txt: expected 2 different classes, a line each, got 1" in capsys.readouterr().err
