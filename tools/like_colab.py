"""Run chapters as Colab does: its versions, its widgets, the package put in by the chapter's own first cell.

    python tools/like_colab.py                                  # all chapters whole; makes the environment first
    python tools/like_colab.py --chapters 02_cka,04_loss --cells 8      # their first cells
    python tools/like_colab.py --python python3.13 --env .venv-3.13

The environment has what a Colab session brings of what the chapters need, and none of the book's extras. The one thing
that differs: the repository is cloned from this checkout instead of from its address.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from msun_lite.utils.cli import OneLineParser, parse
from msun_lite.utils.errors import UserError, one_line_errors, one_of
from msun_lite.utils.progress import note, progress

ROOT = Path(__file__).resolve().parent.parent

SESSION = ("torch==2.10.0", "torchvision==0.25.0", "ipywidgets==7.7.1", "notebook<7", "ipykernel<7", "nbclient")
"""What Colab has installed, as far as the chapters touch it, and what runs the cells here."""

RUNNER = """
import sys, nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], 4)
notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code"][: int(sys.argv[2]) or None]
first = notebook.cells[0]
assert "git clone" in first.source, "the first cell does not fetch the package"
first.source = "\\n".join(line for line in first.source.splitlines() if "git clone" not in line)
probe = "import sys, torch, ipywidgets; print(sys.version.split()[0], torch.__version__, ipywidgets.__version__)"
notebook.cells.insert(1, nbformat.v4.new_code_cell(probe))
NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": sys.argv[3]}}).execute()
print(notebook.cells[1].outputs[0]["text"].strip(), f"- {len(notebook.cells) - 1} cells ran")
"""


def make_environment(python: str, folder: Path) -> Path:
    """Return the interpreter of the environment in `folder`, which is made if it is not there.

    Raises:
        UserError: if it cannot be made; nothing of it is left then.
    """
    interpreter = folder / "bin" / "python"
    if not interpreter.exists():
        note(f"making {folder}: some minutes, about 6 GB")
        try:
            subprocess.run([python, "-m", "venv", str(folder)], check=True)
            subprocess.run([str(interpreter), "-m", "pip", "install", "--quiet", *SESSION], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            shutil.rmtree(folder, ignore_errors=True)  # else a half of it would pass for the whole
            raise UserError(f"--python {python}: expected an interpreter that can make {folder}: {error}") from None
    return interpreter


def run_chapter(interpreter: Path, chapter: str, cells: int) -> str:
    """Run the first `cells` code cells of a chapter (0: all) in a fresh folder; return the versions they saw.

    Raises:
        UserError: with the last line of the error, if a cell fails.
    """
    notebook = ROOT / "book" / f"{chapter}.ipynb"
    if not notebook.exists():
        raise UserError(f"{notebook}: no such chapter")
    with tempfile.TemporaryDirectory() as session:
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(Path(session) / "msun-lite")], check=True)
        command = [str(interpreter), "-c", RUNNER, str(notebook), str(cells), session]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise UserError(f"{chapter}: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.strip()


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = OneLineParser(description="Run chapters in an environment like Colab's.")
    parser.add_argument("--chapters", type=str | None, default=None, help="Such as 02_cka,04_loss; all by default.")
    parser.add_argument("--cells", type=int, default=0, help="Run so many code cells of each; 0 for all.")
    parser.add_argument(
        "--python", type=str, default="python3.12", help="Interpreter that the environment is made with."
    )
    parser.add_argument("--env", type=str, default=".venv-colab", help="Folder of the environment.")
    options = parse(parser, argv)
    interpreter = make_environment(options.python, Path(options.env).absolute())
    there = [path.stem for path in sorted((ROOT / "book").glob("[0-9]*.ipynb"))]
    chapters = there if options.chapters is None else options.chapters.split(",")
    for chapter in chapters:
        one_of("chapters", chapter, there)
    for chapter in progress(chapters, unit="chapter"):
        note(f"{chapter}: {run_chapter(interpreter, chapter, options.cells)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
