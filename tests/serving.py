"""A server of an exported model in a process of its own, and what asks it."""

import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

WAIT = 60
"""Seconds after which a test gives up."""


@dataclass
class Served:
    """A server in a process of its own."""

    process: subprocess.Popen
    port: int
    log: Path

    def ask(self, body=None, path="/predict?top=10", method="POST", **headers):
        return ask(self.port, body, path, method, **headers)

    def peak(self):
        """Return the most memory that it has had in use, in MB; 0 where the system does not say."""
        try:
            lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        except OSError:
            return 0
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def ask(port, body=None, path="/predict?top=10", method="POST", **headers):
    """Return the status and the body of an answer, JSON as what it says."""
    connection = HTTPConnection("127.0.0.1", port, timeout=WAIT)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        content = answer.read().decode()
        is_json = answer.headers["Content-Type"] == "application/json" and content
        return answer.status, json.loads(content) if is_json else content
    finally:
        connection.close()


@contextmanager
def served(folder, environment, log, *options):
    """Serve the exported model in a folder while inside, with these variables; it must stop cleanly afterwards."""
    command = [sys.executable, folder / "serve.py", "--port", "0", *options]
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment, cwd=log.parent
        )
        try:
            address = process.stdout.readline()
            assert address.startswith("http://127.0.0.1:"), log.read_text()
            yield Served(process, int(address.split("/")[2].partition(":")[2]), log)
            process.terminate()
            assert process.wait(WAIT) == 0
        finally:
            process.kill()
            process.stdout.close()
            process.wait()
    assert "Traceback" not in log.read_text()
