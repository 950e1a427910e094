"""On how many test images two networks disagree, and how far their difference in accuracy may then be chance.

    python experiments/disagreement.py --json book/results/lite/disagreement.json

Two networks are tested on the same n images. If d is the share of images that exactly one of them names rightly, and
D the difference of their accuracies, both as fractions, the standard error of D is sqrt((d - D^2) / n).
"""

import math
import shlex
import sys
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from msun_lite.config import read_config
from msun_lite.data.loaders import Batch, eval_loader, to_float
from msun_lite.data.named import load_data
from msun_lite.evaluate.accuracy import BATCH
from msun_lite.evaluate.class_names import match_classes
from msun_lite.networks.msun import MSUN
from msun_lite.networks.pretrained import find_pretrained
from msun_lite.scales import resize
from msun_lite.utils.cli import OneLineParser, parse
from msun_lite.utils.environment import environment
from msun_lite.utils.errors import UserError, one_line_errors
from msun_lite.utils.files import check_output, write_json
from msun_lite.utils.progress import progress

NETWORKS = ("lite-vanilla", "lite-mst", "lite-msun", "lite-plus")
CPU = torch.device("cpu")


@torch.inference_mode()
def right_answers(models: list[MSUN], loader: Iterable[Batch], sizes: list[int]) -> Tensor:
    """Return which images each network names rightly at each size, [networks, sizes, images], bool."""
    found = []
    for batch in progress(loader, desc="images", unit="batch"):
        images = [to_float(batch.images, CPU, model.spec["normalisation"]) for model in models]
        found.append(
            torch.stack(
                [
                    torch.stack([model(resize(own, size, model.antialias)).argmax(1) == batch.labels for size in sizes])
                    for model, own in zip(models, images, strict=True)
                ]
            )
        )
    return torch.cat(found, dim=2)


def compared(one: Tensor, other: Tensor) -> dict[str, float]:
    """Return the difference of two networks in points, where they disagree in percent, and two standard errors.

    Args:
        one: which images the first names rightly, [images].
        other: the same of the second.
    """
    difference = (one.double() - other.double()).mean().item()
    share = (one != other).double().mean().item()
    error = math.sqrt((share - difference**2) / len(one))
    numbers = {"difference": difference, "disagree": share, "two_errors": 2 * error}
    return {name: round(100 * value, 2) for name, value in numbers.items()}


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = OneLineParser(description="On how many test images networks disagree, at each size.")
    runs_help = "Run folders, or names of shipped weights, trained on the same data; two or more."
    parser.add_argument("runs", type=str, nargs="*", default=list(NETWORKS), help=runs_help)
    parser.add_argument("--json", type=str, required=True, help="File to write the result to.")
    parser.add_argument("--data_root", type=str, default="data", help="Folder of downloaded data sets.")
    options = parse(parser, argv)
    if len(options.runs) < 2:
        raise UserError(f"runs: expected two or more, got {options.runs[0]} alone")
    config = replace(read_config(find_pretrained(options.runs[0]) / "config.yaml"), data_root=options.data_root)
    check_output(options.json)
    data = load_data(replace(config, cache=False), train=False)
    models = [MSUN.from_pretrained(run) for run in options.runs]
    data = match_classes(data, *models)
    loader = eval_loader(data.val, config.test_size, config.crop_ratio, BATCH, workers=0)
    right = dict(zip(options.runs, right_answers(models, loader, config.sizes), strict=True))
    record = {
        "command": shlex.join(["python", "experiments/disagreement.py", *(sys.argv[1:] if argv is None else argv)]),
        "pairs": {
            f"{Path(second).name} over {Path(first).name}": {
                str(size): compared(right[second][place], right[first][place])
                for place, size in enumerate(config.sizes)
            }
            for first, second in combinations(options.runs, 2)
        },
        "seed": config.seed,
        "data": data.describe(),
        "env": environment(CPU, "fp32"),
    }
    write_json(Path(options.json), record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
