"""The scripts that get and convert data, which `msun-lite data` runs.

In a checkout they lie in the folder `data_scripts/` of its root. In an installed package that folder has taken the
place of this file, see `[tool.setuptools.package-dir]` in pyproject.toml.
"""

from pathlib import Path

__path__ = [str(Path(__file__).parents[2] / "data_scripts")]
