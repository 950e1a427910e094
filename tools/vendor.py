"""Renew the JavaScript that the book serves itself, with `npm pack`: nothing is fetched when it is read or built.

    python tools/vendor.py

Each package's version is fixed here. book/_vendor gets the files the pages need, each package's licence if it
has one, and versions.json with the files' SHA-256. What computes in the live page goes into the package,
msun_lite/live/onnxruntime, with a versions.json of its own: `export --page` needs it where there is no book.
"""

import gzip
import hashlib
import importlib.metadata
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
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

LIVE = ROOT / "msun_lite" / "live" / "onnxruntime"
"""What computes in the live page."""

RUNTIME, RUNTIME_LICENCE = "onnxruntime-web@1.30.0", "MIT"
RUNTIME_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
"""Of its folder dist; WebAssembly is gzipped, as few simple web servers do that."""


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


def vendor_runtime(temporary: Path) -> list[Path]:
    """Renew what computes in the live page; its licences are in the wheel of the same project, not in npm's package."""
    shutil.rmtree(LIVE, ignore_errors=True)
    LIVE.mkdir()
    dist = unpack(RUNTIME, temporary) / "dist"
    for name in RUNTIME_FILES:
        data = (dist / name).read_bytes()
        if name.endswith(".wasm"):
            (LIVE / f"{name}.gz").write_bytes(gzip.compress(data, mtime=0))
        else:  # nothing is asked for the map of a minified file
            (LIVE / name).write_bytes(data.partition(b"//# sourceMappingURL")[0])
    for path in importlib.metadata.files("onnxruntime"):
        if path.name in ("LICENSE", "ThirdPartyNotices.txt"):
            copy(Path(path.locate()), LIVE / path.name)
    files = sorted(path for path in LIVE.iterdir())
    write_versions(LIVE / "versions.json", LIVE, {RUNTIME: {"licence": RUNTIME_LICENCE}}, files)
    return files


def write_versions(path: Path, base: Path, packages: dict, files: list[Path]) -> None:
    """Write which versions files are of, and their SHA-256 by their paths from `base`."""
    hashes = {file.relative_to(base).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    path.write_text(json.dumps({"packages": packages, "files": hashes}, indent=2) + "\n", encoding="utf-8")


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
        live = vendor_runtime(Path(temporary))
    files = sorted(path for path in TARGET.rglob("*") if path.is_file())
    write_versions(TARGET / "versions.json", BOOK, record, files)
    files += live
    print(f"{len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB in {BOOK} and {LIVE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
