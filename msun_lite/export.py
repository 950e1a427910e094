"""Write a trained model as graphs that run without this package, one a scale.

    python -m msun_lite.export lite-msun --out exported --format onnx
    model.export("exported", format="onnx")        # the same, in Python
    logits = Exported("exported")(images)          # as model(images): any size, or a list of mixed sizes

The folder holds model.json and one file a scale, `scale-32.pt2` (torch.export) or `scale-32.onnx` (ONNX Runtime): a
graph from images [B, 3, scale, scale], normalised, B free, to logits [B, classes]. Each file carries its own copy of g.

With ONNX it also holds what answers to photographs without PyTorch and this package, as `predict` does, and serves:

    pip install numpy pillow onnxruntime
    python exported/serve.py                       # see --help; or, in Python, with `exported` on its path:
    runtime.ExportedModel("exported").answer("photo.jpg", top=3)

A network that was made of a published CNN, by `adapt` for instance, can be given away as what differs from it. That is
small, and this package loads it where the CNN's weights can be had, as `MSUN.save_difference` says:

    python -m msun_lite.export runs/adapt-resnet50-seed0 --out small --format difference
    MSUN.from_pretrained("small")
"""

import sys

from msun_lite.commands import start

if __name__ == "__main__":  # here, as help and errors in options need not wait for the imports below
    sys.exit(start("export"))


from pathlib import Path

from jsonargparse import Namespace

from msun_lite.evaluate import crop_ratio_of, find_model
from msun_lite.networks import MSUN, Exported, base_of, export, refuse_existing
from msun_lite.results import check_folder
from msun_lite.utils.distributed import refuse_several
from msun_lite.utils.errors import UserError
from msun_lite.utils.progress import note

__all__ = ["Exported", "main", "run"]


def run(options: Namespace, command: str) -> None:
    """Export the network that the options of the command name."""
    refuse_several("export")
    out = Path(options.out)
    refuse_existing(out)
    check_folder(out)
    ratio = crop_ratio_of(find_model(options.run), options.crop_ratio)
    if options.format == "difference":
        if options.crop_ratio is not None:
            expected = "expected none for a difference, whose crops are the model's"
            raise UserError(f"crop_ratio: {expected}, got {options.crop_ratio}")
        _write_difference(MSUN.from_pretrained(options.run), out)
    else:
        export(MSUN.from_pretrained(options.run), out, options.format, ratio)
    note(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}")


def _write_difference(model: MSUN, out: Path) -> None:
    """Write a small release to a new folder, or nothing."""
    base_of(model.spec)  # before there is a folder
    out.mkdir(parents=True)
    model.save_difference(out)


def main(argv: list[str] | None = None) -> int:
    """Run the command as the command line, or `argv`, says."""
    return start("export", argv)
