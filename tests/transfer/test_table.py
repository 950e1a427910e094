import json
from dataclasses import asdict

import pytest

from msun_lite.results.paper import rows
from msun_lite.transfer.options import TransferConfig
from msun_lite.transfer.table import transfer_markdown, transfer_record
from msun_lite.utils.errors import CheckpointError, UserError
from tools.publish import add_transfers

METHODS = ("vanilla", "mst", "msun")


def record(method, data, size, seed, top1, mode="linear", routing="nearest", arch="resnet_lite"):
    scales = [16, 64, 112] if method == "msun" else [112]
    return {
        "mode": mode,
        "arch": arch,
        "method": method,
        "scales": scales,
        "routing": routing,
        "size": size,
        "scale": scales[0],
        "seed": seed,
        "top1": top1,
        "params": 1,
        "env": {},
        "flops": 1_000_000_000,
        "epochs": 30,
        "data": {"name": data, "val": 400},
        "weights": f"weights of {method}",
        "command": f"python -m msun_lite.transfer lite-{method} --mode {mode} --seed {seed}",
        "config": asdict(TransferConfig(run=f"lite-{method}", dataset=data, mode=mode, seed=seed)),
    }


def test_the_table_has_table_threes_layout_with_the_papers_figures_beside():
    records = [
        record(method, data, size, seed, 50 + 10 * METHODS.index(method) + seed)
        for method in METHODS
        for data, size in (("cifar10", 32), ("cifar10", 16), ("mine", 40))
        for seed in (0, 1)
    ]
    records += [record("msun", "cifar10", 32, 0, 80, routing="ceil"), record("msun", "pets", 224, 0, 80, "finetune")]
    found = transfer_record(records)
    assert found["columns"] == [["Pets", 224], ["CIFAR-10", 32], ["CIFAR-10", 16], ["mine", 40]]
    assert [(row["mode"], row["method"]) for row in found["rows"]] == [
        *(("linear", method) for method in METHODS),
        ("linear", "msun"),
        ("finetune", "msun"),
    ]
    (paper,) = rows("III", setting="linear-probe", backbone="ResNet50", method="MSUN")
    assert found["rows"][2]["paper"] == {"Pets": paper["Pets"], "CIFAR-10": paper["CIFAR-10"]}
    text = transfer_markdown(found)
    first, second = [line for line in text.splitlines() if "| Vanilla" in line]
    assert [cell.strip() for cell in first.split("|")][4:8] == ["1.000", "", "50.5 ± 0.7", "50.5 ± 0.7"]
    assert [cell.strip() for cell in second.split("|")][4:8] == ["32.8, its unit", "89.95", "77.57", ""]
    assert (
        "linear-probe, CIFAR-10 at 32 px: MSUN over Vanilla (paper +14.83): 20.0 points (20.0 to 20.0 over two" in text
    )
    assert "CIFAR-10 at 16 px: MSUN over Vanilla: 20.0" in text
    assert "CIFAR-10 at 32 px: MSUN, ceil over Vanilla (paper +14.83): 30.0 points (one seed)\n" in text
    assert found["differences"][0]["chance"] == pytest.approx(200 * (0.605 * 0.395 / 400) ** 0.5, abs=0.2)
    with pytest.raises(UserError, match="expected one transfer for each cell and seed"):
        transfer_record([*records, records[0]])
    with pytest.raises(UserError, match=r"expected one network in a row, got those of: .* lite-vanilla .*; and of: "):
        transfer_record([*records, {**records[0], "seed": 2, "weights": "others"}])
    with pytest.raises(UserError, match=r"expected one set of options in a cell, got .*; and of: longer"):
        transfer_record(
            [*records, {**records[0], "seed": 2, "command": "longer", "config": {**records[0]["config"], "epochs": 3}}]
        )


def test_the_papers_figure_stands_at_the_data_sets_own_size_alone():
    text = transfer_markdown(transfer_record([record("msun", "cifar10", 16, 0, 90.0)]))
    assert "92.40" not in text
    both = [record("msun", "cifar10_10k", size, 0, 90.0) for size in (64, 32)]
    (line,) = [line for line in transfer_markdown(transfer_record(both)).splitlines() if "paper, " in line]
    assert [cell.strip() for cell in line.split("|")][5:7] == ["", "92.40"]


def test_a_network_of_the_papers_stands_beside_its_own_row():
    found = transfer_record([record("msun", "stl10", 96, 0, 90.0, arch="mobilenet_v2")])
    (paper,) = rows("III", setting="linear-probe", backbone="MobileNetV2", method="MSUN")
    assert found["rows"][0]["paper"] == {"STL-10": paper["STL-10"]}
    assert "paper, MobileNetV2" in transfer_markdown(found)


def test_finished_transfers_are_published_as_one_file_each(tmp_path):
    def finished(name, run, **options):
        (tmp_path / "runs" / name).mkdir(parents=True)
        found = {"run": run, **record(**{"data": "mine", "size": 20, "seed": 0, "top1": 80.0, **options})}
        (tmp_path / "runs" / name / "summary.json").write_text(json.dumps(found))

    with pytest.raises(CheckpointError, match="expected finished transfers, found none"):
        add_transfers(tmp_path / "runs", tmp_path / "records")
    finished("a", "lite-msun", method="msun")
    finished("b", "lite-msun", method="msun", routing="ceil", seed=1)
    finished("c", "lite-vanilla", method="vanilla", routing="ceil", mode="finetune")
    (tmp_path / "runs" / "stopped").mkdir()
    add_transfers(tmp_path / "runs", tmp_path / "records")
    assert sorted(path.stem for path in (tmp_path / "records").iterdir()) == [
        "lite-msun-mine-20px-linear-ceil-seed1",
        "lite-msun-mine-20px-linear-seed0",
        "lite-vanilla-mine-20px-finetune-seed0",
    ]
    finished("d", "lite-msun", method="msun")
    with pytest.raises(UserError, match="got two lite-msun-mine-20px-linear-seed0"):
        add_transfers(tmp_path / "runs", tmp_path / "records")
