import os
import pickle
import signal
import struct
import subprocess
import sys
import time

import pytest
import torch

from msun_lite.train.checkpoint import Checkpoints, load_checkpoint, save_checkpoint
from msun_lite.utils.errors import CheckpointError, UserError

STATE = {"model": {"weight": torch.arange(6.0)}, "step": 3, "names": ["a"], "rng": torch.get_rng_state()}


def test_a_state_comes_back_equal(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, STATE)
    again = load_checkpoint(path)
    assert torch.equal(again["model"]["weight"], STATE["model"]["weight"])
    assert (again["step"], again["names"]) == (3, ["a"])
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


class Hostile:
    """A pickle that would make a file if anything of it ran."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_hostile_pickle_is_refused_and_nothing_of_it_runs(tmp_path, how):
    path, trace = tmp_path / "checkpoint.pt", tmp_path / "trace"
    state = {"model": Hostile(trace)}
    if how == "torch":
        torch.save(state, path)
    else:
        path.write_bytes(pickle.dumps(state))
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: refused"):
        load_checkpoint(path)
    assert not trace.exists()


@pytest.mark.parametrize("length", [0, 10, 500, -1])
def test_a_truncated_checkpoint_is_refused(tmp_path, length):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, STATE)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt"):
        load_checkpoint(path)


def test_a_missing_or_foreign_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "checkpoint.pt")
    torch.save([1, 2], tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"other\.pt"):
        load_checkpoint(tmp_path / "other.pt")


def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, STATE)
    real, written = torch.save, []

    def half_then_full(state, file):
        real(state, file)
        written.append(file.tell())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half_then_full)
    with pytest.raises(UserError, match=r"checkpoint\.pt.*No space left.*previous one is kept"):
        save_checkpoint(path, {"model": {}, "step": 4})
    assert written[0] > 0
    assert load_checkpoint(path)["step"] == 3
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_really_full_disk_keeps_the_previous_checkpoint(tmp_path):
    """A file-size limit stands in for the full disk: the kernel itself refuses the write."""
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, STATE)
    script = f"""
import resource, signal, torch
from pathlib import Path
from msun_lite.train.checkpoint import save_checkpoint
from msun_lite.utils.errors import UserError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_checkpoint(Path({str(path)!r}), {{"model": {{"weight": torch.zeros(1_000_000)}}, "step": 4}})
except UserError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "cannot be written" in done.stdout
    assert "previous one is kept" in done.stdout
    assert load_checkpoint(path)["step"] == 3
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_an_error_that_is_not_the_disks_is_not_called_so(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, STATE)

    def fail(state, file):
        file.write(b"half")
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="^CUDA error"):
        save_checkpoint(path, {"model": {}, "step": 4})
    assert load_checkpoint(path)["step"] == 3
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_kill_during_saves_leaves_a_whole_checkpoint(tmp_path):
    path = tmp_path / "checkpoint.pt"
    script = f"""
import torch
from pathlib import Path
from msun_lite.train.checkpoint import save_checkpoint
weight, step = torch.zeros(500_000), 0
while True:
    save_checkpoint(Path({str(path)!r}), {{"model": {{"weight": weight + step}}, "step": step}})
    step += 1
"""
    for delay in (0.0, 0.013, 0.029, 0.041):
        writer = subprocess.Popen([sys.executable, "-c", script])
        while not path.exists():
            assert writer.poll() is None
            time.sleep(0.01)
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        state = load_checkpoint(path)
        assert torch.equal(state["model"]["weight"], torch.full((500_000,), float(state["step"])))
        path.unlink()


def state_at(step):
    return {"model": {"weight": torch.full((50,), float(step))}, "step": step}


@pytest.fixture
def checkpoints(tmp_path):
    """Return a function that opens the checkpoints of one folder, as each start of a run does."""
    return lambda keep=2: Checkpoints(tmp_path / "checkpoint.pt", tmp_path / "checkpoints", keep)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    position = content.find(struct.pack("<f", torch.load(path, weights_only=True)["model"]["weight"][0].item()) * 2)
    content[position] ^= 1
    path.write_bytes(content)


def test_the_last_few_checkpoints_are_kept(checkpoints):
    kept = checkpoints(keep=2)
    for step in (1, 5, 9, 10):
        kept.save(state_at(step))
    assert list(kept.older()) == [9, 5]
    assert load_checkpoint(kept.latest)["step"] == 10
    assert [load_checkpoint(path)["step"] for path in kept.older().values()] == [9, 5]
    alone = checkpoints(keep=0)
    alone.save(state_at(11))
    assert list(alone.older()) == []


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(checkpoints):
    kept = checkpoints()
    for step in (1, 5, 9):
        kept.save(state_at(step))
    assert checkpoints().load()[0]["step"] == 9
    flip_a_bit(kept.latest)
    again = checkpoints()
    state, damaged = again.load()
    assert state["step"] == 5
    assert len(damaged) == 1
    assert "checkpoint.pt: damaged" in damaged[0]
    again.save(state_at(6))  # the damaged one is no fallback for this one
    assert list(again.older()) == [5, 1]
    assert checkpoints().load()[0]["step"] == 6


def test_the_newest_is_chosen_by_its_step_not_by_its_name_or_date(checkpoints):
    kept = checkpoints()
    for step in (1, 5, 9):
        kept.save(state_at(step))
    save_checkpoint(kept.latest, state_at(3))  # somebody put an old one back
    assert checkpoints().load()[0]["step"] == 5
    kept.latest.unlink()
    assert checkpoints().load()[0]["step"] == 5


def test_no_whole_checkpoint_is_an_error_that_names_them_all(checkpoints):
    kept = checkpoints()
    for step in (1, 5):
        kept.save(state_at(step))
    for path in (kept.latest, *kept.older().values()):
        path.write_bytes(b"broken")
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt.*step-00000001\.pt"):
        checkpoints().load()
