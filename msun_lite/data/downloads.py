"""Files from the web: whole, checked, tried again, and kept in a folder of bounded size."""

import contextlib
import hashlib
import http.client
import netrc
import os
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeVar
from urllib.parse import urlsplit

from filelock import FileLock

from msun_lite.data.archives import START, page_start
from msun_lite.utils.errors import DataError, FailedDownload, UserError, redact_secrets
from msun_lite.utils.files import atomic_write, checksum, remove_parts
from msun_lite.utils.progress import progress

PAUSES = (1, 2, 4, 8)
"""Seconds before each further try."""
TIMEOUT = 60
"""Seconds without a byte after which a try has failed."""
CHUNK = 1 << 20
SMALL = 1 << 26
"""Bytes that `read_url` takes at most."""
ABANDONED = 3600
"""Seconds after which an unfinished download that nobody writes to may be removed."""
BUSY = (408, 425, 429)
"""Answers of the 400s that may be another a little later."""
ABSENT = (404, 410)
"""Answers for a file that is not there."""
CLOSED = (401, 403)
"""Answers for a file that is not for everybody; stores such as S3 give them for one that is not there, too."""

Result = TypeVar("Result")


class MissingFile(FailedDownload):
    """The server says that it does not have the file, or does not give it."""


class _Failure(Exception):
    """One try has failed; the next may not."""


class _NothingLeft(_Failure):
    """The server has no byte after those that are here."""


def read_url(url: str) -> bytes:
    """Return a small file from the web, tried several times.

    Raises:
        MissingFile: if the server does not have it, or does not give it.
        FailedDownload: if it cannot be had otherwise; the message names the address.
    """

    def attempt() -> bytes:
        with contextlib.closing(_open(url)) as response:
            return b"".join(_chunks(response, SMALL))

    return _persist(url, attempt)


def download(url: str, folder: Path, md5: str | None = None) -> Path:
    """Put a file from the web into a folder, going on where an earlier call broke off; return its path.

    What has arrived is kept as `NAME.partial` beside it until the file is whole. Tries that get further do not count.

    Args:
        url: its address.
        folder: there already; the file that is in it is kept, unless it is empty or has another checksum.
        md5: checksum of the whole file; without one it is taken as it comes.

    Raises:
        MissingFile: if the server does not have it, or does not give it.
        FailedDownload: naming the address, if it cannot be had otherwise, or has another checksum.
        UserError: if it cannot be kept.
    """
    path = folder / local_name(url)
    partial, shown = path.with_name(f"{path.name}.partial"), redact_secrets(url)
    try:
        if _size(path) and md5 in (None, checksum(path, "md5")):
            return path
        path.unlink(missing_ok=True)
        while True:
            before = _size(partial)
            try:
                _persist(url, lambda: _append(url, partial))
                break
            except DataError:
                if _size(partial) <= before:
                    raise
        if md5 is not None and (found := checksum(partial, "md5")) != md5:
            partial.unlink()
            raise FailedDownload(f"{shown}: the download failed: expected the md5 {md5}, got {found}")
        return partial.rename(path)
    except OSError as error:
        raise UserError(f"{path}: the download of {shown} cannot be kept: {error}") from None


def local_name(url: str) -> str:
    """Return the name of a download: what has come of one file must not be gone on with by a namesake."""
    return f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{url.partition('?')[0].rpartition('/')[2]}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _append(url: str, partial: Path) -> None:
    """Try once to get what is still missing of a file; a server that cannot begin in the middle sends all of it."""
    have = _size(partial)
    try:
        response = _open(url, have)
    except _NothingLeft:
        return
    with contextlib.closing(response):
        more = response.status == http.client.PARTIAL_CONTENT
        if not more:
            _refuse_page(response)
        bar = {"total": None if response.length is None else response.length + (have if more else 0)}
        bar |= {"initial": have if more else 0, "unit": "B", "unit_scale": True, "leave": False}
        bar |= {"desc": f"downloading {redact_secrets(url)}"}
        with partial.open("ab" if more else "wb") as file, progress(**bar) as shown:
            for chunk in _chunks(response, sys.maxsize):
                file.write(chunk)
                shown.update(len(chunk))


class DownloadCache:
    """A folder of downloaded files: each fetched once by all processes of a machine, the least recently used removed.

    Args:
        folder: made when it is needed; best on a disk of this machine.
        limit: bytes that the files may take together.
    """

    def __init__(self, folder: Path, limit: int):
        self.folder, self.limit = folder, limit

    def fetch(self, url: str, sha256: str | None = None, size: int | None = None) -> Path:
        """Return the local copy of a file, downloading it if it is not there.

        With a checksum the copy is named after it, so that another file at the same address is another copy.
        A copy that is empty, or has another size than it should, is fetched anew.

        Raises:
            DataError: naming the address, if it cannot be had, or not with this checksum and size in bytes.
        """
        path = self.place(url, sha256)
        try:
            if _touch(path, size):
                return path
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / f".{path.name}.lock"):
                if not _touch(path, size):  # else another process was faster
                    remove_parts(path)
                    _persist(url, lambda: self._download(url, path, sha256, size))
        except OSError as error:
            raise DataError(f"{path}: the download of {redact_secrets(url)} cannot be kept: {error}") from None
        return path

    def place(self, url: str, sha256: str | None = None) -> Path:
        """Return where the copy of a file is, or will be."""
        name = sha256 or hashlib.sha256(url.encode()).hexdigest()
        return self.folder / f"{name}{PurePosixPath(urlsplit(url).path).suffix}"

    def _download(self, url: str, path: Path, sha256: str | None, size: int | None) -> None:
        """Try once to put a file at `path`, whole and checked."""
        digest = hashlib.sha256()
        with contextlib.closing(_open(url)) as response, atomic_write(path) as file:
            _refuse_page(response)
            expected = response.length if size is None else size
            if response.length not in (None, expected):
                raise _Failure(f"expected {expected} bytes, the server has {response.length}")
            self._reserve(url, file, expected or 0)
            for chunk in _chunks(response, expected or self.limit):
                file.write(chunk)
                digest.update(chunk)
            if sha256 not in (None, digest.hexdigest()):
                raise _Failure(f"expected the sha256 {sha256}, got {digest.hexdigest()}")

    def _reserve(self, url: str, file: BinaryIO, size: int) -> None:
        """Remove the least recently used files until `size` more bytes have room, and take it for `file`."""
        if size > self.limit:
            kept = f"expected at most the {self.limit / 1e9:g} GB that are kept"
            raise DataError(f"{redact_secrets(url)}: {kept}, got {size / 1e9:g} GB")
        with FileLock(self.folder / ".lock"):
            found = sorted(_files(self.folder))
            taken = sum(count for _, count, _ in found)
            for used, count, path in found:
                unfinished = path.name.startswith(".") and time.time() - used < ABANDONED
                if taken + size > self.limit and count and not unfinished:
                    path.unlink(missing_ok=True)
                    taken -= count
            file.truncate(size)  # counts from now on


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """Yield time of the last use, size in bytes and path of each file in a folder."""
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process has just removed or renamed it
            status = path.stat()
            if path.is_file():
                yield status.st_mtime, status.st_size, path


def _touch(path: Path, size: int | None) -> bool:
    """Mark a file as just used; return whether it is there with `size` bytes, or with any if that is None."""
    try:
        os.utime(path)
        found = path.stat().st_size
    except FileNotFoundError:
        return False
    return found == size if size is not None else found > 0


def _persist(url: str, attempt: Callable[[], Result]) -> Result:
    """Return what `attempt` returns, trying again after each of `PAUSES` while it fails."""
    for pause in PAUSES:
        try:
            return attempt()
        except _Failure:
            time.sleep(pause)
    try:
        return attempt()
    except _Failure as failure:
        tries = f"the download failed {len(PAUSES) + 1} times, the last time: {failure}"
        raise FailedDownload(f"{redact_secrets(url)}: {tries}") from None


def _open(url: str, start: int = 0) -> http.client.HTTPResponse:
    """Ask for a file, from byte `start` on if the server can do that."""
    shown = redact_secrets(url)
    if "://***@" in shown:
        raise DataError(f"{shown}: refused, user and password belong in ~/.netrc")
    try:
        request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
        if authorization := _authorization(url):
            request.add_unredirected_header("Authorization", authorization)
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if start and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _NothingLeft(str(error)) from None
        if error.code in ABSENT:
            raise MissingFile(f"{shown}: the download failed, the server does not have it ({error.code})") from None
        if error.code in CLOSED:
            raise MissingFile(f"{shown}: the download failed, the server does not give it: {error}") from None
        if error.code < 500 and error.code not in BUSY:
            raise FailedDownload(f"{shown}: the download failed: {error}") from None
        raise _Failure(str(error)) from None
    except ValueError as error:
        raise DataError(f"{shown}: expected an address on the web: {error}") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Failure(str(error) or type(error).__name__) from None


def _authorization(url: str) -> str | None:
    """Return what ~/.netrc, or the file that NETRC names, tells a server of the user; None if it does not name it."""
    try:
        known, host = netrc.netrc(os.environ.get("NETRC")), urlsplit(url).hostname
    except (OSError, netrc.NetrcParseError):
        return None
    if host not in known.hosts:
        return None
    user, _, password = known.authenticators(host)
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def _refuse_page(response: http.client.HTTPResponse) -> None:
    """Fail if the server sends a page in place of a file, as some do when they do not have it, or are busy."""
    try:
        page = page_start(response.peek(START))
    except (OSError, http.client.HTTPException) as error:
        raise _Failure(str(error) or type(error).__name__) from None
    if page:
        raise _Failure(f"expected the file, got {page}")


def _chunks(response: http.client.HTTPResponse, most: int) -> Iterator[bytes]:
    """Yield the bytes of an answer, all that it announces and `most` of them at most."""
    count, announced = 0, response.length
    try:
        while chunk := response.read(CHUNK):
            count += len(chunk)
            if count > most:
                raise _Failure(f"expected at most {most} bytes, got more")
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise _Failure(str(error) or type(error).__name__) from None
    if announced not in (None, count):
        raise _Failure(f"expected {announced} bytes, got {count}")
