"""What is published must be what was measured."""

import functools
import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from statistics import mean

import pytest
import torch

from experiments.disagreement import compared
from experiments.disagreement import main as disagreement
from msun_lite import MSUN
from msun_lite.ablate.ablations import BEYOND, networks, record_config
from msun_lite.ablate.rivals import FAIR
from msun_lite.ablate.tables import BEST
from msun_lite.analyse.options import STUDIES
from msun_lite.book.published import analyses, comparison
from msun_lite.config import make_config
from msun_lite.networks.msun import fingerprint
from msun_lite.networks.pretrained import SHIPPED
from msun_lite.results.seeds import Lead, read_seeds
from msun_lite.scales import route
from msun_lite.transfer.table import record_name, transfer_record
from msun_lite.utils.environment import commit
from tools import tables

METHODS = ("vanilla", "mst", "msun")


def test_the_readme_and_the_index_agree_with_the_records():
    text = (tables.ROOT / "README.md").read_text()
    assert tables.readme(text) == text
    assert all(
        f"{record['mean_top1']:.2f} |" in text for grid in tables.GRIDS for record in tables.records(grid).values()
    )
    for path, page in tables.pages().items():
        assert path.read_text() == page


@pytest.mark.parametrize("path", sorted(tables.RESULTS.rglob("summary.json")), ids=lambda path: path.parent.name)
def test_every_record_says_where_it_comes_from(path):
    record = json.loads(path.read_text())
    started = "adapt --" if "adapted" in record else "train --preset "
    assert record["command"].startswith(f"python -m msun_lite.{started}")
    assert len(record["env"]["commit"]) == 40
    assert record["data"]["fingerprint"]
    assert "/" not in record["data"]["name"]
    metrics = [json.loads(line) for line in (path.parent / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in metrics] == list(range(1, record["epochs"] + 1))


OTHERS = sorted(path for path in tables.RESULTS.rglob("*.json") if path.name not in ("summary.json", "analysis.json"))


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_every_measurement_beside_the_runs_says_where_it_comes_from(path):
    record = json.loads(path.read_text())
    assert record["command"].startswith("python ")
    assert len(record["env"]["commit"]) == 40


def test_the_index_names_every_record():
    index, transfers = ((tables.RESULTS / name).read_text() for name in ("README.md", "transfer/README.md"))
    for path in tables.RESULTS.rglob("*.json"):
        name = path.relative_to(tables.RESULTS)
        if name.parts[0] == "transfer":
            assert f"({name.name})" in transfers
        else:
            assert f"({name.parent if name.name == 'summary.json' else name})" in index


@pytest.mark.parametrize("name", sorted(tables.transfers()))
def test_every_transfer_is_of_the_shipped_weights_and_called_what_it_is(name):
    record = tables.transfers()[name]
    assert record_name(record) == name
    assert record["command"].startswith(f"python -m msun_lite.transfer {record['run']} --dataset ")
    assert record["weights"] == weights_of(record["run"])
    assert record["scale"] == route(record["size"], record["scales"], record["routing"])
    assert "/" not in record["data"]["name"]


def test_what_the_readme_says_of_the_transfers_is_what_the_records_say():
    found = {
        (one["mode"], one["data"], one["size"], one["one"], one["other"]): (mean(one["values"]), one["chance"])
        for one in transfer_record(list(tables.transfers().values()))["differences"]
    }

    def ahead(mode, data, size, one, other):
        lead, chance = found[mode, data, size, one, other]
        return lead > chance

    for other in ("Vanilla", "MST"):
        assert ahead("linear", "cifar10_10k", 16, "MSUN", other)
    assert ahead("linear", "dtd10", 16, "MSUN", "Vanilla")
    for data in ("cifar10_10k", "dtd10"):
        assert found["linear", data, 32, "MSUN", "MST"][0] < -found["linear", data, 32, "MSUN", "MST"][1]
    for one in ("MST", "MSUN"):
        assert ahead("finetune", "cifar10_10k", 32, one, "Vanilla")
        assert not ahead("finetune", "dtd10", 224, one, "Vanilla")


def test_what_the_readme_says_of_the_better_msun_is_what_the_records_say():
    better, mst, vanilla = (read_seeds(tables.RESULTS / "lite", run) for run in ("plus", "mst", "vanilla"))
    assert len(better) > 1
    over_mst, over_vanilla = Lead(better, mst), Lead(better, vanilla)
    *others, largest = over_mst.sizes
    assert all(mean(over_mst.at(size)) > 0 for size in over_mst.sizes)
    assert all(mean(over_vanilla.at(size)) > 0 for size in others)
    assert abs(mean(over_vanilla.at(largest))) < 0.5  # level, and far below what may be chance
    rival = read_seeds(tables.RESULTS / "lite", "mst-plus")
    assert Lead(rival, better).sizes_ahead() == [32]
    assert Lead(better, rival).sizes_ahead() == [16, largest]
    own = json.loads((tables.RESULTS / "lite" / "batchnorm-plus.json").read_text())["top1"]
    for size, of_rival in own["mst-plus-seed0"].items():
        assert 0 < own["lite-plus"][size]["mixed"] - of_rival["own"] < 1
    flops = [next(iter(runs.values()))["mean_flops"] for runs in (better, rival)]
    assert round(1 / (1 - flops[0] / flops[1])) == 7


def test_networks_disagree_on_as_many_photographs_as_their_records_allow():
    record = json.loads((tables.RESULTS / "lite" / "disagreement.json").read_text())
    pairs, images = record["pairs"], record["data"]["val"]
    runs = {f"lite-{run}": read_seeds(tables.RESULTS / "lite", run)[0] for run in ("vanilla", "mst", "msun", "plus")}
    assert len(pairs) == 6
    for name, by_size in pairs.items():
        one, other = (runs[run]["top1"] for run in name.split(" over "))
        for size, found in by_size.items():
            assert found["difference"] == pytest.approx(one[size] - other[size], abs=0.011)
            assert abs(found["difference"]) <= found["disagree"] <= 100
            variance = (found["disagree"] / 100 - (found["difference"] / 100) ** 2) / images
            assert found["two_errors"] == pytest.approx(200 * variance**0.5, abs=0.006)


def test_answers_are_compared_image_by_image():
    one, other = torch.tensor([True, True, True, False]), torch.tensor([False, True, False, False])
    found = compared(one, other)  # three of four are right, and one of four: two answers differ
    assert found == {"difference": 50.0, "disagree": 50.0, "two_errors": 50.0}
    assert compared(one, one) == {"difference": 0.0, "disagree": 0.0, "two_errors": 0.0}


def test_one_network_alone_has_nothing_to_disagree_with(tmp_path, capsys):
    path = tmp_path / "found.json"
    assert disagreement(["lite-msun", "--json", str(path)]) == 2
    assert capsys.readouterr().err == "error: runs: expected two or more, got lite-msun alone\n"
    assert not path.exists()


def test_what_the_readme_says_of_the_ablations_is_what_the_records_say():
    found = networks(tables.RESULTS / "ablate")
    plain, mst = (found["the methods"][name] for name in ("MSUN", "MST"))
    free = found["Tables V and VI"]["no constraint"]
    assert mean(Lead(free, mst).mean()) < 0
    assert round(mean(Lead(plain, free).mean())) == 4
    assert mean(Lead(found[BEYOND]["no constraint, BatchNorm per scale"], plain).mean()) > 0
    two, three = (Lead(found["Tables V and VI"][f"{count} stages in the subnets"], plain) for count in ("two", "three"))
    smallest, *_, largest = two.sizes
    assert mean(three.at(smallest)) < mean(two.at(smallest)) < -3 < -two.chance
    assert mean(three.at(largest)) <= three.chance
    assert mean(two.at(largest)) > two.chance
    for number in ("four subnets", "five subnets"):
        assert mean(Lead(found["Tables V and VI"][number], plain).mean()) < 0
    found = json.loads((tables.RESULTS / "ablate" / "batchnorm.json").read_text())["top1"]
    for row in found["msun-constraint-none-seed0"].values():
        assert row["own"] > row["mixed"] + 3


@functools.cache
def weights_of(run):
    return fingerprint(MSUN.from_pretrained(run))


def test_native_feeding_was_measured_with_the_shipped_vanilla_on_the_images_of_its_record():
    record, summary = (
        json.loads((tables.RESULTS / "lite" / "vanilla-seed0" / name).read_text())
        for name in ("native.json", "summary.json")
    )
    assert (record["run"], record["feeding"], record["refused"]) == ("lite-vanilla", "native", {})
    assert (record["data"], record["sizes"]) == (summary["data"], summary["sizes"])
    largest = str(summary["sizes"][-1])
    assert record["top1"][largest] == summary["top1"][largest]
    assert record["flops"][largest] == summary["flops"][largest]
    assert "native.json" in (tables.RESULTS / "README.md").read_text()


@pytest.mark.parametrize("grid", ["quick", "lite"])
def test_the_records_show_the_papers_effect(grid):
    runs = tables.records(grid)
    vanilla, mst, msun = (runs[method] for method in METHODS)
    small, large = str(vanilla["sizes"][0]), str(vanilla["sizes"][-1])
    assert vanilla["top1"][small] < vanilla["top1"][large] / 2
    assert msun["top1"][small] >= vanilla["top1"][small] + 20
    assert msun["mean_top1"] > max(mst["mean_top1"], vanilla["mean_top1"] + 8)


def lead_at_the_largest_size(grid):
    lead = Lead(*(read_seeds(tables.RESULTS / grid, run) for run in ("msun", "vanilla")))
    return mean(lead.at(lead.sizes[-1]))


def test_msun_is_within_two_points_of_vanilla_at_the_largest_size_on_scenes():
    assert lead_at_the_largest_size("quick") >= -2


def test_the_readme_says_what_msun_costs_at_the_largest_size_on_photographs():
    text = " ".join((tables.ROOT / "README.md").read_text().split())
    assert f"at a cost of {-lead_at_the_largest_size('lite'):.1f} points at the largest" in text


def test_the_readme_says_how_the_best_msun_stands_beside_its_rivals():
    text = " ".join((tables.ROOT / "README.md").read_text().split())
    rows = {row["row"]: row for row in comparison("rivals")["rows"]}
    best, (mst, rs) = rows[BEST], (rows[name] for name in FAIR if name != BEST)
    against_mst = next(claim for claim in comparison("rivals")["claims"] if claim["claim"] == mst["row"])
    assert f"The best MSUN is {against_mst['mean']:.1f} points behind" in text
    assert abs(against_mst["mean"]) < against_mst["half_interval"]  # which three seeds do not decide
    assert f"takes {100 * (1 - best['mean_flops'] / mst['mean_flops']):.0f} % fewer" in text
    ahead = {size: mean(mst["values"][size]) - mean(best["values"][size]) for size in best["values"] if size != "mean"}
    assert all(abs(ahead[size]) < 0.2 for size in ("16", "24", "32"))
    assert min(ahead[size] for size in ("40", "48", "80", "88", "96")) > 1 > max(ahead[s] for s in ("56", "64", "72"))
    assert rs["mean_flops"] < mst["mean_flops"] / 2
    top = {size: max(rows.values(), key=lambda row: mean(row["values"][size]))["row"] for size in ("mean", "112")}
    assert top == {"mean": mst["row"], "112": rs["row"]}
    plain = mean(rows["MSUN"]["values"]["mean"])
    assert mean(rows["MST, averages of the size"]["values"]["mean"]) > plain > mean(rows["MST"]["values"]["mean"])


def test_the_routed_stream_is_as_fast_as_the_flops_promise_or_nearly():
    record = json.loads((tables.RESULTS / "routing.json").read_text())
    assert record["of_the_promise"] >= 0.9
    text = " ".join((tables.ROOT / "README.md").read_text().split())
    expected = f"{record['ratio']['median']:.2f} times as fast as by Vanilla at 224 px, where the FLOPs promise"
    assert f"{expected} {record['promised_by_flops']:.2f}" in text


def shipped(run):
    return json.loads((tables.RESULTS / "lite" / f"{run}-seed0" / "summary.json").read_text())


@pytest.mark.parametrize("method", METHODS)
def test_shipped_weights_are_those_of_the_record(method):
    record = shipped(method)
    folder = SHIPPED / f"lite-{method}"
    weights = (folder / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == record["shipped"]["sha256"]
    assert len(weights) < 4_000_000
    model = MSUN.from_pretrained(f"lite-{method}")
    assert model(torch.rand(1, 3, 30, 30)).shape == (1, 10)
    assert sum(parameter.numel() for parameter in model.parameters()) == record["params"]
    assert model.spec["class_names"][0] == "n01440764"


def test_the_better_msun_is_shipped_and_its_preset_is_that_of_its_record():
    record = shipped("plus")
    weights = (SHIPPED / "lite-plus" / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == record["shipped"]["sha256"]
    trained, preset = asdict(record_config(record)), asdict(make_config("lite-plus", seed=record["seed"]))
    assert {name for name in trained if trained[name] != preset[name]} == {"preset", "out"}
    vanilla, mst, msun = (tables.records("lite")[method] for method in METHODS)
    assert record["mean_top1"] > max(vanilla["mean_top1"] + 10, mst["mean_top1"], msun["mean_top1"])
    assert record["mean_flops"] < vanilla["mean_flops"] == mst["mean_flops"]


def test_the_commit_is_that_of_the_packages_checkout():
    head = commit().removesuffix("-dirty")
    assert head == "unknown" or len(head) == 40
    assert (Path(__file__).parents[2] / ".git").exists() == (head != "unknown")


@pytest.mark.parametrize("method", METHODS)
def test_every_analysis_says_where_it_comes_from_and_is_that_of_the_shipped_weights(method):
    record = analyses()[0][method]
    assert record["weights"] == fingerprint(MSUN.from_pretrained(f"lite-{method}"))
    summary = shipped(method)
    for study in STUDIES:
        made = record[study]
        assert made["command"].startswith(f"python -m msun_lite.analyse lite-{method} --reference lite-vanilla")
        assert len(made["env"]["commit"]) == 40
        assert made["settings"]["data"] == summary["data"]
        assert made["settings"]["images"] == summary["data"]["val"]
    assert record["resizing"]["top1"]["antialiased"] == summary["top1"], "two ways to the same accuracy"


def curves(method, feeding, estimator, small):
    found = analyses()[0][method]["cka"]
    curve = found["curves"][feeding][str(small)][estimator]
    return [curve[found["layers"].index(layer)] for layer in ("image", *found["stages"])]


@pytest.mark.parametrize("feeding", ["native", "upsampled"])
@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
@pytest.mark.parametrize("small", [16, 32, 64])
def test_the_page_tells_what_the_cka_records_say(feeding, estimator, small):
    image, *stages = curves("vanilla", feeding, estimator, small)
    assert image > 0.99
    assert stages[4] < stages[3] < min(stages[:3])
    losses = [before - after for before, after in zip([image, *stages], stages, strict=False)]
    if feeding == "native" and small == 16:
        assert max(losses) == losses[0]
    else:
        assert max(losses) in losses[3:]
    if feeding == "native":
        assert min(curves("msun", feeding, estimator, small)) > 0.88


def test_the_page_tells_what_the_other_studies_say():
    records, _ = analyses()
    own = {method: records[method]["gradcam"]["agreement"]["own"]["16"]["correlation"]["mean"] for method in METHODS}
    chance = records["vanilla"]["gradcam"]["another_image"]["own"]["16"]["correlation"]["mean"]
    assert chance + 0.1 < own["vanilla"] < own["mst"] < own["msun"]
    moved = {method: records[method]["pca"]["sizes"]["16"]["displacement"]["mean"] for method in METHODS}
    assert moved["msun"] < moved["mst"] < moved["vanilla"]
    top1 = {method: records[method]["resizing"]["top1"] for method in METHODS}
    for method in ("vanilla", "mst"):
        assert top1[method]["bilinear"]["16"] > top1[method]["antialiased"]["16"]
    assert top1["msun"]["bilinear"]["16"] < top1["msun"]["antialiased"]["16"] - 30
    assert top1["msun"]["bilinear"]["24"] > top1["msun"]["antialiased"]["24"]
    assert top1["vanilla"]["nearest"]["64"] > top1["vanilla"]["bilinear"]["64"] > top1["vanilla"]["antialiased"]["64"]
