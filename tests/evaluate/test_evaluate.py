import json
import shutil
from dataclasses import replace

import pytest
import torch

from msun_lite import MSUN
from msun_lite.commands import command_parser
from msun_lite.data.loaders import eval_loader, to_float
from msun_lite.data.named import load_data
from msun_lite.evaluate import accuracy as evaluation
from msun_lite.evaluate.__main__ import main
from msun_lite.evaluate.accuracy import BATCH, accuracy_record, evaluate, fitting_batch, measure, refused_native
from msun_lite.evaluate.subjects import find_config
from msun_lite.networks.backbones import RECIPES
from msun_lite.networks.counting import flops
from msun_lite.results.routings import all_routings, serving_scales
from msun_lite.scales import resize
from msun_lite.train.run import train
from msun_lite.utils.cli import parse
from msun_lite.utils.distributed import World
from msun_lite.utils.errors import UserError

TABLE = {8: {8: 60.0, 12: 50.0, 16: 40.0}, 16: {8: 30.0, 12: 50.0, 16: 80.0}}


@pytest.mark.parametrize(
    ("routing", "served"),
    [("nearest", {8: 8, 12: 8, 16: 16}), ("ceil", {8: 8, 12: 16, 16: 16}), ("oracle", {8: 8, 12: 8, 16: 16})],
)
def test_each_rule_sends_each_size_to_its_subnet(routing, served):
    assert serving_scales(TABLE, routing) == served


def test_the_oracle_is_the_best_subnet_at_each_size():
    table = {8: {8: 10.0, 16: 90.0}, 16: {8: 20.0, 16: 80.0}}
    assert serving_scales(table, "oracle") == {8: 16, 16: 8}


def test_a_record_has_the_routed_accuracies_and_costs():
    model = MSUN.from_backbone("resnet_lite", (8, 16), num_classes=10)
    record, costs = accuracy_record(model, TABLE, "nearest"), flops(model)
    assert record["top1"] == {"8": 60.0, "12": 50.0, "16": 80.0}
    assert record["mean_top1"] == 63.33
    assert record["flops"] == {"8": costs[8], "12": costs[8], "16": costs[16]}
    assert record["routings"]["ceil"]["scale"] == {"8": 8, "12": 16, "16": 16}


def test_rules_that_a_record_was_made_before_follow_from_its_subnets():
    record = accuracy_record(MSUN.from_backbone("resnet_lite", (8, 16), num_classes=10), TABLE, "nearest")
    older = {**record, "routings": {name: record["routings"][name] for name in ("nearest", "oracle")}}
    assert all_routings(older) == all_routings(record) == record["routings"]
    assert list(all_routings(older)) == list(record["routings"])


def test_flops_are_twice_the_multiply_adds():
    with torch.device("meta"):
        vanilla = MSUN.vanilla("resnet50")
    assert flops(vanilla)[224] == 2 * 4_089_184_256


@torch.no_grad()
def test_measured_accuracy_is_that_of_the_models_own_forward(tiny):
    torch.manual_seed(0)
    data = load_data(tiny())
    model = MSUN.from_backbone("resnet_lite", (8, 16), num_classes=10).eval()
    loader = eval_loader(data.val, 16, 1.0, batch_size=7, workers=0)
    table = measure(model, loader, [8, 12, 16], torch.device("cpu"))
    images = to_float(
        torch.stack([data.val.read(i) for i in range(20)]), torch.device("cpu"), model.spec["normalisation"]
    )
    labels = torch.tensor(data.val.labels)
    record = accuracy_record(model, table, "nearest")
    for size in (8, 12, 16):
        own = 100 * (model(resize(images, size)).argmax(1) == labels).float().mean().item()
        assert record["top1"][str(size)] == pytest.approx(own, abs=0.01)


def test_measuring_leaves_the_model_as_it_was(tiny):
    model = MSUN.vanilla("resnet_lite", 16, num_classes=10).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measure(model, eval_loader(load_data(tiny()).val, 16, 1.0, 10, 0), [8], torch.device("cpu"))
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def frozen(model):
    """Put a network into training mode but for its BatchNorms; return the mode of each module by name."""
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    return modes(model)


def modes(model):
    return {name: module.training for name, module in model.named_modules()}


def test_measuring_leaves_every_module_in_its_mode(tiny, monkeypatch):
    model = MSUN.vanilla("resnet_lite", 16, num_classes=10)
    before = frozen(model)
    assert set(before.values()) == {True, False}
    measure(model, eval_loader(load_data(tiny()).val, 16, 1.0, 10, 0), [8], torch.device("cpu"))
    assert modes(model) == before
    refused_native(model, [8])
    assert modes(model) == before
    monkeypatch.setattr(MSUN, "forward_native", lambda *_: {}["broken"])
    with pytest.raises(KeyError, match="broken"):
        refused_native(model, [8])
    assert modes(model) == before


def test_convolutions_are_measured_in_full_precision(tiny):
    model, seen = MSUN.vanilla("resnet_lite", 16, num_classes=10), []
    before = torch.backends.cudnn.conv.fp32_precision
    model.subnets["16"].register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.conv.fp32_precision))
    measure(model, eval_loader(load_data(tiny()).val, 16, 1.0, 10, 0), [8], torch.device("cpu"))
    assert set(seen) == {"ieee"}
    assert torch.backends.cudnn.conv.fp32_precision == before


def test_of_several_processes_the_first_one_says_how_large_the_crops_are(capsys):
    options = parse(command_parser("evaluate"), ["lite-vanilla", "--sizes", "16,200", "--device", "cpu"])
    find_config(options, World(1, 2))
    assert capsys.readouterr().out == ""
    find_config(options, World(0, 2))
    assert capsys.readouterr().out == "all sizes are made from centre crops of 200 px here, not 112 px\n"


def test_the_command_repeats_the_summary_of_a_run(tiny, tmp_path, capsys):
    folder = train(tiny())
    summary = json.loads((folder / "summary.json").read_text())
    assert main([str(folder), "--json", str(tmp_path / "result.json"), "--device", "cpu"]) == 0
    record = json.loads((tmp_path / "result.json").read_text())
    for key in ("scales", "sizes", "routing", "top1", "mean_top1", "per_subnet", "routings", "params", "flops", "data"):
        assert record[key] == summary[key]
    assert "f2 (16 px)" in capsys.readouterr().out


def test_sizes_and_routing_can_be_chosen(tiny, tmp_path):
    folder, result = train(tiny(method="vanilla")), tmp_path / "result.json"
    assert main([str(folder), "--sizes", "10,24", "--routing", "oracle", "--json", str(result)]) == 0
    record = json.loads(result.read_text())
    assert list(record["top1"]) == ["10", "24"]
    assert record["routing"] == "oracle"


def test_antialiasing_in_testing_can_be_another_than_in_training(tiny, tmp_path):
    folder, results = train(tiny(epochs=1)), {}
    for word in ("default", "true", "false"):
        path = tmp_path / f"{word}.json"
        words = [] if word == "default" else ["--antialias", word]
        assert main([str(folder), *words, "--device", "cpu", "--json", str(path)]) == 0
        results[word] = json.loads(path.read_text())
    assert [results[word]["antialias"] for word in ("default", "true", "false")] == [True, True, False]
    assert results["default"]["per_subnet"] == results["true"]["per_subnet"]
    model, config = MSUN.from_pretrained(folder), tiny(epochs=1)
    model.antialias = False
    assert results["false"]["per_subnet"] == evaluate(model, config, "nearest")["per_subnet"]
    assert results["false"]["per_subnet"] != results["true"]["per_subnet"]


def test_the_number_of_threads_can_be_chosen_and_stands_in_the_record(tiny, tmp_path):
    folder, result, before = train(tiny(method="vanilla")), tmp_path / "result.json", torch.get_num_threads()
    try:
        for count in (1, 2):
            assert main([str(folder), "--threads", str(count), "--json", str(result)]) == 0
            assert json.loads(result.read_text())["env"]["threads"] == count
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--threads", "0"], "threads: expected more than 0, got 0"),
        (["--sizes", "32,x"], "sizes: expected whole numbers such as 32,48,64, got '32,x'"),
        (["--sizes", "32,16"], "sizes: expected rising"),
        (["--json", "nowhere/result.json"], "nowhere/result.json: expected a file in an existing folder"),
        (["--json", "PHOTOS"], "photos: expected a file in an existing folder, got a folder"),
        (["--routing", "best"], "routing: expected one of nearest, ceil, ratio, oracle"),
        (["--feeding", "raw"], "feeding: expected one of upsampled, native, got 'raw'"),
        (["--feeding", "native"], "feeding: expected a network with one scale for native, got [8, 16]"),
        (
            ["--data", "PHOTOS"],
            "expected some of the model's 10 classes, such as 'sun', got 2 that it lacks: 'cat', 'dog'",
        ),
        (["--data", "RENAMED"], "expected the model's classes, such as 'sun', got 'class0' in its place"),
        (["--wrokers", "1"], "did you mean --workers?"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tiny, photos, tmp_path, words, message, capsys):
    folder = train(tiny(epochs=1))
    capsys.readouterr()
    renamed = tmp_path / "renamed"
    for split in ("train", "val"):
        for label in range(10):
            shutil.copytree(photos / split / "cat", renamed / split / f"class{label}")
    folders = {"PHOTOS": str(photos), "RENAMED": str(renamed)}
    words = [folders.get(word, word) for word in words]
    assert main([str(folder), *words]) == 2
    assert message in capsys.readouterr().err


def test_native_feeding_is_the_network_on_the_small_images_themselves(tiny, tmp_path):
    folder, result = train(tiny(method="vanilla", epochs=1)), tmp_path / "result.json"
    assert main([str(folder), "--feeding", "native", "--device", "cpu", "--json", str(result)]) == 0
    record, config = json.loads(result.read_text()), tiny(method="vanilla")
    assert (record["feeding"], record["refused"]) == ("native", {})
    assert record["command"].startswith(f"python -m msun_lite.evaluate {folder} --feeding native")
    assert list(record["flops"]) == ["8", "12", "16"]
    model, data = MSUN.from_pretrained(folder), load_data(config, train=False)
    for size in (8, 12, 16):
        hits = 0
        for index, label in enumerate(data.val.labels):
            pixels = data.val.read(index)[None]
            image = resize(to_float(pixels, torch.device("cpu"), model.spec["normalisation"]), size)
            with torch.no_grad():
                hits += int(model.unified(model.subnets["16"](image)).argmax() == label)
        assert record["top1"][str(size)] == pytest.approx(100 * hits / len(data.val.labels))
        small = MSUN.vanilla("resnet_lite", size, num_classes=10)
        assert record["flops"][str(size)] == flops(small)[size]
    summary = json.loads((folder / "summary.json").read_text())
    assert record["top1"]["16"] == summary["top1"]["16"]
    assert record["flops"]["8"] < record["flops"]["16"] == summary["flops"]["16"]


def test_sizes_that_a_network_cannot_take_as_they_are_are_listed(tiny, monkeypatch):
    model, config = MSUN.vanilla("alexnet", 64, num_classes=10).eval(), tiny(arch="alexnet", method="vanilla")
    assert list(refused_native(model, [8, 16, 64])) == [8, 16]
    record = evaluate(model, replace(config, scales=[8, 64], sizes=[16, 64]), "nearest", feeding="native")
    assert list(record["top1"]) == ["64"]
    assert list(record["refused"]) == ["16"]
    assert record["refused"]["16"]
    with pytest.raises(UserError, match=r"sizes: expected one that alexnet can take as it is, got \[8, 16\]"):
        evaluate(model, replace(config, sizes=[8, 16]), "nearest", feeding="native")


def test_an_unknown_run_is_named(capsys):
    assert main(["no-such-run"]) == 2
    assert "no-such-run: expected a run folder" in capsys.readouterr().err


def test_a_plain_cnn_with_trained_weights_is_measured_without_a_run(tmp_path, photos, capsys):
    weights = tmp_path / "mine.pth"
    torch.save(RECIPES["resnet_lite"].build(2).state_dict(), weights)
    words = ["--arch", "resnet_lite", "--weights", str(weights), "--data", str(photos), "--sizes", "16,224"]
    words += ["--grid", "imagenette", "--device", "cpu", "--json", str(tmp_path / "result.json")]
    assert main([*words, "--num_classes", "2"]) == 0
    record = json.loads((tmp_path / "result.json").read_text())
    assert set(record["top1"]) == {"16", "224"}
    assert record["scales"] == [32, 128, 224]
    capsys.readouterr()
    for change, message in (
        (["--num_classes", "3"], "num_classes: expected that of the weights"),
        (["lite-msun"], "expected a run, or --arch in its place"),
    ):
        assert main([*words, *change]) == 2
        assert message in capsys.readouterr().err
    assert main([]) == 2


def test_a_batch_has_as_many_images_as_fit_and_no_record_changes_by_it(tmp_path, monkeypatch):
    for name in ("lite-msun", "quick-msun"):
        assert fitting_batch(MSUN.from_pretrained(name)) == BATCH, "what published records were measured with"
    with torch.device("meta"):
        large = MSUN.vanilla("vgg16_bn", 224)
    assert fitting_batch(large) == 2**28 // (4 * 64 * 224 * 224)
    assert fitting_batch(large, native=448) == 2**28 // (4 * 64 * 448 * 448)
    monkeypatch.setattr("msun_lite.evaluate.accuracy.LAYER_BYTES", 1)
    assert fitting_batch(large) == 1


def test_the_batch_size_can_be_chosen(tiny, tmp_path, capsys, monkeypatch):
    folder = train(tiny())
    seen, real = [], evaluation.eval_loader
    monkeypatch.setattr(evaluation, "eval_loader", lambda *args: seen.append(args[3]) or real(*args))
    records = []
    for words in ([], ["--batch-size", "7"]):
        assert main([str(folder), "--json", str(tmp_path / "a.json"), *words]) == 0
        records.append(json.loads((tmp_path / "a.json").read_text()))
    assert seen == [BATCH, 7]
    assert records[0]["per_subnet"] == records[1]["per_subnet"]
    assert main([str(folder), "--batch_size", "0"]) == 2
    assert "batch_size: expected at least 1, got 0" in capsys.readouterr().err
