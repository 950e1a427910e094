"""What recipes of fine-tuning are worth on few photographs: the same network, start and epochs, other optimizers.

    python experiments/finetune.py dtd10 --out runs/finetune --seeds 0,1,2 --json book/results/finetune.json

Each recipe of `RECIPES` trains on a folder of class folders, and on a long-tailed part of it, of which the first class
keeps all its training images and the last a tenth. Accuracy is the mean over the 13 sizes of the preset. Finished runs
are kept: called again, the command goes on where it stopped.
"""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev

from msun_lite.config import make_config
from msun_lite.data.class_folders import read_class_folder
from msun_lite.results.records import Summary
from msun_lite.train.run import train_or_resume
from msun_lite.utils.cli import OneLineParser, parse
from msun_lite.utils.errors import one_line_errors
from msun_lite.utils.files import check_output, whole_folder, write_json
from msun_lite.utils.progress import note

PLAIN = {"randaugment": None, "label_smoothing": 0.0, "class_weights": "none"}
"""The preset finetune without what it does to images, labels and classes."""

SGD = {"optimizer": "sgd", "lr": 0.01, "weight_decay": 5e-4, "decay_norms": True}
"""The optimizer of the preset lite-plus, at the better of the rates 0.05 and 0.01."""

RECIPES = {
    "SGD": PLAIN | SGD,
    "AdamW": PLAIN,
    "finetune": {},
    "finetune, mixup 0.2": {"mixup": 0.2},
    "finetune, fresh weights": {"weights": None},
}
"""Name -> options over the preset finetune."""

LEAST = 0.1
"""Share of its images that the last class of the long-tailed part keeps."""


Runs = dict[str, dict[int, Summary]]
"""Recipe -> seed -> summary."""


def thin_out(folder: Path, out: Path) -> None:
    """Link a class folder's images into a new one whose classes have ever fewer training images: the first ones."""
    if out.exists():
        return
    with whole_folder(out) as made:
        (made / "val").symlink_to((folder / "val").absolute())
        found = read_class_folder(folder / "train")
        for place, name in enumerate(found.classes):
            paths = [Path(path) for path, label in found.samples if label == place]
            kept = round(len(paths) * LEAST ** (place / (len(found.classes) - 1)))
            (made / "train" / name).mkdir(parents=True)
            for path in paths[:kept]:
                (made / "train" / name / path.name).symlink_to(path.absolute())


def record_of(found: Runs) -> dict:
    """Return what is recorded of each recipe's runs on a data set."""
    rows = {}
    for recipe, by_seed in found.items():
        means = [record["mean_top1"] for record in by_seed.values()]
        rows[recipe] = {
            "mean_top1": {str(seed): record["mean_top1"] for seed, record in by_seed.items()},
            "mean": round(mean(means), 2),
            "spread": round(stdev(means), 2) if len(means) > 1 else None,
            "top1": {
                size: round(mean(record["top1"][size] for record in by_seed.values()), 2)
                for size in next(iter(by_seed.values()))["top1"]
            },
        }
    return rows


def compare(folder: Path, out: Path, seeds: Sequence[int], threads: int | None) -> dict[str, Runs]:
    """Train all recipes, seed by seed, and return the runs by data set."""
    thinned = out / f"{folder.name}-longtail"
    thin_out(folder, thinned)
    found: dict[str, Runs] = {}
    for seed in seeds:
        for data in (folder, thinned):
            for recipe, options in RECIPES.items():
                name = f"{data.name}-{recipe.replace(', ', '-').replace(' ', '-')}-seed{seed}"
                chosen = asdict(make_config("finetune", data=str(data), seed=seed, threads=threads, **options))
                summary = train_or_resume(out / name, chosen, None)
                found.setdefault(data.name, {}).setdefault(recipe, {})[seed] = summary
                note(f"{name}: {summary['mean_top1']:.2f}")
    return found


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = OneLineParser(description="What recipes of fine-tuning are worth on few photographs.")
    parser.add_argument("folder", type=str, help="Folder with train/ and val/ class folders.")
    parser.add_argument("--out", type=str, default="runs/finetune", help="Folder of the runs.")
    parser.add_argument("--seeds", type=list[int], default=[0, 1, 2], help="Seeds.")
    parser.add_argument("--threads", type=int | None, default=None, help="CPU threads.")
    parser.add_argument("--json", type=str | None, default=None, help="File to write the result to.")
    options = parse(parser, argv)
    check_output(options.json)
    found = compare(Path(options.folder), Path(options.out), options.seeds, options.threads)
    first = next(iter(next(iter(found.values())).values()))[options.seeds[0]]
    if options.json:
        words = sys.argv[1:] if argv is None else argv
        sets = {name: next(iter(runs.values()))[options.seeds[0]]["data"] for name, runs in found.items()}
        record = {
            "command": shlex.join(["python", "experiments/finetune.py", *words]),
            "recipes": RECIPES,
            "seeds": options.seeds,
            "epochs": first["epochs"],
            "data": sets,
            "results": {name: record_of(runs) for name, runs in found.items()},
            "env": first["env"],
        }
        write_json(Path(options.json), record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
