"""Transfer a trained network to another data set, by a linear probe or by fine-tuning (Table III).

    python -m msun_lite.transfer lite-msun --dataset cifar10                        # linear probe at 32 px
    python -m msun_lite.transfer lite-msun --dataset stl10 --mode finetune          # all that serves 96 px is trained
    python -m msun_lite.transfer runs/mine --dataset FOLDER --size 32 --routing ceil
    python -m msun_lite.transfer --out runs/transfer/... --resume
    python -m msun_lite.transfer runs/transfer/* --table                            # Table III's layout

The images are made --size pixels, by default the data set's own size, and served by the subnet that fits: an
MSUN's by its routing, while Vanilla and MST have them upsampled to their only scale. The classifier is always a new
one. In the linear probe nothing else changes, not one weight or statistic; fine-tuning trains the subnet, the unified
network and the classifier, and leaves the other subnets as they were.

A run leaves config.yaml, metrics.jsonl, model.json, model.safetensors (which `MSUN.from_pretrained` loads) and
summary.json in its folder. Stopped, a fine-tuning goes on exactly where it was; a probe has its features, and repeats
the classifier, to the same result.
"""

import sys

from msun_lite.commands import start

if __name__ == "__main__":  # here, as help and errors in options need not wait for the imports below
    sys.exit(start("transfer"))


from pathlib import Path

from jsonargparse import Namespace

from msun_lite.transfer.options import TransferConfig
from msun_lite.transfer.run import transfer
from msun_lite.transfer.table import read_records, transfer_markdown, transfer_record
from msun_lite.utils.distributed import refuse_several
from msun_lite.utils.errors import UserError
from msun_lite.utils.progress import show


def run(options: Namespace, command: str) -> None:
    """Transfer, or tabulate finished transfers, as the options of the command say."""
    runs, table = options.pop("runs"), options.pop("table")
    refuse_several("transfer")
    if table:
        show(transfer_markdown(transfer_record(read_records(map(Path, runs)))))
        return
    if len(runs) > 1 or (runs and options.run not in (None, runs[0])):
        raise UserError(f"run: expected one run, or several finished ones with --table, got {' '.join(runs)}")
    transfer(TransferConfig(**{**options.as_dict(), "run": runs[0] if runs else options.run}))


def main(argv: list[str] | None = None) -> int:
    """Run the command as the command line, or `argv`, says."""
    return start("transfer", argv)
