import json

import pytest
import torch
from torch import nn

from msun_lite import MSUN, cost
from msun_lite.networks.counting import Cost, count, flops, size_grid
from msun_lite.results import paper

IN_PAPERS_UNIT = {
    # architecture: difference in percent at f1, f2 and f3 from Table IV with the default stems; see the documentation
    "resnet50": (-0.55, -2.78, 0.01),
    "densenet121": (-2.05, -16.32, -0.01),
    "vgg16_bn": (-27.06, -25.22, -0.10),
    "mobilenet_v2": (-0.04, -4.59, -0.02),
}


def run(capsys, *words):
    assert cost.main([str(word) for word in words]) == 0
    return capsys.readouterr().out


def test_costs_are_those_worked_out_by_hand():
    f = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
    g = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    spec = {"arch": "none"}
    lower, upper = count(MSUN({8: f}, g, spec=spec))[8]
    assert lower == Cost(flops=2 * 8 * 8 * 4 * 27, norm_outputs=8 * 8 * 4)
    assert upper == Cost(flops=2 * 4 * 2, norm_outputs=0)
    assert (lower + upper).paper_unit == 8 * (8 * 8 * 4 * 27 + 4 * 2 + 8 * 8 * 4)


@pytest.mark.parametrize("arch", paper.BACKBONES)
def test_costs_beside_the_papers(arch, tmp_path, capsys):
    run(capsys, "--arch", arch, "--json", tmp_path / "cost.json")
    record = json.loads((tmp_path / "cost.json").read_text())
    differences = [entry["difference_percent"] for entry in record["subnets"].values()]
    assert differences == pytest.approx(IN_PAPERS_UNIT[arch], abs=0.006)
    assert abs(differences[-1]) < 0.5
    assert abs(record["vanilla"]["difference_percent"]) < 0.5
    assert record["routings"]["ceil"]["mean_flops"] >= record["routings"]["nearest"]["mean_flops"]
    (row,) = paper.rows("II", backbone=paper.BACKBONES[arch], method="MSUN")
    assert record["params"]["paper_msun_M"] == row["params_M"]
    above = 100 * (record["params"]["msun"] / 1e6 / row["params_M"] - 1)
    assert record["params"]["difference_percent"]["msun"] == pytest.approx(above, abs=0.006)
    for routing in record["routings"].values():
        assert routing["paper_units"].keys() == routing["flops"].keys()
        units = list(routing["paper_units"].values())
        assert routing["paper_unit"] == round(sum(units) / len(units))
        assert units[-1] == record["subnets"]["224"]["paper_unit"]
    assert record["command"].startswith("python -m msun_lite.cost --arch")


def test_native_unification_saves_at_least_two_fifths_of_vanillas_flops():
    with torch.device("meta"):
        model = MSUN.from_backbone("resnet50", unify="native")
        record = cost.cost_record(model, MSUN.vanilla("resnet50"), size_grid((32, 128, 224)))
    assert record["routings"]["nearest"]["of_vanilla"] <= 0.60
    assert "paper" not in record["subnets"]["32"]


def test_three_whole_networks_have_the_parameters_of_table_six(tmp_path, capsys):
    (snet,) = paper.rows("VI", method="SNet")
    run(capsys, "--unify", "none", "--json", tmp_path / "cost.json")
    record = json.loads((tmp_path / "cost.json").read_text())
    assert round(record["params"]["msun"] / 1e6, 1) == snet["params_M"] == record["params"]["paper_msun_M"]
    with torch.device("meta"):
        shared = count(MSUN.from_backbone("resnet50"))
    costs = {scale: entry["flops"] for scale, entry in record["subnets"].items()}
    assert costs == {str(scale): (lower + upper).flops for scale, (lower, upper) in shared.items()}


def test_norms_per_scale_cost_nothing_in_flops():
    with torch.device("meta"):
        assert flops(MSUN.from_backbone("resnet_lite", norm="per_scale")) == flops(MSUN.from_backbone("resnet_lite"))


def test_counting_leaves_the_model_as_it_was():
    model = MSUN.from_backbone("resnet_lite", (8, 16)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    count(model)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_default_grid_is_the_papers():
    assert size_grid((32, 128, 224)) == list(range(32, 225, 16))
    assert size_grid((8, 12)) == [8, 9, 10, 11, 12]


def test_the_report_shows_every_subnet_every_routing_and_the_paper(capsys):
    out = run(capsys)
    for words in (
        "MSUN 25.995 M (paper 26.0, difference -0.02 %)",
        "f1 (32 px)",
        "f3 (224 px)",
        "nearest",
        "ceil",
        "3.28e+10",
        "+0.01 %",
    ):
        assert words in out
    assert "paper 2" not in run(capsys, "--unify", "native", "--num_classes", 10)


def test_speed_is_measured_against_vanilla_at_every_size(tmp_path, capsys):
    words = ("--arch", "resnet_lite", "--scales", "8,16", "--sizes", "8,16", "--latency", "--rounds", 3, "--batch", 2)
    out = run(capsys, *words, "--device", "cpu", "--json", tmp_path / "cost.json")
    assert "median and range" in out
    record = json.loads((tmp_path / "cost.json").read_text())
    for entry in record["speed"]["sizes"].values():
        for figures in (entry["latency_ms"], entry["images_per_second"]):
            for one in figures.values():
                assert 0 < one["min"] <= one["median"] <= one["max"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--arch", "resnet51"], "unknown architecture"),
        (["--arch", "alexnet"], "alexnet has no stages to cut at"),
        (["--blocks", "7"], "blocks: expected"),
        (["--scales", "224,32"], "scales: expected rising"),
        (["--arch", "vgg16_bn", "--scales", "1,2"], "scales: the lower layers cannot take images of 2 px"),
        (["--sizes", "0,8"], "sizes: expected"),
        (["--num_classes", "0"], "num_classes: expected at least 1"),
        (["--json", "/no/such/folder/x.json"], "/no/such/folder/x.json: expected a file in an existing folder"),
        (["--json", "/proc"], "/proc: expected a file in an existing folder, got a folder"),
        (["--json", "/proc/x.json"], "/proc/x.json: expected a file in an existing folder"),
        (["--blokcs", "1"], "unknown option --blokcs, did you mean --blocks?"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, message, capsys):
    assert cost.main(words) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1
    assert message in errors[0]
