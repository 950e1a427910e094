import json
import os
import subprocess
import sys
import threading
import time

import pytest

from msun_lite.results.run_folder import RunFolder
from msun_lite.train.__main__ import main
from msun_lite.train.run import train
from msun_lite.utils import run_lock
from msun_lite.utils.errors import UserError
from msun_lite.utils.run_lock import RunLock


@pytest.fixture
def quick(monkeypatch):
    """Let owners show signs of life every 0.05 s, and count as dead after 0.5 s."""
    monkeypatch.setattr(run_lock, "BEAT", 0.05)
    monkeypatch.setattr(run_lock, "SILENCE", 0.5)


@pytest.fixture
def said():
    return []


def of_another(folder, **changes):
    """Let a folder belong to a process of another machine."""
    owner = {"host": "node7", "process": 4711, "since": "2026-01-01 12:00:00 +0000", "space": "another", **changes}
    (folder / "running.json").write_text(json.dumps(owner))


def test_a_folder_in_use_is_refused_in_a_line_that_names_the_owner(quick, tmp_path, said):
    of_another(tmp_path)
    ended = threading.Event()

    def live():
        while not ended.wait(0.05):
            os.utime(tmp_path / "running.json")

    owner = threading.Thread(target=live)
    owner.start()
    try:
        with pytest.raises(UserError, match="in use by process 4711 on node7, since 2026-01-01 12:00:00"):
            RunLock(tmp_path, said.append).acquire()
    finally:
        ended.set()
        owner.join()
    assert json.loads((tmp_path / "running.json").read_text())["host"] == "node7"


def test_the_crash_of_another_machine_holds_a_folder_for_a_while_only(quick, tmp_path, said):
    of_another(tmp_path)
    lock = RunLock(tmp_path, said.append)
    start = time.monotonic()
    lock.acquire()
    assert time.monotonic() - start >= 0.5
    assert "taken over from process 4711 on node7" in said[-1]
    lock.check()
    lock.release()
    assert not list(tmp_path.iterdir())


def test_a_dead_process_of_this_machine_holds_nothing(tmp_path, said):
    lock = RunLock(tmp_path, said.append)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    of_another(tmp_path, process=dead.pid, space=lock.owner.space)
    lock.acquire()
    lock.release()
    assert said == []  # nobody waited


def test_a_file_cut_off_by_a_crash_holds_a_folder_for_a_while_only(quick, tmp_path, said):
    (tmp_path / "running.json").write_bytes(b"")
    lock = RunLock(tmp_path, said.append)
    lock.acquire()
    lock.release()
    assert "taken over from an unknown process" in said[-1]


def test_an_owner_that_was_taken_for_dead_ends_at_its_next_save(tmp_path, said):
    lock = RunLock(tmp_path, said.append)
    lock.acquire()
    of_another(tmp_path)
    with pytest.raises(UserError, match="taken over by process 4711 on node7"):
        lock.check()
    lock.release()
    assert (tmp_path / "running.json").exists()  # it is the other's


def test_a_second_job_on_a_run_folder_leaves_the_first_and_its_metrics_alone(tiny, tmp_path, capsys):
    folder = RunFolder(tiny().out)
    (tmp_path / "options.yaml").write_text(
        f"scales: [8, 16]\nsizes: [8, 16]\nscenes_train: 40\nscenes_val: 10\nbatch_size: 10\nepochs: 5000\n"
        f"out: {folder.path}\n"
    )
    first = subprocess.Popen(
        [sys.executable, "-m", "msun_lite.train", "--config", str(tmp_path / "options.yaml")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        while not folder.metrics.exists():
            assert first.poll() is None, first.stderr.read().decode()
            time.sleep(0.05)
        assert main(["--out", str(folder.path), "--resume"]) == 2
        assert f"in use by process {first.pid} on " in capsys.readouterr().err
        assert first.poll() is None
    finally:
        first.terminate()
        output, errors = first.communicate(timeout=60)
    assert first.returncode == 0, errors.decode()
    epochs = [row["epoch"] for row in folder.read_metrics()]
    assert epochs == list(range(1, len(epochs) + 1))
    assert not (folder.path / "running.json").exists()


def test_a_run_that_another_has_taken_over_ends_before_it_writes(tiny, monkeypatch):
    monkeypatch.setattr(RunFolder, "append_metrics", lambda folder, row: of_another(folder.path))
    config = tiny()
    with pytest.raises(UserError, match="taken over by process 4711 on node7"):
        train(config)
    assert not (RunFolder(config.out).summary).exists()
