import csv
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from msun_lite import MSUN, decode
from msun_lite.commands import main as commands
from msun_lite.data import FileSource, ImageSource, OwnSizeView, UnreadableImage
from msun_lite.evaluate import own_size
from msun_lite.evaluate.__main__ import main as evaluate
from msun_lite.networks import class_names
from msun_lite.predict import Prediction, find_files, main, predict
from msun_lite.utils.errors import DataError

SIZES = ((9, 8), (40, 30), (12, 31), (64, 56), (300, 200), (1, 1), (40, 30))
"""Width and height of the images."""


@pytest.fixture
def mixed(tmp_path):
    """A folder of images of many sizes and modes."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for number, (width, height) in enumerate(SIZES):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).convert(("RGB", "L", "RGBA")[number % 3])
        image.save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def model():
    return MSUN.from_pretrained("quick-msun")


def files_in(folder):
    return sorted(folder.iterdir())


def test_an_image_is_answered_by_the_subnet_of_its_own_size(model, mixed):
    answers = list(predict(model, files_in(mixed), crop_ratio=1.0))
    assert [(one.width, one.height) for one in answers] == list(SIZES)
    assert [one.size for one in answers] == [8, 30, 12, 56, 56, 1, 30]
    assert [one.scale for one in answers] == [8, 32, 8, 56, 56, 8, 32]
    mean, std = (torch.tensor(model.spec["normalisation"][name])[:, None, None] for name in ("mean", "std"))
    pixels = decode(mixed / "1.png")[:, :, 5:35]
    with torch.inference_mode():
        expected = model(((pixels / 255 - mean) / std)[None]).softmax(1)[0]
    assert answers[1].confidences == pytest.approx(expected.topk(5).values.tolist(), abs=1e-6)
    assert answers[1].classes == tuple(class_names(model.spec)[label] for label in expected.topk(5).indices.tolist())


@pytest.mark.parametrize("workers", [0, 1])
def test_images_answered_together_are_answered_as_alone_and_in_their_order(model, mixed, monkeypatch, workers):
    alone = [one for file in files_in(mixed) for one in predict(model, [file])]
    for name, value in (("WINDOW", 3), ("LOADED", 2), ("BATCH", 2)):
        monkeypatch.setattr(own_size, name, value)
    together = list(predict(model, files_in(mixed), workers=workers))
    for one, other in zip(alone, together, strict=True):
        assert (one.file, one.size, one.scale, one.classes) == (other.file, other.size, other.scale, other.classes)
        assert one.confidences == pytest.approx(other.confidences, abs=1e-5)


class Noted(ImageSource):
    """Images of three sides, every fifth unreadable, the first of a side of its own; counts those that were read."""

    def __init__(self, count):
        super().__init__([-1] * count)
        self.reads = 0

    def read(self, index):
        self.reads += 1
        if index % 5 == 4:
            raise UnreadableImage(f"{index}: nothing like it")
        side = 9 if index == 0 else 20 + 20 * (index % 2)
        return torch.full((3, side, side), index, dtype=torch.uint8)


@pytest.mark.parametrize("batch", [2, 100])
def test_no_more_images_are_held_than_the_window(model, monkeypatch, batch):
    for name, value in (("WINDOW", 12), ("LOADED", 3), ("BATCH", batch)):
        monkeypatch.setattr(own_size, name, value)
    source, taken = Noted(100), []
    for answer in own_size.answers(model, source, 1.0, torch.device("cpu")):
        assert source.reads - len(taken) <= 12 + 1 + 3  # and those that were read together with the last
        taken.append(answer)
    assert [one.size for one in taken[:6]] == [9, 40, 20, 40, 0, 40]
    assert [bool(one.error) for one in taken] == [index % 5 == 4 for index in range(100)]


def test_a_small_crop_of_a_large_image_is_no_view_into_it(mixed):
    view = OwnSizeView(FileSource([(str(mixed / "4.png"), -1)]), 224, 0.5)
    square, size = view[0]
    assert (square.shape, size) == ((3, 100, 100), (300, 200))
    assert square.untyped_storage().nbytes() == square.numel()


def test_at_the_largest_scale_the_answers_are_those_of_evaluate(tiny, photos, tmp_path):
    from msun_lite.train.run import train

    run = str(train(tiny(data=str(photos), out=str(tmp_path / "run"))))
    assert evaluate([run, "--device", "cpu", "--json", str(tmp_path / "found.json")]) == 0
    assert main([run, str(photos / "val"), "--device", "cpu", "--json", str(tmp_path / "answers.json")]) == 0
    expected = json.loads((tmp_path / "found.json").read_text())
    largest = expected["scales"][-1]
    answers = json.loads((tmp_path / "answers.json").read_text())["images"]
    assert {one["size"] for one in answers} == {largest}
    right = [one["classes"][0] == os.path.basename(os.path.dirname(one["file"])) for one in answers]
    assert 100 * sum(right) / len(right) == pytest.approx(expected["top1"][str(largest)], abs=0.01)


def test_files_folders_and_patterns_are_taken_once_each(mixed, tmp_path):
    (mixed / "notes.txt").write_text("no image")
    found, left_out = find_files([str(mixed / "1.png"), str(mixed), str(tmp_path / "*" / "[01].png")])
    assert [os.path.basename(file) for file in found] == ["1.png", *(f"{n}.png" for n in range(7) if n != 1)]
    assert left_out == "1 file skipped: 1 .txt"
    for name in ("nothing.png", "*.nothing"):
        with pytest.raises(DataError, match="expected an image, a folder of images or a pattern, found nothing"):
            find_files([str(tmp_path / name)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: expected images in the folder, found none"):
        find_files([str(tmp_path / "empty")])


def test_what_cannot_be_read_is_named_and_the_rest_is_answered(mixed, tmp_path, capsys):
    (mixed / "2.png").write_bytes(b"nothing like it")
    table, record = tmp_path / "a.csv", tmp_path / "a.json"
    assert main(["quick-msun", str(mixed), "--top", "2", "--csv", str(table), "--json", str(record)]) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "1 of 7 images cannot be read, the others are done: " in error
    assert "2.png" in error
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["file"] for row in rows] == [str(file) for file in files_in(mixed)]
    assert [bool(row["error"]) for row in rows] == [number == 2 for number in range(7)]
    found = json.loads(record.read_text())["images"]
    assert [one.get("error") is None for one in found] == [number != 2 for number in range(7)]
    for row, one in zip(rows, found, strict=True):
        if not row["error"]:
            assert [row["class_1"], row["class_2"]] == one["classes"]
            assert float(row["confidence_1"]) == pytest.approx(one["confidences"][0], abs=1e-5)
            assert int(row["size"]) == one["size"]


def test_answers_are_printed_a_line_an_image_in_words(mixed, capsys):
    assert commands(["predict", "lite-plus", str(mixed / "3.png"), "--top", "2"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{mixed / '3.png'} (49 px, subnet of 64 px): ")
    assert line.count(" %") == 2
    assert "n0" not in line.partition("): ")[2]  # words, no identifiers


def test_classes_without_names_have_their_numbers_and_few_are_all_named(mixed, tmp_path, capsys):
    model = MSUN.vanilla("resnet_lite", 16, 3)
    (tmp_path / "plain").mkdir()
    model.save(tmp_path / "plain")
    assert main([str(tmp_path / "plain"), str(mixed / "0.png")]) == 0
    answers = capsys.readouterr().out.partition("): ")[2].split(", ")
    assert sorted(answer.split()[0] for answer in answers) == ["0", "1", "2"]


def test_a_class_keeps_its_name_in_a_line_of_text():
    line = Prediction("a.png", 9, 9, 9, 8, ("50% off", "sale"), (0.75, 0.25)).line()
    assert line == "a.png (9 px, subnet of 8 px): 50% off 75.0 %, sale 25.0 %"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--top", "11"], "top: expected at most 10, got 11"),
        (["--top", "0"], "top: expected at least 1, got 0"),
        (["--crop_ratio", "1.5"], "crop_ratio: expected at most 1, got 1.5"),
        (["--crop_ratio", "0"], "crop_ratio: expected more than 0, got 0.0"),
        (["--csv", "no/such/a.csv"], "no/such/a.csv: expected a file in an existing folder"),
        (["--device", "abacus"], "device: expected auto, cpu or a device of this machine, got 'abacus'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, message, mixed, capsys):
    assert main(["quick-msun", str(mixed), *words]) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert message in error
