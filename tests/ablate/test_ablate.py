import json
import shlex
import shutil
from dataclasses import asdict

import pytest

from msun_lite.ablate.__main__ import main
from msun_lite.ablate.ablations import (
    ABLATIONS,
    ALL_PARTS,
    BEYOND,
    ROMAN,
    TABLES,
    networks,
    recorded,
    rows_of,
    run_name,
)
from msun_lite.ablate.compared import ALL_TABLES
from msun_lite.ablate.tables import CLAIMS, paper_sizes, table_markdown, table_record
from msun_lite.book.testing_figures import front_figure
from msun_lite.config import make_config
from msun_lite.evaluate.__main__ import main as evaluate
from msun_lite.results import paper
from msun_lite.train.run import train
from msun_lite.utils.errors import UserError
from tests.runs import summary
from tools.publish import main as publish

SMALL = {"sizes": [8, 32, 56], "scenes_train": 20, "scenes_val": 10, "batch_size": 10, "epochs": 1, "device": "cpu"}
SCALES = [8, 32, 56]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "all"


@pytest.fixture
def command(out):
    words = [word for name, value in SMALL.items() for word in (f"--{name}", str(value).strip("[]").replace(" ", ""))]
    return [*words, "--out", str(out)]


@pytest.fixture
def begun(monkeypatch):
    """Return a list that gets the configuration of every run that is begun."""
    configs = []

    def noted(config):
        if not config.resume:
            configs.append(config)
        return train(config)

    monkeypatch.setattr("msun_lite.train.run.train", noted)
    return configs


def summaries(means, **changes):
    """Return made-up records of one row, one a seed, whose means are given."""
    sizes = list(range(8, 57, 4))
    record = {
        "arch": "resnet_lite",
        "sizes": sizes,
        "epochs": 16,
        "data": {"name": "imagenette", "val": 1975},
        "scales": SCALES,
    }
    record |= {"params": 1_270_000, "routing": "nearest"} | changes
    made = {}
    for seed, value in enumerate(means):
        row = {"top1": {str(size): value + size / 4 for size in sizes}, "mean_top1": value}
        rules = {"nearest": row, "ceil": {**row, "mean_top1": value - 2}, "oracle": {**row, "mean_top1": value + 1}}
        subnets = {str(scale): {str(s): value - abs(s - scale) for s in sizes} for scale in record["scales"]}
        made[seed] = {**record, **row, "routings": rules, "per_subnet": subnets}
    return made


def test_the_rows_are_the_papers():
    assert list(TABLES["6"]) == [row["method"] for row in paper.rows("VI")]
    assert {f"Res50-{name}" for name in TABLES["5"]} == {row["config"] for row in paper.rows("V")}
    for table, claims in CLAIMS.items():
        compared = {name for _, _, *names in claims for name in names}
        assert compared == set(TABLES[table]) if table in ROMAN else compared <= set(ALL_TABLES[table])


def test_scales_are_evenly_spaced_between_the_smallest_and_the_largest():
    for name, scales in {"B1-S2": [8, 56], "B1-S4": [8, 24, 40, 56], "B1-S5": [8, 20, 32, 44, 56]}.items():
        assert TABLES["5"][name].chosen(SCALES) == {"scales": scales}
    assert TABLES["5"]["B1-S3"].chosen(SCALES) == {}


def test_a_run_is_called_what_differs_from_the_preset():
    options = {"constraint": "weight", "lam": 0.1, "scales": [8, 56], "seed": 3, "epochs": 16}
    assert run_name(make_config("quick", **options)) == "msun-scales-8-56-constraint-weight-lam-0.1-seed3"
    names = {run_name(make_config("quick", **one.chosen(SCALES))) for one in ABLATIONS}
    assert len(names) == len(ABLATIONS)


def test_every_ablation_says_its_command_and_where_the_paper_has_it():
    for one in ABLATIONS:
        assert one.command("lite").startswith("python -m msun_lite.train --preset lite --method ")
        assert rows_of(one)
    assert rows_of(ALL_PARTS) == "IV, MSUN; V, B1-S3; VI, SNet+UNet+SI"


def test_tables_share_their_runs_whatever_the_folders_are_called(command, out, begun, capsys):
    train(make_config("quick", **SMALL, out=str(out / "by-hand"), threads=1))
    assert main([*command, "--table", "4"]) == 0
    assert begun == []
    assert main([*command, "--table", "5"]) == 0
    assert len(begun) == len(TABLES["5"]) - 1
    assert main([*command, "--table", "5"]) == 0
    assert len(begun) == len(TABLES["5"]) - 1
    files = {f"table{number}.{ending}" for number in (4, 5) for ending in ("md", "json", "png", "svg")}
    assert {path.name for path in out.glob("table*")} == files
    text = (out / "table5.md").read_text()
    assert text in capsys.readouterr().out
    assert "ResNet-lite, 8 to 56 px, drawn scenes, 1 epochs, seed 0." in text
    summary = json.loads((out / "msun-blocks-2-seed0" / "summary.json").read_text())
    (row,) = [line for line in text.splitlines() if "B2-S3" in line]
    assert f"| {summary['params'] / 1e6:.2f} | {summary['mean_top1']:.1f} |" in " ".join(row.split())
    record = json.loads((out / "table5.json").read_text())
    assert [row["scales"] for row in record["rows"] if row["row"] == "B1-S2"] == [[8, 56]]
    assert all(" points with one seed" in claim["sentence"] for claim in record["claims"])


def test_two_seeds_give_a_spread_and_published_records_the_same_table(command, out, tmp_path):
    assert main([*command, "--table", "6", "--seeds", "0,1"]) == 0
    text, records = (out / "table6.md").read_text(), tmp_path / "records"
    assert "seeds 0, 1." in text
    assert "points over 2 seeds" in text
    assert "no spread is known" not in text
    assert all(f"{row['avg_accuracy']:g} |" in text for row in paper.rows("VI"))
    assert publish(["--ablations", str(out), "--record", str(records)]) == 0
    assert len(list(records.glob("*/metrics.jsonl"))) == 12
    assert (records / "mst-constraint-pair-seed1" / "summary.json").exists()
    assert table_markdown(table_record("6", recorded(records, "6"))) == text
    assert list(recorded(records, "open")) == ["all parts"]
    assert list(recorded(records, "beyond")) == ["all parts", "MST"]
    shutil.rmtree(records / "msun-unify-none-seed0")
    assert list(recorded(records, "6")["SNet+SI"]) == [1]


def test_records_of_other_options_are_no_rows_of_one_table(tmp_path):
    for name, options in (("mst-seed0", {"method": "mst", "epochs": 16}), ("msun-seed0", {"method": "msun"})):
        (tmp_path / name).mkdir()
        config = asdict(make_config("quick", **options))
        (tmp_path / name / "summary.json").write_text(json.dumps(summary(config=config)))
    with pytest.raises(UserError, match=r"expected the options of the records beside it, \{'epochs': 16\}, got \{\}"):
        recorded(tmp_path, "6")


def test_records_are_grouped_by_what_they_have_in_common(tmp_path):
    chosen = {
        "a": {"method": "vanilla"},
        "b": {},
        "c": {"seed": 1},
        "d": {"blocks": 2},
        "e": {"stems": "fine"},
        "f": {"norm": "per_scale"},
        "g": {"norm": "per_scale", "stems": "fine"},
    }
    for name, options in chosen.items():
        (tmp_path / name).mkdir()
        config = asdict(make_config("quick", **options))
        (tmp_path / name / "summary.json").write_text(json.dumps(summary(config=config)))
    found = {group: {name: list(seeds) for name, seeds in one.items()} for group, one in networks(tmp_path).items()}
    assert found == {
        "the methods": {"Vanilla": [0], "MSUN": [0, 1]},
        "Tables V and VI": {"two stages in the subnets": [0]},
        "left open": {"finer stems": [0]},
        BEYOND: {"BatchNorm per scale": [0]},
    }


def test_the_front_is_what_no_network_beats_on_both_counts():
    points = {"a": (100.0, 60.0), "b": (80.0, 70.0), "c": (90.0, 69.0), "d": (90.0, 71.0), "e": (80.0, 65.0)}
    axes = front_figure({"one": {"a": points.pop("a")}, "others": points}, named=["a"]).axes[0]
    assert [list(row) for row in axes.lines[0].get_xydata()] == [[80.0, 70.0], [90.0, 71.0]]
    assert [text.get_text() for text in axes.texts] == ["a", "1", "2"]
    explained = [text.get_text() for text in axes.figure.legends[0].texts]
    assert explained == ["one", "others", "b", "d"]


def test_an_interrupted_command_goes_on_when_called_again(command, out, begun, capsys):
    words = [*command, "--table", "4", "--seeds", "0,1"]
    train(make_config("quick", **SMALL, out=str(out / "msun-seed0"), max_minutes=1e-6))
    assert main([*words, "--max_minutes", "0.000001"]) == 0
    assert not (out / "table4.md").exists()
    assert "call the same command again" in capsys.readouterr().out
    assert main(words) == 0
    assert [config.seed for config in begun] == [1]
    assert "seeds 0, 1" in (out / "table4.md").read_text()


def test_the_open_questions_can_be_trained_and_have_a_table(command, out, tmp_path):
    assert main([*command, "--table", "open"]) == 0
    text = (out / "open.md").read_text()
    rows = {line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")}
    assert rows >= {*TABLES["open"], "all parts, routed by ratio"}
    trained = sorted(path.parent.name for path in out.glob("*/summary.json"))
    assert len(trained) == len(TABLES["open"]) - 2
    found = {path.parent.name: json.loads(path.read_text()) for path in out.glob("*/antialias-*.json")}
    assert {name: one["antialias"] for name, one in found.items()} == {
        "msun-seed0": False,
        "msun-antialias-false-seed0": True,
    }
    again = tmp_path / "again.json"
    assert evaluate([*shlex.split(found["msun-seed0"]["command"])[3:], "--json", str(again)]) == 0
    assert json.loads(again.read_text())["top1"] == found["msun-seed0"]["top1"]
    (row,) = [one for one in json.loads((out / "open.json").read_text())["rows"] if "tested without" in one["row"]]
    assert row["values"]["mean"] == [found["msun-seed0"]["mean_top1"]]
    assert publish(["--ablations", str(out), "--record", str(tmp_path / "records")]) == 0
    assert table_markdown(table_record("open", recorded(tmp_path / "records", "open"))) == text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--table", "7"], "table: expected one of 4, 5, 6, open, beyond, rivals, backbones, controls, got '7'"),
        (["--table", "4", "--seeds", "1,1"], "seeds: expected one or more, each once, got [1, 1]"),
        (["--table", "4", "--seeds", "x"], "seeds: expected"),
        (["--table", "4", "--seeds", "[0,-1]"], "seed: expected at least 0, got -1"),
        (["--table", "4", "--epocs", "1"], "unknown option --epocs, did you mean --epochs?"),
        (["--table", "4", "--constraint", "sum"], "unknown option --constraint"),
        (
            ["--table", "5", "--scales", "8,16"],
            "scales: expected three for table 5, whose rows say how many, got [8, 16]",
        ),
        (["--table", "4", "--arch", "alexnet"], "alexnet has no stages to cut at"),
        ([], "table"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(command, out, words, message, capsys):
    assert main([*command, *words]) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert message in error
    assert not out.exists()


def test_other_options_in_the_same_folder_are_refused(command, capsys):
    main([*command, "--table", "4"])
    assert main([*command, "--table", "4", "--lr", "0.2"]) == 2
    assert "cannot go on with another lr" in capsys.readouterr().err


def test_the_papers_rows_stand_under_ours_where_the_sizes_correspond():
    assert paper_sizes(list(range(8, 57, 4))) == {8: 32, 16: 64, 24: 96, 32: 128, 40: 160, 48: 192, 56: 224}
    assert paper_sizes([8, 32, 56]) == {}
    record = table_record("4", {"MSUN": summaries([70.0, 72.0])})
    f1 = record["rows"][0]
    assert list(f1["values"]) == ["mean", "8", "16", "24", "32", "40", "48", "56"]
    assert f1["values"]["8"] == [70.0, 72.0]
    assert f1["paper"]["8"] == 61.8
    assert record["claims"][0]["paper"] == 24.7  # 61.8 against f2's 37.1 at 32 px
    assert record["claims"][0]["differences"] == [24.0, 24.0]
    text = table_markdown(record)
    assert "8 (32) px" in text
    assert " 71.0 ± 1.4 |" in text
    other = table_record("4", {"MSUN": summaries([70.0], scales=[8, 56])})
    assert all(not row["paper"] for row in other["rows"])


def test_the_row_that_is_a_slip_has_no_accuracies():
    record = table_record("5", {name: summaries([70.0]) for name in TABLES["5"]})
    papers = {row["row"]: row["paper"] for row in record["rows"]}
    assert papers["B1-S2"] == {"params M": 25.8}
    assert papers["B0-S3"]["56"] == 73.7
    claims = {claim["claim"]: claim for claim in record["claims"]}
    assert claims["the third subnet gains"]["paper"] is None
    assert claims["the first stage in the subnets gains"]["paper"] == 3.31  # means over the seven sizes of Table V


def test_claims_without_both_rows_are_left_out():
    record = table_record("6", {"MST": summaries([66.0, 67.0]), "SNet+UNet": summaries([70.0])})
    (claim,) = record["claims"]
    assert claim["differences"] == [4.0]
    assert claim["paper"] == 3.55


def test_the_open_table_measures_routing_on_the_same_networks():
    record = table_record("open", {"all parts": summaries([70.0, 71.0]), "lambda 0": summaries([70.5, 71.5])})
    rows = {row["row"]: row["values"]["mean"] for row in record["rows"]}
    assert rows["all parts, routed by ceil"] == [68.0, 69.0]
    assert rows["all parts, routed by oracle"] == [71.0, 72.0]
    assert [claim["claim"] for claim in record["claims"]] == ["all parts, routed by ceil", "lambda 0"]
    assert table_record("open", {"lambda 0": summaries([70.0])})["claims"] == []


def test_what_is_beyond_the_paper_can_be_trained_and_is_compared_with_all_parts(command, out):
    assert main([*command, "--table", "beyond"]) == 0
    record = json.loads((out / "beyond.json").read_text())
    assert [row["row"] for row in record["rows"]] == list(TABLES["beyond"])
    assert [claim["claim"] for claim in record["claims"]] == list(TABLES["beyond"])[1:]


@pytest.mark.parametrize("change", [{"epochs": 8}, {"data": {"name": "scenes", "val": 1975}}])
def test_runs_that_cannot_be_compared_are_refused(change):
    with pytest.raises(UserError, match=f"{next(iter(change))}: expected the same in all runs of table 6"):
        table_record("6", {"MST": summaries([66.0]), "SNet+UNet": summaries([70.0], **change)})


def test_several_processes_are_refused(command, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([*command, "--table", "4"]) == 2
    assert "WORLD_SIZE: ablate runs in one process, got 2" in capsys.readouterr().err
