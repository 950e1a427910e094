"""Real processes, really killed: a run that goes on ends with the weights of one that was never stopped."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from msun_lite.results.run_folder import RunFolder
from msun_lite.train.__main__ import main
from msun_lite.train.checkpoint import load_checkpoint
from msun_lite.train.run import train
from msun_lite.utils.cli import dump_yaml

KILLS = 20


def quietly(argv):
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 the process ends with it
    sys.exit(main(argv))


def same_weights(a, b):
    a, b = load_file(a / "model.safetensors"), load_file(b / "model.safetensors")
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_killed_twenty_times_ends_with_the_weights_of_one_that_was_not(tiny, tmp_path, warm):
    options = {"epochs": 60, "checkpoint_minutes": 1e-9, "random_sizes": True, "ema": 0.9}  # a save at every step
    whole = train(tiny(out=str(tmp_path / "whole"), **options))
    config = tiny(**options)
    folder, moments = RunFolder(config.out), random.Random(0)
    (tmp_path / "options.yaml").write_text(dump_yaml(config))
    kills = during_saves = 0
    while kills < KILLS:
        words = (
            ["--out", config.out, "--resume"]
            if folder.config.exists()
            else ["--config", str(tmp_path / "options.yaml")]
        )
        process = warm.Process(target=quietly, args=(words,))
        process.start()
        process.join(moments.uniform(0.05, 1.5))
        assert process.exitcode is None, f"ended with {process.exitcode} after {kills} kills"
        process.kill()
        process.join()
        kills += 1
        during_saves += any(folder.path.glob(".checkpoint.pt.part-*")) or any(folder.older_checkpoints.glob(".step-*"))
    step = load_checkpoint(folder.checkpoint)["step"]
    assert 0 < step < 240
    assert during_saves > 0
    assert main(["--out", config.out, "--resume"]) == 0
    assert same_weights(whole, folder.path)
    rows = [RunFolder(path).read_metrics() for path in (whole, folder.path)]
    assert [[row["step"], row["loss"]] for row in rows[0]] == [[row["step"], row["loss"]] for row in rows[1]]
    assert not list(folder.path.rglob("*.part-*"))
    print(f"{kills} kills survived, {during_saves} of them while a checkpoint was written; the last at step {step}")


def torchrun(*argv, options=()):
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *options]
    return subprocess.Popen(
        [sys.executable, *command, "-m", "msun_lite.train", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def with_descendants(pid):
    """Return a process and all that it started, directly or not: torchrun's are in sessions of their own."""
    listed = subprocess.run(["ps", "-e", "-o", "ppid=,pid="], capture_output=True, text=True, check=True).stdout
    children = {}
    for line in listed.splitlines():
        parent, child = map(int, line.split())
        children.setdefault(parent, []).append(child)
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


RUN = {"epochs": 30, "workers": 1, "checkpoint_minutes": 100}


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory):
    """Return how to get the folder of a run under torchrun by some options that nothing stopped; it is trained once."""
    folder = tmp_path_factory.mktemp("never-stopped")

    def trained(config):
        if not (folder / "run").exists():
            (folder / "options.yaml").write_text(dump_yaml(config(out=str(folder / "run"), **RUN)))
            process = torchrun("--config", str(folder / "options.yaml"))
            output, _ = process.communicate(timeout=300)
            assert process.returncode == 0, output
        return folder / "run"

    return trained


HAND_ON = ("--signals-to-handle", "SIGTERM,SIGINT,SIGUSR1")


@pytest.mark.parametrize(
    ("sent", "everybody", "options"),
    [
        pytest.param(signal.SIGTERM, False, (), id="SIGTERM to torchrun"),
        pytest.param(signal.SIGTERM, True, (), id="SIGTERM to all"),
        pytest.param(signal.SIGUSR1, False, HAND_ON, id="SIGUSR1 to torchrun, which hands it on"),
        pytest.param(signal.SIGUSR1, True, HAND_ON, id="SIGUSR1 to all"),
        pytest.param(signal.SIGUSR1, False, (), id="SIGUSR1 to torchrun, which dies of it"),
        pytest.param(signal.SIGKILL, False, (), id="torchrun killed"),
    ],
)
def test_a_signal_under_torchrun_saves_and_the_run_goes_on_exactly(
    tiny, tmp_path, never_stopped, sent, everybody, options
):
    whole = never_stopped(tiny)
    config = tiny(**RUN)
    (tmp_path / "options.yaml").write_text(dump_yaml(config))
    folder = RunFolder(config.out)
    process = torchrun("--config", str(tmp_path / "options.yaml"), options=options)
    while len(folder.read_metrics()) < 3:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    started = with_descendants(process.pid)
    assert len(started) >= 1 + 2 + 2  # torchrun, two processes, a worker each
    asked = time.monotonic()
    for one in started if everybody else started[:1]:
        os.kill(one, sent)
    output, _ = process.communicate(timeout=60)  # until the last of them is gone
    assert time.monotonic() - asked < 20
    assert "everything saved; go on with" in output
    step = load_checkpoint(folder.checkpoint)["step"]
    assert 12 <= step < 120
    again = torchrun("--out", config.out, "--resume")
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0, output
    assert f"going on at step {step}" in output
    assert same_weights(whole, folder.path)
