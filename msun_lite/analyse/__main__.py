"""Why a network fails or holds at small sizes: CKA, Grad-CAM, feature space, and what resizing itself does.

    python -m msun_lite.analyse runs/quick-msun-seed0
    python -m msun_lite.analyse lite-msun --what cka,pca --images 500 --out runs/why
    python -m msun_lite.analyse --arch resnet50 --data IMAGENET --what cka      # published weights, as Vanilla

Each study is saved as it ends, into analysis.json and analysis.npz of the run folder; `--resume` goes on after an
interruption and leaves out what is there. The pictures beside them are drawn from these two files by `figures`.
"""

import sys

from msun_lite.commands import start

if __name__ == "__main__":  # here, as help and errors in options need not wait for the imports below
    sys.exit(start("analyse"))


from pathlib import Path

from jsonargparse import Namespace

from msun_lite.analyse.options import STUDIES
from msun_lite.analyse.run import Options, analyse
from msun_lite.analyse.tables import report
from msun_lite.evaluate import find_config, find_subject
from msun_lite.explain import import_extra
from msun_lite.results import check_folder
from msun_lite.utils.distributed import refuse_several
from msun_lite.utils.errors import UserError
from msun_lite.utils.progress import show


def _studies(text: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(","))
    if unknown := [word for word in words if word not in STUDIES]:
        raise UserError(f"what: expected some of {', '.join(STUDIES)}, with commas, got {unknown[0]!r}")
    return words


def run(options: Namespace, command: str) -> None:
    """Measure what the options of the command say, and print it."""
    refuse_several("analyse")
    wanted = Options(_studies(options.what), options.images, options.layer, options.reference)
    if {"gradcam", "pca"} & set(wanted.what):
        import_extra("pytorch_grad_cam")
    config = find_config(options)
    name = Path(options.run or options.arch)
    folder = Path(options.out) if options.out else name if name.is_dir() else Path("runs") / name.name
    check_folder(folder)
    subject = find_subject(options, config)
    folder.mkdir(parents=True, exist_ok=True)
    show(report(analyse(subject, wanted, folder, options.resume, command)))


def main(argv: list[str] | None = None) -> int:
    """Run the command as the command line, or `argv`, says."""
    return start("analyse", argv)
