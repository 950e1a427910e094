import contextlib
import importlib.util
import itertools
import json
import math
import shlex
import shutil
import sys
import types

import pytest
import torch
import yaml

from msun_lite import MSUN
from msun_lite.config import as_word, make_config, make_parser, read_config
from msun_lite.data.named import load_data
from msun_lite.evaluate.__main__ import main as measure_run
from msun_lite.evaluate.accuracy import evaluate_on
from msun_lite.networks.building import load_state
from msun_lite.results.run_folder import RunFolder
from msun_lite.train.__main__ import main
from msun_lite.train.batches import train_loader
from msun_lite.train.checkpoint import load_checkpoint
from msun_lite.train.run import train
from msun_lite.train.schedule import learning_rate
from msun_lite.train.start import make_model
from msun_lite.train.trainer import Trainer
from msun_lite.utils.cli import parse
from msun_lite.utils.errors import DataError, UserError
from tests.runs import same, weights


@pytest.mark.parametrize("method", ["vanilla", "mst", "msun"])
def test_a_run_leaves_the_files_the_design_names(tiny, method):
    config = tiny(method=method)
    folder = train(config)
    names = {"config.yaml", "metrics.jsonl", "checkpoint.pt", "model.safetensors", "model.json", "summary.json"}
    names |= {"metrics.csv", "curves.png", "curves.svg"}
    assert {path.name for path in folder.iterdir()} == names | {"checkpoints"}
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in metrics] == [1, 2]
    assert [row["step"] for row in metrics] == [4, 8]
    assert {"epoch", "step", "lr", "loss", "ce", "si", "kd", "seconds", "images_per_second"} <= set(metrics[0])
    assert (metrics[0]["si"] > 0) == (method == "msun")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["method"] == method
    assert summary["scales"] == [8, 16]
    assert list(summary["top1"]) == list(summary["flops"]) == ["8", "12", "16"]
    assert list(summary["per_subnet"]) == (["8", "16"] if method == "msun" else ["16"])
    assert summary["mean_top1"] == pytest.approx(sum(summary["top1"].values()) / 3, abs=0.01)
    assert summary["data"] == {
        "name": "scenes",
        "classes": 10,
        "train": 40,
        "val": 20,
        "fingerprint": summary["data"]["fingerprint"],
    }
    assert set(summary["env"]) >= {"python", "torch", "device", "commit"}
    assert yaml.safe_load((folder / "config.yaml").read_text())["method"] == method
    model = MSUN.from_pretrained(folder)
    assert summary["params"] == sum(parameter.numel() for parameter in model.parameters())


def test_the_number_of_workers_does_not_change_what_is_learnt(tiny, tmp_path):
    runs = [train(tiny(workers=workers, out=str(tmp_path / str(workers)))) for workers in (0, 2)]
    assert same(*map(weights, runs))


def test_config_yaml_repeats_a_run(tiny, tmp_path):
    folder = train(tiny())
    assert main(["--config", str(folder / "config.yaml"), "--out", str(tmp_path / "again")]) == 0
    assert same(weights(folder), weights(tmp_path / "again"))


def test_another_seed_gives_another_run(tiny, tmp_path):
    assert not same(weights(train(tiny())), weights(train(tiny(seed=1, out=str(tmp_path / "other")))))


def test_the_recorded_command_repeats_the_run(tiny, tmp_path):
    folder = train(tiny(epochs=1, flip=False))
    words = shlex.split(json.loads((folder / "summary.json").read_text())["command"])
    assert words[:3] == ["python", "-m", "msun_lite.train"]
    assert main([*words[3:], "--device", "cpu", "--out", str(tmp_path / "again")]) == 0
    assert same(weights(folder), weights(tmp_path / "again"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("lr_batch_size", None), ("joint", True), ("lr", 0.5), ("data_root", "x y"), ("sizes", [8, 16])],
)
def test_an_options_value_is_written_as_the_command_line_takes_it(name, value):
    options = parse(make_parser("test", ""), ["--preset", "imagenet", f"--{name}", as_word(value)])
    assert options[name] == value
    assert value != getattr(make_config("imagenet"), name)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tiny):
    config = tiny(lr=1e30)
    with pytest.raises(UserError, match="not finite"):
        train(config)
    state = torch.load(f"{config.out}/checkpoint.pt", weights_only=True)
    assert all(torch.isfinite(tensor).all() for tensor in state["model"].values())


def test_too_large_a_batch_is_refused_before_the_folder_is_made(tiny, tmp_path):
    with pytest.raises(UserError, match="batch_size: expected at most the 40"):
        train(tiny(batch_size=50))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [({"weights": "nope"}, "nope"), ({"arch": "vgg16_bn", "blocks": 3, "scales": [1, 8], "sizes": [8]}, "scales")],
)
def test_a_network_that_cannot_be_made_is_refused_before_the_data_is_touched(tiny, tmp_path, options, named):
    with pytest.raises(UserError, match=named):
        train(tiny(data=str(tmp_path / "not there"), **options))


def test_unreadable_images_are_named_in_the_summary(photos, tiny):
    (photos / "train" / "cat" / "0.png").write_bytes(b"")
    folder = train(tiny(data=str(photos), batch_size=5))
    summary = json.loads((folder / "summary.json").read_text())
    assert len(summary["bad_images"]) == 1
    assert "0.png" in summary["bad_images"][0]
    assert summary["data"]["train"] == 11


def test_the_learning_rate_warms_up_and_follows_a_cosine(tiny):
    config = tiny(lr=1.0, epochs=10, warmup_epochs=2)
    rates = [learning_rate(step, 100, config) for step in (0, 100, 200, 600, 1000)]
    assert rates == pytest.approx([0.01, 0.505, 1.0, 0.505, 0.01])


@pytest.mark.parametrize(
    "options",
    [
        {"constraint": "sum"},
        {"constraint": "none"},
        {"constraint": "weight"},
        {"constraint": "pair", "method": "mst"},
        {"unify": "none"},
        {"joint": True},
        {"precision": "bf16", "scales": [8, 32]},
        {"precision": "fp16"},
        {"random_sizes": True},
        {"random_sizes": True, "method": "mst"},
        {"routing": "ratio"},
        {"accumulate": 5},
        {"ema": 0.9},
        {"lr_batch_size": 5},
    ],
)
def test_every_way_of_training_runs(tiny, options):
    summary = json.loads((train(tiny(**options, epochs=1)) / "summary.json").read_text())
    assert f"--{next(iter(options))}" in summary["command"]


def test_a_moving_average_of_the_weights_is_what_is_measured_and_goes_on_exactly(tiny, stop_after, tmp_path):
    plain = train(tiny(out=str(tmp_path / "plain")))
    whole = train(tiny(out=str(tmp_path / "whole"), ema=0.5))
    stop_after(5)
    folder = train(tiny(ema=0.5))
    stop_after(1000)
    train(tiny(ema=0.5, resume=True))
    assert same(weights(whole), weights(folder))
    assert not same(weights(whole), weights(plain))
    last = load_checkpoint(whole / "checkpoint.pt")
    assert same(last["model"], load_checkpoint(plain / "checkpoint.pt")["model"])  # training itself is the same
    bare = MSUN.from_spec(json.loads((whole / "model.json").read_text()))
    load_state(bare, last["model"], whole)
    average = {name.removeprefix("module."): value for name, value in last["average"].items() if name != "n_averaged"}
    load_state(bare, average, whole)


def test_the_average_is_the_exponential_one_its_decay_warmed_up(tiny):
    config = tiny(ema=0.25)
    trainer = Trainer(config, load_data(config), make_model(config, list("abcdefghij")), RunFolder(config.out))
    name, weight = next(iter(trainer.state.model.named_parameters()))
    expected = []
    for number, part in enumerate(train_loader(trainer.view, config, 0)):
        trainer.take_step([part], len(part.labels))
        decay = 2 / 11 if number == 1 else 0.25  # 3 / 12 and more from the second update on
        expected = weight.detach().clone() if number == 0 else decay * expected + (1 - decay) * weight.detach()
    assert torch.allclose(dict(trainer.state.average.module.named_parameters())[name], expected, atol=1e-7)


def test_accumulated_batches_give_the_gradients_of_the_whole_batch(tiny):
    gradients = {}
    for accumulate in (1, 5):
        config = tiny(accumulate=accumulate)
        torch.manual_seed(0)
        trainer = Trainer(config, load_data(config), make_model(config, list("abcdefghij")), RunFolder(config.out))
        trainer.state.model.eval()  # BatchNorm's own statistics: of 2 images they differ from those of 10
        parts = list(itertools.islice(train_loader(trainer.view, config, 0), accumulate))
        trainer.take_step(parts, 10)
        gradients[accumulate] = {name: weight.grad for name, weight in trainer.state.model.named_parameters()}
    for name, gradient in gradients[1].items():
        assert torch.allclose(gradient, gradients[5][name], atol=1e-6), name


def test_the_learning_rate_is_scaled_from_the_batch_it_is_meant_for(tiny):
    assert tiny(lr=0.1, batch_size=40, lr_batch_size=10).peak_lr == pytest.approx(0.4)
    assert tiny(lr=0.1, batch_size=40).peak_lr == 0.1


@pytest.mark.parametrize("options", [{"accumulate": 3}, {"accumulate": 10}])
def test_a_batch_that_cannot_be_shared_out_is_refused(tiny, options, tmp_path):
    with pytest.raises(UserError, match="batch_size: expected a multiple of 1 process"):
        train(tiny(**options))
    assert not (tmp_path / "run").exists()


def test_the_best_model_is_kept_and_its_accuracy_logged(tiny, monkeypatch):
    means = iter([30.0, 50.0, 40.0, 40.0])
    real = evaluate_on
    monkeypatch.setattr("msun_lite.train.trainer.evaluate_on", lambda *args: {**real(*args), "mean_top1": next(means)})
    folder = train(tiny(epochs=3, eval_epochs=1))
    rows = RunFolder(folder).read_metrics()
    assert [row["mean_top1"] for row in rows] == [30.0, 50.0, 40.0]
    assert list(rows[0]["top1"]) == ["8", "12", "16"]
    assert json.loads((folder / "summary.json").read_text())["best"] == {"epoch": 2, "mean_top1": 50.0}
    best = MSUN.from_pretrained(folder / "best").state_dict()
    assert not same(best, weights(folder))
    assert measure_run([str(folder / "best")]) == 0


def test_weights_that_are_not_finite_are_never_saved(tiny, monkeypatch):
    real = Trainer.take_step

    def poison(self, *args):
        real(self, *args)
        if self.state.step == 2:
            next(self.state.model.parameters()).data[0] = math.inf

    monkeypatch.setattr(Trainer, "take_step", poison)
    config = tiny(checkpoint_minutes=1e-9)
    with pytest.raises(UserError, match="not finite"):
        train(config)
    state = load_checkpoint(RunFolder(config.out).checkpoint)
    assert state["step"] == 2
    assert all(value.isfinite().all() for value in state["model"].values())


def test_bf16_is_not_used_on_a_cpu_where_its_gradients_are_unset(tiny, monkeypatch, capsys):
    """The largest map before the last stage is 1 x 1 at 16 px, and 2 x 2 at 32 px."""
    monkeypatch.setattr("msun_lite.utils.precision._cpu_has_bf16", lambda: True)
    train(tiny(precision="auto", epochs=1))
    assert "trains in fp32" in capsys.readouterr().out
    with pytest.raises(UserError, match="precision: expected fp32"):
        train(tiny(precision="bf16", out="other"))
    wide = {"scales": [8, 32], "out": tiny().out + "-wide", "epochs": 1}
    folder = train(tiny(precision="auto", **wide))
    assert json.loads((folder / "summary.json").read_text())["env"]["precision"] == "bf16"


def test_too_little_disk_is_refused_before_the_first_step(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 2**20))
    with pytest.raises(UserError, match=r"expected \d+ MiB of free disk, got 1"):
        train(tiny())
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_compiled_run_leaves_weights_that_fit_the_bare_model(tiny, monkeypatch):
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: compile_(function, backend="aot_eager"))
    folder = train(tiny(compile=True, random_sizes=True, epochs=1))
    bare = MSUN.from_spec(json.loads((folder / "model.json").read_text()))
    load_state(bare, load_checkpoint(folder / "checkpoint.pt")["model"], folder)
    assert MSUN.from_pretrained(folder)(torch.rand(1, 3, 8, 8)).shape == (1, 10)


def test_metrics_go_to_tensorboard_by_the_same_names(tiny):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = train(tiny(tensorboard=True, eval_epochs=2))
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    rows = RunFolder(folder).read_metrics()
    assert {"loss", "ce", "si", "lr", "images_per_second", "data_wait", "top1/8"} <= set(events.Tags()["scalars"])
    logged = [(event.step, event.value) for event in events.Scalars("loss")]
    assert logged == [(row["step"], pytest.approx(row["loss"])) for row in rows]


def test_metrics_go_to_weights_and_biases_as_one_run_that_goes_on(tiny, stop_after, monkeypatch):
    runs = []

    class Run(contextlib.AbstractContextManager):
        def __init__(self, **options):
            self.options, self.rows = options, []
            runs.append(self)

        def log(self, row, step):
            self.rows.append((step, row))

        def __exit__(self, *exception):
            self.closed = True

    module = types.SimpleNamespace(init=Run, util=types.SimpleNamespace(generate_id=lambda: "abc"))
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    stop_after(6)
    train(tiny(wandb="scales"))
    stop_after(1000)
    train(tiny(wandb="scales", resume=True))
    assert [run.options["id"] for run in runs] == ["abc", "abc"]
    assert [run.options["project"] for run in runs] == ["scales", "scales"]
    assert [step for run in runs for step, _ in run.rows] == [4, 8]
    assert "loss" in runs[0].rows[0][1]
    assert all(run.closed for run in runs)


@pytest.mark.parametrize(("options", "name"), [({"tensorboard": True}, "tensorboard"), ({"wandb": "x"}, "wandb")])
def test_a_missing_logger_is_named_before_any_work(tiny, monkeypatch, options, name, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"{name}: expected the package {name}"):
        train(tiny(**options))
    assert not (tmp_path / "run").exists()


def test_a_logged_run_is_read_and_goes_on_where_its_logger_is_missing(tiny, stop_after, monkeypatch, capsys):
    stop_after(2)
    folder = train(tiny(tensorboard=True))
    stop_after(1000)
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *more: None if name == "tensorboard" else real(name, *more)
    )
    assert read_config(folder / "config.yaml").tensorboard
    words = ["--out", str(folder), "--resume"]
    assert main(words) == 2
    assert "tensorboard: expected the package tensorboard" in capsys.readouterr().err
    assert main([*words, "--tensorboard", "false"]) == 0
    assert measure_run([str(folder), "--device", "cpu"]) == 0


def test_an_unreadable_validation_image_is_found_before_the_training_and_the_run_starts_once_it_is_mended(photos, tiny):
    path = photos / "val" / "cat" / "0.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    config = tiny(data=str(photos), cache=False, batch_size=6, epochs=1)
    with pytest.raises(DataError, match=r"1 unreadable image\(s\) to evaluate, expected none: .*0\.png"):
        train(config)
    assert not RunFolder(config.out).path.exists()
    path.write_bytes(whole)
    assert (train(config) / "summary.json").exists()
