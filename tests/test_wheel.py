"""The package as it is installed: whole, and at work without the optional packages."""

import csv
import json
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image

from msun_lite.data.sources import SceneSource
from msun_lite.networks import read_spec
from msun_lite.networks.pretrained import SHIPPED
from msun_lite.predict import Prediction
from tests.exports import assert_same, without_torch
from tests.serving import served

ROOT = Path(__file__).parents[1]

OPTIONAL = (
    *("timm", "pytorch_grad_cam", "sklearn", "scipy", "tensorboard", "wandb", "jupyter_book", "ipywidgets", "myst_nb"),
    "pytest",
)
"""Packages that only extras bring."""

ONNX = ("onnx", "onnxscript", "onnxruntime")
"""Those that export to ONNX needs."""

BLOCK = """
import sys
for name in {}:
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


def environment(folder, wheel, blocked):
    """Return the interpreter of a new environment with the wheel and what it needs, but not the `blocked` packages."""
    venv.create(folder, with_pip=False)
    found = folder / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", found, wheel], check=True
    )
    # The large packages are not installed once more; their folder comes after this one, and its .pth files do nothing.
    (found / "needed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    (found / "sitecustomize.py").write_text(BLOCK.format(blocked))
    return folder / Path(sys.executable).relative_to(sys.prefix)


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """Return the interpreter of an environment without the optional packages."""
    return environment(tmp_path_factory.mktemp("environment"), wheel, (*OPTIONAL, *ONNX))


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
    assert run(python, "-c", looked, *OPTIONAL, *ONNX, cwd=tmp_path) == "[]\n"
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


CLASSES = ("sun", "moon", "doughnut", "fir")
"""Of the scenes, the first ones."""


def draw_photos(folder):
    """Write 40 training and 20 validation scenes of each class, each of a size of its own from 8 to 72 px."""
    for split, count in (("train", 400), ("val", 200)):
        scenes = SceneSource(count, 56, split, 0)
        sizes = torch.rand(count, generator=torch.Generator().manual_seed(0))
        for index in (index for index in range(count) if scenes.labels[index] < len(CLASSES)):
            place = folder / split / CLASSES[scenes.labels[index]]
            place.mkdir(parents=True, exist_ok=True)
            side = round(8 * 9 ** sizes[index].item())
            image = Image.fromarray(scenes.read(index).permute(1, 2, 0).numpy()).resize((side, side + side // 5))
            image.save(place / f"{index:03d}.png")


def test_a_practitioners_hour(wheel, tmp_path):
    python = environment(tmp_path / "environment", wheel, OPTIONAL)
    (script,) = python.parents[1].rglob("bin/msun-lite")
    draw_photos(tmp_path / "photos")

    def command(*words):
        return run(python, script, *words, cwd=tmp_path)

    few = ("--epochs", "3", "--batch_size", "40", "--out", "run", "--threads", "1")
    assert "the scales are chosen by the images' sizes: " in command("train", "--data", "photos", *few)
    command("evaluate", "run", "--sizes", "own", "--report", "why", "--json", "own.json", "--threads", "1")
    record = json.loads((tmp_path / "own.json").read_text())
    with (tmp_path / "why" / "mistakes.csv").open() as file:
        mistakes = list(csv.DictReader(file))
    assert len(mistakes) == record["images"] - round(record["top1"] * record["images"] / 100)
    assert all((tmp_path / row["image"]).is_file() and row["class"] in row["image"] for row in mistakes)

    command("export", "run", "--out", "exported", "--format", "onnx")
    command("predict", "run", "photos/val", "--top", "4", "--json", "answers.json")
    answers = json.loads((tmp_path / "answers.json").read_text())["images"]
    assert len(answers) == record["images"] == 80
    right = sum(answer["classes"][0] in answer["file"] for answer in answers)
    assert record["top1"] == pytest.approx(100 * right / 80, abs=0.01)

    expected, largest = [Prediction(**answer) for answer in answers], record["scales"][-1]
    contents = [(tmp_path / answer.file).read_bytes() for answer in expected]
    variables = without_torch(tmp_path / "blocked")
    with served(tmp_path / "exported", variables, tmp_path / "log") as server, ThreadPoolExecutor(8) as clients:
        order = [number * 7 % 80 for number in range(1000)]
        answered = list(clients.map(lambda number: server.ask(contents[number], "/predict?top=4"), order))
        for number, (status, found) in zip(order, answered, strict=True):
            assert status == 200
            assert_same(found, expected[number], largest)
        status, found = server.ask(b"no photograph", "/predict")
        assert (status, found) == (400, {"error": "cannot identify image file"})
        assert server.peak() < 400
