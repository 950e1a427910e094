"""The options of `evaluate`, and those that every command has which measures a network."""

from typing import Literal

from msun_lite.utils.cli import OneLineParser

OWN = "own"
"""What stands for each image's own size in the place of sizes."""


def make_subject_parser(prog: str, summary: str, sizes: type = list[int]) -> OneLineParser:
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
    crop_help = "Side of the centre crop, as a part of the shorter side; the run's, or that of --arch's weights."
    group.add_argument("--crop_ratio", type=float | None, default=None, help=crop_help)
    sizes_help = "Sizes in pixels, as 32,48,64; those of the run, or 13 between its scales, by default."
    if sizes != list[int]:
        sizes_help += " Or own: each image at its own size."
    group.add_argument("--sizes", type=sizes, default=[], help=sizes_help)
    for name, of in (("mean", "Mean of images, as 0.5,0.5,0.5"), ("std", "Their standard deviation")):
        meaning = f"{of}; as the network has it by default."
        group.add_argument(f"--{name}", type=list[float] | None, default=None, help=meaning)
    group = parser.add_argument_group("device and processes")
    group.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda ...")
    group.add_argument("--workers", type=int, default=0, help="Processes that prepare images.")
    group.add_argument("--threads", type=int | None, default=None, help="CPU threads; PyTorch's choice by default.")
    return parser


def make_evaluate_parser(prog: str, summary: str) -> OneLineParser:
    """Return the parser of `evaluate`."""
    parser = make_subject_parser(prog, summary, sizes=list[int] | Literal[OWN])
    group = parser.add_argument_group("how it is measured")
    group.add_argument("--routing", type=str | None, default=None, help="nearest, ceil, ratio or oracle.")
    among_help = "Of data with some of the network's classes: answers from all of its classes, or those of the data."
    group.add_argument("--among", type=Literal["all", "data"], default="all", help=among_help)
    feeding_help = "How a plain CNN gets small images: upsampled to its scale, or native, as they are."
    group.add_argument("--feeding", type=str, default="upsampled", help=feeding_help)
    batch_help = "Images a batch; 250 by default, or as many as leave memory for others."
    group.add_argument("--batch_size", type=int | None, default=None, help=batch_help)
    averages_help = (
        "BatchNorm's averages: as trained, or of each size: of training crops (size), or of a folder's images."
    )
    group.add_argument("--averages", type=str, default="trained", help=averages_help)
    averaged_help = "Images that these averages are taken from."
    group.add_argument("--averages_images", type=int, default=2048, help=averaged_help)
    antialias_help = "Low-pass images before making them smaller; as in the run's training by default."
    group.add_argument("--antialias", type=bool | None, default=None, help=antialias_help)
    group = parser.add_argument_group("output")
    group.add_argument("--json", type=str | None, default=None, help="File to write the result to.")
    report_help = "New folder for what explains it: by class, what is taken for what, how sure, the surest mistakes."
    group.add_argument("--report", type=str | None, default=None, help=report_help)
    return parser
