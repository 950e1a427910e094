"""Files that appear whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from msun_lite.errors import UserError


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the name `path` only once it is whole and on the disk.

    Raises:
        UserError: if it cannot be written (a full disk, no permission); what was at `path` stays.
    """
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=_prefix(path), dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        # torch.save reports a failed write as a RuntimeError of its zip writer.
        kept = "; the previous one is kept" if path.exists() else ""
        raise UserError(f"{path}: cannot be written: {error}{kept}") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _prefix(path: Path) -> str:
    return f".{path.name}.part-"


def remove_parts(path: Path) -> None:
    """Remove the unfinished files that a kill left behind while `path` was being written."""
    for part in path.parent.glob(f"{_prefix(path)}*"):
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a small text file atomically."""
    with atomic_write(path) as file:
        file.write(text.encode())
