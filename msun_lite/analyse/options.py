"""The options of `analyse`."""

from msun_lite.evaluate import make_subject_parser
from msun_lite.utils.cli import OneLineParser

STUDIES = ("cka", "gradcam", "pca", "resizing")
"""What `analyse` can measure."""


def make_analyse_parser(prog: str, summary: str) -> OneLineParser:
    """Return the parser of `analyse`."""
    parser = make_subject_parser(prog, summary)
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
