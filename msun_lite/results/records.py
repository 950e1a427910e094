"""The records of runs: what summary.json says."""

from pathlib import Path

from msun_lite.utils.cli import read_yaml
from msun_lite.utils.files import read_json


def read_summary(path: Path) -> dict:
    """Return what a summary.json says, with the options of the run as `config`, see `with_config`.

    Raises:
        CheckpointError: if it is missing or damaged.
        UserError: if nothing says the options.
    """
    return with_config(read_json(path), path)


def with_config(summary: dict, path: Path) -> dict:
    """Return the summary of a run, read from `path`, with the options of the run.

    Of a run made before they were in the summary, they are those of the config.yaml beside it.

    Raises:
        UserError: if there is none.
    """
    return summary if "config" in summary else {**summary, "config": read_yaml(path.with_name("config.yaml"))}
