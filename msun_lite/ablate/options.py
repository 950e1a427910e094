"""The options of `ablate`: those of a training, but for what its tables are about."""

from msun_lite.config import make_parser
from msun_lite.utils.cli import OneLineParser

ABLATED = ("method", "resume", "seed", "constraint", "blocks", "unify")
"""Options of a training that are no options of `ablate`."""


def make_ablate_parser(prog: str, summary: str) -> OneLineParser:
    """Return the parser of `ablate`."""
    parser = make_parser(prog, summary, skip={*ABLATED, "out"})
    group = parser.add_argument_group("tables")
    out_help = "Folder for all runs and tables; runs/ablate-PRESET by default. Nothing is written outside it but data."
    group.add_argument("--out", type=str | None, default=None, help=out_help)
    table_help = "4, 5, 6, open, beyond (the paper), rivals, backbones or controls."
    group.add_argument("--table", type=str, required=True, help=table_help)
    group.add_argument("--seeds", type=list[int], default=[0], help="Seeds of the trainings, as 0,1,2.")
    return parser
