"""Which shards `--data wds:PATTERN` means, and which split each of them belongs to."""

import itertools
import posixpath
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from braceexpand import UnbalancedBracesError, braceexpand

from msun_lite.utils.errors import DataError, redact_secrets

PREFIX = "wds:"
MOST_SHARDS = 100_000
COMPRESSED = (".gz", ".tgz", ".xz", ".bz2", ".zst")
WORDS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
"""Word in a shard's name -> split."""
SERVER = r"(\[[^]/?#@]+\]|[^/?#@:]+)(:\d+)?"
"""Name or number of a web server, and its port."""


def expand(pattern: str) -> tuple[str, list[str]]:
    """Return the folder or address that a pattern's shards have in common, and their paths below it.

    Without any paths it is the folder itself that the pattern names.

    Raises:
        DataError: for another scheme than http and https, compressed shards, the same shard twice, or no pattern.
    """
    shown = f"{PREFIX}{redact_secrets(pattern)}"
    addresses = [posixpath.expanduser(address) for address in _braces(pattern, shown)]  # no shell does it after wds:
    for address in addresses:
        _check_address(address)
    if len(addresses) == 1 and not addresses[0].endswith(".tar"):
        return addresses[0].rstrip("/") or "/", []
    if wrong := [address for address in addresses if not address.endswith(".tar")]:
        raise DataError(f"{wrong[0]}: expected shards that end with .tar, or one folder with a manifest.json")
    try:
        base = _folder(addresses)
    except ValueError as error:
        raise DataError(f"{shown}: expected shards below one folder or on one server: {error}") from None
    names = [posixpath.relpath(address, base) for address in addresses]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{shown}: expected each shard once, got {twice} more than once")
    return base, names


def _folder(addresses: Sequence[str]) -> str:
    """Return the folder that all paths, or all addresses of one server, have in common."""
    servers = {urlsplit(address)[:2] if "://" in address else None for address in addresses}
    if len(servers) > 1:
        raise ValueError(f"{len(servers)} of them")
    server = servers.pop()
    if server is None:
        return posixpath.commonpath([posixpath.dirname(address) or "." for address in addresses]) or "."
    root = "{}://{}".format(*server)
    return root + posixpath.commonpath([posixpath.dirname(urlsplit(address).path) for address in addresses]).rstrip("/")


def _braces(pattern: str, shown: str) -> list[str]:
    try:
        addresses = list(itertools.islice(braceexpand(pattern), MOST_SHARDS + 1))
    except (UnbalancedBracesError, ValueError) as error:
        raise DataError(f"{shown}: expected a brace pattern: {error}") from None
    if len(addresses) > MOST_SHARDS:
        raise DataError(f"{shown}: expected at most {MOST_SHARDS} shards")
    return addresses


def _check_address(address: str) -> None:
    """Raise a `DataError` unless it is a path, or a plain address of a web server."""
    scheme, shown = re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", address), f"{PREFIX}{redact_secrets(address)}"
    if not address or (scheme and not re.fullmatch(rf"https?://{SERVER}(/[^?#]*)?", address)):
        hint = "; user and password belong in ~/.netrc" if "@" in address else ""
        raise DataError(f"{shown}: refused, expected a path or a plain http or https address{hint}")
    if "*" in address:
        raise DataError(f"{shown}: expected numbers in braces, as train-{{0000..0127}}.tar, in place of the *")
    if address.endswith(COMPRESSED):
        raise DataError(f"{shown}: expected uncompressed shards, ending with .tar")


def split_of(name: str) -> str:
    """Return the split that a shard's name, or else its folder's, says: train or val."""
    for part in reversed(PurePosixPath(name).parts):
        found = {WORDS[word] for word in re.findall("[a-z]+", part.lower()) if word in WORDS}
        if len(found) == 1:
            return found.pop()
    raise DataError(f"{name}: expected either train or val in the name of each shard, or of its folder")
