"""The run folder: what a run writes, and the records that are read back from it."""

import contextlib
import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from msun_lite.utils.errors import CheckpointError, UserError, first_line
from msun_lite.utils.files import remove_parts, write_text
from msun_lite.utils.run_lock import RunLock


class RunFolder:
    """The files of one run, by name."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.jsonl"
        self.table = self.path / "metrics.csv"
        self.curves = self.path / "curves"
        self.checkpoint = self.path / "checkpoint.pt"
        self.older_checkpoints = self.path / "checkpoints"
        self.weights = self.path / "model.safetensors"
        self.model = self.path / "model.json"
        self.summary = self.path / "summary.json"
        self.lengthened = self.path / "lengthened.json"
        self.best = self.path / "best"
        self._lock: RunLock | None = None

    @classmethod
    def of_model(cls, folder: Path) -> "RunFolder":
        """Return the folder of the run that a model's folder is of: of OUT/best, OUT."""
        run = cls(folder.parent)
        return run if folder == run.best and run.config.is_file() else cls(folder)

    @contextlib.contextmanager
    def held(self, say: Callable[[str], None]) -> Iterator[None]:
        """Work alone on the folder inside, which is made if it is not there; `say` shows a line to the user.

        Raises:
            UserError: if another process works on it, see `run_lock`, or if it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.path}: the run folder cannot be made: {error}") from None
        lock = RunLock(self.path, say)
        lock.acquire()
        self._lock = lock
        try:
            yield
        finally:
            self._lock = None
            lock.release()

    def check_held(self) -> None:
        """Raise a `UserError` if the folder was `held`, and another process has taken it since."""
        if self._lock is not None:
            self._lock.check()

    def create(self, space: int = 0) -> None:
        """Make the folder and clear what a kill left half-written.

        Args:
            space: bytes that the run will need.

        Raises:
            UserError: if it cannot be made, or the disk has too little room.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for path in (self.config, self.metrics, self.checkpoint, self.weights, self.model, self.summary):
                remove_parts(path)
            for path in self.older_checkpoints.glob(".step-*"):
                path.unlink()
            free = shutil.disk_usage(self.path).free
        except OSError as error:
            raise UserError(f"{self.path}: the run folder cannot be made: {error}") from None
        if free < space:
            raise UserError(f"{self.path}: expected {space / 2**20:.0f} MiB of free disk, got {free / 2**20:.0f}")

    def has_checkpoint(self) -> bool:
        """Return whether there is a checkpoint to go on from; refuse a run that has lost its checkpoints."""
        if self.checkpoint.exists() or any(self.older_checkpoints.glob("*.pt")):
            return True
        if rows := self.read_metrics():
            raise CheckpointError(
                f"{self.checkpoint}: no such checkpoint, but {len(rows)} epochs were trained already; put one back, or "
                "choose another --out"
            )
        return False

    def append_metrics(self, row: dict) -> None:
        """Add one epoch's line to metrics.jsonl, or raise a `UserError` if the disk does not take it."""
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise UserError(f"{self.metrics}: cannot be written: {error}") from None

    def read_metrics(self) -> list[dict]:
        """Return the lines of metrics.jsonl; none if it does not exist yet."""
        if not self.metrics.exists():
            return []
        rows = []
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break  # the run was killed while it wrote this line; its epoch is repeated
        return rows

    def write_curves(self) -> None:
        """Write what metrics.jsonl holds as a table, metrics.csv, and as pictures, curves.png and curves.svg."""
        from msun_lite.results.figures import curves_figure, save_figure  # here, as what draws is slow to import

        if rows := self.read_metrics():
            flat = [flat_row(row) for row in rows]
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, dict.fromkeys(name for row in flat for name in row), lineterminator="\n")
            writer.writeheader()
            writer.writerows(flat)
            write_text(self.table, text.getvalue())
            save_figure(curves_figure(rows, self.path.name), self.curves)

    def drop_metrics_after(self, epoch: int) -> None:
        """Keep the lines of the first `epoch` epochs: what comes after is trained again after a kill."""
        rows = [row for row in self.read_metrics() if row["epoch"] <= epoch]
        write_text(self.metrics, "".join(json.dumps(row) + "\n" for row in rows))


def flat_row(row: dict) -> dict[str, float]:
    """Return the numbers of a line of metrics.jsonl by name; those of a dict in it as name/key."""
    flat = {}
    for name, value in row.items():
        flat |= {f"{name}/{key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def check_folder(path: Path) -> None:
    """Raise a `UserError` unless `path` is a folder that can be written to, or can be made."""
    whole = path.absolute()
    there = next(folder for folder in (whole, *whole.parents) if os.path.lexists(folder))
    try:
        with tempfile.TemporaryFile(dir=there):
            pass  # permissions alone do not tell whether a file can be made
        for name in whole.relative_to(there).parts:
            with contextlib.suppress(FileNotFoundError):  # all but a name that no file can have
                (there / name).lstat()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or first_line(error)
        raise UserError(f"{path}: expected a folder that can be written to, got: {why}") from None
