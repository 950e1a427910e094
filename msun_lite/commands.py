"""The commands: what each does, and where. Options are read here, before torch is imported, which takes seconds.

    python -m msun_lite                 # lists the commands
    python -m msun_lite train --help    # as python -m msun_lite.train --help

A command's module has a function `run(options, command)`, which gets the options and the `CommandLine` that gave them.
"""

import importlib
import sys
from dataclasses import dataclass
from typing import Literal

from msun_lite.config import make_parser
from msun_lite.networks import ModelOptions
from msun_lite.utils.cli import CommandLine, OneLineParser, parse
from msun_lite.utils.errors import UserError, did_you_mean, one_line_errors
from msun_lite.utils.progress import show


@dataclass(frozen=True)
class Command:
    """A command.

    Args:
        summary: what it does, in a line.
        module: the module whose `run(options, command)` does it.
        parser: module:function that makes its parser of its `prog` and the summary; the module needs no torch.
    """

    summary: str
    module: str
    parser: str


def command_parser(name: str) -> OneLineParser:
    """Return the parser of a command of `COMMANDS`."""
    command = COMMANDS[name]
    module, function = command.parser.split(":")
    make = getattr(importlib.import_module(module), function)
    return make(f"python -m msun_lite.{name}", command.summary)


@one_line_errors
def start(name: str, argv: list[str] | None = None) -> int:
    """Read the options of a command from `argv`, the command line by default; then import the command and run it."""
    argv = sys.argv[1:] if argv is None else argv
    options = parse(command_parser(name), argv)
    options.pop("config", None)
    return importlib.import_module(COMMANDS[name].module).run(options, CommandLine(name, argv)) or 0


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
        [
            "usage: msun-lite COMMAND [OPTIONS]   or   python -m msun_lite.COMMAND [OPTIONS]",
            "",
            *lines,
            "",
            "COMMAND --help has its options.",
        ]
    )


CROP_HELP = "Side of the central square that is looked at, as a part of the shorter side; the run's by default."


def make_predict_parser(prog: str, summary: str) -> OneLineParser:
    """Return the parser of `predict`."""
    parser = OneLineParser(prog=prog, description=summary)
    parser.add_argument("--config", action="config", help="YAML file of options.")
    run_help = "Run folder or its best, shipped weights (lite-plus ...), or a saved, transferred or Hub model."
    parser.add_argument("run", type=str, help=run_help)
    parser.add_argument("images", type=str, nargs="+", help="Images, folders of images, or patterns such as 'a/*.png'.")
    group = parser.add_argument_group("answers")
    group.add_argument("--top", type=int | None, default=None, help="Classes to name; 5 by default, if there are.")
    group.add_argument("--crop_ratio", type=float | None, default=None, help=CROP_HELP)
    group.add_argument("--csv", type=str | None, default=None, help="File for a table, a line an image.")
    group.add_argument("--json", type=str | None, default=None, help="File for the same as JSON.")
    group = parser.add_argument_group("device and processes")
    group.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda ...")
    group.add_argument("--workers", type=int, default=0, help="Processes that read images.")
    group.add_argument("--threads", type=int | None, default=None, help="CPU threads; PyTorch's choice by default.")
    return parser


def make_reproduce_parser(prog: str, summary: str) -> OneLineParser:
    """Return the parser of `reproduce`."""
    parser = make_parser(prog, summary, skip={"method", "resume", "out"})
    out_help = "Folder for the runs and the report; runs/reproduce-PRESET by default."
    parser.add_argument("--out", type=str | None, default=None, help=out_help)
    seeds_help = (
        "Seeds, such as 0,1,2: trains each method with each, reports means and spread; --seed alone by default."
    )
    parser.add_argument("--seeds", type=list[int] | None, default=None, help=seeds_help)
    return parser


def make_cost_parser(prog: str, summary: str) -> OneLineParser:
    """Return the parser of `cost`."""
    parser = OneLineParser(prog=prog, description=summary)
    parser.add_argument("--config", action="config", help="YAML file of options.")
    group = parser.add_argument_group("network")
    group.add_class_arguments(ModelOptions, as_group=False, skip={"weights", "antialias"})
    parser.set_defaults({"arch": "resnet50"})
    group.add_argument("--num_classes", type=int, default=1000, help="Number of classes.")
    group = parser.add_argument_group("sizes")
    group.add_argument("--scales", type=list[int], default=[32, 128, 224], help="Scales in pixels, as 32,128,224.")
    group.add_argument("--sizes", type=list[int], default=[], help="Sizes; 13 between the scales by default.")
    group = parser.add_argument_group("speed")
    group.add_argument("--latency", type=bool, default=False, help="Also measure the time on this machine.")
    group.add_argument("--batch", type=int, default=16, help="Images a batch where throughput is measured.")
    group.add_argument("--rounds", type=int, default=7, help="Measurements of which the median is taken.")
    group.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda ...")
    group = parser.add_argument_group("output")
    group.add_argument("--json", type=str | None, default=None, help="File to write the result to.")
    return parser


def make_export_parser(prog: str, summary: str) -> OneLineParser:
    """Return the parser of `export`."""
    parser = OneLineParser(prog=prog, description=summary)
    parser.add_argument("--config", action="config", help="YAML file of options.")
    parser.add_argument("run", type=str, help="Run folder, or the name of shipped weights (lite-msun ...).")
    parser.add_argument("--out", type=str, required=True, help="New folder: model.json, and a file for each scale.")
    format_help = "torch: torch.export, .pt2 files; onnx: for ONNX Runtime (extra onnx), with a server on it."
    parser.add_argument("--format", type=Literal["torch", "onnx"], default="torch", help=format_help)
    parser.add_argument("--crop_ratio", type=float | None, default=None, help=CROP_HELP)
    return parser


COMMANDS = {
    "train": Command(
        "Train one network by one method and measure it at every size.",
        "msun_lite.train.__main__",
        "msun_lite.config:make_parser",
    ),
    "evaluate": Command(
        "Measure a trained network's accuracy at every image size.",
        "msun_lite.evaluate.__main__",
        "msun_lite.evaluate.options:make_evaluate_parser",
    ),
    "predict": Command(
        "Say what is on photographs, each looked at in its own size.",
        "msun_lite.predict",
        "msun_lite.commands:make_predict_parser",
    ),
    "reproduce": Command(
        "Train Vanilla, MST and MSUN with the same options and compare them.",
        "msun_lite.reproduce",
        "msun_lite.commands:make_reproduce_parser",
    ),
    "cost": Command(
        "Count an MSUN's parameters and FLOPs, and measure its speed.",
        "msun_lite.cost",
        "msun_lite.commands:make_cost_parser",
    ),
    "analyse": Command(
        "Show why a network fails or holds at small sizes: CKA, Grad-CAM, features.",
        "msun_lite.analyse.__main__",
        "msun_lite.analyse.options:make_analyse_parser",
    ),
    "export": Command(
        "Write a trained network as graphs that run without this package.",
        "msun_lite.export",
        "msun_lite.commands:make_export_parser",
    ),
    "ablate": Command(
        "Train the networks of one of the paper's ablations and write its table.",
        "msun_lite.ablate.__main__",
        "msun_lite.ablate.options:make_ablate_parser",
    ),
    "transfer": Command(
        "Transfer a network to another data set, by a probe or fine-tuning.",
        "msun_lite.transfer.__main__",
        "msun_lite.transfer.options:make_transfer_parser",
    ),
}
"""Name -> command, in the order in which they are listed."""
