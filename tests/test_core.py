"""The paper's files can be read, and lifted out, alone."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

CORE = ("model", "scales", "losses", "per_scale", "shapes", "cka")
ROOT = Path(__file__).parents[1]

LOADED = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(f"msun_lite.{name}")
heavy = ("torchvision", "timm", "huggingface_hub", "safetensors", "matplotlib", "jsonargparse", "PIL")
own = sorted(name for name in sys.modules if name.startswith("msun_lite."))
print(*(name for name in heavy if name in sys.modules), *own)
"""


def test_the_papers_files_load_torch_and_one_another_alone():
    done = subprocess.run([sys.executable, "-c", LOADED, *CORE], cwd=ROOT, capture_output=True, text=True, check=True)
    own = {*(f"msun_lite.{name}" for name in CORE), "msun_lite.utils", "msun_lite.utils.errors"}
    assert set(done.stdout.split()) == own


@pytest.mark.parametrize("name", CORE)
def test_a_file_of_the_paper_imports_nothing_within_its_functions(name):
    tree = ast.parse((ROOT / "msun_lite" / f"{name}.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imports
    assert all(node in tree.body for node in imports)


def test_the_paper_is_what_a_newcomer_reads_in_an_hour():
    lines = sum(len((ROOT / "msun_lite" / f"{name}.py").read_text(encoding="utf-8").splitlines()) for name in CORE)
    assert lines < 1040
