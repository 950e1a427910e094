"""Write what is published of the records: the README's tables, the figures and the index of records.

python tools/tables.py            # after tools/publish.py has added or changed a record
python tools/tables.py --check    # exit code 1 if anything published differs from the records
"""

import argparse
import re
import sys
from pathlib import Path

from tabulate import tabulate

from msun_lite.figures import NAMES, accuracy_figure, save_figure
from msun_lite.records import read_json
from msun_lite.tables import accuracy_table, subnet_table

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "book" / "results"
GRIDS = {"quick": "drawn scenes", "lite": "Imagenette"}
"""Set of runs -> what they were trained on, in the figures' titles."""


def records(grid: str) -> dict[str, dict]:
    """Return method -> summary of the seed-0 runs of a set."""
    return {method: read_json(RESULTS / grid / f"{method}-seed0" / "summary.json") for method in NAMES}


def readme(text: str) -> str:
    """Return the README with the tables between its markers written anew."""
    for grid in GRIDS:
        runs = records(grid)
        named = {NAMES[method]: record for method, record in runs.items()}
        for name, table in (
            (grid, accuracy_table(named, "github")),
            (f"{grid}-subnets", subnet_table(runs["msun"], "github")),
        ):
            pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
            fresh = lambda match, table=table: f"{match[1]}{table}\n{match[2]}"  # noqa: E731
            text, found = re.subn(pattern, fresh, text, flags=re.DOTALL)
            if found != 1:
                raise SystemExit(f"README.md: expected the markers of the table {name} once, found {found}")
    return text


def index() -> str:
    """Return the index of all records as Markdown."""
    rows = []
    for path in sorted(RESULTS.rglob("summary.json")):
        r = read_json(path)
        name = path.parent.relative_to(RESULTS).as_posix()
        data = f"{r['data']['name']} {r['data']['fingerprint']}"
        device = f"{r['env']['device']}, {r['env']['precision']}"
        rows.append(
            [f"[{name}]({name})", f"{r['mean_top1']:.2f}", f"`{r['command']}`", r["env"]["commit"][:10], data, device]
        )
    header = ["record", "mean top-1 %", "command", "commit", "data", "device"]
    table = tabulate(rows, header, tablefmt="github", disable_numparse=True)
    note = "Written by `python tools/tables.py`. One folder a run, with `summary.json` and `metrics.jsonl`."
    return f"# Records\n\n{note}\n\n{table}\n"


def draw() -> None:
    """Draw the figure of every set of runs."""
    for grid, data in GRIDS.items():
        runs = records(grid)
        first = runs["vanilla"]
        title = f"{data}, {first['arch']}, {first['data']['val']} validation images, seed {first['seed']}"
        save_figure(accuracy_figure(runs, title), RESULTS / grid / "accuracy")


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Write tables, figures and the index from the records.")
    parser.add_argument("--check", action="store_true", help="change nothing, exit with 1 if something differs")
    check = parser.parse_args().check
    written = {ROOT / "README.md": readme((ROOT / "README.md").read_text()), RESULTS / "README.md": index()}
    if check:
        stale = [path.name for path, text in written.items() if path.read_text() != text]
        print(f"differs from the records: {', '.join(stale)}" if stale else "everything agrees with the records")
        return 1 if stale else 0
    for path, text in written.items():
        path.write_text(text)
    draw()
    return 0


if __name__ == "__main__":
    sys.exit(main())
