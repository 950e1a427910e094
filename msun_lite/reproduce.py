"""Vanilla, MST and MSUN side by side: train each, measure each at every size, one table, one figure.

    python -m msun_lite.reproduce --preset quick                       # drawn scenes, minutes on a CPU
    python -m msun_lite.reproduce --preset lite --out runs/photographs  # Imagenette, an hour or two
    python -m msun_lite.reproduce --data photos --seeds 0,1,2           # class folders of one's own: means and spread

Finished runs are kept: called again, the command goes on where it stopped. The folder gets a run folder for
each method, and seed if there are several, report.md, accuracy.png and accuracy.svg.
"""

import sys

from msun_lite.commands import start

if __name__ == "__main__":  # here, as help and errors in options need not wait for the imports below
    sys.exit(start("reproduce"))


import time
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace

from msun_lite.config import TrainConfig, command_line
from msun_lite.methods import COMPARED, METHODS
from msun_lite.results import (
    NAMES,
    Lead,
    Means,
    Summary,
    accuracy_figure,
    accuracy_table,
    average_seeds,
    join_words,
    markdown_name,
    save_figure,
    subnet_table,
)
from msun_lite.train import choose_scales, train_or_resume
from msun_lite.utils.cli import CommandLine
from msun_lite.utils.distributed import refuse_several
from msun_lite.utils.errors import UserError
from msun_lite.utils.files import write_text
from msun_lite.utils.progress import note, show


def reproduce(options: dict, seeds: Sequence[int] | None = None) -> dict[str, dict[int, Summary]]:
    """Train and measure the three methods with the same `options` and write the report.

    Args:
        options: options of `TrainConfig` but `method` and `resume`; `out` is the folder for all, and
            `constraint` that of MSUN alone: Vanilla and MST have none.
        seeds: each method is trained with each of them; with the options' seed alone by default.

    Returns:
        method -> seed -> its summary; those that `max_minutes` left no time for are missing.
    """
    out = Path(options["out"] or f"runs/reproduce-{Path(options['preset']).stem}")
    runs = _runs(options, seeds)
    for chosen in runs.values():
        TrainConfig(**chosen).check()
    deadline = None if options["max_minutes"] is None else time.monotonic() + 60 * options["max_minutes"]
    records: dict[str, dict[int, Summary]] = {}
    for name, chosen in runs.items():
        record = train_or_resume(out / name, chosen, deadline)
        if record is None:
            note(f"stopped; call the same command again to go on in {out}")
            return records
        records.setdefault(chosen["method"], {})[chosen["seed"]] = record
    _report(records, out)
    return records


def _runs(options: dict, seeds: Sequence[int] | None) -> dict[str, dict]:
    """Return the options of each run by the name of its folder: seed by seed, so that a part of them can be compared.

    Raises:
        UserError: for no seed, or one twice.
    """
    if seeds is not None and (not seeds or len(set(seeds)) < len(seeds)):
        raise UserError(f"seeds: expected different whole numbers, such as 0,1,2, got {list(seeds)}")
    runs = {}
    for seed in [options["seed"]] if seeds is None else seeds:
        for method in COMPARED:
            chosen = {**options, "method": method, "seed": seed}
            if not METHODS[method].subnets:
                chosen["constraint"] = None
            runs[method if seeds is None else f"{method}-seed{seed}"] = chosen
    return runs


def _report(records: dict[str, dict[int, Summary]], out: Path) -> None:
    """Print the table; write report.md and the figure."""
    means = {method: average_seeds(by_seed) for method, by_seed in records.items()}
    named = {NAMES[method]: mean for method, mean in means.items()}
    everyone = [record for by_seed in records.values() for record in by_seed.values()]
    first, seeds = everyone[0], list(records["msun"])
    last = records["msun"][seeds[0]]
    data, env = first["data"], first["env"]
    of_seeds = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {join_words(list(map(str, seeds)))}"
    title = f"{data['name']}, {first['arch']}, {data['val']} validation images, {of_seeds}"
    save_figure(accuracy_figure(means, title), out / "accuracy")
    seconds = sum(record["seconds"] + record["evaluation_seconds"] for record in everyone)
    # MSUN's command has all options: the other two are trained without its constraint.
    several, without = len(seeds) > 1, ("method",)
    command = command_line(TrainConfig(**last["config"]), "reproduce", (*without, "seed") if several else without)
    command += f" --seeds {','.join(map(str, seeds))}" if several else ""
    text = f"""# Vanilla, MST and MSUN at {len(first["sizes"])} image sizes

Top-1 accuracy (%) on {markdown_name(title)}; mean FLOPs of one image over the sizes (2 x multiply-adds).

{accuracy_table(named, "github")}

![Accuracy against image size](accuracy.svg)
{_leads(records)}
MSUN's subnets one by one, and the rules that choose among them (`oracle` knows the labels: an upper bound){
        "" if len(seeds) == 1 else f", of seed {seeds[0]}"
    }:

{subnet_table(last, "github")}

* {"; ".join(f"{NAMES[method]} from {_ends(mean)}" for method, mean in means.items())}.
* Epochs: {first["epochs"]}, on {data["train"]} images; training and measuring all took {seconds / 60:.1f} minutes
  on {env["device"]} with {env["threads"]} thread(s), {env["precision"]}, torch {env["torch"]}.
* Commit {env["commit"]}; data fingerprint {data["fingerprint"]}; command `{command}`.
"""
    write_text(out / "report.md", text)
    show(f"\n{accuracy_table(named)}\n\n{subnet_table(last)}\n")
    note(f"report: {out / 'report.md'}   figure: {out / 'accuracy.png'}   ({seconds / 60:.1f} minutes)")


def _leads(records: dict[str, dict[int, Summary]]) -> str:
    """Return by how much MSUN is ahead of the others, with several seeds; nothing is said of one."""
    if len(records["msun"]) == 1:
        return ""
    leads = {method: Lead(records["msun"], by_seed) for method, by_seed in records.items() if method != "msun"}
    lines = [
        f"* MSUN's mean is {lead.ahead_or_behind(lead.mean())} of {NAMES[method]}'s. Two standard errors of an "
        f"accuracy on so many images are {lead.chance:.1f} points."
        for method, lead in leads.items()
    ]
    return "\n" + "\n".join(lines) + "\n"


def _ends(record: Means) -> str:
    small, large = str(record["sizes"][0]), str(record["sizes"][-1])
    return f"{record['top1'][small]:.1f} % at {small} px to {record['top1'][large]:.1f} % at {large} px"


def run(options: Namespace, command: CommandLine) -> None:
    """Train and compare what the options of the command say."""
    refuse_several("reproduce")
    seeds = options.pop("seeds")
    if seeds is not None and "seed" in command.given:
        raise UserError(f"seed: expected none beside --seeds {','.join(map(str, seeds))}, got {options.seed}")
    chosen = choose_scales(TrainConfig(**options.as_dict()), command.given)
    reproduce({**options.as_dict(), "scales": chosen.scales, "sizes": chosen.sizes}, seeds)


def main(argv: list[str] | None = None) -> int:
    """Run the command as the command line, or `argv`, says."""
    return start("reproduce", argv)
