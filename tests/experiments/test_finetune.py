import json
from statistics import mean

from experiments import finetune


def test_recipes_are_compared_on_a_folder_and_on_a_long_tailed_part_of_it(photos, tmp_path, monkeypatch):
    small = {"epochs": 1, "warmup_epochs": 0, "batch_size": 2, "device": "cpu", "precision": "fp32"}
    recipes = {"SGD": small | finetune.PLAIN | finetune.SGD, "finetune, mixup 0.2": small | {"mixup": 0.2}}
    monkeypatch.setattr(finetune, "RECIPES", recipes)
    path, out = tmp_path / "found.json", tmp_path / "runs"
    words = [str(photos), "--out", str(out), "--seeds", "0,1", "--threads", "1", "--json", str(path)]
    assert finetune.main(words) == 0
    record = json.loads(path.read_text())
    assert {name: data["train"] for name, data in record["data"].items()} == {"photos": 12, "photos-longtail": 7}
    assert {data["val"] for data in record["data"].values()} == {6}
    assert record["command"].startswith(f"python experiments/finetune.py {photos} --out")
    for name, rows in record["results"].items():
        assert list(rows) == list(recipes)
        row = rows["finetune, mixup 0.2"]
        runs = [
            json.loads((out / f"{name}-finetune-mixup-0.2-seed{seed}" / "summary.json").read_text()) for seed in (0, 1)
        ]
        assert row["mean"] == round(mean(run["mean_top1"] for run in runs), 2)
        assert row["mean_top1"] == {"0": runs[0]["mean_top1"], "1": runs[1]["mean_top1"]}
    before = path.read_text()
    assert finetune.main(words) == 0  # finished runs are kept
    assert json.loads(path.read_text())["results"] == json.loads(before)["results"]
