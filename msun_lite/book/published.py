"""The published records: the one place where they are read."""

from pathlib import Path

from msun_lite.ablate import TABLES, Table, compared_runs, recorded, table_record
from msun_lite.analyse import Analysis
from msun_lite.methods import COMPARED
from msun_lite.results import Means, Summary, all_routings, average_seeds, read_seeds, read_summary
from msun_lite.transfer import read_records
from msun_lite.utils.errors import UserError

CHECKOUT = Path(__file__).resolve().parents[2]
"""The project's folder, if the package is used from a checkout."""


GRIDS = {"quick": "drawn scenes", "lite": "Imagenette"}
"""Set of runs -> what they were trained on, in the figures' titles."""


def results() -> Path:
    """Return the folder of the book's records, which is in the project's checkout.

    Raises:
        UserError: if the package was installed without it.
    """
    folder = CHECKOUT / "book" / "results"
    if not folder.is_dir():
        raise UserError(f"{folder}: expected the book's records; install the package from a checkout: pip install -e .")
    return folder


def photographs(seed: int = 0) -> dict[str, Summary]:
    """Return method -> summary of the published runs on photographs (preset `lite`), with every routing rule."""
    found = {method: read_summary(results() / "lite" / f"{method}-seed{seed}" / "summary.json") for method in COMPARED}
    return {method: {**record, "routings": all_routings(record)} for method, record in found.items()}


def photographs_by_seed(run: str) -> dict[int, Summary]:
    """Return seed -> summary of a published run on photographs: a method, or an option such as `msun-per_scale`."""
    return read_seeds(results() / "lite", run)


def analyses() -> tuple[dict[str, dict], dict[str, dict]]:
    """Return method -> analysis of the published networks on photographs, and method -> the arrays beside it."""
    found = {method: Analysis(results() / "lite" / f"{method}-seed0") for method in COMPARED}
    return {method: one.read() for method, one in found.items()}, {
        method: one.arrays() for method, one in found.items()
    }


def records(grid: str) -> dict[str, Means]:
    """Return method -> mean over the seeds of a set of runs."""
    return {method: average_seeds(read_seeds(results() / grid, method)) for method in COMPARED}


def beyond() -> dict[str, Means]:
    """Return the means of the runs of `lite` that go beyond the paper, beside the plain MSUN, by the names shown."""
    names = {
        "MSUN": "msun",
        "BatchNorm per scale": "msun-per_scale",
        "+ random sizes, ratio, distillation": "msun-per_scale-random-ratio-distil",
        "the same, taught by the larger scales": "msun-per_scale-random-ratio-larger",
        "the same without the constraint": "msun-per_scale-random-ratio-larger-free",
        "the same from Vanilla's weights: lite-plus": "plus",
        "MST with the training of lite-plus": "mst-plus",
        "MSUN from Vanilla, 5 epochs": "msun-warm",
    }
    return {name: average_seeds(read_seeds(results() / "lite", run)) for name, run in names.items()}


def ablations() -> dict[str, Table]:
    """Return table -> its numbers (`table_record`), for those tables of `ablate` that there are records for."""
    found = {table: recorded(results() / "ablate", table) for table in TABLES}
    return {table: table_record(table, runs) for table, runs in found.items() if runs}


FOLDERS = {"rivals": "rivals", "backbones": "small", "controls": "small"}
"""Table whose rows are whole configurations -> folder of its records."""


def comparison(table: str) -> Table:
    """Return the numbers of the table of `rivals`, `backbones` or `controls`."""
    return table_record(table, comparison_by_seed(table))


def comparison_by_seed(table: str) -> dict[str, dict[int, Summary]]:
    """Return row of that table -> seed -> summary of its run, with what was measured of it for this row."""
    return compared_runs(results() / FOLDERS[table], table)


def transfers() -> dict[str, dict]:
    """Return name -> record of every published transfer."""
    paths = sorted((results() / "transfer").glob("*.json"))
    return {path.stem: record for path, record in zip(paths, read_records(paths), strict=True)}
