"""The live page in Chromium: its answers are PyTorch's, and it bears what people do to it."""

import base64
import contextlib
import functools
import http.server
import io
import struct
import threading
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image

from msun_lite import MSUN
from msun_lite.data import decode
from msun_lite.live import Shown, find_photographs, square_at, write_page
from tests.pages.test_browser import CHROMIUM, FLAGS, Quiet

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

NETWORKS = ("lite-vanilla", "lite-mst", "lite-msun", "lite-plus")
RATIO = 0.875
SIZES = (16, 24, 40, 64, 100, 112)
TOLERANCE = 1e-3
"""Largest difference of a logit from PyTorch's."""

GROWTH = 40_000
"""Kilobytes that the page may grow by over 200 moves of the slider: the garbage of a browser comes and goes."""

PHOTOGRAPHS = find_photographs()
CHINA = PHOTOGRAPHS[0].file.read_bytes()


@pytest.fixture(scope="module")
def models():
    return {name: MSUN.from_pretrained(name) for name in NETWORKS}


@pytest.fixture(scope="module")
def address(models, tmp_path_factory):
    """Serve a page, from a folder of a folder, and this machine's pictures nowhere else."""
    root = tmp_path_factory.mktemp("served")
    shown = [Shown(name, name, model, RATIO) for name, model in models.items()]
    write_page(shown, root / "any where" / "page", PHOTOGRAPHS)
    handler = functools.partial(Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/any%20where/page/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@contextlib.contextmanager
def visited(browser, address, script=None, **options):
    """Yield a page that is loaded but not started, its requests and its errors."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
    page, requests, errors = context.new_page(), [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    if script:
        page.add_init_script(script)
    page.goto(address)
    yield page, requests, errors
    context.close()


START = "() => document.querySelector('msun-live').start()"
ASK = "(size) => document.querySelector('msun-live').ask(size)"
OPEN = """
async ([name, bytes]) => {
  const file = new File([Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0))], name);
  try { return await document.querySelector("msun-live").open(file); }
  catch (error) { return error.message; }
}
"""


def start(page):
    page.wait_for_selector(".ml-start button")
    page.wait_for_function("document.querySelector('.ml-start .ml-small').textContent")
    page.evaluate(START)
    page.wait_for_selector(".ml-picture")


@pytest.fixture(scope="module")
def live(browser, address):
    """Return a page that is started."""
    with visited(browser, address) as (page, _, _):
        start(page)
        yield page


def open_file(page, name, content):
    return page.evaluate(OPEN, [name, base64.b64encode(content).decode()])


def logits_of(answer):
    return {one["name"]: torch.tensor(one["logits"]) for one in answer["answers"]}


@torch.no_grad()
def expected_logits(model, image, size):
    """Return PyTorch's logits of an image at a size, by the model's own resizing and routing."""
    square = square_at(image, RATIO, 112, size) / 255
    mean, std = (torch.tensor(model.spec["normalisation"][name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    return model((square - mean) / std)[0]


def assert_pytorchs(answer, models, image, size):
    for name, found in logits_of(answer).items():
        expected = expected_logits(models[name], image, size)
        assert (found - expected).abs().max() <= TOLERANCE, (name, size)
        assert found.argmax() == expected.argmax()


@pytest.mark.parametrize("photograph", PHOTOGRAPHS, ids=lambda one: one.name)
def test_answers_are_those_of_pytorch(photograph, live, models):
    image = decode(photograph.file)
    open_file(live, photograph.name, photograph.file.read_bytes())
    for size in SIZES:
        answer = live.evaluate(ASK, size)
        assert answer["size"] == size
        assert_pytorchs(answer, models, image, size)
        for one in answer["answers"]:
            assert one["scale"] == models[one["name"]].router.scale(size)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(width, height):
    return Image.open(PHOTOGRAPHS[0].file).convert("RGB").resize((width, height), Image.Resampling.BICUBIC)


def test_a_photograph_that_was_held_sideways_is_upright(live, models):
    tags = Image.Exif()
    tags[0x0112] = 6
    content = encoded(picture(300, 200), "JPEG", exif=tags, quality=95)
    image = decode(io.BytesIO(content), "turned")
    assert image.shape[1:] == (300, 200)
    answer = open_file(live, "turned.jpg", content)
    assert_pytorchs(answer, models, image, answer["size"])


@pytest.mark.parametrize(("width", "height"), [(40, 60), (20, 19), (1500, 300)])
def test_photographs_of_every_size_and_shape_are_answered_at_their_own_sizes(width, height, live, models):
    content = encoded(picture(width, height), "PNG")
    open_file(live, "small.png", content)
    largest = min(112, round(RATIO * min(width, height)))
    assert live.locator(".ml-slider").get_attribute("max") == str(largest)
    answer = live.evaluate(ASK, largest)
    assert_pytorchs(answer, models, decode(io.BytesIO(content), "small"), largest)


def test_a_photograph_with_a_film_behind_it_is_answered(live, models):
    answer = open_file(live, "moving.jpg", CHINA + b"film" * 5000)
    assert_pytorchs(answer, models, decode(PHOTOGRAPHS[0].file), answer["size"])


def png(width, height):
    """Return a PNG that says it is so large, and has no pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


HOSTILE = {
    "drawing.svg": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "got SVG"),
    "bomb.png": (png(20_000, 10_000), "expected at most 50 megapixels, got 200 megapixels, 20000 × 10000"),
    "broken.png": (png(200, 100), "the file is damaged: it cannot be decoded"),
    "cut.jpg": (CHINA[: len(CHINA) // 2], "the JPEG file is damaged: its end is missing"),
    "head.jpg": (CHINA[:3], "the JPEG file is damaged: it does not say how large the picture is"),
    "phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "got HEIC"),
    "dot.png": (encoded(Image.new("RGB", (1, 1)), "PNG"), "expected a photograph of at least 16 pixels, got 1 × 1"),
    "nothing.jpg": (b"", "got an empty file"),
    "letter.txt": (b"Dear reader", "got something else"),
    "page.jpg": (b"<!doctype html><p>not found", "got HTML"),
}


def test_files_that_are_no_photographs_get_one_line_each_and_stop_nothing(live):
    open_file(live, "china.jpg", CHINA)
    before = logits_of(live.evaluate(ASK, 40))
    for name, (content, words) in HOSTILE.items():
        said = open_file(live, name, content)
        assert isinstance(said, str), name
        assert said.endswith(words), name
        assert live.locator(".ml-error").inner_text() == f"{name}: {said}."
    after = logits_of(live.evaluate(ASK, 40))
    assert all(torch.equal(after[name], before[name]) for name in before)
    open_file(live, "china.jpg", CHINA)
    assert live.locator(".ml-error").is_hidden()


def test_the_curves_fill_in_for_every_size_and_class(live):
    open_file(live, "china.jpg", CHINA)
    drawn = "() => [...document.querySelectorAll('.ml-curve polyline')].map((line) => line.points.length)"
    live.wait_for_function(f"({drawn})().every((points) => points === 97)", timeout=60_000)
    assert live.evaluate(drawn) == [97] * len(NETWORKS)
    assert live.locator(".ml-chart option").count() == 10
    live.locator(".ml-chart select").select_option("golf ball")
    live.wait_for_function("document.querySelector('.ml-curves').ariaLabel.startsWith('Confidence in golf ball')")
    share = expected_logits(MSUN.from_pretrained("lite-mst"), decode(PHOTOGRAPHS[0].file), 16).softmax(0)[8]
    assert f"lite-mst: {100 * share:.0f} % at 16 pixels" in live.locator(".ml-curves").get_attribute("aria-label")


def test_only_the_newest_of_many_questions_are_answered(live):
    answered = live.evaluate("""
    async () => {
      const element = document.querySelector("msun-live");
      let count = 0;
      const note = () => count += 1;
      element.addEventListener("msun-answer", note);
      const all = await Promise.all(Array.from({ length: 90 }, (_, place) => element.ask(16 + place)));
      element.removeEventListener("msun-answer", note);
      return [count, all.at(-1).size];
    }
    """)
    assert answered[0] < 20
    assert answered[1] == 105


def kilobytes(browser):
    """Return the memory of the largest process that shows pages."""
    session = browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    found = []
    for process in processes:
        if process["type"] == "renderer":
            status = Path(f"/proc/{process['id']}/status").read_text()
            found.append(int(status.partition("VmRSS:")[2].split()[0]))
    return max(found)


MOVE = """
async (times) => {
  for (let time = 0; time < times; time++) await document.querySelector("msun-live").ask(16 + (37 * time) % 97);
}
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_does_not_grow_over_200_moves(browser, live):
    open_file(live, "china.jpg", CHINA)
    live.evaluate(MOVE, 100)
    before = kilobytes(browser)
    live.evaluate(MOVE, 200)
    assert kilobytes(browser) - before < GROWTH


def test_no_request_leaves_the_server_and_nothing_is_sent(browser, address):
    with visited(browser, address) as (page, requests, errors):
        methods = []
        page.on("request", lambda request: methods.append(request.method))
        start(page)
        open_file(page, "china.jpg", CHINA)
        page.evaluate(ASK, 64)
        host = address.removesuffix("any%20where/page/")
        assert [url for url in requests if not url.startswith((host, "data:", "blob:"))] == []
        assert set(methods) == {"GET"}
        assert errors == []


def test_nothing_is_loaded_before_it_is_asked_for(browser, address):
    with visited(browser, address) as (page, requests, _):
        page.wait_for_function("document.querySelector('.ml-start .ml-small').textContent.startsWith('Loads 14 MB')")
        assert [url for url in requests if "networks/" in url or "onnxruntime/" in url] == []


def test_all_is_done_by_keyboard(browser, address):
    with visited(browser, address) as (page, _, errors):
        page.wait_for_function("document.querySelector('.ml-start .ml-small')?.textContent")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_selector(".ml-picture")
        page.wait_for_function("document.activeElement.matches('.ml-slider')")
        spoken = page.locator(".ml-slider").get_attribute
        for key, size in (("End", 112), ("Home", 16), ("ArrowRight", 17)):
            page.keyboard.press(key)
            assert spoken("aria-valuetext") == f"{size} pixels"
        page.wait_for_function(
            "document.querySelector('[role=status]').textContent.startsWith('17 pixels. lite-vanilla: ')"
        )
        page.locator(".ml-thumb").nth(1).focus()
        page.keyboard.press("Enter")
        page.wait_for_function("document.querySelectorAll('.ml-thumb')[1].ariaPressed === 'true'")
        page.wait_for_function("document.querySelector('.ml-note').textContent.includes('every answer is wrong')")
        page.get_by_label("Choose a photograph").focus()
        assert page.evaluate("document.activeElement.type") == "file"
        assert errors == []


def test_a_photograph_can_be_chosen_pasted_and_dropped(browser, address, tmp_path):
    with visited(browser, address) as (page, _, errors):
        start(page)
        page.set_input_files(".ml-button input", PHOTOGRAPHS[-1].file)
        page.wait_for_function("document.querySelector('.ml-note').textContent.startsWith('Your photograph')")
        assert page.locator(".ml-thumb[aria-pressed=true]").count() == 0
        give = """
        ([kind, bytes]) => {
          const letters = Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0));
          const data = new DataTransfer();
          data.items.add(new File([letters], `${kind}.png`));
          const event = kind === "paste" ? new ClipboardEvent(kind, { clipboardData: data, bubbles: true })
            : new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
          document.querySelector("msun-live").dispatchEvent(event);
        }
        """
        for kind, side in (("paste", 150), ("drop", 160)):
            content = base64.b64encode(encoded(picture(side, side), "PNG")).decode()
            page.evaluate(give, [kind, content])
            page.wait_for_function(f"document.querySelector('.ml-note').textContent.includes('{side} × {side}')")
        assert errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_axe_finds_nothing_and_nothing_scrolls_sideways(browser, address, scheme, width):
    options = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme}
    with visited(browser, address, **options) as (page, _, _):
        page.wait_for_function("document.querySelector('.ml-start .ml-small')?.textContent")
        for started in (False, True):
            if started:
                start(page)
            found = axe.Axe().run(page).response["violations"]
            assert [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found] == []
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_javascript_a_still_shows_what_networks_say(browser, address):
    with visited(browser, address, java_script_enabled=False) as (page, _, _):
        assert page.locator(".ml-card:visible").count() == len(NETWORKS)
        assert page.locator("noscript p").bounding_box()["height"] > 10
        assert page.locator(".ml-view img").first.evaluate("(shown) => shown.naturalWidth") == 16


def test_without_webassembly_the_still_stays_and_a_line_says_why(browser, address):
    with visited(browser, address, script="delete globalThis.WebAssembly") as (page, _, errors):
        page.wait_for_selector(".ml-error")
        assert "this browser has no WebAssembly" in page.locator(".ml-error").inner_text()
        assert page.locator(".ml-card:visible").count() == len(NETWORKS)
        assert errors == []


def test_a_file_that_is_missing_is_named(browser, address):
    context = browser.new_context()
    page = context.new_page()
    page.route("**/lite-msun/weights.bin", lambda route: route.fulfill(status=404))
    page.goto(address)
    page.get_by_role("button", name="Try it").click()
    page.wait_for_selector(".ml-error")
    assert "weights.bin cannot be loaded: 404" in page.locator(".ml-error").inner_text()
    assert page.locator(".ml-card:visible").count() == len(NETWORKS)
    context.close()


def test_wasm_that_a_server_unpacks_on_the_way_is_taken_as_it_is(browser, address):
    def unpacked(route):
        response = route.fetch()
        route.fulfill(status=200, body=zlib.decompress(response.body(), 31))

    context = browser.new_context()
    page = context.new_page()
    page.route("**/*.wasm.gz", unpacked)
    page.goto(address)
    start(page)
    context.close()
