"""Serve an exported model: POST a photograph to /predict?top=3 for JSON, GET / for a page to try it on.

It opens to this machine alone, and to others with --host 0.0.0.0: then put a proxy with TLS before it.
"""

import argparse
import html
import io
import signal
import string
import sys
import threading
import time
import warnings
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs

from PIL import Image

from .images import UnreadableImage
from .limited import LimitedHandler, LimitedServer, Refusal
from .model import BadInput, ExportedModel

PAGE = string.Template("""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>$name</title>
<style>body { font: 1rem/1.5 sans-serif; max-width: 40rem; margin: 2rem auto; padding: 0 1rem }</style>
<h1>$name</h1>
<p>Ready since $since. $classes classes; subnets for $scales px. It looks at the central square of a photograph.</p>
<form><label>Photograph <input type="file" accept="image/*" required></label> <button>What is it?</button></form>
<pre aria-live="polite"></pre>
<script>
document.querySelector("form").onsubmit = async (event) => {
  event.preventDefault();
  const shown = document.querySelector("pre");
  shown.textContent = "...";
  try {
    const body = document.querySelector("input").files[0];
    const answer = await fetch("predict", {method: "POST", body});
    shown.textContent = JSON.stringify(await answer.json(), null, 2);
  } catch (error) { shown.textContent = "No answer: " + error.message; }
};
</script>
""")


class Handler(LimitedHandler):
    """Answers photographs; the server's `model`, `at_once` (a semaphore) and `page` are what it answers with."""

    def do_GET(self) -> None:
        """Answer with the page."""
        self.respond(self._page)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """Answer to the photograph in the body."""
        self.respond(self._predict)

    def _page(self) -> str:
        self._query("/")
        return self.server.page

    def _predict(self) -> dict:
        top = parse_qs(self._query("/predict")).get("top", [""])[-1]
        if top and not (top.isascii() and top.isdigit() and len(top) < 10):
            raise Refusal(HTTPStatus.BAD_REQUEST, "top: expected a number of classes")
        content = self.body()
        try:
            with self.server.at_once:
                return asdict(self.server.model.answer(io.BytesIO(content), int(top) if top else None))
        except (UnreadableImage, BadInput) as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, str(error)) from None

    def _query(self, expected: str) -> str:
        """Return what stands behind the path that was asked for, which must be the `expected` one."""
        path, _, query = self.path.partition("?")
        if path != expected:
            status = HTTPStatus.METHOD_NOT_ALLOWED if path in ("/", "/predict") else HTTPStatus.NOT_FOUND
            raise Refusal(status, "expected POST to /predict, or GET of /")
        return query


def main(folder: str | Path, argv: list[str] | None = None) -> int:
    """Serve the model in `folder` as the command line, or `argv`, says, until Ctrl-C or SIGTERM."""
    options = _parser().parse_args(argv)
    Image.MAX_IMAGE_PIXELS = options.megapixels * 10**6
    warnings.simplefilter("error", Image.DecompressionBombWarning)  # Pillow itself refuses only twice as many
    try:
        model = ExportedModel(folder, options.threads)
        server = LimitedServer((options.host, options.port), Handler, options.megabytes * 10**6, options.patience)
    except (BadInput, ImportError, OSError, OverflowError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    server.model, server.at_once, server.page = model, threading.Semaphore(options.at_once), _page(model)
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, server.stop)
    with server:
        print("http://{}:{}/ is ready; Ctrl-C stops it".format(*server.server_address), flush=True)
        server.serve_forever()
    return 0


def _page(model: ExportedModel) -> str:
    words = {"name": f"MSUN of {model.about['arch']}", "since": time.strftime("%Y-%m-%d %H:%M:%S %z")}
    words |= {"classes": len(model.class_names), "scales": ", ".join(map(str, model.about["scales"]))}
    return PAGE.substitute({key: html.escape(str(word)) for key, word in words.items()})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (%(default)s)")
    numbers = {
        "port": (8000, "port to listen at"),
        "threads": (1, "CPU threads for one image"),
        "at_once": (4, "images that are decoded and answered at once; others wait"),
        "megabytes": (20, "length of the longest file that is taken"),
        "megapixels": (Image.MAX_IMAGE_PIXELS // 10**6, "size of the largest image that is decoded"),
        "patience": (30, "seconds that a client has to send a photograph"),
    }
    for name, (default, meaning) in numbers.items():
        least = 0 if name == "port" else 1  # port 0 is any that is free
        parser.add_argument(f"--{name}", type=_whole(least), default=default, help=f"{meaning} (%(default)s)")
    return parser


def _whole(least: int):
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} on, got {text!r}")
        return int(text)

    return number
