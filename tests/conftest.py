import io
import multiprocessing
import os
import tarfile
import threading
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the networks here are tiny: threads would only wait for each other

import pytest
import torch
from filelock import FileLock
from PIL import Image

from data_scripts.make_shards import make_shards
from msun_lite.config import make_config
from msun_lite.data.named import load_data
from msun_lite.train.trainer import Trainer
from msun_lite.utils.stopping import StopRequest
from tools.book import build

TINY = {
    "scales": [8, 16],
    "sizes": [8, 12, 16],
    "scenes_train": 40,
    "scenes_val": 20,
    "batch_size": 10,
    "epochs": 2,
    "precision": "fp32",
    "device": "cpu",
}


@pytest.fixture
def tiny(tmp_path):
    """Return a function that makes the smallest useful configuration, its run folder in a temporary place."""

    def make(**options):
        return make_config("quick", **{**TINY, "out": str(tmp_path / "run"), **options})

    return make


@pytest.fixture
def photos(tmp_path):
    """Return a class-folder tree of two classes: 12 training and 6 validation images of 20 x 24 pixels."""
    folder = tmp_path / "photos"
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 6), ("val", 3)):
        for label, name in enumerate(("cat", "dog")):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = torch.randint(0, 128, (20, 24, 3), generator=generator, dtype=torch.uint8) + 127 * label
                Image.fromarray(pixels.numpy()).save(folder / split / name / f"{index}.png")
    return folder


@pytest.fixture
def shards(photos, tmp_path):
    """Return the folder of shards made of `photos`: three of 4 training images, two of at most 4 validation images."""
    make_shards(photos, tmp_path / "shards", images=4, size=None, workers=2, skip_unreadable=False)
    return tmp_path / "shards"


@pytest.fixture
def streamed(tiny):
    """Return a function that opens shards without decoding them into memory."""
    return lambda spec, **options: load_data(tiny(data=f"wds:{spec}", cache=False, **options))


@pytest.fixture
def tar(tmp_path):
    """Return a function that packs {member name: bytes} into a tar file."""

    def pack(name, members):
        path = tmp_path / name
        with tarfile.open(path, "w:gz" if name.endswith("gz") else "w") as archive:
            for member, content in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return path

    return pack


@dataclass
class Server:
    """A web server of a folder: counts the requests, and goes wrong as often as told.

    Args:
        folder: what it serves.
        faults: file name -> what to do with the next requests: a status code, `half` of the file, `damage` in it, or
            bytes to send in its place.
        requests: names of the files that were asked for.
        url: its address, with no slash at the end.
        ranges: what of a file was asked for, where it was not all: `bytes=100-`.
        users: how who asked made himself known, where he did.
    """

    folder: Path
    faults: dict[str, list]
    requests: list[str]
    url: str
    ranges: list[str]
    users: list[str]


@pytest.fixture
def serve():
    """Return a function that serves a folder at 127.0.0.1 as a `Server`."""
    running = []

    def start(folder):
        server = Server(folder, {}, [], "", [], [])

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self):
                name = self.path.partition("?")[0].rpartition("/")[2]
                server.requests.append(name)
                server.users += [self.headers["Authorization"]] if "Authorization" in self.headers else []
                fault = server.faults[name].pop(0) if server.faults.get(name) else None
                if isinstance(fault, int):
                    self.send_error(fault)
                elif fault is None and "Range" in self.headers:
                    self.send_rest(self.headers["Range"])
                elif fault is None:
                    super().do_GET()
                else:
                    content = bytearray(fault if isinstance(fault, bytes) else (folder / self.path[1:]).read_bytes())
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    content[len(content) // 2] ^= fault == "damage"
                    self.wfile.write(content[: len(content) // 2] if fault == "half" else content)

            def send_rest(self, wanted):
                server.ranges.append(wanted)
                content, start = (folder / self.path[1:]).read_bytes(), int(wanted[len("bytes=") : -1])
                if start >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                self.wfile.write(content[start:])

            def log_message(self, *_):
                pass

        http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
        running.append(http)
        server.url = f"http://127.0.0.1:{http.server_port}"
        return server

    yield start
    for http in running:
        http.shutdown()
        http.server_close()


@pytest.fixture(scope="session")
def warm():
    """Return a context that starts processes which have imported everything: they are at work within milliseconds."""
    context = multiprocessing.get_context("forkserver")  # one for all tests: it takes what it imports at its start
    context.set_forkserver_preload(["msun_lite.train.run", "tests.failing", "tests.train.test_kill"])
    return context


@pytest.fixture(scope="session")
def site(tmp_path_factory, worker_id):
    """Build the whole book once for all processes of a test run, from scratch; return the folder of its pages."""
    base = tmp_path_factory.getbasetemp()
    out = (base if worker_id == "master" else base.parent) / "book"
    with FileLock(f"{out}.lock"):
        if not out.exists():
            assert build(out) == 0, "the book's build failed or warned"
    return out / "_build" / "html"


@pytest.fixture
def stop_after(monkeypatch):
    """Return a function that makes the next training stop cleanly after so many steps, as a time limit does."""

    def patch(steps):
        real = Trainer.take_step
        state = {"steps": 0}

        def counted(*args):
            real(*args)
            state["steps"] += 1

        monkeypatch.setattr(Trainer, "take_step", counted)
        monkeypatch.setattr(StopRequest, "out_of_time", property(lambda self: state["steps"] >= steps))

    yield patch
    monkeypatch.undo()
