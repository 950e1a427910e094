import json
import shutil
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image

from msun_lite import MSUN
from msun_lite.export import Exported
from msun_lite.networks.graphs import serving
from msun_lite.predict import predict
from msun_lite.runtime import BadInput, ExportedModel, UnreadableImage
from msun_lite.runtime.model import bilinear_weights
from msun_lite.scales import Router, resize
from tests.exports import assert_same


def test_images_of_every_size_and_kind_are_answered_as_predict_does(exported):
    model = ExportedModel(exported.folder, threads=1)
    for image, expected in zip(exported.images, exported.expected, strict=True):
        assert_same(asdict(model.answer(image, top=10)), expected, model.largest)
    assert len({expected.scale for expected in exported.expected}) == 3


def test_the_folder_alone_answers_where_neither_torch_nor_this_package_can_be_imported(exported, tmp_path):
    folder = tmp_path / "moved"
    shutil.copytree(exported.folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
    script = """
import dataclasses, json, sys
from runtime import ExportedModel
model = ExportedModel(".", threads=1)
print(json.dumps([dataclasses.asdict(model.answer(image, 10)) for image in sys.argv[1:]]))
"""
    words = [sys.executable, "-c", script, *map(str, exported.images)]
    done = subprocess.run(words, cwd=folder, env=exported.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for found, expected in zip(json.loads(done.stdout), exported.expected, strict=True):
        assert_same(found, expected, 56)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize(("size", "side"), [(8, 31), (31, 8), (56, 32), (40, 32), (1, 8), (9, 1), (224, 50)])
def test_resizing_is_that_of_torch(size, side, antialias):
    images = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    weights = torch.from_numpy(bilinear_weights(size, side, antialias))
    torch.testing.assert_close(weights @ images @ weights.T, resize(images, side, antialias), atol=1e-5, rtol=1e-4)


ROUTERS = [
    Router((8, 32, 56)),
    Router((8, 32), "ceil"),
    Router((16, 64), "ratio", subnet_input="largest"),
    Router((8, 32), "upto:20", subnet_input="native", averages={8: [8, 12], 32: [20, 32]}),
]


@pytest.mark.parametrize("router", ROUTERS)
def test_the_table_of_what_serves_each_size_is_the_routers(router):
    rows = serving(router)
    for size in range(1, router.scales[-1] + 1):
        row = next(row for row in rows if size <= row["upto"])
        scale = router.scale(size)
        expected = (scale, router.side(size, scale), router.place(size, scale))
        assert (row["scale"], row["side"], row["place"]) == expected
    assert rows[-1]["upto"] == router.scales[-1]
    ways = [{**row, "upto": None} for row in rows]
    assert all(one != next_one for one, next_one in zip(ways, ways[1:], strict=False))


def with_averages():
    options = {"subnet_input": "native", "routing": "upto:20"}
    model = MSUN.from_backbone("resnet_lite", (8, 32), num_classes=3, **options).eval()
    return model.with_averages(torch.rand(64, 3, 32, 32), [8, 14, 24, 32])


def without_low_pass():
    return MSUN.from_backbone("resnet_lite", (8, 32), num_classes=7, antialias=False).eval()


@pytest.mark.parametrize("make", [with_averages, without_low_pass])
def test_every_way_to_feed_the_subnets_is_that_of_predict(make, exported, tmp_path):
    torch.manual_seed(0)
    model = make()
    folder = model.export(tmp_path / "other", "onnx")
    other = ExportedModel(folder, threads=1)
    classes = model.spec["classes"]
    for image, expected in zip(exported.images, predict(model, exported.images, classes, 1.0), strict=True):
        found = other.answer(image)
        assert len(found.classes) == min(5, classes)
        assert_same(asdict(other.answer(image, classes)), expected, other.largest)


def test_classes_are_named_in_words(exported):
    assert json.loads((exported.folder / "model.json").read_text())["class_words"][2] == "doughnut"
    answer = ExportedModel(exported.folder).answer(exported.images[5], top=2)
    assert answer.classes == exported.expected[5].classes[:2]


def changed(exported, tmp_path, **values):
    """Return a copy of the exported model with other values in its model.json, without those that are None."""
    folder = tmp_path / "changed"
    shutil.copytree(exported.folder, folder)
    about = json.loads((folder / "model.json").read_text()) | values
    kept = {name: value for name, value in about.items() if value is not None}
    (folder / "model.json").write_text(json.dumps(kept))
    return folder


def test_folders_that_were_exported_earlier_still_run_with_torch(exported, tmp_path):
    folder = changed(exported, tmp_path, crop_ratio=None, class_words=None, serving=None)
    images = torch.rand(2, 3, 40, 40)
    torch.testing.assert_close(Exported(folder)(images), Exported(exported.folder)(images))
    with pytest.raises(BadInput, match="changed: expected a model exported as onnx by this version, got"):
        ExportedModel(folder)


def test_what_is_no_exported_model_is_refused_by_name(exported, tmp_path):
    with pytest.raises(BadInput, match="nothing: expected a model exported as onnx"):
        ExportedModel(tmp_path / "nothing")
    folder = changed(exported, tmp_path, format="torch")
    with pytest.raises(BadInput, match=r"changed: expected a model exported as onnx .*, got ValueError\('format torch"):
        ExportedModel(folder)
    shutil.copy(exported.folder / "model.json", folder)
    path = folder / "scale-8.onnx"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BadInput, match=r"scale-8\.onnx: expected an ONNX file, got"):
        ExportedModel(folder)


def test_bad_questions_are_refused_in_a_line(exported, tmp_path):
    model = ExportedModel(exported.folder)
    for top in (0, 11, -1):
        with pytest.raises(BadInput, match=f"top: expected 1 to 10, got {top}"):
            model.answer(exported.images[0], top)
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(UnreadableImage, match="^cannot identify image file$"):
        model.answer(tmp_path / "text.jpg")


def test_the_square_is_the_central_one_and_never_larger_than_the_largest_scale(exported):
    model = ExportedModel(exported.folder)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 41, 3), dtype=np.uint8)
    assert np.array_equal(model.square(Image.fromarray(pixels)), pixels[2:28, 8:34])
    assert model.square(Image.new("RGB", (3000, 64))).shape == (56, 56, 3)
    assert model.square(Image.new("RGB", (1, 900))).shape == (1, 1, 3)
