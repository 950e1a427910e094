import json
from pathlib import Path

import pytest

from msun_lite.ablate.__main__ import main
from msun_lite.ablate.ablations import run_name
from msun_lite.ablate.compared import compared_runs
from msun_lite.ablate.rivals import FAIR, LONGER, NATIVE_INPUT, PLUS, RIVALS
from msun_lite.ablate.tables import BEST, table_markdown
from msun_lite.book.published import comparison, results
from msun_lite.config import make_config
from msun_lite.results import rivals_figure
from msun_lite.train.run import train

SCALES = [16, 64, 112]
TINY = ("--data", "scenes", "--scenes_train", "16", "--scenes_val", "10", "--batch_size", "8", "--warmup_epochs", "1")


def learnt(**options):
    config = vars(make_config("lite", **options))
    return {name: value for name, value in config.items() if name not in ("preset", "out")}


def test_what_is_trained_as_lite_plus_has_the_options_of_that_preset():
    config = vars(make_config("lite-plus"))
    assert learnt(**PLUS) == {name: value for name, value in config.items() if name not in ("preset", "out")}


def test_the_fair_rows_differ_in_the_method_and_in_what_its_subnets_get():
    trained = [learnt(**one.options) for name, one in RIVALS.items() if name in FAIR]
    first, *others = trained
    differing = {name for other in others for name in other if other[name] != first[name]}
    assert differing == {"method", *NATIVE_INPUT} - {"random_sizes"}
    assert RIVALS[BEST].options == {**LONGER, **NATIVE_INPUT}


def test_every_rival_has_a_run_folder_of_its_own():
    trained = {one.name: one for one in RIVALS.values() if not one.tested}
    names = [run_name(make_config("lite", **one.chosen(SCALES))) for one in trained.values()]
    assert len(set(names)) == len(trained)


def test_every_published_run_of_the_rivals_is_in_a_row_and_every_row_has_two_seeds_or_more():
    found = compared_runs(results() / "rivals", "rivals")
    assert list(found) == list(RIVALS)
    runs = {path.parent.name for path in (results() / "rivals").glob("*/summary.json")}
    assert sum(len(by_seed) for row, by_seed in found.items() if not RIVALS[row].tested) == len(runs)
    assert min(len(by_seed) for by_seed in found.values()) >= 2


def test_a_row_of_averages_counts_them_and_costs_no_more():
    rows = {row["row"]: row for row in comparison("rivals")["rows"]}
    plain, with_them = rows["MST"], rows["MST, averages of the size"]
    assert with_them["params"] - plain["params"] == 12 * 2 * 1440  # 13 sets of two numbers a channel in place of one
    assert with_them["mean_flops"] == plain["mean_flops"]


def test_the_table_goes_down_by_accuracy_and_says_what_each_row_costs():
    record = comparison("rivals")
    text = table_markdown(record)
    means = [sum(row["values"]["mean"]) / len(row["seeds"]) for row in record["rows"]]
    assert means == sorted(means, reverse=True)
    assert "30 to 45 epochs" in text
    assert "GFLOPs" in text.splitlines()[4]
    assert {claim["claim"] for claim in record["claims"]} == set(RIVALS) - {BEST}


def test_the_picture_has_a_point_for_every_row():
    rows = comparison("rivals")["rows"]
    axes = rivals_figure(rows).axes[0]
    assert [text.get_text() for text in axes.texts] == [f"{number}" for number in range(1, len(rows) + 1)]


@pytest.fixture
def few(monkeypatch):
    """Let the table have two rows: one trained, and the same with averages of the size."""
    rows = {name: RIVALS[name] for name in ("RS-Nets", "RS-Nets, averages of the size")}
    monkeypatch.setattr("msun_lite.ablate.run.ALL_TABLES", {"rivals": rows})
    begun = []

    def noted(config):
        if not config.resume:
            begun.append(config.out)
        return train(config)

    monkeypatch.setattr("msun_lite.train.run.train", noted)
    return begun


def test_the_command_trains_a_row_once_measures_it_twice_and_draws_the_table(few, tmp_path, capsys):
    words = [
        "--table",
        "rivals",
        "--preset",
        "lite",
        "--epochs",
        "1",
        *TINY,
        "--sizes",
        "16,112",
        "--out",
        str(tmp_path),
    ]
    assert main([*words, "--threads", "1"]) == 0
    assert len(few) == 1
    (run,) = (path.parent for path in tmp_path.glob("*/summary.json"))
    measured = json.loads((run / "averages-size.json").read_text())
    assert measured["command"] == f"python -m msun_lite.evaluate {run} --averages size"
    assert measured["averages"] == {"of": "size", "images": 16}
    record = json.loads((tmp_path / "rivals.json").read_text())
    by_row = {row["row"]: row for row in record["rows"]}
    assert by_row["RS-Nets, averages of the size"]["values"]["mean"] == [measured["mean_top1"]]
    assert {Path(name).suffix for name in map(str, tmp_path.glob("rivals*"))} == {".json", ".md", ".png", ".svg"}
    assert "MSUN and its rivals" in capsys.readouterr().out
