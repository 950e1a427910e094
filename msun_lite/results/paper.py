"""The paper's six tables as data, to be put beside what is measured here."""

import json
from functools import cache
from pathlib import Path

BACKBONES = {
    "resnet50": "ResNet50",
    "densenet121": "DenseNet121",
    "vgg16_bn": "VGG16",
    "mobilenet_v2": "MobileNetV2",
}
"""Architecture -> its name in Tables II to IV."""

SCALES, BLOCKS = [32, 128, 224], 1
"""The configuration that Tables II to IV are about."""


@cache
def _tables() -> dict:
    return json.loads((Path(__file__).parent / "paper.json").read_text(encoding="utf-8"))["tables"]


def rows(table: str, **where) -> list[dict]:
    """Return the rows of a table (I to VI) as {column: value}, those with the given values.

    Accuracies are percent, `params_M` millions; FLOPs are in the paper's own unit (see `cost`).
    """
    content = _tables()[table]
    all_rows = [dict(zip(content["columns"], row, strict=True)) for row in content["rows"]]
    return [row for row in all_rows if all(row[column] == value for column, value in where.items())]
