"""An HTTP server whose memory, connections and patience have limits, on Python's own; `serve` says what it serves."""

import contextlib
import io
import json
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONNECTIONS = 32
"""Clients that are attended to at once; others wait in the system's queue."""

GLANCE = 0.2
"""Seconds between two looks at whether the server stops, while it waits for a client."""

LINGER = 2
"""Seconds in which a client that was refused may finish sending: cut off, it would not read the answer."""


class Refusal(Exception):
    """A request that is answered with an error: its HTTP status, and the reason in a line."""

    def __init__(self, status: HTTPStatus, reason: str):
        super().__init__(reason)
        self.status = status


class LimitedServer(ThreadingHTTPServer):
    """A server with a thread for each of a limited number of connections.

    Args:
        address: host and port.
        handler: a `LimitedHandler`.
        most_bytes: length of the longest body that is taken.
        patience: seconds that a client has to send a request.
    """

    daemon_threads = False  # who is being answered when the server stops gets the answer
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type["LimitedHandler"], most_bytes: int, patience: float):
        self.most_bytes, self.patience = most_bytes, patience
        self.stopping = False
        self._places = threading.Semaphore(CONNECTIONS)
        super().__init__(address, handler)

    def process_request(self, request: socket.socket, client_address: tuple) -> None:
        """Answer in a thread of its own, as soon as a place is free."""
        self._places.acquire()
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:
        """Close a connection, and free its place."""
        super().shutdown_request(request)
        self._places.release()

    def handle_error(self, request: socket.socket, client_address: tuple) -> None:
        """Write what went wrong to standard error, unless it is only that the client has gone."""
        if not isinstance(sys.exception(), OSError):
            traceback.print_exc()

    def stop(self, *signal: object) -> None:
        """Let `serve_forever` return; may be called by a signal. Nothing is accepted or waited for any more."""
        self.stopping = True
        threading.Thread(target=self.shutdown).start()  # it waits for the loop, which the signal has interrupted


class _Received(io.RawIOBase):
    """What a client sends, to its end or that of the server; a `TimeoutError` once time is over."""

    def __init__(self, connection: socket.socket, server: LimitedServer):
        self.connection, self.server = connection, server
        self.deadline = time.monotonic() + server.patience

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        while not self.server.stopping:
            if time.monotonic() > self.deadline:
                raise TimeoutError("the client took too long")
            with contextlib.suppress(TimeoutError):
                return self.connection.recv_into(buffer)
        return 0


class LimitedHandler(BaseHTTPRequestHandler):
    """Answers one request a connection: text as HTML, all else as JSON, errors as {"error": the reason in a line}."""

    server: LimitedServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "MSUN-Lite", ""
    timeout = GLANCE

    def setup(self) -> None:
        """Read within the limits."""
        super().setup()
        self.rfile.close()
        self._received = _Received(self.connection, self.server)
        self.rfile = io.BufferedReader(self._received)

    def respond(self, answer: Callable[[], object]) -> None:
        """Send what `answer` returns, or why there is nothing to return; what it raises but `Refusal` is not told."""
        try:
            self._send(HTTPStatus.OK, answer())
        except Refusal as refusal:
            self._refuse(refusal)
        except OSError:
            raise  # the client has gone
        except Exception:
            traceback.print_exc()
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed; its log says why")

    def body(self) -> bytes:
        """Return the body of the request.

        Raises:
            Refusal: if it is too long, cut off, too slow, or does not say how long it is.
        """
        length = self._length()
        try:
            content = self.rfile.read(length)
        except TimeoutError as error:
            raise Refusal(HTTPStatus.REQUEST_TIMEOUT, str(error)) from None
        if len(content) < length:
            raise Refusal(HTTPStatus.BAD_REQUEST, f"expected a body of {length} bytes, got {len(content)}")
        return content

    def handle_expect_100(self) -> bool:
        """Ask a client for the body that it asks whether to send, unless that is refused by its length."""
        try:
            self._length()
        except Refusal as refusal:
            self._refuse(refusal)
            return False
        return super().handle_expect_100()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Send an error; `BaseHTTPRequestHandler` calls this for requests that it does not understand."""
        self._send(code, {"error": message or HTTPStatus(code).phrase})

    def _send(self, status: int, answer: object) -> None:
        html = isinstance(answer, str)
        content = (answer if html else json.dumps(answer)).encode()
        self.connection.settimeout(self.server.patience)
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8" if html else "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _refuse(self, refusal: Refusal) -> None:
        self.send_error(refusal.status, str(refusal))
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(GLANCE)
        self._received.deadline = time.monotonic() + LINGER
        while self.rfile.read1(1 << 16):
            pass

    def _length(self) -> int:
        """Return how long the body is in bytes, or raise a `Refusal`."""
        given = self.headers.get("Content-Length", "")
        if not given or "Transfer-Encoding" in self.headers:
            raise Refusal(HTTPStatus.LENGTH_REQUIRED, "expected a Content-Length, and no Transfer-Encoding")
        if not (given.isascii() and given.isdigit() and len(given) < 20):
            raise Refusal(HTTPStatus.BAD_REQUEST, "Content-Length: expected a number of bytes")
        if int(given) > (most := self.server.most_bytes):
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected a body of at most {most} bytes, got {given}")
        return int(given)
