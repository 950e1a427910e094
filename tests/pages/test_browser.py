"""The built pages in Chromium: sliders by keyboard, no request to anywhere else, accessible, on a phone."""

import contextlib
import functools
import http.server
import shutil
import threading

import pytest

from tests.pages.test_book import PAGES

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
THEMES_ERRORS = ("Identifier 'THEBE_JS_URL' has already been declared",)
"""Script errors that every page of the theme has."""
THEMES_FINDINGS = {"label-content-name-mismatch", "region"}
"""What axe-core finds in the theme itself."""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def address(site):
    """Serve the book on this machine."""
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def opened(browser, url, width=1280, javascript=True):
    """Yield a page, its requests and its errors, once its sliders are there."""
    context = browser.new_context(viewport={"width": width, "height": 800}, java_script_enabled=javascript)
    page, requests, errors = context.new_page(), [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    page.wait_for_load_state("load")
    if javascript:
        expected = page.locator('script[type="application/vnd.jupyter.widget-view+json"]').count()
        if expected:
            page.wait_for_function("document.querySelectorAll('.noUi-handle[aria-label]').length > 0", timeout=60_000)
    yield page, requests, errors
    context.close()


def with_sliders(site):
    return [name for name in PAGES if "msun-frame" in (site / f"{name}.html").read_text()]


def sliders(page):
    """Return the sliders that a page without a kernel has pictures for."""
    return page.locator(".msun-slider").all()


@pytest.mark.parametrize("how", ["http", "file"])
@pytest.mark.parametrize("name", PAGES)
def test_no_request_leaves_the_machine_and_no_script_fails(browser, address, site, name, how):
    base = address if how == "http" else site.as_uri()
    with opened(browser, f"{base}/{name}.html") as (page, requests, errors):
        page.wait_for_timeout(500)
        outside = [url for url in requests if not url.startswith((base, "file:", "data:", "blob:"))]
        assert outside == []
        assert [error for error in errors if not error.startswith(THEMES_ERRORS)] == []


def test_at_least_six_sliders_are_in_the_book(browser, address, site):
    count = 0
    for name in with_sliders(site):
        with opened(browser, f"{address}/{name}.html") as (page, _, _):
            count += len(sliders(page))
    assert count >= 6


@pytest.mark.parametrize("how", ["http", "file"])
def test_every_slider_moves_by_keyboard_through_all_its_stops(browser, address, site, how):
    base = address if how == "http" else site.as_uri()
    for name in with_sliders(site):
        with opened(browser, f"{base}/{name}.html") as (page, _, _):
            for shown in sliders(page):
                seen = walk(page, shown)
                pictures, texts, spoken = (list(values) for values in zip(*seen, strict=True))
                assert len(seen) >= 2
                assert len(set(pictures)) == len(set(texts)) == len(set(spoken)) == len(seen), name


def walk(page, shown):
    """Move a slider to its first stop and on to its last; return picture, text and spoken value of each."""
    handle = shown.locator(".noUi-handle")
    assert handle.get_attribute("aria-label")
    handle.focus()
    page.keyboard.press("Home")
    seen = []
    while True:
        page.wait_for_timeout(120)
        figure = shown.locator("figure:visible")
        assert figure.count() == 1
        picture = figure.locator("img")
        seen.append(
            (picture.get_attribute("src"), picture.get_attribute("alt"), handle.get_attribute("aria-valuetext"))
        )
        assert figure.locator("figcaption").inner_text().startswith(seen[-1][2])
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(120)
        if handle.get_attribute("aria-valuetext") == seen[-1][2]:
            return seen


def test_without_javascript_every_slider_has_a_still_picture(browser, site):
    for name in with_sliders(site):
        expected = (site / f"{name}.html").read_text().count('"_dom_classes": ["msun-slider"]')
        with opened(browser, f"{site.as_uri()}/{name}.html", javascript=False) as (page, _, _):
            pictures = page.locator("img.msun-frame").all()
            assert len(pictures) == expected > 0, name
            for picture in pictures:
                assert picture.get_attribute("alt")
                assert min(picture.bounding_box()[side] for side in ("width", "height")) > 0
                assert picture.evaluate("(shown) => shown.naturalWidth") > 0


@pytest.mark.parametrize("name", PAGES)
def test_on_a_phone_no_page_scrolls_sideways(browser, address, name):
    with opened(browser, f"{address}/{name}.html", width=375) as (page, _, _):
        assert page.evaluate("document.documentElement.scrollWidth") <= 375


WIDE = """
() => [...document.querySelectorAll(".msun-scroll")].filter((frame) => frame.offsetParent).map((frame) => {
  const picture = frame.querySelector("img");
  const drawn = parseFloat(getComputedStyle(picture).getPropertyValue("--drawn"));
  return [picture.clientWidth / drawn, frame.scrollWidth > frame.clientWidth, frame.tabIndex,
          frame.classList.contains("msun-more")];
})
"""


@pytest.mark.parametrize("name", ["01_scale_collapse", "02_cka", "08_gradcam_pca"])
def test_on_a_phone_wide_pictures_keep_their_letters_and_scroll_by_keyboard(browser, address, name):
    with opened(browser, f"{address}/{name}.html", width=375) as (page, _, _):
        page.wait_for_function("document.querySelectorAll('.msun-scroll').length > 2")
        page.wait_for_timeout(300)
        found = page.evaluate(WIDE)
        assert any(scrolls for _, scrolls, _, _ in found)
        for share, scrolls, tab_index, more in found:
            assert share >= 0.74
            assert (tab_index == 0) == scrolls == more
        page.locator(".msun-scroll.msun-more").first.evaluate("(frame) => { frame.scrollLeft = frame.scrollWidth; }")
        page.wait_for_timeout(100)
        assert sum(more for *_, more in page.evaluate(WIDE)) == sum(more for *_, more in found) - 1


@pytest.mark.parametrize("name", PAGES)
def test_on_a_phone_all_that_scrolls_is_reached_by_keyboard(browser, address, name):
    with opened(browser, f"{address}/{name}.html", width=375) as (page, _, _):
        options = {"runOnly": {"type": "rule", "values": ["scrollable-region-focusable"]}}
        assert axe.Axe().run(page, options=options).response["violations"] == []


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_beyond_the_themes_own(browser, address, name):
    with opened(browser, f"{address}/{name}.html") as (page, _, _):
        found = axe.Axe().run(page).response["violations"]
        ours = [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found if one["id"] not in THEMES_FINDINGS]
        assert ours == []
