import csv
import json
import re
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from PIL import Image

from msun_lite import MSUN, decode
from msun_lite.data.sources import ImageSource
from msun_lite.evaluate.__main__ import main
from msun_lite.evaluate.answered import Answered, AnswerLog
from msun_lite.evaluate.report import Report, class_rows, confusions, mistake_rows, summary_table
from msun_lite.evaluate.report_figures import MOST, class_figure, confusion_figure, mistakes_figure
from msun_lite.train.run import train


class Named(ImageSource):
    def name(self, index):
        return f"{index}.png"


@pytest.fixture
def answered():
    """Return the answers to four images of three classes at two sizes, made by hand; there is none of the class c."""
    log = AnswerLog()
    for size, scale, rows in (
        (16, 16, [[9, 0, 0], [0, 9, 0], [0, 3, 0], [0, 0, 6]]),
        (8, 8, [[0, 9, 0], [0, 9, 0], [2, 0, 0], [9, 0, 0]]),
    ):
        for first in (0, 2):  # in batches
            log.add(range(first, first + 2), size, scale, torch.tensor(rows[first : first + 2]).float())
    return log.table(Named([0, 0, 1, 1]), ["a", "b", "c"], {"8 px": (8, 8), "16 px": (16, 16)})


def test_answers_are_in_the_order_of_sizes_then_of_images(answered):
    assert answered.groups == ["8 px", "16 px"]
    assert answered.size.tolist() == answered.scale.tolist() == [8] * 4 + [16] * 4
    assert answered.image.tolist() == [0, 1, 2, 3] * 2
    assert answered.answer.tolist() == [1, 1, 0, 0, 0, 1, 1, 2]
    assert answered.right.tolist() == [False] * 4 + [True, False, True, False]


def test_confusion_counts_the_images_of_a_class_that_are_taken_for_each(answered):
    assert answered.confusion(0).tolist() == [[0, 2, 0], [2, 0, 0], [0, 0, 0]]
    assert answered.confusion(1).tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]
    assert confusions(answered, 0, 5) == [(0, 1, 2), (1, 0, 2)]
    assert confusions(answered, 1, 1) == [(0, 1, 1)]


def test_a_class_without_images_has_no_accuracy(answered):
    assert answered.class_accuracy()[:, :2].tolist() == [[0, 0], [50, 50]]
    assert answered.class_accuracy()[:, 2].isnan().all()
    header, rows = class_rows(answered)
    assert header == ["class", "images", "8 px", "16 px"]
    assert rows == [["a", 2, "0.00", "50.00"], ["b", 2, "0.00", "50.00"], ["c", 0, "", ""]]


def test_the_surest_mistakes_come_first_with_their_files(answered):
    _, rows = mistake_rows(answered)
    assert [row[0] for row in rows] == ["0.png", "1.png", "3.png", "2.png", "1.png", "3.png"]
    shares = torch.tensor([[2.0, 0, 0]]).softmax(1)[0, 0]
    assert rows[3] == ["2.png", "b", 8, 8, "a", f"{shares:.4f}"]


def test_the_summary_names_the_worst_class_and_the_commonest_mistake(answered):
    (line,) = (line for line in summary_table(answered).splitlines() if "16 px" in line)
    assert [cell.strip() for cell in line.split("|")[1:5]] == ["16 px", "4", "50.0", "97.6"]
    assert "a (50.0 %)" in line
    assert "a as b (1)" in line


def test_pictures_have_room_for_many_classes():
    count = MOST + 5
    log = AnswerLog()
    log.add(range(count), 8, 8, torch.eye(count).roll(1, 0))
    many = log.table(Named(list(range(count))), [f"class {label}" for label in range(count)], {"8 px": (8, 8)})
    for figure in (class_figure(many), confusion_figure(many, [0])):
        shown = [text.get_text() for axes in figure.axes for text in axes.get_yticklabels()]
        assert len([text for text in shown if text.startswith("class")]) == MOST


def test_a_row_of_what_is_taken_for_what_is_whole_where_classes_have_no_column():
    count = MOST + 5
    log = AnswerLog()
    log.add(range(count), 8, 8, torch.eye(count)[[count - 1] * count])
    many = log.table(Named(list(range(count))), [f"class {label}" for label in range(count)], {"8 px": (8, 8)})
    panel = confusion_figure(many, [0]).axes[0]
    assert panel.get_xticklabels()[-1].get_text() == "others"
    assert panel.images[0].get_array().sum(1).tolist() == [100] * MOST
    assert panel.images[0].get_array()[:, -1].tolist() == [100] * MOST


@pytest.mark.parametrize("names", [[f"{size} px" for size in range(16, 113, 8)], ["8 px", "112 px"]])
def test_sizes_below_the_accuracies_of_classes_do_not_run_into_each_other(answered, names):
    log = AnswerLog()
    sizes = [int(name.split()[0]) for name in names]
    for size in sizes:
        log.add(range(2), size, 8, torch.eye(2))
    table = log.table(Named([0, 1]), ["a", "b"], {name: (size, size) for name, size in zip(names, sizes, strict=True)})
    figure = class_figure(table)
    figure.draw_without_rendering()
    places = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in pairwise(places))


def test_a_report_says_where_there_is_no_mistake(answered, tmp_path):
    log = AnswerLog()
    for size in (8, 12, 16, 20):  # 12 px alone is not shown
        log.add(range(2), size, 8, torch.eye(2) if size != 12 else torch.eye(2).flip(0))
    table = log.table(Named([0, 1]), ["a", "b"], {f"{size} px": (size, size) for size in (8, 12, 16, 20)})
    Report(tmp_path / "report", "net").write(table, "two images", lambda image, size: None)
    assert "There is none at 8 px, 16 px and 20 px." in (tmp_path / "report" / "report.md").read_text()


ODD = ["$x_1^2$", r"$\nothing$|`a`", "a class 魚 of which the name is a whole sentence"]


def test_a_report_takes_classes_by_any_name(answered, tmp_path):
    odd = replace(answered, classes=ODD)
    Report(tmp_path / "report", "a|b").write(odd, "some images", lambda image, size: torch.zeros(3, 8, 8).byte())
    text = (tmp_path / "report" / "report.md").read_text()
    assert r"* 16 px: \$x\_1^2\$ as \$\\nothing\$\|\`a\` (1)" in text
    (line,) = (line for line in text.splitlines() if line.startswith("|  16 px"))
    assert len(re.split(r"(?<!\\)\|", line)) == 7 + 2


def test_names_in_the_picture_of_mistakes_do_not_run_into_each_other(answered):
    long = replace(answered, classes=[f"{label}, a class of which the name is a whole sentence" for label in "abc"])
    worst = {group: long.mistakes(group, 6).tolist() for group in (0, 1)}
    pictures = {row: torch.zeros(3, 8, 8).byte() for rows in worst.values() for row in rows}
    figure = mistakes_figure(long, worst, pictures)
    figure.draw_without_rendering()
    titles = [axes.title.get_window_extent() for axes in figure.axes[:4]]
    assert all(left.x1 < right.x0 for left, right in pairwise(titles))


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


FILES = {"report.md", "answers.csv", "classes.csv", "confusion.csv", "mistakes.csv"}
PICTURES = {
    f"{name}.{ending}" for name in ("classes", "confusion", "calibration", "mistakes") for ending in ("png", "svg")
}


def test_a_report_has_what_the_record_says_and_every_image_by_its_path(tiny, photos, tmp_path, capsys):
    run = train(tiny(data=str(photos), epochs=1, batch_size=6))
    words = [str(run), "--json", str(tmp_path / "x.json"), "--report", str(tmp_path / "report"), "--device", "cpu"]
    assert main(words) == 0
    record, folder = json.loads((tmp_path / "x.json").read_text()), tmp_path / "report"
    assert {path.name for path in folder.iterdir()} == FILES | PICTURES
    answers = rows_of(folder / "answers.csv")
    assert len(answers) == 3 * 6
    paths = sorted(str(path) for path in (photos / "val").rglob("*.png"))
    for size, top1 in record["top1"].items():
        rows = [row for row in answers if row["size"] == size]
        assert [row["image"] for row in rows] == paths
        assert top1 == pytest.approx(100 * sum(row["right"] == "1" for row in rows) / 6, abs=0.01)
        assert {row["subnet"] for row in rows} == {str(record["routings"]["nearest"]["scale"][size])}
        assert all((row["answer"] == row["class"]) == (row["right"] == "1") for row in rows)
    classes = rows_of(folder / "classes.csv")
    assert [(row["class"], row["images"]) for row in classes] == [("cat", "3"), ("dog", "3")]
    assert sum(int(row["images"]) for row in rows_of(folder / "confusion.csv")) == 18
    assert len(rows_of(folder / "mistakes.csv")) == sum(row["right"] == "0" for row in answers)
    said = capsys.readouterr().out
    assert f"{run} on {photos.name}: 6 images of 2 classes, routing nearest (cpu" in said
    assert f"report: {folder / 'report.md'}" in said


def test_a_report_follows_a_rule_that_says_the_sizes_of_each_subnet(tiny, photos, tmp_path):
    run = train(tiny(data=str(photos), epochs=1, batch_size=6))
    assert main([str(run), "--routing", "upto:12", "--report", str(tmp_path / "report"), "--device", "cpu"]) == 0
    served = {row["size"]: row["subnet"] for row in rows_of(tmp_path / "report" / "answers.csv")}
    assert served == {"8": "8", "12": "8", "16": "16"}
    assert main([str(run), "--routing", "upto:8", "--report", str(tmp_path / "other"), "--device", "cpu"]) == 0
    served = {row["size"]: row["subnet"] for row in rows_of(tmp_path / "other" / "answers.csv")}
    assert served == {"8": "8", "12": "16", "16": "16"}


def test_a_report_on_images_at_their_own_sizes(tmp_path, capsys):
    names = MSUN.from_pretrained("quick-msun").spec["class_names"]
    for number, side in enumerate((6, 20, 80)):
        folder = tmp_path / "photos" / "val" / names[number]
        folder.mkdir(parents=True)
        Image.new("RGB", (side, side + 3), (40 * number, 90, 200)).save(folder / f"{side}.png")
    for name in names[3:]:
        (tmp_path / "photos" / "val" / name).mkdir()
        Image.new("RGB", (30, 30), "red").save(tmp_path / "photos" / "val" / name / "30.png")
    words = ["--data", str(tmp_path / "photos"), "--sizes", "own", "--report", str(tmp_path / "report")]
    assert main(["quick-msun", *words, "--device", "cpu"]) == 0
    answers = rows_of(tmp_path / "report" / "answers.csv")
    assert [row["size"] for row in answers] == ["6", "20"] + ["30"] * 7 + ["56"]
    assert [row["subnet"] for row in answers] == ["8", "8"] + ["32"] * 7 + ["56"]
    header = (tmp_path / "report" / "classes.csv").read_text().splitlines()[0]
    assert header == "class,images,6 px,20 px,30 px,56 px"
    assert sum(int(row["images"]) for row in rows_of(tmp_path / "report" / "classes.csv")) == 10
    assert decode(answers[-1]["image"]).shape == (3, 83, 80)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--routing", "oracle"], "routing: expected a rule that goes by the size with --report, got oracle"),
        (["--report", "."], ".: exists already, expected a new folder"),
        (["--report", "/dev/null/x"], "/dev/null/x: expected a folder that can be written to"),
    ],
)
def test_a_report_that_cannot_be_made_is_refused_before_any_work(words, message, capsys, tmp_path):
    assert main(["quick-msun", "--report", str(tmp_path / "report"), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


def test_answers_have_the_confidence_of_the_softmax(answered):
    assert isinstance(answered, Answered)
    assert answered.confidence[0] == pytest.approx(torch.tensor([0.0, 9, 0]).softmax(0)[1].item(), abs=1e-6)
