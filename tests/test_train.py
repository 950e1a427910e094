import contextlib
import itertools
import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import types

import pytest
import torch
import yaml
from safetensors.torch import load_file

from msun_lite import MSUN
from msun_lite.checkpoint import load_checkpoint
from msun_lite.data import load_data
from msun_lite.engine import Trainer, learning_rate
from msun_lite.errors import CheckpointError, UserError
from msun_lite.evaluate import evaluate_on
from msun_lite.evaluate import main as measure_run
from msun_lite.loaders import train_loader
from msun_lite.methods import make_model
from msun_lite.model import load_state
from msun_lite.records import RunFolder
from msun_lite.stopping import StopRequest
from msun_lite.train import main, train


def weights(folder):
    return load_file(folder / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def stop_after(monkeypatch):
    """Return a function that makes the next training stop cleanly after so many steps, as a time limit does."""

    def patch(steps):
        real = Trainer._step
        state = {"steps": 0}

        def counted(*args):
            real(*args)
            state["steps"] += 1

        monkeypatch.setattr(Trainer, "_step", counted)
        monkeypatch.setattr(StopRequest, "out_of_time", property(lambda self: state["steps"] >= steps))

    yield patch
    monkeypatch.undo()


@pytest.mark.parametrize("method", ["vanilla", "mst", "msun"])
def test_a_run_leaves_the_files_the_design_names(tiny, method):
    config = tiny(method=method)
    folder = train(config)
    names = {"config.yaml", "metrics.jsonl", "checkpoint.pt", "model.safetensors", "model.json", "summary.json"}
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


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("steps", [2, 4, 7])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(tiny, stop_after, tmp_path, workers, steps):
    options = {"workers": workers, "random_sizes": True}
    whole = train(tiny(out=str(tmp_path / "whole"), **options))
    stop_after(steps)
    folder = train(tiny(**options))
    assert not (folder / "summary.json").exists()
    stop_after(1000)
    torch.rand(5)
    train(tiny(**options, resume=True))
    assert same(weights(whole), weights(folder))
    rows = [RunFolder(path).read_metrics() for path in (whole, folder)]
    for a, b in zip(*rows, strict=True):
        assert {k: a[k] for k in ("epoch", "step", "lr", "loss", "ce", "si")} == {
            k: b[k] for k in ("epoch", "step", "lr", "loss", "ce", "si")
        }
    summaries = [json.loads((path / "summary.json").read_text()) for path in (whole, folder)]
    assert summaries[0]["top1"] == summaries[1]["top1"]


def test_the_number_of_workers_does_not_change_what_is_learnt(tiny, tmp_path):
    runs = [train(tiny(workers=workers, out=str(tmp_path / str(workers)))) for workers in (0, 2)]
    assert same(*map(weights, runs))


def test_config_yaml_repeats_a_run(tiny, tmp_path):
    folder = train(tiny())
    assert main(["--config", str(folder / "config.yaml"), "--out", str(tmp_path / "again")]) == 0
    assert same(weights(folder), weights(tmp_path / "again"))


def test_another_seed_gives_another_run(tiny, tmp_path):
    assert not same(weights(train(tiny())), weights(train(tiny(seed=1, out=str(tmp_path / "other")))))


def test_max_minutes_stops_with_everything_saved(tiny, capsys):
    folder = train(tiny(max_minutes=1e-6))
    assert "go on with" in capsys.readouterr().out
    assert (folder / "checkpoint.pt").exists()
    assert not (folder / "summary.json").exists()
    assert main(["--out", str(folder), "--resume"]) == 0
    assert (folder / "summary.json").exists()


def test_ctrl_c_stops_cleanly_and_the_run_can_go_on(tiny, tmp_path):
    folder = tmp_path / "run"
    config = tmp_path / "options.yaml"
    options = "scales: [8, 16]\nsizes: [8, 16]\nscenes_train: 40\nscenes_val: 10\nbatch_size: 10\nworkers: 2\n"
    config.write_text(f"{options}epochs: 5000\nout: {folder}\n")
    command = [sys.executable, "-m", "msun_lite.train", "--config", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    while not (folder / "metrics.jsonl").exists():
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the loader's workers as well
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors.decode()
    assert b"everything saved" in output
    assert b"Traceback" not in errors
    epochs = torch.load(folder / "checkpoint.pt", weights_only=True)["epoch"]
    assert epochs >= 1
    assert main(["--out", str(folder), "--resume", "--max_minutes", "0.02"]) == 0
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["epoch"] > epochs


def test_a_folder_with_a_run_is_not_overwritten(tiny):
    folder = train(tiny())
    before = weights(folder)
    with pytest.raises(UserError, match="holds a run already"):
        train(tiny(seed=5))
    assert same(before, weights(folder))


def test_a_run_begun_before_an_option_existed_goes_on_with_its_default(tiny, stop_after):
    stop_after(2)
    folder = train(tiny())
    stored = yaml.safe_load((folder / "config.yaml").read_text())
    del stored["random_sizes"]
    (folder / "config.yaml").write_text(yaml.safe_dump(stored))
    stop_after(1000)
    assert (train(tiny(resume=True)) / "summary.json").exists()


def test_resuming_with_other_options_names_the_option(tiny):
    train(tiny(max_minutes=1e-6))
    with pytest.raises(UserError, match=r"another lr: expected 0\.1, got 0\.2"):
        train(tiny(lr=0.2, resume=True))


@pytest.mark.parametrize("change", ["added", "unreadable"])
def test_resuming_on_other_images_is_refused(photos, tiny, change):
    train(tiny(data=str(photos), batch_size=5, max_minutes=1e-6))
    if change == "added":
        shutil.copy(photos / "train" / "cat" / "0.png", photos / "train" / "cat" / "new.png")
    else:
        (photos / "train" / "cat" / "0.png").write_bytes(b"")
    with pytest.raises(CheckpointError, match="another data"):
        train(tiny(data=str(photos), batch_size=5, resume=True))


def test_a_stored_configuration_that_was_damaged_is_named(tiny, capsys):
    folder = train(tiny(max_minutes=1e-6))
    text = (folder / "config.yaml").read_text()
    for line, message in (("epocs: 3", "did you mean epochs?"), ("epochs: three", "epochs: expected int, got 'three'")):
        (folder / "config.yaml").write_text(text.replace("epochs: 2", line))
        assert main(["--out", str(folder), "--resume"]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith(f"error: {folder / 'config.yaml'}")
        assert error.endswith(message)


def test_the_recorded_command_repeats_the_run(tiny, tmp_path):
    folder = train(tiny(epochs=1, flip=False))
    words = shlex.split(json.loads((folder / "summary.json").read_text())["command"])
    assert words[:3] == ["python", "-m", "msun_lite.train"]
    assert main([*words[3:], "--device", "cpu", "--out", str(tmp_path / "again")]) == 0
    assert same(weights(folder), weights(tmp_path / "again"))


def test_what_a_kill_left_half_written_is_cleared(tiny):
    folder = train(tiny(max_minutes=1e-6))
    (folder / ".checkpoint.pt.part-abc").write_bytes(b"half")
    train(tiny(resume=True))
    assert not list(folder.glob(".*"))


def test_a_finished_run_is_not_trained_again(tiny, capsys):
    folder = train(tiny())
    before = (folder / "summary.json").stat().st_mtime_ns
    train(tiny(resume=True))
    assert "finished already" in capsys.readouterr().out
    assert (folder / "summary.json").stat().st_mtime_ns == before


def test_a_checkpoint_of_another_architecture_is_refused(tiny, tmp_path):
    folder = train(tiny(max_minutes=1e-6))
    other = train(tiny(max_minutes=1e-6, method="vanilla", out=str(tmp_path / "other")))
    shutil.copy(other / "checkpoint.pt", folder / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="made for another model"):
        train(tiny(resume=True))


def test_a_damaged_checkpoint_is_said_and_the_one_before_it_gives_the_same_run(tiny, stop_after, tmp_path, capsys):
    whole = train(tiny(out=str(tmp_path / "whole")))
    stop_after(6)
    folder = train(tiny())
    (folder / "checkpoint.pt").write_bytes((folder / "checkpoint.pt").read_bytes()[:2000])
    stop_after(1000)
    train(tiny(resume=True))
    assert "checkpoint.pt: refused" in capsys.readouterr().out
    assert same(weights(whole), weights(folder))


def test_a_run_that_lost_its_checkpoints_does_not_start_anew(tiny, stop_after):
    stop_after(6)
    folder = train(tiny())
    before = (folder / "metrics.jsonl").read_text()
    (folder / "checkpoint.pt").unlink()
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(CheckpointError, match="no such checkpoint, but 1 epochs"):
        train(tiny(resume=True))
    assert (folder / "metrics.jsonl").read_text() == before


def test_a_line_cut_short_by_a_kill_is_written_anew(tiny, stop_after):
    stop_after(6)
    folder = train(tiny())
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "st')
    stop_after(1000)
    train(tiny(resume=True))
    assert [row["epoch"] for row in RunFolder(folder).read_metrics()] == [1, 2]


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


def test_a_signal_from_the_scheduler_stops_cleanly_with_exit_code_0(tiny, tmp_path, stop_after, capsys):
    folder = tmp_path / "run"
    for name in ("SIGTERM", "SIGUSR1"):
        sent = []
        real = Trainer._step

        def step(*args, name=name, sent=sent, real=real):
            real(*args)
            if len(sent) < 3:
                sent.append(os.kill(os.getpid(), getattr(signal, name)))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "_step", step)
            assert train(tiny(resume=folder.exists())) == folder
        assert "everything saved; go on with" in capsys.readouterr().out
    assert load_checkpoint(folder / "checkpoint.pt")["step"] == 2
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_in_the_last_step_stops_before_the_measurement(tiny, monkeypatch, capsys):
    real = Trainer._step

    def step(self, *args):
        real(self, *args)
        if self.step == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", step)
        folder = train(tiny())
    assert "stopped after step 8 of 8, everything saved" in capsys.readouterr().out
    assert not (folder / "summary.json").exists()
    train(tiny(resume=True))
    assert (folder / "summary.json").exists()


def test_a_signal_during_the_measurement_loses_nothing(tiny, tmp_path, monkeypatch, capsys):
    whole = train(tiny(out=str(tmp_path / "whole")))

    def preempted(*args):
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr("msun_lite.train.evaluate_on", preempted)
        folder = train(tiny())
    assert not (folder / "summary.json").exists()
    assert f"stopped by signal {signal.SIGTERM.value}; go on with" in capsys.readouterr().out
    train(tiny(resume=True))
    summaries = [json.loads((path / "summary.json").read_text()) for path in (whole, folder)]
    assert summaries[0]["top1"] == summaries[1]["top1"]


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


def test_the_average_is_the_exponential_one(tiny):
    config = tiny(ema=0.75)
    trainer = Trainer(config, load_data(config), make_model(config, list("abcdefghij")), RunFolder(config.out))
    name, weight = next(iter(trainer.model.named_parameters()))
    expected = []
    for number, part in enumerate(train_loader(trainer.view, config, 0)):
        trainer._step([part], len(part.labels))
        expected = weight.detach().clone() if number == 0 else 0.75 * expected + 0.25 * weight.detach()
    assert torch.allclose(dict(trainer.average.module.named_parameters())[name], expected, atol=1e-7)


def test_accumulated_batches_give_the_gradients_of_the_whole_batch(tiny):
    gradients = {}
    for accumulate in (1, 5):
        config = tiny(accumulate=accumulate)
        torch.manual_seed(0)
        trainer = Trainer(config, load_data(config), make_model(config, list("abcdefghij")), RunFolder(config.out))
        trainer.model.eval()  # BatchNorm's own statistics: of 2 images they differ from those of 10
        parts = list(itertools.islice(train_loader(trainer.view, config, 0), accumulate))
        trainer._step(parts, 10)
        gradients[accumulate] = {name: weight.grad for name, weight in trainer.model.named_parameters()}
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
    monkeypatch.setattr("msun_lite.engine.evaluate_on", lambda *args: {**real(*args), "mean_top1": next(means)})
    folder = train(tiny(epochs=3, eval_epochs=1))
    rows = RunFolder(folder).read_metrics()
    assert [row["mean_top1"] for row in rows] == [30.0, 50.0, 40.0]
    assert list(rows[0]["top1"]) == ["8", "12", "16"]
    assert json.loads((folder / "summary.json").read_text())["best"] == {"epoch": 2, "mean_top1": 50.0}
    best = MSUN.from_pretrained(folder / "best").state_dict()
    assert not same(best, weights(folder))
    assert measure_run([str(folder / "best")]) == 0


@pytest.mark.parametrize("epochs", [2, 3])
def test_a_signal_while_an_epoch_is_measured_stops_at_once_and_the_run_goes_on_with_measuring(tiny, tmp_path, epochs):
    options = {"epochs": epochs, "eval_epochs": 2}
    whole = train(tiny(out=str(tmp_path / "whole"), **options))
    calls = []

    def preempted(*args):
        calls.append("measured")
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("msun_lite.engine.evaluate_on", preempted)
        folder = train(tiny(**options))
    assert len(calls) == 1
    assert load_checkpoint(folder / "checkpoint.pt")["step"] == 8
    assert len(RunFolder(folder).read_metrics()) == 1
    train(tiny(resume=True, **options))
    assert same(weights(whole), weights(folder))
    rows = [RunFolder(path).read_metrics() for path in (whole, folder)]
    assert [(row["epoch"], row.get("top1")) for row in rows[0]] == [(row["epoch"], row.get("top1")) for row in rows[1]]
    assert len(rows[0]) == epochs


def test_weights_that_are_not_finite_are_never_saved(tiny, monkeypatch):
    real = Trainer._step

    def poison(self, *args):
        real(self, *args)
        if self.step == 2:
            next(self.model.parameters()).data[0] = math.inf

    monkeypatch.setattr(Trainer, "_step", poison)
    config = tiny(checkpoint_minutes=1e-9)
    with pytest.raises(UserError, match="not finite"):
        train(config)
    state = load_checkpoint(RunFolder(config.out).checkpoint)
    assert state["step"] == 2
    assert all(value.isfinite().all() for value in state["model"].values())


def test_bf16_is_not_used_on_a_cpu_where_its_gradients_are_unset(tiny, monkeypatch, capsys):
    """The largest map before the last stage is 1 x 1 at 16 px, and 2 x 2 at 32 px."""
    monkeypatch.setattr("msun_lite.devices._cpu_has_bf16", lambda: True)
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
