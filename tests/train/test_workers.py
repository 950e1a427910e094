import subprocess
import time

import pytest

from msun_lite.data.worker_errors import explained
from tests import failing, ranks

LIMIT = 10
"""Seconds from a failure to the end of all processes."""


def left_behind(session):
    """Return the processes of a session that still run once they had their time to end."""
    deadline = time.time() + LIMIT
    while True:
        listed = subprocess.run(["ps", "-e", "-o", "sid=,pid=,stat=,args="], capture_output=True, text=True, check=True)
        rows = [line.split(None, 3) for line in listed.stdout.splitlines()]
        found = [row for row in rows if int(row[0]) == session and not row[2].startswith("Z")]
        if not found or time.time() > deadline:
            return found
        time.sleep(0.1)


def fail(warm, tmp_path, failure, workers, method):
    """Return the exit code of a training that fails, what it printed, and how long it took to end after that."""
    process = warm.Process(target=failing.run, args=(failure, workers, method, tmp_path))
    process.start()
    process.join(120)
    ended = time.time()
    if process.exitcode is None:
        process.kill()
    assert left_behind(process.pid) == []
    return process.exitcode, (tmp_path / "output").read_text(), ended - (tmp_path / "note").stat().st_mtime


STARTS = [("fork", 1), ("fork", 4), ("forkserver", 1), ("forkserver", 4), ("spawn", 1), ("spawn", 4)]
"""How workers are started, and how many."""

LINES = {
    "memory": "error: out of memory while images were prepared",
    "shm": "error: workers: the shared memory of this system (/dev/shm) has no room",
    "killed": "error: workers: a process that prepares images",
    "bug": "ZeroDivisionError: a bug in a transform",
}
"""What each failure says."""


def check(warm, tmp_path, failure, workers, method):
    code, output, seconds = fail(warm, tmp_path, failure, workers, method)
    assert code == (1 if failure == "bug" else 2), output
    assert LINES[failure] in output
    assert ("Traceback" in output) == (failure == "bug")
    assert seconds < LIMIT


@pytest.mark.parametrize("failure", LINES)
@pytest.mark.parametrize(("method", "workers"), STARTS)
def test_a_failure_ends_the_training_and_its_workers_with_what_went_wrong(warm, tmp_path, failure, method, workers):
    check(warm, tmp_path, failure, workers, method)


@pytest.mark.parametrize("failure", ["memory", "bug"])
def test_a_failure_without_workers_ends_the_training_the_same_way(warm, tmp_path, failure):
    check(warm, tmp_path, failure, 0, "fork")


@pytest.mark.parametrize(("method", "workers"), [("fork", 0), ("fork", 4), ("forkserver", 1), ("spawn", 1)])
def test_the_failure_of_one_of_several_processes_ends_all(tmp_path, method, workers):
    processes = ranks.start(2, "-m", "tests.failing", "bug", str(workers), method, str(tmp_path))
    codes = [code for code, _, _ in ranks.finish(processes, 120)]
    seconds = time.time() - (tmp_path / "note").stat().st_mtime
    assert codes == [2, 1]
    assert "process 0 of 2 lost another one" in (tmp_path / "output0").read_text()
    assert "ZeroDivisionError: a bug in a transform" in (tmp_path / "output1").read_text()
    assert seconds < LIMIT


def test_a_worker_that_dies_while_its_batch_is_fetched_is_explained_too():
    for error in (ConnectionRefusedError(111, "Connection refused"), ConnectionResetError(104, "reset"), EOFError()):
        assert str(explained(error, workers=True)).startswith(LINES["killed"].removeprefix("error: "))
        assert explained(error) is error
    caught = ConnectionError("Caught ConnectionError in DataLoader worker process 0.")
    assert explained(caught, workers=True) is caught
