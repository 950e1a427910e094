"""Build the book into _build/html: chapters run, their outputs are cached, warnings are errors.

    python tools/book.py [--out FOLDER]

The networks and photographs of the live page are written beside the pages once these are there.

The cache of outputs knows the chapters, but not the package they import: it is cleared when the package, its weights or
the records change.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from msun_lite.book.live_page import FOLDER, write_live_page

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("msun_lite", "book/results")
"""What the chapters import and read."""

OPTIONS = ("-W", "-n", "--keep-going", "--all")
"""All pages anew, all warnings shown, each an error, references to nowhere among them."""


def fingerprint() -> str:
    """Return a hash of everything the chapters' outputs depend on beside the chapters."""
    digest = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def build(out: Path) -> int:
    """Build the book into `out`/_build/html and return the exit code."""
    cache, stamp, now = out / "_build" / ".jupyter_cache", out / "_build" / ".fingerprint", fingerprint()
    html = out / "_build" / "html"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != now:
        for outdated in (cache, html / FOLDER):
            shutil.rmtree(outdated, ignore_errors=True)
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(now, encoding="utf-8")
    program = Path(sys.executable).with_name("jupyter-book")
    options = [*OPTIONS, "--path-output", str(out)]
    # Bars would stay in the pages as dead widgets, and sliders need no kernel there.
    environment = {**os.environ, "MSUN_LITE_PROGRESS": "off", "MSUN_LITE_PAGES": "html"}
    code = subprocess.run([program, "build", *options, "book"], cwd=ROOT, env=environment).returncode
    if html.exists() and not (html / FOLDER).exists():
        write_live_page(html)
    return code


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Build the book.")
    parser.add_argument("--out", type=Path, default=ROOT, help="folder that gets _build/")
    return build(parser.parse_args().out)


if __name__ == "__main__":
    sys.exit(main())
