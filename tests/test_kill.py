"""Real processes, really killed: a run that goes on ends with the weights of one that was never stopped."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from msun_lite.checkpoint import load_checkpoint
from msun_lite.options import dump_yaml
from msun_lite.records import RunFolder
from msun_lite.train import main, train

KILLS = 20


@pytest.fixture(scope="module")
def warm():
    """Return a context that starts processes which have imported everything: they are at work within milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["msun_lite.train", "tests.test_kill"])
    return context


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


def torchrun(*argv):
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "msun_lite.train"]
    return subprocess.Popen(
        [sys.executable, *command, *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("everybody", [False, True], ids=["torchrun alone", "workers too"])
def test_sigterm_under_torchrun_saves_and_the_run_goes_on_exactly(tiny, tmp_path, everybody):
    options = {"epochs": 30, "workers": 1, "checkpoint_minutes": 100}
    (tmp_path / "whole.yaml").write_text(dump_yaml(tiny(out=str(tmp_path / "whole"), **options)))
    config = tiny(**options)
    (tmp_path / "options.yaml").write_text(dump_yaml(config))
    whole = torchrun("--config", str(tmp_path / "whole.yaml"))
    output, _ = whole.communicate(timeout=300)
    assert whole.returncode == 0, output

    folder = RunFolder(config.out)
    process = torchrun("--config", str(tmp_path / "options.yaml"))
    while len(folder.read_metrics()) < 3:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    asked = time.monotonic()
    if everybody:
        os.killpg(process.pid, signal.SIGTERM)  # as a scheduler does that kills a whole job
    else:
        process.terminate()
    output, _ = process.communicate(timeout=60)
    assert time.monotonic() - asked < 20
    assert "everything saved; go on with" in output
    step = load_checkpoint(folder.checkpoint)["step"]
    assert 12 <= step < 120
    again = torchrun("--out", config.out, "--resume")
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0, output
    assert f"going on at step {step}" in output
    assert same_weights(tmp_path / "whole", folder.path)
