"""Vanilla, MST and MSUN side by side: train each, measure each at every size, one table, one figure.

    python -m msun_lite.reproduce --preset quick                       # drawn scenes, minutes on a CPU
    python -m msun_lite.reproduce --preset lite --out runs/photographs  # Imagenette, an hour or two

Finished runs are kept: called again, the command goes on where it stopped. The folder gets a run folder for
each method, report.md, accuracy.png and accuracy.svg.
"""

import sys

from msun_lite.commands import start

if __name__ == "__main__":  # here, as help and errors in options need not wait for the imports below
    sys.exit(start("reproduce"))


import time
from pathlib import Path

from jsonargparse import Namespace

from msun_lite.config import TrainConfig, command_line
from msun_lite.methods import COMPARED, METHODS
from msun_lite.results import NAMES, Summary, accuracy_figure, accuracy_table, save_figure, subnet_table
from msun_lite.train import choose_scales, train_or_resume
from msun_lite.utils.cli import CommandLine
from msun_lite.utils.distributed import refuse_several
from msun_lite.utils.files import write_text
from msun_lite.utils.progress import note, show


def reproduce(options: dict) -> dict[str, dict]:
    """Train and measure the three methods with the same `options` and write the report.

    Args:
        options: options of `TrainConfig` but `method` and `resume`; `out` is the folder for all, and
            `constraint` that of MSUN alone: Vanilla and MST have none.

    Returns:
        method -> its summary; the methods that `max_minutes` left no time for are missing.
    """
    out = Path(options["out"] or f"runs/reproduce-{Path(options['preset']).stem}")
    runs = {method: {**options, "method": method} for method in COMPARED}
    for method, chosen in runs.items():
        if not METHODS[method].subnets:
            chosen["constraint"] = None
    for chosen in runs.values():
        TrainConfig(**chosen).check()
    deadline = None if options["max_minutes"] is None else time.monotonic() + 60 * options["max_minutes"]
    records = {}
    for method, chosen in runs.items():
        record = train_or_resume(out / method, chosen, deadline)
        if record is None:
            note(f"stopped; call the same command again to go on in {out}")
            return records
        records[method] = record
    _report(records, out)
    return records


def _report(records: dict[str, Summary], out: Path) -> None:
    """Print the table; write report.md and the figure."""
    named = {NAMES[method]: record for method, record in records.items()}
    first = next(iter(records.values()))
    data, env = first["data"], first["env"]
    title = f"{data['name']}, {first['arch']}, {data['val']} validation images, seed {first['seed']}"
    save_figure(accuracy_figure(records, title), out / "accuracy")
    seconds = sum(record["seconds"] + record["evaluation_seconds"] for record in records.values())
    # MSUN's command has all options: the other two are trained without its constraint.
    command = command_line(TrainConfig(**records["msun"]["config"]), "reproduce", without=("method",))
    text = f"""# Vanilla, MST and MSUN at {len(first["sizes"])} image sizes

Top-1 accuracy (%) on {title}; mean FLOPs of one image over the sizes (2 x multiply-adds).

{accuracy_table(named, "github")}

![Accuracy against image size](accuracy.svg)

MSUN's subnets one by one, and the rules that choose among them (`oracle` knows the labels: an upper bound):

{subnet_table(records["msun"], "github")}

* Vanilla from {_ends(records["vanilla"])}; MST from {_ends(records["mst"])}; MSUN from {_ends(records["msun"])}.
* Epochs: {first["epochs"]}, on {data["train"]} images; training and measuring all three took {seconds / 60:.1f} minutes
  on {env["device"]} with {env["threads"]} thread(s), {env["precision"]}, torch {env["torch"]}.
* Commit {env["commit"]}; data fingerprint {data["fingerprint"]}; command `{command}`.
"""
    write_text(out / "report.md", text)
    show(f"\n{accuracy_table(named)}\n\n{subnet_table(records['msun'])}\n")
    note(f"report: {out / 'report.md'}   figure: {out / 'accuracy.png'}   ({seconds / 60:.1f} minutes)")


def _ends(record: Summary) -> str:
    small, large = str(record["sizes"][0]), str(record["sizes"][-1])
    return f"{record['top1'][small]:.1f} % at {small} px to {record['top1'][large]:.1f} % at {large} px"


def run(options: Namespace, command: CommandLine) -> None:
    """Train and compare what the options of the command say."""
    refuse_several("reproduce")
    chosen = choose_scales(TrainConfig(**options.as_dict()), command.given)
    reproduce({**options.as_dict(), "scales": chosen.scales, "sizes": chosen.sizes})


def main(argv: list[str] | None = None) -> int:
    """Run the command as the command line, or `argv`, says."""
    return start("reproduce", argv)
