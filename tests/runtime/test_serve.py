import io
import signal
import socket
import struct
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from PIL import Image

from msun_lite import MSUN
from msun_lite.predict import predict
from msun_lite.runtime.limited import CONNECTIONS, LimitedServer
from msun_lite.runtime.model import Answer
from msun_lite.runtime.serve import Handler
from tests.exports import CROP_RATIO, assert_same, draw
from tests.serving import WAIT, ask, served

REQUESTS, CLIENTS = 1000, 8

MEMORY = 400
"""MB that the server may have in use; with the quick model it starts with a quarter of that."""


@pytest.fixture(scope="module")
def server(exported, tmp_path_factory):
    with served(exported.folder, exported.environment, tmp_path_factory.mktemp("server") / "log") as running:
        yield running


def assert_right(server, exported, number=7):
    """Assert that an image is answered, and as by `predict`."""
    status, found = server.ask(exported.images[number].read_bytes())
    assert status == 200, found
    assert_same(found, exported.expected[number], 56)


def test_a_thousand_requests_at_once_are_answered_as_by_predict_in_bounded_memory(server, exported):
    contents = [image.read_bytes() for image in exported.images]
    order = [number * 7 % len(contents) for number in range(REQUESTS)]
    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = list(clients.map(lambda number: server.ask(contents[number]), order))
    for number, (status, found) in zip(order, answers, strict=True):
        assert status == 200
        assert_same(found, exported.expected[number], 56)
    assert server.peak() < MEMORY


def png(width, height):
    """Return a black PNG of one bit a pixel, which unpacks to very much more than it has."""
    packer, row = zlib.compressobj(1), bytes(1 + -(-width // 8))
    packed = b"".join([*(packer.compress(row * 100) for _ in range(height // 100)), packer.flush()])
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)), (b"IDAT", packed), (b"IEND", b""))
    parts = (
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def photograph(width, height):
    buffer = io.BytesIO()
    draw(width, height, 0).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("make", "status", "said"),
    [
        (lambda: b"", 400, "cannot identify image file"),
        (lambda: b"no image\n" * 99, 400, "cannot identify image file"),
        (lambda: photograph(400, 300)[:3000], 400, "image file is truncated"),
        (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 400, "cannot identify image file"),
        (lambda: png(30_000, 30_000), 400, "Image size (900000000 pixels) exceeds limit"),
        (lambda: png(10_000, 10_000), 400, "Image size (100000000 pixels) exceeds limit"),
        (lambda: bytes(21_000_000), 413, "expected a body of at most 20000000 bytes, got 21000000"),
    ],
    ids=["empty", "text", "truncated", "postscript", "bomb", "small bomb", "long"],
)
def test_broken_and_hostile_uploads_are_refused_in_a_line(server, exported, make, status, said):
    code, found = server.ask(make())
    assert (code, list(found)) == (status, ["error"])
    assert found["error"].startswith(said)
    assert "\n" not in found["error"]
    assert_right(server, exported)
    assert server.peak() < MEMORY


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ({"method": "GET"}, 405, "expected POST to /predict, or GET of /"),
        ({"path": "/"}, 405, "expected POST to /predict, or GET of /"),
        ({"path": "/other"}, 404, "expected POST to /predict, or GET of /"),
        ({"path": "/../runtime/serve.py", "method": "GET"}, 404, "expected POST to /predict, or GET of /"),
        ({"path": "//[", "method": "GET"}, 404, "expected POST to /predict, or GET of /"),
        ({"method": "DELETE"}, 501, "Unsupported method ('DELETE')"),
        ({"path": "/predict?top=0"}, 400, "top: expected 1 to 10, got 0"),
        ({"path": "/predict?top=11"}, 400, "top: expected 1 to 10, got 11"),
        ({"path": "/predict?top=all"}, 400, "top: expected a number of classes"),
        ({"Content_Length": "999999999999999"}, 413, "expected a body of at most 20000000 bytes, got 999999999999999"),
        ({"Content_Length": "9" * 5000}, 400, "Content-Length: expected a number of bytes"),
        ({"Content_Length": "-1"}, 400, "Content-Length: expected a number of bytes"),
        ({"Transfer_Encoding": "chunked"}, 411, "expected a Content-Length, and no Transfer-Encoding"),
        ({"path": "/" + "x" * 70_000}, 414, "Request-URI Too Long"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_requests_that_cannot_be_answered_are_told_why(server, exported, words, status, said):
    assert server.ask(**{"body": b"few", **words}) == (status, {"error": said})
    assert_right(server, exported)


def test_a_client_that_asks_whether_to_send_is_told_before_it_does(server):
    for length, said in ((1000, b"HTTP/1.1 100 "), (10**9, b"HTTP/1.1 413 ")):
        with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as connection:
            head = f"POST /predict HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
            connection.sendall(head.encode())
            assert connection.recv(len(said)) == said


def test_the_page_says_what_is_served(server):
    status, page = server.ask(method="GET", path="/")
    assert status == 200
    assert "MSUN of resnet_lite" in page
    assert "10 classes; subnets for 8, 32, 56 px" in page
    assert server.ask(method="HEAD", path="/") == (200, "")


def test_a_large_photograph_is_answered_as_by_predict(server, tmp_path):
    path = tmp_path / "large.jpg"
    path.write_bytes(photograph(4000, 3000))
    (expected,) = predict(MSUN.from_pretrained("quick-msun"), [path], 10, CROP_RATIO)
    status, found = server.ask(path.read_bytes())
    assert status == 200
    assert_same(found, expected, 56)


def half(port, content):
    """Return a connection over which half of a photograph has been sent."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
    head = f"POST /predict HTTP/1.1\r\nHost: it\r\nContent-Length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content[: len(content) // 2])
    return connection


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_clients_that_wait_or_hang_up_hold_up_neither_others_nor_the_end(exported, tmp_path, stop):
    content = exported.images[-1].read_bytes()
    with served(exported.folder, exported.environment, tmp_path / "log", "--patience", str(10 * WAIT)) as server:
        waiting = [half(server.port, content) for _ in range(CONNECTIONS // 2)]
        waiting.append(socket.create_connection(("127.0.0.1", server.port)))
        for _ in range(CONNECTIONS):
            half(server.port, content).close()
        assert_right(server, exported)
        server.process.send_signal(stop)
        assert server.process.wait(WAIT) == 0
        for connection in waiting:
            connection.close()


def test_slow_clients_lose_their_place_when_their_time_is_over(exported, tmp_path):
    content = exported.images[-1].read_bytes()
    with served(exported.folder, exported.environment, tmp_path / "log", "--patience", "1") as server:
        waiting = [half(server.port, content) for _ in range(CONNECTIONS + 1)]
        assert_right(server, exported)
        for connection in waiting:
            answer = connection.makefile("rb").read()
            connection.close()
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert answer.endswith(b'{"error": "the client took too long"}')


@contextmanager
def stubbed(answer):
    """Serve, in a thread, what `answer` returns for a photograph."""
    server = LimitedServer(("127.0.0.1", 0), Handler, 1000, WAIT)
    server.model, server.at_once = type("Stub", (), {"answer": staticmethod(answer)}), threading.Semaphore(1)
    loop = threading.Thread(target=server.serve_forever, args=(0.02,))
    loop.start()
    try:
        yield server
    finally:
        server.stop()
        loop.join(WAIT)
        server.server_close()


def test_a_failure_of_the_server_is_logged_and_not_told(capsys):
    def fail(*_):
        raise ZeroDivisionError("secret")

    with stubbed(fail) as server:
        for _ in range(2):
            status, found = ask(server.server_port, b"photograph")
            assert (status, found) == (500, {"error": "the server failed; its log says why"})
    assert "ZeroDivisionError: secret" in capsys.readouterr().err


def test_who_is_being_answered_when_the_server_stops_gets_the_answer():
    begun, over = threading.Event(), threading.Event()

    def answer(*_):
        begun.set()
        over.wait(WAIT)
        return Answer(1, 1, 1, 8, ("sun",), (1.0,))

    with stubbed(answer) as server, ThreadPoolExecutor(1) as client:
        asked = client.submit(ask, server.server_port, b"photograph")
        begun.wait(WAIT)
        server.stop()
        over.set()
        assert asked.result(WAIT)[1]["classes"] == ["sun"]


def test_only_so_many_photographs_are_answered_at_once():
    lock, inside, most = threading.Lock(), [0], [0]

    def answer(*_):
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        threading.Event().wait(0.01)
        with lock:
            inside[0] -= 1
        return Answer(1, 1, 1, 8, ("sun",), (1.0,))

    with stubbed(answer) as server, ThreadPoolExecutor(8) as clients:
        statuses = [status for status, _ in clients.map(lambda _: ask(server.server_port, b"photograph"), range(40))]
    assert (set(statuses), most) == ({200}, [1])


def test_a_server_that_cannot_start_says_why_in_a_line(exported, server):
    for options, said in (
        (["--port", str(server.port)], "error: [Errno"),
        (["--port", "99999"], "error: bind(): port must be 0-65535."),
        (["--at_once", "0"], "argument --at_once: expected a whole number from 1 on, got '0'"),
    ):
        command = [sys.executable, exported.folder / "serve.py", *options]
        done = subprocess.run(command, env=exported.environment, capture_output=True, text=True, timeout=WAIT)
        assert done.returncode == 2
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_pixels_that_only_warn_pillow_do_not_warn_but_refuse(server):
    assert Image.MAX_IMAGE_PIXELS < 100_000_000 < 2 * Image.MAX_IMAGE_PIXELS  # as the small bomb needs
    assert server.ask(png(8000, 8000))[0] == 200
