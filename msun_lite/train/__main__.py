"""Train one network by one method, then measure it at every size.

    python -m msun_lite.train --preset quick                        # drawn scenes, CPU, a minute or two
    python -m msun_lite.train --preset lite --method vanilla        # Imagenette at 112 px, CPU
    python -m msun_lite.train --preset imagenette --out runs/r50    # ResNet-50 at 224 px, one GPU
    python -m msun_lite.train --out runs/r50 --resume               # go on where it stopped
    python -m msun_lite.train --out runs/r50 --resume auto ...      # begin it, or go on: a job's one line
    python -m msun_lite.train --out runs/r50 --resume --epochs 50   # lengthen it, finished or not
    torchrun --nproc_per_node 8 -m msun_lite.train --preset imagenet --data DIR --batch_size 1024

A run ends with a table of accuracy at every size and leaves config.yaml, metrics.jsonl, checkpoint.pt,
model.safetensors, model.json and summary.json in its folder.
"""

import sys

from msun_lite.commands import start

if __name__ == "__main__":  # here, as help and errors in options need not wait for the imports below
    sys.exit(start("train"))


from jsonargparse import Namespace

from msun_lite.config import (
    TrainConfig,
)
from msun_lite.train.run import choose_scales, train
from msun_lite.utils.cli import CommandLine


def run(options: Namespace, command: CommandLine) -> None:
    """Train what the options of the command say."""
    train(choose_scales(TrainConfig(**options.as_dict()), command.given))


def main(argv: list[str] | None = None) -> int:
    """Run the command as the command line, or `argv`, says."""
    return start("train", argv)
