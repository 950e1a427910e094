"""The records of runs: what summary.json says."""

from pathlib import Path

from msun_lite.utils.cli import read_yaml
from msun_lite.utils.files import read_json


def read_summary(path: Path) -> dict:
    """Return what a summary.json says; `config` are the options of the run.

    Of a run made before they were in the summary, they are those of the config.yaml beside it.

    Raises:
        CheckpointError: if it is missing or damaged.
        UserError: if there is no config.yaml beside such an older one.
    """
    summary = read_json(path)
    return summary if "config" in summary else {**summary, "config": read_yaml(path.with_name("config.yaml"))}
