"""The record of an analysis: numbers in analysis.json, arrays in analysis.npz."""

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from msun_lite.analyse.options import STUDIES
from msun_lite.utils.errors import CheckpointError
from msun_lite.utils.files import atomic_write, read_json, write_json


class Analysis:
    """The two files of an analysis, study by study."""

    def __init__(self, folder: Path):
        self.json, self.npz = folder / "analysis.json", folder / "analysis.npz"

    def read(self) -> dict:
        """Return the record, empty if there is none yet."""
        return read_json(self.json) if self.json.exists() else {}

    def arrays(self) -> dict[str, NDArray]:
        """Return the arrays beside the record; their names begin with their study's."""
        if not self.npz.exists():
            return {}
        try:
            with np.load(self.npz, allow_pickle=False) as stored:
                return dict(stored)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise CheckpointError(f"{self.npz}: expected an archive of arrays, got: {error}") from None

    def add(self, about: dict, study: str, record: dict, arrays: dict[str, NDArray]) -> None:
        """Put one study in the place of an earlier one; arrays first, so that a record never lacks its own."""
        kept = {name: array for name, array in self.arrays().items() if not name.startswith(f"{study}_")}
        with atomic_write(self.npz) as file:
            np.savez_compressed(file, **kept, **arrays)
        write_json(
            self.json, {**about, **{name: self.read()[name] for name in STUDIES if name in self.read()}, study: record}
        )
