"""How much of a method's loss at a scale is the fault of shared BatchNorm statistics.

    python experiments/batchnorm.py --json book/results/lite/batchnorm.json                    # the shipped networks
    python experiments/batchnorm.py lite-plus runs/lite/mst-plus-seed0 --json book/results/lite/batchnorm-plus.json
    python experiments/batchnorm.py runs/ablate/msun-seed0 ... --json book/results/ablate/batchnorm.json

Training normalises each scale's batch by that batch's own statistics, but the running averages used in evaluation mix
all scales. For each network and each scale this measures the accuracy with the network's mixed averages, and
with averages of that scale's training images alone; no weight changes.
"""

import shlex
import sys
from dataclasses import replace
from pathlib import Path

import torch

from msun_lite.config import read_config
from msun_lite.data.crops import Crops
from msun_lite.data.loaders import eval_loader
from msun_lite.data.named import load_data
from msun_lite.evaluate.accuracy import BATCH, measure
from msun_lite.evaluate.class_names import match_classes
from msun_lite.networks.msun import MSUN
from msun_lite.networks.pretrained import find_pretrained
from msun_lite.utils.cli import OneLineParser, parse
from msun_lite.utils.environment import environment
from msun_lite.utils.errors import one_line_errors
from msun_lite.utils.files import check_output, write_json

NETWORKS = ("lite-vanilla", "lite-mst", "lite-msun")
CPU = torch.device("cpu")


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = OneLineParser(description="Accuracy with mixed and with own BatchNorm statistics, at each scale.")
    runs_help = "Run folders, or names of shipped weights, trained on the same data at the same scales."
    parser.add_argument("runs", type=str, nargs="*", default=list(NETWORKS), help=runs_help)
    parser.add_argument("--json", type=str, required=True, help="File to write the result to.")
    parser.add_argument("--images", type=int, default=2048, help="Training images the statistics are taken from.")
    parser.add_argument("--data_root", type=str, default="data", help="Folder of downloaded data sets.")
    options = parse(parser, argv)
    config = replace(read_config(find_pretrained(options.runs[0]) / "config.yaml"), data_root=options.data_root)
    check_output(options.json)
    models = {run: MSUN.from_pretrained(run) for run in options.runs}
    data = match_classes(load_data(replace(config, cache=False)), *models.values())
    loader = eval_loader(data.val, config.test_size, config.crop_ratio, BATCH, workers=0)
    top1 = {}
    for run, model in models.items():
        name = Path(run).name
        crops = Crops(data.train, config, options.images, config.seed, CPU, model.spec["normalisation"], config.epochs)
        adapted = model.with_averages(crops, config.scales)
        for size in config.scales:
            scale = size if size in model.scales else model.scales[-1]
            mixed = measure(model, loader, [size], CPU)[scale][size]
            own = measure(adapted, loader, [size], CPU)[scale][size]
            top1.setdefault(name, {})[str(size)] = {"mixed": round(mixed, 2), "own": round(own, 2)}
            print(
                f"{name} at {size} px: {mixed:.2f} % with the network's averages, {own:.2f} % with its own", flush=True
            )
    record = {
        "command": shlex.join(["python", "experiments/batchnorm.py", *(sys.argv[1:] if argv is None else argv)]),
        "images": options.images,
        "top1": top1,
        "seed": config.seed,
        "data": data.describe(),
        "env": environment(CPU, "fp32"),
    }
    write_json(Path(options.json), record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
