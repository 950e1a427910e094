"""Tar archives from outside: read to their very end, and refused when a member could reach out of its folder."""

import contextlib
import errno
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from msun_lite.errors import DataError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors that are the disk's and not the archive's."""


class _Member(tarfile.TarInfo):
    """A member before which nothing was damaged: tarfile itself takes a damaged header for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> "tarfile.TarInfo":
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:
            raise  # the zeros that end every archive
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} at byte {tar.offset}") from None


@contextlib.contextmanager
def open_tar(source: Path | BinaryIO, name: str | Path, compressed: bool = True) -> Iterator[tarfile.TarFile]:
    """Open an archive for reading, also one inside another.

    Args:
        source: its path, or an open file.
        name: what errors call it.
        compressed: whether it may be.

    Raises:
        DataError: if it is missing, truncated, damaged or no archive, here or while it is read.
        OSError: if what is unpacked of it finds no room.
    """
    mode = "r" if compressed else "r:"
    where = {"name": source} if isinstance(source, Path) else {"fileobj": source}
    try:
        with tarfile.open(mode=mode, tarinfo=_Member, **where) as tar:
            yield tar
    except (OSError, EOFError, tarfile.TarError, zlib.error, lzma.LZMAError) as error:
        if getattr(error, "errno", None) in NO_ROOM:
            raise
        kind = "whole tar archive" if compressed else "whole, uncompressed tar archive"
        raise DataError(f"{name}: expected a {kind}, got: {error}") from None


def members(tar: tarfile.TarFile, name: str | Path) -> Iterator[tarfile.TarInfo]:
    """Yield the files and folders of an archive, in order.

    Raises:
        DataError: naming archive and member, for a path that leaves the folder, a link, a device or a sparse file.
    """
    for member in tar:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts:
            raise DataError(f"{name}: refused the member {member.name!r}, expected a path inside the archive")
        if not member.isdir() and (member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.sparse):
            raise DataError(f"{name}: refused the member {member.name!r}, expected a plain file, no link or device")
        yield member


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive into a folder, refusing what `members` refuses."""
    with open_tar(archive, archive) as tar:
        tar.extractall(folder, members(tar, archive), filter="data")
        while tar.fileobj.read(1 << 20):
            pass  # to the very end, where a compressed archive has its checksum
