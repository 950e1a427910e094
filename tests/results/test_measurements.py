"""What was measured beside the runs: speed, memory, photographs of mixed sizes; and what is said of it."""

import json
from statistics import mean

from msun_lite.book.published import comparison
from msun_lite.results.seeds import two_standard_errors
from msun_lite.results.words import join_words
from tools import tables


def test_cka_is_at_least_five_times_as_fast_as_pair_by_pair_and_does_not_grow():
    record = json.loads((tables.RESULTS / "cka.json").read_text())
    assert record["images"] == 1000
    assert record["layers"] == 10
    assert record["ratio"]["median"] >= 5
    assert record["largest_difference"]["between both in double precision"] < 1e-6
    memory = list(record["peak_memory_mib"].values())
    assert max(memory) < 1.05 * min(memory)


def test_batches_are_ready_at_least_one_and_a_half_times_as_fast_as_torchvisions():
    record = json.loads((tables.RESULTS / "pipeline.json").read_text())
    for entry in record["files"].values():
        assert entry["images"] >= 256
        for workers in ("0 workers", "2 workers"):
            assert entry[workers]["batch"]["ratio"]["median"] >= 1.5


def test_what_the_readme_says_of_batches_whose_scales_are_made_too_is_what_was_measured():
    record = json.loads((tables.RESULTS / "pipeline.json").read_text())
    ratios = [
        entry[workers]["views"]["ratio"]["median"]
        for entry in record["files"].values()
        for workers in ("0 workers", "2 workers")
    ]
    text = " ".join((tables.ROOT / "README.md").read_text().split())
    assert f"{min(ratios):.1f} to {max(ratios):.1f} times as fast once the same CPU has made the scales" in text


def test_an_msun_step_takes_about_the_time_that_its_flops_promise():
    record = json.loads((tables.RESULTS / "throughput.json").read_text())
    assert record["of_the_promised_time"]["median"] <= 1.1


def test_the_rehearsal_of_imagenet_was_stopped_resumed_and_ended():
    record = json.loads((tables.RESULTS / "rehearsal.json").read_text())
    assert record["classes"] == record["data"]["classes"] == 1000
    assert record["class_folders"]["stopped_at_step"] < record["class_folders"]["then_went_on_to_step"]
    assert record["shards"]["stopped_at_step"] < record["shards"]["then_went_on_to_step"] == 10
    assert max(record[name]["seconds_from_sigterm_to_exit"] for name in ("class_folders", "shards")) < 20
    assert len(record["env"]["commit"]) == 40


def test_the_readme_says_what_networks_make_of_photographs_of_mixed_sizes():
    own = {
        name: [json.loads(path.read_text()) for path in sorted((tables.RESULTS / "own").glob(f"{name}-seed?.json"))]
        for name in ("vanilla", "mst", "msun", "mst-best", "msun-best")
    }
    top1 = {name: round(mean(one["top1"] for one in found)) for name, found in own.items()}
    cost = {name: mean(one["mean_flops"] for one in found) for name, found in own.items()}
    share = round(100 * cost["msun-best"] / cost["mst-best"])
    text = " ".join((tables.ROOT / "README.md").read_text().split())
    assert f"Vanilla names {top1['vanilla']} % of them rightly, MST {top1['mst']} %, MSUN {top1['msun']} %." in text
    assert f"MST has {top1['mst-best']} % and MSUN {top1['msun-best']} %, for {share} % of its FLOPs." in text


def test_photographs_of_mixed_sizes_are_the_same_for_all_networks():
    found = [json.loads(path.read_text()) for path in (tables.RESULTS / "own").glob("*.json")]
    assert {(one["sizes"], one["images"], one["data"]["fingerprint"]) for one in found} == {
        ("own", 1975, found[0]["data"]["fingerprint"])
    }
    assert len({str([(part["first"], part["last"], part["images"]) for part in one["ranges"]]) for one in found}) == 1


def test_what_the_readme_and_chapter_1_say_of_groupnorm_is_in_the_records():
    rows = {row["row"]: row["values"] for row in comparison("controls")["rows"]}
    group, plain, fitted = (rows[f"Vanilla{end}"] for end in (", GroupNorm", "", ", averages of the size"))
    assert mean(fitted["mean"]) - mean(group["mean"]) > 10 > mean(group["mean"]) - mean(plain["mean"])
    assert mean(group["56"]) - mean(group["8"]) > 40


def test_predict_answers_every_photograph_in_memory_that_does_not_grow():
    record = json.loads((tables.RESULTS / "predict-speed.json").read_text())["pass"]
    assert record["images"] == 10000
    assert all(found == {"1000": 1000, "10000": 10000} for found in record["answered"].values())
    for way in ("predict", "evaluate, own"):
        tenth, whole = record["peak_memory_mib"][way].values()
        assert whole < 1.05 * tenth
    assert max(record["other_top1_than_predict"].values()) < record["images"] / 1000


def test_predict_is_as_fast_as_evaluate_and_as_timms_loop():
    record = json.loads((tables.RESULTS / "predict-speed.json").read_text())
    for workers in ("0 workers", "2 workers"):
        over = record[workers]["predict_over"]
        assert min(found["median"] for found in over.values()) >= 0.98  # evaluate at own sizes is nearly the same code
        assert min(found["median"] for name, found in over.items() if name.startswith("timm")) >= 1


def test_what_the_readme_says_of_photographs_a_second_is_what_was_measured():
    over = json.loads((tables.RESULTS / "predict-speed.json").read_text())["0 workers"]["predict_over"]
    own = json.loads((tables.RESULTS / "own-speed.json").read_text())["files"]["over_vanilla"]
    text = " ".join((tables.ROOT / "README.md").read_text().split())
    msun, plus, best = (f"{own[name]['median']:.2f}" for name in ("msun", "plus", "msun-best"))
    assert (
        f"answers {msun} times as many a second as Vanilla, `lite-plus` {plus} times, the best MSUN {best} times"
        in text
    )
    timm, faster = (f"{over[name]['median']:.2f}" for name in ("timm", "timm, channels last"))
    assert f"`predict` is {timm} times as fast as timm's inference loop, and {faster} times as fast" in text


def own_top1(name):
    """Return the accuracy on photographs of mixed sizes, the mean of a network's seeds."""
    found = sorted((tables.RESULTS / "own").glob(f"{name}-seed*.json"))
    return mean(json.loads(path.read_text())["top1"] for path in found)


def test_what_chapter_6_says_of_photographs_of_mixed_sizes_is_what_was_measured():
    errors = two_standard_errors(1975, own_top1("msun"))
    assert own_top1("msun") - own_top1("mst") > errors
    assert own_top1("mst") - own_top1("vanilla") > errors
    assert own_top1("mst-averages") - own_top1("msun") > errors
    assert 0 < own_top1("mst-best") - own_top1("msun-best") <= errors
    assert own_top1("vanilla-fed-native") < own_top1("vanilla")
    speed = json.loads((tables.RESULTS / "own-speed.json").read_text())
    promised = speed["promised_over_vanilla"]
    faster = {
        stage: {run: one["median"] for run, one in speed[stage]["over_vanilla"].items()}
        for stage in ("files", "decoded")
    }
    assert min(faster["files"].values()) > 1
    assert all(faster["files"][run] > promised[run] for run in ("msun", "plus"))
    assert all(faster[stage][run] < promised[run] for stage in faster for run in ("msun-best", "rs-best"))


def test_what_the_readme_says_of_the_adapted_imagenet_network_is_what_was_measured():
    folder = tables.RESULTS / "lite0"
    before = json.loads((folder / "vanilla.json").read_text())
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("adapted-seed?/summary.json"))]
    assert len(found) == 2
    after = {size: mean(one["top1"][size] for one in found) for size in before["top1"]}
    text = " ".join((tables.ROOT / "README.md").read_text().split())
    small = ("32", "48", "64")
    for top1 in (after, before["top1"]):
        assert f"right for {join_words([round(top1[size]) for size in small])} %" in text
    assert f"On {before['data']['val']} photographs" in text
    assert after["32"] >= 40
    assert after["64"] >= 60
    assert all(abs(one["flops"]["32"] / before["mean_flops"] - 0.5) < 0.05 for one in found)
    assert f"{100 * found[0]['mean_flops'] / before['mean_flops']:.0f} % of the FLOPs" in text
    assert all(one["mean_flops"] <= 0.6 * before["mean_flops"] for one in found)
    for size, value in before["top1"].items():
        assert value - after[size] < two_standard_errors(before["data"]["val"], value), size
    assert all(one["top1"]["224"] == before["top1"]["224"] for one in found)
