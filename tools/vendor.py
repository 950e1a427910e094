"""Renew the JavaScript that the book serves itself, with `npm pack`: nothing is fetched when it is read or built.

    python tools/vendor.py

Each package's version is fixed here. book/_vendor gets the files the pages need, each package's licence if it
has one, and versions.json with the files' SHA-256.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

BOOK = Path(__file__).resolve().parent.parent / "book"
TARGET = BOOK / "_vendor"
"""What lies among the pages' static files."""

PACKAGES = {
    "mathjax@3.2.2": (
        "Apache-2.0",
        {
            "es5/tex-mml-chtml.js": "mathjax/tex-mml-chtml.js",
            "es5/output/chtml/fonts/woff-v2/": "mathjax/output/chtml/fonts/woff-v2/",
        },
    ),
}
"""npm package -> its licence, and {path in the package: path in book/_vendor}; a folder ends in a slash."""


def unpack(package: str, folder: Path) -> Path:
    """Fetch an npm package and return the folder it is unpacked in."""
    packed = subprocess.run(
        ["npm", "pack", "--silent", package], cwd=folder, check=True, capture_output=True, text=True, encoding="utf-8"
    ).stdout.split()[-1]
    with tarfile.open(folder / packed) as archive:
        archive.extractall(folder / packed.removesuffix(".tgz"), filter="data")
    return folder / packed.removesuffix(".tgz") / "package"


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder."""
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def main() -> int:
    """Run the command."""
    shutil.rmtree(TARGET, ignore_errors=True)
    record = {}
    with tempfile.TemporaryDirectory() as temporary:
        for package, (licence, files) in PACKAGES.items():
            found = unpack(package, Path(temporary))
            for source, target in files.items():
                copy(found / source, TARGET / target)
            name = package.rpartition("@")[0].strip("@").replace("/", "-")
            for path in found.glob("LICENSE*"):
                copy(path, TARGET / "licences" / f"{name}-{path.name}")
            record[package] = {"licence": licence}
    files = sorted(path for path in TARGET.rglob("*") if path.is_file())
    hashes = {path.relative_to(BOOK).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    (TARGET / "versions.json").write_text(
        json.dumps({"packages": record, "files": hashes}, indent=2) + "\n", encoding="utf-8"
    )
    print(f"{len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB in {BOOK}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
