"""Write a trained model as graphs that run without this package, one a scale, or as a page that runs them.

    python -m msun_lite.export lite-msun --out exported --format onnx
    model.export("exported", format="onnx")        # the same, in Python
    logits = Exported("exported")(images)          # as model(images): any size, or a list of mixed sizes

The folder holds model.json and one file a scale, `scale-32.pt2` (torch.export) or `scale-32.onnx` (ONNX Runtime): a
graph from images [B, 3, scale, scale], normalised, B free, to logits [B, classes]. Each file carries its own copy of g;
with `--weights shared`, of ONNX, all weights lie once in weights.bin instead, and the graphs give class-activation maps
too. `--weights half` stores them in half precision.

With ONNX it also holds what answers to photographs without PyTorch and this package, as `predict` does, and serves:

    pip install numpy pillow onnxruntime
    python exported/serve.py                       # see --help; or, in Python, with `exported` on its path:
    runtime.ExportedModel("exported").answer("photo.jpg", top=3)

A page in which networks answer to the reader's own photograph, in the reader's browser, with nothing uploaded:

    python -m msun_lite.export runs/mine runs/other --page page        # extra onnx
    python -m http.server --directory page                             # or any other web server, in any folder

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
from msun_lite.live import Shown, find_photographs, title_networks, write_page
from msun_lite.networks import MSUN, Exported, base_of, export, refuse_existing
from msun_lite.results import NAMES, check_folder
from msun_lite.utils.distributed import refuse_several
from msun_lite.utils.errors import UserError
from msun_lite.utils.progress import note

__all__ = ["Exported", "main", "run"]

AUTO = "auto"
"""Where weights are put unless it is said."""


def run(options: Namespace, command: str) -> None:
    """Export the network, or the networks, that the options of the command name."""
    refuse_several("export")
    if (options.out is None) == (options.page is None):
        got = "neither" if options.out is None else f"{options.out} and {options.page}"
        raise UserError(f"the following arguments are required: out or page, one of them; got {got}")
    out = Path(options.out or options.page)
    refuse_existing(out)
    check_folder(out)
    if options.page is not None:
        _write_page(options, out)
    else:
        _write_model(options, out)
    note(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}")


def _write_page(options: Namespace, out: Path) -> None:
    """Write the page of all the networks that are named."""
    if options.format != "torch":  # the default
        raise UserError(f"format: expected none for a page, got {options.format}")
    found = [find_model(run) for run in options.run]
    ratios = [crop_ratio_of(model, options.crop_ratio) for model in found]
    names = [Path(run).resolve().name for run in options.run]
    titles = title_networks(
        [(name, NAMES.get(model.method, model.method)) for name, model in zip(names, found, strict=True)]
    )
    models = [MSUN.from_pretrained(run) for run in options.run]
    shown = [Shown(*about) for about in zip(names, titles, models, ratios, strict=True)]
    write_page(shown, out, find_photographs(), "shared" if options.weights == AUTO else options.weights)


def _write_model(options: Namespace, out: Path) -> None:
    """Write one network, in the format that is asked for."""
    if len(options.run) > 1:
        raise UserError(f"run: expected one with --out, several with --page alone, got {', '.join(options.run)}")
    (run,) = options.run
    ratio = crop_ratio_of(find_model(run), options.crop_ratio)
    if options.format == "difference":
        if options.crop_ratio is not None:
            expected = "expected none for a difference, whose crops are the model's"
            raise UserError(f"crop_ratio: {expected}, got {options.crop_ratio}")
        if options.weights != AUTO:
            expected = "expected none for a difference, whose weights are in half precision"
            raise UserError(f"weights: {expected}, got {options.weights}")
        _write_difference(MSUN.from_pretrained(run), out)
    else:
        weights = "apart" if options.weights == AUTO else options.weights
        export(MSUN.from_pretrained(run), out, options.format, ratio, weights)


def _write_difference(model: MSUN, out: Path) -> None:
    """Write a small release to a new folder, or nothing."""
    base_of(model.spec)  # before there is a folder
    out.mkdir(parents=True)
    model.save_difference(out)


def main(argv: list[str] | None = None) -> int:
    """Run the command as the command line, or `argv`, says."""
    return start("export", argv)
