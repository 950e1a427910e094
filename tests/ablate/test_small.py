import json
from statistics import mean

import pytest

from msun_lite.ablate.__main__ import main
from msun_lite.ablate.ablations import one_per_size, run_name
from msun_lite.ablate.compared import SMALL, compared_runs
from msun_lite.ablate.small import BACKBONE_ROWS, CONTROL_ROWS
from msun_lite.ablate.tables import BACKBONES, ONE_A_SIZE, table_record
from msun_lite.config import make_config
from tests.runs import summary

BASE = make_config("quick", **SMALL)
TINY = ("--data", "scenes", "--scenes_train", "16", "--scenes_val", "10", "--batch_size", "8", "--epochs", "1")


def networks(*tables):
    rows = [row for table in tables for row in table.values() if not row.tested]
    return [make_config("quick", **{**SMALL, **one}) for row in rows for one in row.networks(BASE.scales, BASE.sizes)]


def written(folder, config, **given):
    path = folder / run_name(config)
    path.mkdir(parents=True)
    found = summary(config=vars(config), sizes=config.sizes, scales=config.scales, seed=config.seed, **given)
    (path / "summary.json").write_text(json.dumps(found))
    return path


def test_every_network_has_a_run_folder_of_its_own_and_tables_share_them():
    configs = networks(BACKBONE_ROWS, CONTROL_ROWS)
    learnt = {str({name: value for name, value in vars(one).items() if name != "seed"}): one for one in configs}
    assert len({run_name(one) for one in learnt.values()}) == len(learnt) == 4 * 3 + 2 + 12


def test_the_upper_bound_takes_each_size_from_the_network_that_was_trained_at_it_alone():
    small, large = networks({ONE_A_SIZE: CONTROL_ROWS[ONE_A_SIZE]})[0], make_config("quick", **SMALL, method="vanilla")
    assert (small.method, small.scales, small.sizes) == ("vanilla", [8], [8, 56])
    found = one_per_size(
        [
            summary(sizes=[8, 16], top1={"8": 30.0, "16": 99.0}, flops={"8": 10, "16": 10}, params=5),
            summary(sizes=[8, 16], top1={"8": 1.0, "16": 60.0}, flops={"8": 40, "16": 40}, params=5),
        ]
    )
    assert (found["top1"], found["mean_top1"], found["scales"]) == ({"8": 30.0, "16": 60.0}, 45.0, [8, 16])
    assert (found["params"], found["flops"], found["mean_flops"]) == (10, {"8": 10, "16": 40}, 25)
    assert networks({ONE_A_SIZE: CONTROL_ROWS[ONE_A_SIZE]})[-1] == large


def test_a_row_of_several_networks_has_the_seeds_that_all_of_them_have(tmp_path):
    row = {ONE_A_SIZE: CONTROL_ROWS[ONE_A_SIZE]}
    for seed in (0, 1):
        for config in networks(row)[seed:]:
            config.seed = seed
            top1 = {str(size): float(size) for size in config.sizes}
            written(tmp_path, config, top1=top1, flops=dict.fromkeys(top1, 1))
    found = compared_runs(tmp_path, "controls")
    assert list(found[ONE_A_SIZE]) == [0]
    assert found[ONE_A_SIZE][0]["mean_top1"] == mean(BASE.sizes)
    assert list(found["Vanilla"]) == [0, 1]


def test_methods_are_compared_on_each_backbone_as_the_paper_does(tmp_path):
    for number, config in enumerate(networks(BACKBONE_ROWS)):
        top1 = {str(size): float(number) for size in config.sizes}
        written(tmp_path, config, top1=top1, mean_top1=float(number), arch=config.arch)
    record = table_record("backbones", compared_runs(tmp_path, "backbones"))
    assert [claim["claim"] for claim in record["claims"]] == [
        f"{one} over {other}, {backbone}"
        for backbone in BACKBONES
        for one, other in (("MST", "Vanilla"), ("MSUN", "MST"))
    ]
    assert record["about"]["arch"] == "several small networks"
    assert {claim["mean"] for claim in record["claims"]} == {1.0}


@pytest.mark.parametrize("again", [False, True])
def test_the_command_trains_a_network_for_each_size(again, tmp_path, monkeypatch, capsys):
    rows = {name: CONTROL_ROWS[name] for name in ("Vanilla", ONE_A_SIZE, "Vanilla, GroupNorm")}
    monkeypatch.setattr("msun_lite.ablate.run.ALL_TABLES", {"controls": rows})
    words = ["--table", "controls", *TINY, "--scales", "8,16", "--sizes", "8,12,16", "--out", str(tmp_path)]
    assert main(words) == 0
    if again:
        monkeypatch.setattr("msun_lite.train.run._finish", None)  # nothing is trained twice
        assert main(words) == 0
    folders = {path.parent.name for path in tmp_path.glob("*/summary.json")}
    assert len(folders) == 4
    record = json.loads((tmp_path / "controls.json").read_text())
    bound = next(row for row in record["rows"] if row["row"] == ONE_A_SIZE)
    assert bound["scales"] == [8, 12, 16]
    assert (tmp_path / "controls-cost.png").exists()
    assert "one Vanilla a size" in capsys.readouterr().out
