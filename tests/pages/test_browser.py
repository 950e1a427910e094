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
    """Yield a page, its requests and its errors, once it is loaded."""
    context = browser.new_context(viewport={"width": width, "height": 800}, java_script_enabled=javascript)
    page, requests, errors = context.new_page(), [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    page.wait_for_load_state("load")
    yield page, requests, errors
    context.close()


def with_sliders(site):
    return [name for name in PAGES if 'class="msun-slider"' in (site / f"{name}.html").read_text()]


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
    handle = shown.get_by_role("slider")
    handle.focus()
    page.keyboard.press("Home")
    seen = []
    while True:
        figure = shown.locator("figure:visible")
        assert figure.count() == 1
        picture, spoken = (
            figure.locator("img.msun-frame, .msun-frame[role=img]"),
            handle.get_attribute("aria-valuetext"),
        )
        words = picture.get_attribute("alt") or picture.get_attribute("aria-label")
        seen.append((picture.evaluate("(shown) => shown.src ?? shown.innerHTML"), words, spoken))
        assert figure.locator("figcaption").inner_text().startswith(spoken)
        assert shown.locator("output").inner_text() == spoken
        page.keyboard.press("ArrowRight")
        if handle.get_attribute("aria-valuetext") == spoken:
            return seen


def test_a_finger_can_take_hold_of_every_slider(browser, address, site):
    for name in with_sliders(site):
        with opened(browser, f"{address}/{name}.html", width=390) as (page, _, _):
            for shown in sliders(page):
                assert shown.get_by_role("slider").bounding_box()["height"] >= 24


@pytest.mark.parametrize("how", ["without JavaScript", "printed"])
def test_three_stops_stand_side_by_side_where_no_slider_works(browser, site, how):
    for name in with_sliders(site):
        with opened(browser, f"{site.as_uri()}/{name}.html", javascript=how == "printed") as (page, _, _):
            if how == "printed":
                page.emulate_media(media="print")
            for shown in sliders(page):
                assert not shown.get_by_role("slider").is_visible()
                stops = shown.locator(".msun-stop")
                visible = [stop.get_attribute("data-stop") for stop in stops.all() if stop.is_visible()]
                ends = [stops.first.get_attribute("data-stop"), stops.last.get_attribute("data-stop")]
                assert [visible[0], visible[-1]] == ends, name
                assert len(visible) == min(3, stops.count())
                for picture in shown.locator("img:visible").all():
                    picture.scroll_into_view_if_needed()
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
