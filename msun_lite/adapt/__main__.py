"""Make a multi-scale network of a trained plain CNN, by images that need no labels.

    python -m msun_lite.adapt lite-vanilla --images photos                              # scales 16, 64 and 112 px
    python -m msun_lite.adapt --arch resnet50 --images photos --scales 32,128,224       # published weights
    python -m msun_lite.adapt --arch efficientnet_lite0 --images photos --subnet_input at:160,160 --routing upto:64,192
    python -m msun_lite.adapt --arch resnet18 --split layer1 --weights FILE --images photos
    python -m msun_lite.adapt lite-vanilla --images photos --own norms                  # BatchNorms alone learn
    python -m msun_lite.adapt --out runs/adapt-lite-vanilla-seed0 --resume

Each smaller scale gets a subnet and BatchNorms of its own, which start from the CNN's. They learn to say of a small
image what the CNN says of the same crop at its own size; no label is needed, but --labels true learns those that
folders are named as, too. All that serves the largest scale stays as it is, bit for bit, so nothing is lost there.
With --averages size BatchNorms get averages of each size in the end; the largest size keeps its own.

A part of the images is held out. On it the run measures, at every size, how often the result says what the CNN says at
its own size; and with --data FOLDER the accuracy on labelled images. The run folder is like that of a training.
"""

import sys

from msun_lite.commands import start

if __name__ == "__main__":  # here, as help and errors in options need not wait for the imports below
    sys.exit(start("adapt"))


from jsonargparse import Namespace

from msun_lite.adapt.options import AdaptConfig
from msun_lite.adapt.run import adapt
from msun_lite.utils.distributed import refuse_several
from msun_lite.utils.errors import UserError


def run(options: Namespace, command: str) -> None:
    """Adapt what the options of the command say."""
    refuse_several("adapt")
    first = options.pop("first")
    if first is not None and options.run not in (None, first):
        raise UserError(f"run: expected one run, got {first} and {options.run}")
    adapt(AdaptConfig(**{**options.as_dict(), "run": first or options.run}))


def main(argv: list[str] | None = None) -> int:
    """Run the command as the command line, or `argv`, says."""
    return start("adapt", argv)
