"""The commands: what each does, and where. Options are read here, before torch is imported, which takes seconds.

    msun-lite                 # lists the commands; python -m msun_lite does the same
    msun-lite train --help    # as python -m msun_lite.train --help
    msun-lite data            # lists the scripts that get and convert data

A command's module has a function `run(options, command)`, which gets the options and the `CommandLine` that gave them.
"""

import ast
import importlib
import pkgutil
import sys
from dataclasses import dataclass
from pathlib import Path
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


DATA = "data"
"""The command that runs the scripts of `data_scripts`."""
DATA_SUMMARY = "Get and convert data: lists the scripts for it, and runs one."


def command_parser(name: str, prog: str | None = None) -> OneLineParser:
    """Return the parser of a command of `COMMANDS`; `prog` is what it was called by, its module by default."""
    command = COMMANDS[name]
    module, function = command.parser.split(":")
    make = getattr(importlib.import_module(module), function)
    return make(prog or f"python -m msun_lite.{name}", command.summary)


@one_line_errors
def start(name: str, argv: list[str] | None = None, prog: str | None = None) -> int:
    """Read the options of a command from `argv`, the command line by default; then import the command and run it.

    `prog` is that of `command_parser`.
    """
    argv = sys.argv[1:] if argv is None else argv
    options = parse(command_parser(name, prog), argv)
    options.pop("config", None)
    return importlib.import_module(COMMANDS[name].module).run(options, CommandLine(name, argv)) or 0


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Run the command that `argv` begins with, or list them all."""
    name, words = _first_word(sys.argv[1:] if argv is None else argv)
    prog = "msun-lite" if Path(sys.argv[0]).stem == "msun-lite" else "python -m msun_lite"
    if name is None:
        summaries = {each: command.summary for each, command in COMMANDS.items()}
        show(_listing(prog, "COMMAND", summaries | {DATA: DATA_SUMMARY}))
        return 0
    if name == DATA:
        return _run_script(words, f"{prog} {DATA}")
    _check_known("command", name, [*COMMANDS, DATA])
    return start(name, words, f"{prog} {name}")


def _run_script(argv: list[str], prog: str) -> int:
    """Run the script of `data_scripts` that `argv` begins with, or list them all; none is imported for the list."""
    scripts = importlib.import_module("msun_lite.data_scripts").__path__
    found = {module.name: Path(module.module_finder.path) for module in pkgutil.iter_modules(scripts)}
    name, words = _first_word(argv)
    if name is None:
        show(_listing(prog, "SCRIPT", {each: _first_line(folder / f"{each}.py") for each, folder in found.items()}))
        return 0
    _check_known("data", name, list(found))
    return importlib.import_module(f"msun_lite.data_scripts.{name}").main(words, f"{prog} {name}")


def _first_word(argv: list[str]) -> tuple[str | None, list[str]]:
    """Return the word that says what to run, None where a list is asked for, and the words after it."""
    return (None, []) if not argv or argv[0] in ("-h", "--help") else (argv[0], argv[1:])


def _check_known(what: str, name: str, known: list[str]) -> None:
    if name not in known:
        raise UserError(f"{what}: expected one of {', '.join(known)}{did_you_mean(name, known)}, got {name!r}")


def _first_line(script: Path) -> str:
    """Return the first line of what a file of Python says of itself."""
    return ast.get_docstring(ast.parse(script.read_bytes())).partition("\n")[0]


def _listing(prog: str, what: str, summaries: dict[str, str]) -> str:
    """Return how to call what is listed, and a line for each."""
    width = max(map(len, summaries)) + 2
    lines = [f"  {name:<{width}}{summary}" for name, summary in summaries.items()]
    return "\n".join([f"usage: {prog} {what} [OPTIONS]", "", *lines, "", f"{what} --help has its options."])


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
    run_help = "Run folder, or the name of shipped weights (lite-msun ...); several for a page that compares them."
    parser.add_argument("run", type=str, nargs="+", help=run_help)
    out_help = "New folder: model.json, and the weights or a file for each scale."
    parser.add_argument("--out", type=str | None, default=None, help=out_help)
    page_help = "New folder, instead: a page for any web server, where networks answer to one's own photograph."
    parser.add_argument("--page", type=str | None, default=None, help=page_help)
    formats = Literal["torch", "onnx", "difference"]
    format_help = (
        "torch: torch.export, .pt2 files; onnx: for ONNX Runtime (extra onnx), with a server on it; difference: "
    )
    format_help += "no graphs, but what this package loads: the weights that the CNN it was made of has not."
    parser.add_argument("--format", type=formats, default="torch", help=format_help)
    weights_help = "Of onnx and of pages. apart: in each graph its own; shared: once, in a file beside the graphs, in "
    weights_help += "half precision where that loses nothing; half: likewise, all in half precision. "
    weights_help += "auto: shared in a page, else apart."
    parser.add_argument("--weights", type=Literal["auto", "apart", "shared", "half"], default="auto", help=weights_help)
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
        "Write a trained network as graphs that run without this package, as a live page, or as a small difference.",
        "msun_lite.export",
        "msun_lite.commands:make_export_parser",
    ),
    "ablate": Command(
        "Train the networks of one of the paper's ablations and write its table.",
        "msun_lite.ablate.__main__",
        "msun_lite.ablate.options:make_ablate_parser",
    ),
    "adapt": Command(
        "Make a multi-scale network of a trained CNN, by images without labels.",
        "msun_lite.adapt.__main__",
        "msun_lite.adapt.options:make_adapt_parser",
    ),
    "transfer": Command(
        "Transfer a network to another data set, by a probe or fine-tuning.",
        "msun_lite.transfer.__main__",
        "msun_lite.transfer.options:make_transfer_parser",
    ),
}
"""Name -> command, in the order in which they are listed."""
