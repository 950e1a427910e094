"""What explains a measurement: accuracy by class, what is taken for what, how sure it is, its worst mistakes."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from msun_lite.evaluate.answered import Answered
from msun_lite.evaluate.certainty import BINS, calibration_error
from msun_lite.results import join_words, markdown_name, styled_table
from msun_lite.utils.files import whole_folder, write_text

MISTAKES = 100
"""Mistakes of a group of sizes that are listed."""

PICTURED = 6
"""Of these, how many are shown."""

NAMED = 5
"""Classes and confusions that are named of a group."""

Look = Callable[[int, int], Tensor]
"""What gives an image, by its number, at a size as the network sees it: uint8 [3, size, size]."""


@dataclass(frozen=True)
class Report:
    """What explains a measurement, in a new folder.

    Args:
        folder: where it goes.
        name: of the network.
    """

    folder: Path
    name: str

    def write(self, answered: Answered, about: str, look: Look) -> None:
        """Write report.md with its pictures, and answers.csv, classes.csv, confusion.csv and mistakes.csv.

        Args:
            answered: the answers.
            about: on which images they are.
            look: see `Look`.
        """
        with whole_folder(self.folder) as made:
            _write_csv(made / "answers.csv", *answer_rows(answered))
            _write_csv(made / "classes.csv", *class_rows(answered))
            _write_csv(made / "confusion.csv", *confusion_rows(answered))
            _write_csv(made / "mistakes.csv", *mistake_rows(answered))
            _draw(made, answered, look)
            write_text(made / "report.md", _text(answered, f"{self.name} on {about}"))


def _draw(folder: Path, answered: Answered, look: Look) -> None:
    """Write the pictures; that of the mistakes only if there are some."""
    # Here, as what draws takes a second to import, and `predict` shares this room.
    from msun_lite.evaluate import report_figures as figures
    from msun_lite.results import save_figure

    shown = shown_groups(answered)
    save_figure(figures.class_figure(answered), folder / "classes")
    save_figure(figures.confusion_figure(answered, shown), folder / "confusion")
    save_figure(figures.calibration_figure(answered, shown), folder / "calibration")
    worst = {group: answered.mistakes(group, PICTURED).tolist() for group in shown}
    if rows := sum(worst.values(), []):
        pictures = {row: look(int(answered.image[row]), int(answered.size[row])) for row in rows}
        save_figure(figures.mistakes_figure(answered, worst, pictures), folder / "mistakes")


def shown_groups(answered: Answered) -> list[int]:
    """Return the groups that are pictured: the smallest, one in the middle and the largest."""
    last = len(answered.groups) - 1
    return sorted({0, (last + 1) // 2, last})


def summary_table(answered: Answered) -> str:
    """Return a row a group, in Markdown: accuracy, confidence and its error, the worst class, the commonest mistake."""
    accuracy, rows = answered.class_accuracy(), []
    for group, name in enumerate(answered.groups):
        inside = answered.group == group
        confidence, right = answered.confidence[inside], answered.right[inside]
        found = accuracy[group].nan_to_num(nan=torch.inf)
        worst = int(found.argmin())
        confused = confusions(answered, group, 1)
        rows.append([
            *(name, f"{len(right):,}", f"{100 * right.double().mean():.1f}", f"{100 * confidence.mean():.1f}"),
            f"{calibration_error(confidence, right):.1f}",
            f"{markdown_name(answered.classes[worst])} ({found[worst]:.1f} %)",
            " ".join(f"{taken_for(answered, *pair)} ({count:,})" for *pair, count in confused),
        ])  # fmt: skip
    header = ["size", "images", "top-1 %", "confidence %", "calibration error", "worst class", "commonest mistake"]
    return styled_table(header, rows, "github")


def confusions(answered: Answered, group: int, count: int) -> list[tuple[int, int, int]]:
    """Return the commonest mistakes of a group: at most `count` of (class, answer, images)."""
    table = answered.confusion(group)
    wrong = (table - table.diag().diag()).flatten()
    found = wrong.argsort(descending=True, stable=True)[:count].tolist()
    return [(*divmod(place, len(table)), int(wrong[place])) for place in found if wrong[place]]


def taken_for(answered: Answered, label: int, answer: int) -> str:
    """Return a mistake in words, in Markdown: `church as golf ball`."""
    return f"{markdown_name(answered.classes[label])} as {markdown_name(answered.classes[answer])}"


def answer_rows(answered: Answered) -> tuple[list[str], list[list]]:
    """Return the header and the lines of answers.csv: each answer."""
    header = ["image", "class", "size", "subnet", "answer", "confidence", "right"]
    return header, [_answer(answered, row) for row in range(len(answered.image))]


def mistake_rows(answered: Answered) -> tuple[list[str], list[list]]:
    """Return the header and the lines of mistakes.csv: those of which the network is surest, by sizes."""
    groups = range(len(answered.groups))
    rows = [row for group in groups for row in answered.mistakes(group, MISTAKES).tolist()]
    return ["image", "class", "size", "subnet", "answer", "confidence"], [_answer(answered, row)[:-1] for row in rows]


def class_rows(answered: Answered) -> tuple[list[str], list[list]]:
    """Return the header and the lines of classes.csv: accuracy of each class at each size in percent; its images."""
    accuracy = answered.class_accuracy()
    images = torch.stack([answered.confusion(group).sum(1) for group in range(len(answered.groups))]).sum(0)
    images //= 1 if answered_once(answered) else len(answered.groups)
    shown = [[("" if value.isnan() else f"{value:.2f}") for value in column] for column in accuracy.T]
    pairs = zip(answered.classes, images.tolist(), shown, strict=True)
    return ["class", "images", *answered.groups], [[name, count, *values] for name, count, values in pairs]


def answered_once(answered: Answered) -> bool:
    """Return whether every image has one answer alone, at its own size."""
    return len(answered.image) == len(answered.image.unique())


def confusion_rows(answered: Answered) -> tuple[list[str], list[list]]:
    """Return the header and the lines of confusion.csv: the images of a class that are taken for a class, if any."""
    rows = []
    for group, name in enumerate(answered.groups):
        table = answered.confusion(group)
        for label, answer in table.nonzero().tolist():
            rows.append([name, answered.classes[label], answered.classes[answer], int(table[label, answer])])
    return ["size", "class", "answer", "images"], rows


def _answer(answered: Answered, row: int) -> list:
    image, answer = int(answered.image[row]), answered.classes[int(answered.answer[row])]
    about = answered.names[image], answered.classes[int(answered.labels[image])], int(answered.size[row])
    return [*about, int(answered.scale[row]), answer, f"{answered.confidence[row]:.4f}", int(answered.right[row])]


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8", errors="backslashreplace")


def _text(answered: Answered, title: str) -> str:
    """Return report.md."""
    confused = "\n".join(_named(answered, group) for group in shown_groups(answered))
    mistaken = any(len(answered.mistakes(group, 1)) for group in shown_groups(answered))
    where = join_words([answered.groups[group] for group in shown_groups(answered)])
    mistakes = "![The surest mistakes](mistakes.png)" if mistaken else f"There is none at {where}."
    return f"""# {markdown_name(title)}

{summary_table(answered)}

Confidence is the mean probability of the answers, in percent. The calibration error is how far confidence and accuracy
are apart, in points: the mean over {BINS} bins of confidence, weighted by their images.

![Accuracy of each class](classes.svg)

## What is taken for what

{confused}

![What is taken for what](confusion.svg)

## How sure it is

![Accuracy against confidence](calibration.svg)

## The surest mistakes

{mistakes}

## Files

* [answers.csv](answers.csv): the answer to every image.
* [classes.csv](classes.csv): accuracy of each class at each size, in percent.
* [confusion.csv](confusion.csv): how many images of a class are taken for which.
* [mistakes.csv](mistakes.csv): at each size the {MISTAKES} mistakes of which the network is surest, with their files.
"""


def _named(answered: Answered, group: int) -> str:
    found = confusions(answered, group, NAMED)
    said = ", ".join(f"{taken_for(answered, label, answer)} ({count:,})" for label, answer, count in found)
    return f"* {answered.groups[group]}: {said or 'no mistake'}."
