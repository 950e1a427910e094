"""Real processes that train together, as torchrun starts them."""

import os
import socket
import subprocess
import sys
from contextlib import closing


def free_port():
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(size, *argv):
    """Start `size` processes of `python ARGV` that know of each other; return them in the order of their ranks."""
    common = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [
        subprocess.Popen(
            [sys.executable, *argv],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]


def finish(processes, timeout=180):
    """Wait for all; return their exit codes, outputs and errors."""
    results = []
    for process in processes:
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            output, errors = process.communicate()
        results.append((process.returncode, output, errors))
    return results


def run(size, *argv):
    """Run `size` processes of `python ARGV` to their end; all must succeed. Return their outputs."""
    results = finish(start(size, *argv))
    assert [code for code, _, _ in results] == [0] * size, results
    return [output for _, output, _ in results]
