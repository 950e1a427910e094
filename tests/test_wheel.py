"""The package as it is installed: whole, and at work without the optional packages."""

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from msun_lite.networks import read_spec
from msun_lite.networks.pretrained import SHIPPED

ROOT = Path(__file__).parents[1]

OPTIONAL = (
    *("timm", "onnx", "onnxscript", "onnxruntime", "pytorch_grad_cam", "sklearn", "scipy", "tensorboard", "wandb"),
    *("jupyter_book", "ipywidgets", "myst_nb", "pytest"),
)
"""Packages that only extras bring."""

BLOCK = f"""
import sys
for name in {OPTIONAL}:
    sys.modules[name] = None  # importing it raises an ImportError, as where it is not installed
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Return a wheel built of a source archive of a copy of the checkout, without what was built there before."""
    copy = tmp_path_factory.mktemp("wheel") / "checkout"
    left_out = shutil.ignore_patterns("__pycache__")
    for name in ("msun_lite", "data_scripts"):
        shutil.copytree(ROOT / name, copy / name, ignore=left_out)
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    build = "from setuptools import build_meta; build_meta.build_sdist('..')"
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, stdout=subprocess.DEVNULL)
    (archive,) = copy.parent.glob("*.tar.gz")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", ".", archive]
    subprocess.run(command, cwd=copy.parent, check=True)
    (built,) = copy.parent.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """Return the interpreter of an environment with the wheel and what it needs, but without the optional packages."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    found = folder / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", found, wheel], check=True
    )
    # The large packages are not installed once more; their folder comes after this one, and its .pth files do nothing.
    (found / "needed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    (found / "sitecustomize.py").write_text(BLOCK)
    return folder / Path(sys.executable).relative_to(sys.prefix)


def run(python, *words, cwd):
    """Return what `python WORDS` prints; it must succeed."""
    done = subprocess.run([python, *words], cwd=cwd, env={"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_wheel_holds_every_room_and_file_of_the_package(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    files = {path for path in (ROOT / "msun_lite").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    names = {path.relative_to(ROOT).as_posix() for path in files} - {"msun_lite/data_scripts/__init__.py"}
    scripts = {f"msun_lite/data_scripts/{path.name}" for path in (ROOT / "data_scripts").glob("*.py")}
    assert names | scripts <= held
    assert "msun_lite/data_scripts/__init__.py" not in held  # it says where a checkout has them
    for ending in ("presets/quick.yaml", "weights/lite-msun/model.safetensors", "results/paper.json", "LICENSE"):
        assert any(name.endswith(ending) for name in held), ending


def test_what_is_optional_is_not_there(python, tmp_path):
    looked = "import sys; print([name for name in sys.argv[1:] if sys.modules.get(name, 1) is not None])"
    assert run(python, "-c", looked, *OPTIONAL, cwd=tmp_path) == "[]\n"
    place = run(python, "-c", "import msun_lite; print(msun_lite.__file__)", cwd=tmp_path)
    assert not Path(place.strip()).is_relative_to(ROOT)


def test_an_installed_package_has_the_scripts_of_data(python, tmp_path):
    (command,) = python.parents[1].rglob("bin/msun-lite")
    listed = run(python, command, "data", cwd=tmp_path)
    assert all(f"  {path.stem}  " in listed for path in (ROOT / "data_scripts").glob("*.py"))
    shown = run(python, command, "data", "prepare_imagenet", "--help", cwd=tmp_path)
    assert shown.startswith("usage: msun-lite data prepare_imagenet ")
    for split in ("train", "val"):
        (tmp_path / "photos" / split / "one").mkdir(parents=True)
        Image.new("RGB", (20, 20)).save(tmp_path / "photos" / split / "one" / "black.png")
    run(python, command, "data", "make_shards", "photos", "shards", "--workers", "1", cwd=tmp_path)
    run(python, "-m", "msun_lite", "data", "make_shards", "--check", "shards", "--workers", "1", cwd=tmp_path)
    assert len(list((tmp_path / "shards").glob("*.tar"))) == 2


def test_an_installed_package_evaluates_and_trains_anywhere(python, tmp_path):
    names = read_spec(SHIPPED / "lite-msun" / "model.json")["class_names"]
    for split in ("train", "val"):
        for number, name in enumerate(names):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            pixels = torch.full((112, 112, 3), 20 * number, dtype=torch.uint8).numpy()
            Image.fromarray(pixels).save(tmp_path / "photos" / split / name / "one.png")
    options = ("lite-msun", "--data", "photos", "--sizes", "16,112", "--json", "result.json")
    run(python, "-m", "msun_lite.evaluate", *options, cwd=tmp_path)
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["data"]["val"], list(result["top1"])) == (10, ["16", "112"])
    (script,) = python.parents[1].rglob("bin/msun-lite")
    said = run(python, script, "predict", "lite-msun", "photos/val", "--top", "1", cwd=tmp_path)
    assert len(said.splitlines()) == 10
    few = ("--epochs", "1", "--scenes_train", "256", "--scenes_val", "50", "--out", "run")
    run(python, "-m", "msun_lite.train", "--preset", "quick", *few, cwd=tmp_path)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["steps"] == 2
    run(python, "-c", "from msun_lite import MSUN; MSUN.from_pretrained('run')", cwd=tmp_path)
