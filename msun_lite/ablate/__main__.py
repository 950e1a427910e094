"""The paper's ablations (Tables IV, V and VI) and more of the kind: train the networks of a table, write the table.

    python -m msun_lite.ablate --table 6                                     # drawn scenes, six networks
    python -m msun_lite.ablate --table 5 --data imagenette --crop_ratio 0.875 --epochs 16 --seeds 0,1
    python -m msun_lite.ablate --table open --out runs/mine                  # lambda, stems, aliasing
    python -m msun_lite.ablate --table beyond                                # what makes an MSUN better
    python -m msun_lite.ablate --table rivals --preset lite --seeds 0,1,2    # and what else helps
    python -m msun_lite.ablate --table backbones --data imagenette --crop_ratio 0.875 --epochs 16    # four small CNNs
    python -m msun_lite.ablate --table controls                              # GroupNorm; a network for each size

A network that several tables share is trained once: runs are looked for in --out by their configuration, whatever their
folder is called. Finished runs are kept: called again, the command goes on where it stopped. The folder gets a run
folder for each network and seed, and of each table a .md, a .json and a figure, written anew after every seed.
"""

import sys

from msun_lite.commands import start

if __name__ == "__main__":  # here, as help and errors in options need not wait for the imports below
    sys.exit(start("ablate"))


from jsonargparse import Namespace

from msun_lite.ablate.compared import ALL_TABLES
from msun_lite.ablate.run import ablate
from msun_lite.config import TrainConfig
from msun_lite.train import choose_scales
from msun_lite.utils.cli import CommandLine
from msun_lite.utils.distributed import refuse_several
from msun_lite.utils.errors import UserError, one_of


def run(options: Namespace, command: CommandLine) -> None:
    """Train and tabulate what the options of the command say."""
    table, seeds = options.pop("table"), options.pop("seeds")
    one_of("table", table, list(ALL_TABLES))
    if not seeds or len(set(seeds)) < len(seeds):
        raise UserError(f"seeds: expected one or more, each once, got {seeds}")
    refuse_several("ablate")
    chosen = choose_scales(TrainConfig(**options.as_dict()), command.given)
    ablate(table, seeds, {**options.as_dict(), "scales": chosen.scales, "sizes": chosen.sizes})


def main(argv: list[str] | None = None) -> int:
    """Run the command as the command line, or `argv`, says."""
    return start("ablate", argv)
