import json

import pytest
import torch
from huggingface_hub import ModelCard

from msun_lite import MSUN
from msun_lite.networks import flops
from msun_lite.train.run import train


def card_of(model, folder):
    model.save_pretrained(folder)
    return ModelCard.load(folder / "README.md")


def test_the_card_of_a_run_says_what_it_names_serves_costs_and_scored(tiny, tmp_path):
    run = train(tiny(epochs=1))
    summary, model = json.loads((run / "summary.json").read_text()), MSUN.from_pretrained(run)
    card = card_of(model, tmp_path / "saved")
    assert card.data.to_dict() == {
        "library_name": "msun_lite",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "multi-scale", "arxiv:2403.18294"],
    }
    assert ", ".join(model.spec["class_names"]) in card.text
    cost, top1 = flops(model), summary["top1"]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in card.text.splitlines() if " px |" in line]
    inside = f"{top1['8']:.1f} % at 8 px, {top1['12']:.1f} % at 12 px"
    assert ["8 px", "up to 12 px", f"{cost[8] / 1e9:.3f}", inside] in rows
    assert ["16 px", "from 13 px on", f"{cost[16] / 1e9:.3f}", f"{top1['16']:.1f} % at 16 px"] in rows
    for said in (f"{summary['mean_top1']:.1f} % in the mean of 3 sizes", summary["command"], "40 images of scenes"):
        assert said in card.text
    assert "mean 0.485, 0.456, 0.406" in card.text


@pytest.mark.parametrize("changed", [False, True])
def test_accuracy_is_that_of_the_weights_that_were_measured(tiny, tmp_path, changed):
    model = MSUN.from_pretrained(train(tiny(epochs=1)))
    if changed:
        with torch.no_grad():
            next(model.parameters()).add_(1)
    text = card_of(model, tmp_path / "saved").text
    assert ("top-1" in text) == (not changed)
    assert ("Nothing that was saved with it says how accurate it is." in text) == changed


def test_averages_of_a_size_are_another_network_than_the_one_that_was_measured(tiny, tmp_path):
    model = MSUN.from_pretrained(train(tiny(epochs=1))).with_averages(torch.rand(8, 3, 16, 16), [8, 16])
    assert "top-1" not in card_of(model, tmp_path / "saved").text


def test_many_classes_are_counted_and_classes_without_names_are_numbers(tmp_path):
    names = [f"bird {number}" for number in range(50)]
    many = MSUN.from_backbone("resnet_lite", (8, 16, 32), num_classes=50, class_names=names)
    text = card_of(many, tmp_path / "many").text
    assert "bird 19 and 30 more; `model.json` has all." in text
    assert "| 13 to 24 px |" in " ".join(text.split())
    text = card_of(MSUN.vanilla("resnet_lite", 16, 3), tmp_path / "nameless").text
    assert "3 classes, of which it knows no names" in text
    assert "| all |" in " ".join(text.split())
    assert "What it was trained on is not known here." in text


def test_a_card_that_is_there_already_is_left_as_it_is(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    MSUN.vanilla("resnet_lite", 16, 3).save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_field_of_the_card_can_be_given(tmp_path):
    MSUN.vanilla("resnet_lite", 16, 3).save_pretrained(tmp_path, model_card_kwargs={"made": "By hand."})
    assert "By hand." in (tmp_path / "README.md").read_text()


def test_the_hub_gets_the_same_card(tmp_path, monkeypatch):
    sent = {}

    class Hub:
        def __init__(self, token):
            pass

        def create_repo(self, repo_id, **_):
            return type("Repo", (), {"repo_id": repo_id})

        def upload_folder(self, folder_path, **_):
            sent.update({path.name: path.read_text() for path in folder_path.glob("*.md")})

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Hub)
    model = MSUN.vanilla("resnet_lite", 16, 3)
    model.push_to_hub("someone/model")
    card_of(model, tmp_path)
    assert sent == {"README.md": (tmp_path / "README.md").read_text()}
