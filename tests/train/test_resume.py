import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from msun_lite.results.run_folder import RunFolder
from msun_lite.train.__main__ import main
from msun_lite.train.checkpoint import load_checkpoint
from msun_lite.train.run import train
from msun_lite.train.schedule import learning_rate
from msun_lite.train.trainer import Trainer
from msun_lite.transfer.__main__ import main as transfer
from msun_lite.utils.errors import CheckpointError, UserError
from tests.conftest import TINY
from tests.runs import same, weights


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


WIDE = {"scales": [8, 32], "precision": "auto"}
"""Options of a run that can be trained in bf16 on a CPU, as its last stage sees more than one pixel."""


@pytest.mark.parametrize(("had", "has", "precision"), [(False, True, "fp32"), (True, False, "bf16")])
def test_a_run_goes_on_in_its_own_precision_on_another_machine(
    tiny, stop_after, tmp_path, monkeypatch, capsys, had, has, precision
):
    monkeypatch.setattr("msun_lite.utils.precision._cpu_has_bf16", lambda: had)
    whole = train(tiny(out=str(tmp_path / "whole"), **WIDE))
    stop_after(5)
    folder = train(tiny(**WIDE))
    stop_after(1000)
    monkeypatch.setattr("msun_lite.utils.precision._cpu_has_bf16", lambda: has)
    train(tiny(**WIDE, resume=True))
    assert f"goes on in {precision}, as it began" in capsys.readouterr().out
    assert same(weights(whole), weights(folder))
    assert json.loads((folder / "summary.json").read_text())["env"]["precision"] == precision


@pytest.mark.parametrize(
    ("options", "begun", "message"),
    [
        ({"precision": "auto"}, "bf16", "another precision: expected bf16, got fp32"),  # not on a CPU: maps of 1 x 1
        ({"precision": "fp32"}, "bf16", "another precision: expected bf16, got fp32"),
        (WIDE, "fp8", "another precision: expected fp8, got fp32"),
    ],
)
def test_a_precision_that_was_not_asked_for_or_cannot_be_had_is_refused(tiny, monkeypatch, options, begun, message):
    monkeypatch.setattr("msun_lite.utils.precision._cpu_has_bf16", lambda: False)
    folder = train(tiny(max_minutes=1e-6, **options))
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    torch.save(state | {"precision": begun}, folder / "checkpoint.pt")
    with pytest.raises(CheckpointError, match=message):
        train(tiny(**options, resume=True))


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": {}}, "KeyError: 'param_groups'"),
        ({"optimizer": {"state": {}, "param_groups": []}}, "ValueError: loaded state dict"),
        ({"optimizer": {"state": {}, "param_groups": [{"params": [0]}]}}, "ValueError: loaded state dict"),
        ({"epoch": "x"}, "ValueError: epoch 'x'"),
        ({"epoch": 9}, "ValueError: step 0, epoch 9 of 2, batch 0 of 4"),
        ({"batch": 99}, "ValueError: step 0, epoch 0 of 2, batch 99 of 4"),
        ({"row": [1]}, "ValueError: row [1]"),
        ({"sums": torch.zeros(3)}, "RuntimeError: "),
        ({"bad_images": None}, "TypeError: "),
        ({"model": 3}, "AttributeError: "),
        ({"step": None}, "got something else"),
    ],
)
def test_a_checkpoint_that_loads_but_is_no_runs_is_refused_and_nothing_is_lost(tiny, change, message):
    folder = train(tiny(max_minutes=1e-6))
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    torch.save(state | {"step": 0, "batch": 0} | change, folder / "checkpoint.pt")
    (folder / "metrics.jsonl").write_text('{"epoch": 1}\n')
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(CheckpointError) as refused:
        train(tiny(resume=True))
    assert str(refused.value).startswith(f"{folder / 'checkpoint.pt'}: expected a checkpoint of ")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


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


def test_a_signal_from_the_scheduler_stops_cleanly_with_exit_code_0(tiny, tmp_path, stop_after, capsys):
    folder = tmp_path / "run"
    for name in ("SIGTERM", "SIGUSR1"):
        sent = []
        real = Trainer.take_step

        def step(*args, name=name, sent=sent, real=real):
            real(*args)
            if len(sent) < 3:
                sent.append(os.kill(os.getpid(), getattr(signal, name)))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "take_step", step)
            assert train(tiny(resume=folder.exists())) == folder
        assert "everything saved; go on with" in capsys.readouterr().out
    assert load_checkpoint(folder / "checkpoint.pt")["step"] == 2
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_in_the_last_step_stops_before_the_measurement(tiny, monkeypatch, capsys):
    real = Trainer.take_step

    def step(self, *args):
        real(self, *args)
        if self.state.step == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "take_step", step)
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
        patch.setattr("msun_lite.train.run.evaluate_on", preempted)
        folder = train(tiny())
    assert not (folder / "summary.json").exists()
    assert f"stopped by signal {signal.SIGTERM.value}; go on with" in capsys.readouterr().out
    train(tiny(resume=True))
    summaries = [json.loads((path / "summary.json").read_text()) for path in (whole, folder)]
    assert summaries[0]["top1"] == summaries[1]["top1"]


@pytest.mark.parametrize("epochs", [2, 3])
def test_a_signal_while_an_epoch_is_measured_stops_at_once_and_the_run_goes_on_with_measuring(tiny, tmp_path, epochs):
    options = {"epochs": epochs, "eval_epochs": 2}
    whole = train(tiny(out=str(tmp_path / "whole"), **options))
    calls = []

    def preempted(*args):
        calls.append("measured")
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("msun_lite.train.trainer.evaluate_on", preempted)
        folder = train(tiny(**options))
    assert len(calls) == 1
    assert load_checkpoint(folder / "checkpoint.pt")["step"] == 8
    assert len(RunFolder(folder).read_metrics()) == 1
    train(tiny(resume=True, **options))
    assert same(weights(whole), weights(folder))
    rows = [RunFolder(path).read_metrics() for path in (whole, folder)]
    assert [(row["epoch"], row.get("top1")) for row in rows[0]] == [(row["epoch"], row.get("top1")) for row in rows[1]]
    assert len(rows[0]) == epochs


def test_one_command_begins_a_run_and_goes_on_with_it(tiny, stop_after, tmp_path, capsys):
    whole = train(tiny(out=str(tmp_path / "whole")))
    (tmp_path / "options.yaml").write_text(yaml.safe_dump({**TINY, "out": tiny().out}))
    line = ["--config", str(tmp_path / "options.yaml"), "--resume", "auto"]
    stop_after(3)
    assert main(line) == 0
    assert "no run there yet, begins one" in capsys.readouterr().out
    stop_after(1000)
    assert main(line) == 0
    output = capsys.readouterr().out
    assert "goes on with the run there" in output
    assert "going on at step 3" in output
    assert same(weights(whole), weights(Path(tiny().out)))
    assert main(line) == 0
    assert "finished already" in capsys.readouterr().out


@pytest.mark.parametrize("moved", [True, False])
def test_a_run_goes_on_with_a_copy_of_its_images_and_with_no_others(photos, tiny, stop_after, tmp_path, capsys, moved):
    options = {"data": str(photos), "batch_size": 5}
    whole = train(tiny(out=str(tmp_path / "whole"), **options))
    stop_after(3)
    folder = train(tiny(**options))
    stop_after(1000)
    copy = tmp_path / "scratch" / "job-2"
    shutil.copytree(photos, copy)
    if moved:
        shutil.rmtree(photos)
        assert main(["--out", str(folder), "--resume", "--data", str(copy)]) == 0
        assert f"the images in {copy} are those of {photos}" in capsys.readouterr().out
        assert same(weights(whole), weights(folder))
        assert yaml.safe_load((folder / "config.yaml").read_text())["data"] == str(copy)
    else:
        (copy / "train" / "cat" / "0.png").write_bytes((copy / "train" / "cat" / "1.png").read_bytes() + b" ")
        assert main(["--out", str(folder), "--resume", "--data", str(copy)]) == 2
        assert "another data" in capsys.readouterr().err
        assert yaml.safe_load((folder / "config.yaml").read_text())["data"] == str(photos)


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_can_be_lengthened_and_its_record_says_so(tiny, tmp_path, capsys, stop_after, finished):
    options = {"epochs": 2, "warmup_epochs": 0}
    if not finished:
        stop_after(3)
    folder = train(tiny(**options))
    before = RunFolder(folder)
    steps = torch.load(before.checkpoint, weights_only=True)["step"]
    stop_after(1000)
    assert main(["--out", str(folder), "--resume", "--epochs", "1"]) == 2
    assert "epochs: a run can be lengthened, not shortened: expected at least 2, got 1" in capsys.readouterr().err
    assert main(["--out", str(folder), "--resume", "--epochs", "4"]) == 0
    assert "4 epochs rather than 2: the learning rate follows their schedule from here" in capsys.readouterr().out
    summary = json.loads(before.summary.read_text())
    assert (summary["epochs"], summary["lengthened"]) == (4, {str(steps): 2})
    assert "--epochs 2" in summary["command"], "what it began with"
    assert (folder / "summary-2-epochs.json").exists() == finished
    rows, config = before.read_metrics(), tiny(**options | {"epochs": 4})
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert [row["lr"] for row in rows[2:]] == pytest.approx(
        [learning_rate(row["step"] - 1, rows[0]["step"], config) for row in rows[2:]], rel=1e-2
    )
    assert main(["--out", str(folder), "--resume"]) == 0
    assert "finished already" in capsys.readouterr().out


def test_a_run_that_is_begun_by_the_line_that_would_go_on_is_checked_as_any_new_one(tiny, photos, tmp_path, capsys):
    with pytest.raises(UserError, match="warmup_epochs: expected at most as many as epochs, 2, got 3"):
        train(replace(tiny(epochs=2), resume="auto", warmup_epochs=3))
    assert not (tmp_path / "run").exists()
    line = ["quick-msun", "--mode=finetune", "--epochs=2", "--warmup_epochs=3", "--resume=auto"]
    assert transfer([*line, "--dataset", str(photos), "--out", str(tmp_path / "moved")]) == 2
    assert "warmup_epochs: expected at most as many as epochs, 2, got 3" in capsys.readouterr().err
