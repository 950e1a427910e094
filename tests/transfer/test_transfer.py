import dataclasses
import json
import os
import re
import signal

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from msun_lite import MSUN
from msun_lite.data.loaders import EvalView, eval_loader, to_float
from msun_lite.data.named import load_data
from msun_lite.evaluate.accuracy import measure
from msun_lite.networks.counting import flops
from msun_lite.networks.layers import classifiers
from msun_lite.networks.pretrained import SHIPPED
from msun_lite.scales import resize
from msun_lite.train.trainer import Trainer
from msun_lite.transfer import run as transfer
from msun_lite.transfer.__main__ import main
from msun_lite.transfer.options import TransferConfig, read_transfer_config
from msun_lite.transfer.probe import accuracy, cached, compute, fit
from msun_lite.transfer.run import find_task, serving_classifier, with_new_classifier
from msun_lite.transfer.table import read_records
from msun_lite.utils.errors import CheckpointError, UserError

CPU = torch.device("cpu")
METHODS = ("vanilla", "mst", "msun")


@pytest.fixture
def config(photos, tmp_path):
    """Return a function that makes the smallest useful transfer of a shipped network to two classes of photographs."""

    def make(**options):
        default = {"run": "quick-msun", "dataset": str(photos), "size": 20, "out": str(tmp_path / "run")}
        quick = {"epochs": 4, "warmup_epochs": 1.0, "batch_size": 4, "device": "cpu", "precision": "fp32"}
        return TransferConfig(**{**default, **quick, **options})

    return make


def run(config):
    folder = transfer.transfer(config)
    return json.loads((folder / "summary.json").read_text()), load_file(folder / "model.safetensors")


def original(name):
    return MSUN.from_pretrained(name).state_dict()


def changed(before, after):
    return {name for name, value in after.items() if name not in before or not torch.equal(before[name], value)}


CLASSIFIER = {"unified.fc.weight", "unified.fc.bias"}


@pytest.mark.parametrize("method", METHODS)
def test_a_probe_changes_not_one_bit_but_the_classifier(config, method, tmp_path):
    summary, weights = run(config(run=f"quick-{method}"))
    assert changed(original(f"quick-{method}"), weights) == CLASSIFIER
    assert (summary["method"], summary["mode"], summary["size"]) == (method, "linear", 20)
    assert summary["trained"] == sum(weights[name].numel() for name in CLASSIFIER)
    assert summary["top1"] == 100.0  # one class is dark, the other bright
    assert summary["scale"] == (8 if method == "msun" else 56)
    assert summary["flops"] == flops(MSUN.from_pretrained(tmp_path / "run"))[summary["scale"]]
    assert summary["data"]["classes"] == 2


@pytest.mark.parametrize("method", ["vanilla", "msun"])
def test_the_saved_network_has_the_accuracy_that_the_cached_features_gave(config, method):
    options = config(run=f"quick-{method}", epochs=1, lr=0.001)  # so that it is not simply perfect
    summary, _ = run(options)
    task, model = find_task(options), MSUN.from_pretrained(options.out)
    loader = eval_loader(task.data.val, task.size, task.crop_ratio, 5, 0)
    found = measure(model, loader, [20], CPU, scales=[summary["scale"]])
    assert found == {summary["scale"]: {20: pytest.approx(summary["top1"], abs=0.01)}}
    assert model.spec["class_names"] == ["cat", "dog"]
    assert model(torch.rand(3, 3, 20, 20)).shape == (3, 2)


def test_cached_features_equal_those_computed_afresh_view_by_view(config):
    options = config()
    run(options)
    task, model = find_task(options), MSUN.from_pretrained("quick-msun")
    for split, source in (("train", task.data.train), ("test", task.data.val)):
        (file,) = (transfer.RunFolder(options.out).path / "features").glob(f"{split}-*.safetensors")
        kept = load_file(file)
        view = EvalView(source, 20, 1.0)
        images = to_float(torch.stack([view[i][0] for i in range(len(source))]), CPU, model.spec["normalisation"])
        layers, rest = classifiers(model), []
        handle = layers[0].register_forward_pre_hook(lambda _, inputs, rest=rest: rest.append(inputs[0]))
        with torch.no_grad():
            for shown in (images, images.flip(-1))[: 2 if split == "train" else 1]:
                model(shown)  # routed as any image
        handle.remove()
        assert torch.equal(kept["labels"], torch.tensor(source.labels))
        torch.testing.assert_close(kept["views"], torch.stack(rest))
        assert len(kept["views"]) == (2 if split == "train" else 1)


def test_features_are_computed_once_for_all_runs_that_share_them_and_anew_where_they_would_differ(
    config, tmp_path, monkeypatch, photos
):
    computed = []
    monkeypatch.setattr(transfer, "compute", lambda *args: computed.append(args[2]) or compute(*args))
    shared = str(tmp_path / "features")

    def again(name, **options):
        computed.clear()
        run(config(out=str(tmp_path / name), features=shared, **options))
        return len(computed)

    assert again("one") == 2
    assert again("seed", seed=1) == 0
    assert again("epochs", epochs=2) == 0
    assert again("flip", flip=False) == 1  # the test images are the same
    assert again("size", size=16) == 2
    assert again("routing", routing="ceil") == 2
    assert again("network", run="quick-vanilla") == 2
    Image.new("RGB", (20, 20)).save(photos / "val" / "cat" / "another.png")
    assert again("data") == 2


def test_damaged_features_are_named(config, tmp_path):
    shared = tmp_path / "features"
    run(config(features=str(shared)))
    (file,) = shared.glob("test-*")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"test-\w+\.safetensors: expected whole features, or none"):
        run(config(features=str(shared), out=str(tmp_path / "other")))


@pytest.mark.parametrize(
    ("method", "size", "routing", "scale"),
    [("vanilla", 20, None, 56), ("msun", 20, None, 8), ("msun", 20, "ceil", 32), ("msun", 70, None, 56)],
)
def test_the_subnet_that_fits_serves(config, method, size, routing, scale):
    summary, _ = run(config(run=f"quick-{method}", size=size, routing=routing, epochs=1))
    assert (summary["scale"], summary["size"]) == (scale, size)
    assert summary["routing"] == (routing or "nearest")


@pytest.mark.parametrize("method", ["vanilla", "msun"])
def test_fine_tuning_trains_all_that_serves_and_nothing_else(config, method):
    summary, weights = run(config(run=f"quick-{method}", mode="finetune"))
    moved = changed(original(f"quick-{method}"), weights)
    still = weights.keys() - moved
    if method == "msun":
        assert {name.split(".")[1] for name in moved if name.startswith("subnets.")} == {"8"}
        assert {name.split(".")[1] for name in still} == {"32", "56"}
    else:
        assert not still
    model = MSUN.from_pretrained(config().out)
    served = [*model.subnets[str(summary["scale"])].parameters(), *model.unified.parameters()]
    assert summary["trained"] == sum(parameter.numel() for parameter in served)
    assert summary["params"] == sum(parameter.numel() for parameter in model.parameters())
    assert summary["steps"] == 4 * 3
    task = find_task(config())
    loader = eval_loader(task.data.val, 20, 1.0, 5, 0)
    again = measure(model, loader, [20], CPU, scales=[summary["scale"]])
    assert again[summary["scale"]][20] == pytest.approx(summary["top1"], abs=0.01)


def test_a_fine_tuning_that_was_stopped_goes_on_bit_for_bit(config, tmp_path, monkeypatch, capsys):
    whole, expected = run(config(mode="finetune", out=str(tmp_path / "whole")))
    real, count = Trainer.take_step, [0]

    def stopped(*args):
        real(*args)
        count[0] += 1
        if count[0] == 5:  # in the middle of the second epoch
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Trainer, "take_step", stopped)
    folder = transfer.transfer(config(mode="finetune"))
    assert not (folder / "summary.json").exists()
    assert f"go on with: python -m msun_lite.transfer --out {folder} --resume" in capsys.readouterr().out
    assert main(["--out", str(folder), "--resume"]) == 0
    assert "going on at step 5, epoch 2 of 4" in capsys.readouterr().out
    assert count[0] == 4 * 3
    assert not changed(expected, load_file(folder / "model.safetensors"))
    assert json.loads((folder / "summary.json").read_text())["top1"] == whole["top1"]
    assert main(["--out", str(folder), "--resume"]) == 0
    assert "finished already" in capsys.readouterr().out


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_probe_that_was_stopped_goes_on_with_its_features(config, tmp_path, monkeypatch, stop, code):
    _, expected = run(config(out=str(tmp_path / "whole")))
    monkeypatch.setattr(transfer, "fit", lambda *args: os.kill(os.getpid(), stop))
    options = config()
    words = [options.run, "--dataset", options.dataset, "--size", "20", "--epochs", "4", "--warmup_epochs", "1"]
    words += ["--batch_size", "4", "--device", "cpu", "--precision", "fp32", "--out", options.out]
    assert main(words) == code
    monkeypatch.setattr(transfer, "fit", fit)
    monkeypatch.setattr(transfer, "compute", None)
    assert main(["--out", options.out, "--resume"]) == 0
    assert not changed(expected, load_file(tmp_path / "run" / "model.safetensors"))
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize("mode", ["linear", "finetune"])
def test_its_own_config_and_its_command_repeat_a_run(config, mode, tmp_path):
    summary, weights = run(config(mode=mode, seed=3, crop_min=0.5))
    again = str(tmp_path / "again")
    assert main(["--config", str(tmp_path / "run" / "config.yaml"), "--out", again]) == 0
    assert not changed(weights, load_file(tmp_path / "again" / "model.safetensors"))
    words = summary["command"].split()
    assert words[:3] == ["python", "-m", "msun_lite.transfer"]
    assert main([*words[3:], "--device", "cpu", "--out", str(tmp_path / "third")]) == 0
    assert not changed(weights, load_file(tmp_path / "third" / "model.safetensors"))
    other = run(config(mode=mode, seed=4, crop_min=0.5, out=str(tmp_path / "other")))[1]
    assert changed(weights, other)


def test_the_defaults_are_the_papers_schedule():
    options = TransferConfig()
    assert (options.epochs, options.batch_size, options.lr) == (30, 64, 0.1)
    assert (options.momentum, options.weight_decay, options.warmup_epochs) == (0.9, 2e-5, 5.0)


def test_the_size_is_the_data_sets_own(config, photos, monkeypatch):
    for split in ("train", "val"):
        Image.new("RGB", (50, 90)).save(photos / split / "dog" / "large.png")
    assert find_task(config(size=None)).size == 20
    drawn = []
    monkeypatch.setattr(transfer, "load_data", drawn.append)
    assert find_task(config(size=None, dataset="scenes")).size == transfer.SCENES_SIZE
    assert find_task(config(size=24, dataset="scenes")).size == 24
    assert [(one.data, one.scales) for one in drawn] == [("scenes", [transfer.SCENES_SIZE])] * 2


def test_a_network_of_whole_networks_a_scale_trains_and_probes_the_one_that_serves(config, tiny):
    model = with_new_classifier(
        MSUN.from_backbone("resnet_lite", (8, 16), num_classes=3, unify="none"), ("a", "b"), "ceil"
    )
    assert [layer.out_features for layer in classifiers(model)] == [2, 2]
    assert serving_classifier(model, 8) is model.unified["8"].fc
    transfer._freeze_others(model, 8)
    trained = {name.split(".")[1] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"8"}
    data = load_data(tiny(scenes_train=10, scenes_val=10))
    features = compute(model, eval_loader(data.val, 12, 1.0, 5, 0), 8, CPU)
    assert features.views.shape == (1, 10, model.unified["8"].fc.in_features)
    assert 0 <= accuracy(serving_classifier(model, 8), dataclasses.replace(features, labels=features.labels % 2)) <= 100


def test_a_classifier_on_features_is_what_plain_sgd_gives(config):
    generator = torch.Generator().manual_seed(0)
    views = torch.randn(1, 6, 4, generator=generator)
    features = transfer.Features(views, torch.tensor([0, 1, 2, 0, 1, 2]), [])
    plan = config(epochs=3, batch_size=6, warmup_epochs=1.0, lr=0.2).training(8, 1.0)
    one, other = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)
    other.load_state_dict(one.state_dict())
    log = []
    fit(one, features, plan, log.append)
    optimizer = torch.optim.SGD(other.parameters(), 0.1, 0.9, weight_decay=2e-5)
    for row in log:  # one batch an epoch: their order plays no part
        optimizer.param_groups[0]["lr"] = row["lr"]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(other(views[0]), features.labels).backward()
        optimizer.step()
    torch.testing.assert_close(one.weight, other.weight)
    assert [row["lr"] for row in log] == pytest.approx([0.002, 0.2, 0.101])
    with pytest.raises(UserError, match="the loss is not finite in epoch 1; expected a lower --lr"):
        fit(one, dataclasses.replace(features, views=views * float("inf")), plan, log.append)


def test_unreadable_images_are_counted_in_training_and_refused_in_testing(config, photos, tmp_path):
    (photos / "train" / "cat" / "0.png").write_bytes(b"no image")
    summary, _ = run(config())
    assert len(summary["bad_images"]) == 1
    assert "0.png" in summary["bad_images"][0]
    with pytest.raises(UserError, match="1 unreadable image"):
        run(config(out=str(tmp_path / "strict"), max_bad_images=0))
    (photos / "val" / "cat" / "1.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"1 unreadable image\(s\) to evaluate.*1\.png"):
        run(config(out=str(tmp_path / "other")))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["quick-msun", "--dataset", "nowhere"], "dataset: expected one of cifar10, .*, got 'nowhere'"),
        (["quick-msun"], "dataset: expected a data set's name or folder, got none"),
        (["--dataset", "scenes"], "run: expected a run folder or shipped weights, got none"),
        (["nothing", "--dataset", "scenes"], "nothing: expected a run folder"),
        (["quick-msun", "quick-mst", "--dataset", "scenes"], "run: expected one run, or several finished ones"),
        (["quick-msun", "--dataset", "scenes", "--mode", "both"], "mode: expected one of linear, finetune"),
        (["quick-msun", "--dataset", "scenes", "--size", "0"], "size: expected more than 0, got 0"),
        (["quick-msun", "--dataset", "scenes", "--routing", "oracle"], "routing: expected one of nearest, ceil, ratio"),
        (["quick-msun", "--dataset", "scenes", "--epoch", "3"], "unknown option --epoch, did you mean --epochs"),
        (
            ["quick-msun", "--dataset", "pets"],
            "data/pets: no such data set here; put it there with: msun-lite data get_transfer pets",
        ),
        (["--table"], "expected finished transfers, found none"),
        (["quick-msun", "--table"], "quick-msun: expected a finished transfer, found no summary.json"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--device", "cpu"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(f"error: .*{message}", line), line
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_another_run_is_refused(config):
    run(config(epochs=1))
    with pytest.raises(UserError, match="holds a run already; add --resume"):
        run(config(epochs=1))
    with pytest.raises(UserError, match="cannot go on with another epochs: expected 1, got 2"):
        run(config(epochs=2, resume=True))
    with pytest.raises(UserError, match="expected a run to resume, found no config.yaml"):
        run(config(out=config().out + "-none", resume=True))


def test_a_config_that_was_damaged_is_named(config, tmp_path):
    run(config(epochs=1))
    path = tmp_path / "run" / "config.yaml"
    assert read_transfer_config(path).epochs == 1
    path.write_text(yaml.safe_dump({"run": "quick-msun", "dataset": "scenes", "epoch": 3}))
    with pytest.raises(UserError, match=r"config\.yaml: "):
        read_transfer_config(path)


def test_the_command_assembles_the_table_of_finished_runs(config, tmp_path, capsys):
    for method in ("vanilla", "msun"):
        run(config(run=f"quick-{method}", epochs=1, out=str(tmp_path / method)))
    capsys.readouterr()
    assert main([str(tmp_path / "vanilla"), str(tmp_path / "msun" / "summary.json"), "--table"]) == 0
    assert "photos, 20 px" in capsys.readouterr().out
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"other\.json: expected a transfer with run, found none in it"):
        read_records([tmp_path / "other.json"])


def test_shipped_networks_are_untouched_by_transfers(config):
    before = {path: path.stat().st_mtime_ns for path in SHIPPED.rglob("*")}
    run(config(epochs=1, mode="finetune"))
    assert before == {path: path.stat().st_mtime_ns for path in SHIPPED.rglob("*")}


def test_a_sized_image_is_what_every_network_gets(config):
    """At 20 px Vanilla sees a blurred image at its scale, not a sharp one."""
    model, task = MSUN.from_pretrained("quick-vanilla"), find_task(config())
    view = EvalView(task.data.val, 20, 1.0)
    images = to_float(torch.stack([view[i][0] for i in range(2)]), CPU, model.spec["normalisation"])
    features = compute(model, eval_loader(task.data.val, 20, 1.0, 2, 0), 56, CPU)
    with torch.no_grad():
        expected = model.unified(model.subnets["56"](resize(images, 56)))
        found = classifiers(model)[0](features.views[0, :2])
    torch.testing.assert_close(found, expected)


def test_what_the_cache_is_given_is_what_it_returns(tmp_path):
    features = transfer.Features(torch.rand(2, 3, 4), torch.arange(3), ["x.png: damaged"])
    calls = []
    for _ in range(2):
        found = cached(tmp_path / "f", {"split": "train", "size": 3}, lambda: calls.append(1) or features)
        assert torch.equal(found.views, features.views)
        assert (found.labels.tolist(), found.unreadable) == ([0, 1, 2], ["x.png: damaged"])
    assert len(calls) == 1
