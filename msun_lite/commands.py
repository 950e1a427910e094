"""The commands: what each does, and its options. They are read here, before torch is imported, which takes seconds.

    python -m msun_lite                 # lists the commands
    python -m msun_lite train --help    # as python -m msun_lite.train --help

A command's module has a function `run(options, command)`, which gets the options and the command line that gave them.
"""

import importlib
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from msun_lite.config import make_parser
from msun_lite.errors import UserError, did_you_mean, one_line_errors
from msun_lite.options import OneLineParser, parse
from msun_lite.progress import show
from msun_lite.transfer_config import make_transfer_parser

ABLATED = ("method", "resume", "seed", "constraint", "blocks", "unify")
"""Options of a training that are no options of `ablate`: the tables are about them."""

STUDIES = ("cka", "gradcam", "pca", "resizing")
"""What `analyse` can measure."""


@dataclass(frozen=True)
class Command:
    """A command: what it does, in a line, and what makes its parser of its `prog` and that line."""

    summary: str
    make_parser: Callable[[str, str], OneLineParser]


def command_parser(name: str) -> OneLineParser:
    """Return the parser of a command of `COMMANDS`."""
    command = COMMANDS[name]
    return command.make_parser(f"python -m msun_lite.{name}", command.summary)


@one_line_errors
def start(name: str, argv: list[str] | None = None) -> int:
    """Read the options of a command from `argv`, the command line by default; then import the command and run it."""
    argv = sys.argv[1:] if argv is None else argv
    options = parse(command_parser(name), argv)
    options.pop("config", None)
    line = shlex.join(["python", "-m", f"msun_lite.{name}", *argv])
    return importlib.import_module(f"msun_lite.{name}").run(options, line) or 0


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Run the command that `argv` begins with, or list them all."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        show(_overview())
        return 0
    if argv[0] not in COMMANDS:
        expected = f"expected one of {', '.join(COMMANDS)}{did_you_mean(argv[0], COMMANDS)}"
        raise UserError(f"command: {expected}, got {argv[0]!r}")
    return start(argv[0], argv[1:])


def _overview() -> str:
    """Return the commands, a line each."""
    lines = [f"  {name:<11}{command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        ["usage: python -m msun_lite COMMAND [OPTIONS]", "", *lines, "", "COMMAND --help has its options."]
    )


def _reproduce_parser(prog: str, summary: str) -> OneLineParser:
    parser = make_parser(prog, summary, skip={"method", "resume", "out"})
    out_help = "Folder for the three runs and the report; runs/reproduce-PRESET by default."
    parser.add_argument("--out", type=str | None, default=None, help=out_help)
    return parser


def _ablate_parser(prog: str, summary: str) -> OneLineParser:
    parser = make_parser(prog, summary, skip={*ABLATED, "out"})
    group = parser.add_argument_group("tables")
    out_help = "Folder for all runs and tables; runs/ablate-PRESET by default. Nothing is written outside it but data."
    group.add_argument("--out", type=str | None, default=None, help=out_help)
    group.add_argument("--table", type=str, required=True, help="4, 5, 6, open or beyond the paper.")
    group.add_argument("--seeds", type=list[int], default=[0], help="Seeds of the trainings, as 0,1,2.")
    return parser


def _transfer_parser(prog: str, summary: str) -> OneLineParser:
    parser = make_transfer_parser(prog, summary)
    runs_help = "Run folder or shipped weights to transfer; with --table, the folders of finished transfers."
    parser.add_argument("runs", type=str, nargs="*", default=[], help=runs_help)
    table_help = "Assemble finished transfers in the layout of Table III, beside the paper's figures."
    parser.add_argument("--table", type=bool, default=False, help=table_help)
    return parser


def _subject_parser(prog: str, summary: str) -> OneLineParser:
    """Return a parser of the options that `subjects.find_config` and `find_subject` read."""
    parser = OneLineParser(prog=prog, description=summary)
    parser.add_argument("--config", action="config", help="YAML file of options.")
    run_help = "Run folder or its best, shipped weights (lite-msun ...), or a saved, transferred or Hub model."
    group = parser.add_argument_group("what is measured")
    group.add_argument("run", type=str | None, nargs="?", default=None, help=run_help)
    group.add_argument("--arch", type=str | None, default=None, help="In place of a run: a plain CNN, as Vanilla.")
    group.add_argument("--split", type=str | None, default=None, help="The layer after which its features are taken.")
    group.add_argument("--weights", type=str, default="DEFAULT", help="Its weights: DEFAULT (published), or a file.")
    group.add_argument("--num_classes", type=int, default=1000, help="Its number of classes.")
    group.add_argument("--grid", type=str, default="imagenet", help="Preset with the sizes and data for --arch.")
    group = parser.add_argument_group("on which images")
    group.add_argument("--data", type=str | None, default=None, help="Data; that of the run by default, if it has one.")
    group.add_argument(
        "--data_root", type=str | None, default=None, help="Folder of data sets; that of the run by default."
    )
    names_help = "Text file, a line for each class of the network: its class in the data, where names do not tell."
    group.add_argument("--class_names", type=str | None, default=None, help=names_help)
    sizes_help = "Sizes in pixels, as 32,48,64; those of the run, or 13 between its scales, by default."
    group.add_argument("--sizes", type=list[int], default=[], help=sizes_help)
    for name, of in (("mean", "Mean of images, as 0.5,0.5,0.5"), ("std", "Their standard deviation")):
        meaning = f"{of}; as the network has it by default."
        group.add_argument(f"--{name}", type=list[float] | None, default=None, help=meaning)
    group = parser.add_argument_group("device and processes")
    group.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda ...")
    group.add_argument("--workers", type=int, default=0, help="Processes that prepare images.")
    group.add_argument("--threads", type=int | None, default=None, help="CPU threads; PyTorch's choice by default.")
    return parser


def _evaluate_parser(prog: str, summary: str) -> OneLineParser:
    parser = _subject_parser(prog, summary)
    group = parser.add_argument_group("how it is measured")
    group.add_argument("--routing", type=str | None, default=None, help="nearest, ceil, ratio or oracle.")
    feeding_help = "How a plain CNN gets small images: upsampled to its scale, or native, as they are."
    group.add_argument("--feeding", type=str, default="upsampled", help=feeding_help)
    batch_help = "Images a batch; 250 by default, or as many as leave memory for others."
    group.add_argument("--batch_size", type=int | None, default=None, help=batch_help)
    antialias_help = "Low-pass images before making them smaller; as in the run's training by default."
    group.add_argument("--antialias", type=bool | None, default=None, help=antialias_help)
    group = parser.add_argument_group("output")
    group.add_argument("--json", type=str | None, default=None, help="File to write the result to.")
    return parser


def _analyse_parser(prog: str, summary: str) -> OneLineParser:
    parser = _subject_parser(prog, summary)
    group = parser.add_argument_group("how it is measured")
    group.add_argument("--what", type=str, default=",".join(STUDIES), help=f"Studies, of {', '.join(STUDIES)}.")
    group.add_argument("--images", type=int | None, default=None, help="Validation images, drawn at random; or all.")
    group.add_argument("--layer", type=str | None, default=None, help="Grad-CAM's layer; the last stage by default.")
    reference_help = "Run or shipped name whose attention at the largest size Grad-CAM is compared with too."
    group.add_argument("--reference", type=str | None, default=None, help=reference_help)
    group = parser.add_argument_group("output")
    group.add_argument("--out", type=str | None, default=None, help="Folder; the run's own, or runs/NAME, by default.")
    group.add_argument("--resume", type=bool, default=False, help="Leave out the studies that are there already.")
    return parser


def _cost_parser(prog: str, summary: str) -> OneLineParser:
    parser = OneLineParser(prog=prog, description=summary)
    parser.add_argument("--config", action="config", help="YAML file of options.")
    group = parser.add_argument_group("network and sizes")
    group.add_argument("--arch", type=str, default="resnet50", help="Backbone, as for training.")
    group.add_argument("--blocks", type=int, default=1, help="Stages in every subnet beside its stem, 0 to 3.")
    split_help = "Last layer of every subnet, by its name in the backbone, in place of --blocks."
    group.add_argument("--split", type=str | None, default=None, help=split_help)
    group.add_argument("--scales", type=list[int], default=[32, 128, 224], help="Scales in pixels, as 32,128,224.")
    group.add_argument("--sizes", type=list[int], default=[], help="Sizes; 13 between the scales by default.")
    group.add_argument("--num_classes", type=int, default=1000, help="Number of classes.")
    group.add_argument("--stems", type=str, default="coarse", help="Stems below the largest scale: coarse or fine.")
    group.add_argument("--unify", type=str, default="largest", help="What g runs on: largest, native or none.")
    group.add_argument("--norm", type=str, default="shared", help="BatchNorm of g: shared or per_scale.")
    group = parser.add_argument_group("speed")
    group.add_argument("--latency", type=bool, default=False, help="Also measure the time on this machine.")
    group.add_argument("--batch", type=int, default=16, help="Images a batch where throughput is measured.")
    group.add_argument("--rounds", type=int, default=7, help="Measurements of which the median is taken.")
    group.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda ...")
    group = parser.add_argument_group("output")
    group.add_argument("--json", type=str | None, default=None, help="File to write the result to.")
    return parser


def _export_parser(prog: str, summary: str) -> OneLineParser:
    parser = OneLineParser(prog=prog, description=summary)
    parser.add_argument("--config", action="config", help="YAML file of options.")
    parser.add_argument("run", type=str, help="Run folder, or the name of shipped weights (lite-msun ...).")
    parser.add_argument("--out", type=str, required=True, help="New folder: model.json, and a file for each scale.")
    format_help = "torch: torch.export, .pt2 files; onnx: for ONNX Runtime (extra onnx)."
    parser.add_argument("--format", type=Literal["torch", "onnx"], default="torch", help=format_help)
    return parser


COMMANDS = {
    "train": Command("Train one network by one method and measure it at every size.", make_parser),
    "evaluate": Command("Measure a trained network's accuracy at every image size.", _evaluate_parser),
    "reproduce": Command("Train Vanilla, MST and MSUN with the same options and compare them.", _reproduce_parser),
    "cost": Command("Count an MSUN's parameters and FLOPs, and measure its speed.", _cost_parser),
    "analyse": Command("Show why a network fails or holds at small sizes: CKA, Grad-CAM, features.", _analyse_parser),
    "export": Command("Write a trained network as graphs that run without this package.", _export_parser),
    "ablate": Command("Train the networks of one of the paper's ablations and write its table.", _ablate_parser),
    "transfer": Command("Transfer a network to another data set, by a probe or fine-tuning.", _transfer_parser),
}
"""Name -> command, in the order in which they are listed."""
