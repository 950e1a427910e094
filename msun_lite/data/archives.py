"""Tar archives from outside: read to their very end, and refused when a member could reach out of its folder."""

import contextlib
import errno
import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from msun_lite.utils.errors import DataError, first_line

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors that are the disk's and not the archive's."""


PAGES = (b"<!doctype", b"<html", b"<head", b"<body", b"<?xml", b"<error")
"""What a web page, or a server's complaint, begins with."""
EXTENDED = 64
"""Blocks that a member's headers take at most: those before its own hold what has no room in it."""
START = 512
"""Bytes from which `page_start` knows a page."""


class _Member(tarfile.TarInfo):
    """A member before which nothing was damaged: tarfile itself takes a damaged header for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tar: "_Archive") -> tarfile.TarInfo:
        try:
            member = super().fromtarfile(tar)
        except tarfile.EOFHeaderError:
            tar.at_zeros = True
            raise
        except tarfile.EmptyHeaderError as error:
            if tar.at_zeros:
                raise
            raise tarfile.ReadError(f"{error} at byte {tar.offset}") from None
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} at byte {tar.offset}") from None
        tar.at_zeros = False
        return member


class _Archive(tarfile.TarFile):
    """An archive that may be several, one after the other: the zeros that end each of them end the last one alone."""

    tarinfo = _Member
    ignore_zeros = True
    encoding = "utf-8"  # whatever the locale is
    at_zeros = False
    """Whether zeros were read last, with which every archive ends."""


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
        with _Archive.open(mode=mode, **where) as tar:
            yield tar
    except (OSError, EOFError, tarfile.TarError, zlib.error, lzma.LZMAError) as error:
        if getattr(error, "errno", None) in NO_ROOM:
            raise
        kind = "whole tar archive" if compressed else "whole, uncompressed tar archive"
        page = page_in(source) if isinstance(source, Path) else None
        raise DataError(f"{name}: expected a {kind}, got: {page or first_line(error)}") from None


def page_start(content: bytes) -> str | None:
    """Return how a web page begins, for a message; None for any other content."""
    text = content[:START].removeprefix(b"\xef\xbb\xbf").strip()
    if not text.lower().startswith(PAGES):
        return None
    return f"a web page that begins with {' '.join(text.decode('utf-8', 'replace').split())[:60]!r}"


def page_in(path: Path) -> str | None:
    """Return how the web page in a file begins; None if there is something else in it, or no such file."""
    try:
        with path.open("rb") as file:
            return page_start(file.read(START))
    except OSError:
        return None


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


def is_member(file: BinaryIO, name: str, offset: int, size: int) -> bool:
    """Return whether a plain file of this name and size has its content at byte `offset` of an uncompressed archive.

    Where its header cannot hold the name (long, or not ASCII), others before it do: they are sought backwards.
    """
    for blocks in range(1, min(EXTENDED, offset // tarfile.BLOCKSIZE) + 1):
        start = offset - blocks * tarfile.BLOCKSIZE
        file.seek(start)
        try:
            with _Archive(fileobj=io.BytesIO(file.read(offset - start))) as tar:
                member = tar.firstmember
        except tarfile.TarError:
            continue  # in the middle of such a header
        plain = member is not None and member.isreg() and not member.sparse
        if plain and (member.name, member.size, member.offset_data) == (name, size, offset - start):
            return True
    return False


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive into a folder, refusing what `members` refuses; the umask says who may read the files."""
    with open_tar(archive, archive) as tar:
        tar.extractall(folder, members(tar, archive), filter=_without_mode)
        while tar.fileobj.read(1 << 20):
            pass  # to the very end, where a compressed archive has its checksum


def _without_mode(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    return tarfile.data_filter(member, folder).replace(mode=None, deep=False)
