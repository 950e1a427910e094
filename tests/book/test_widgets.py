import base64
import datetime
import io
import re
import subprocess
import sys

import ipywidgets
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from msun_lite.book import widgets
from msun_lite.book.cards import prediction_card
from msun_lite.book.lab import Chapter
from msun_lite.book.widgets import Frame, Slider, own_image, prediction_frame, read_upload, size_slider, slider

WHEN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def figure(text):
    drawn = Figure(figsize=(2, 1))
    drawn.text(0.1, 0.5, text)
    return drawn


def frames(sharp=True):
    return {size: Frame(figure(f"{size}"), f"what is seen at <{size}>", sharp) for size in (32, 8, 16)}


def pages_of(shown):
    return [child.value for child in shown.widget().children[1].children]


def test_the_slider_has_its_stops_in_order_and_starts_at_the_largest():
    control, _ = size_slider(frames()).widget().children
    assert [label for label, _ in control.options] == ["8 px", "16 px", "32 px"]
    assert control.label == "32 px"
    assert control.description == "image size"


def test_the_browser_itself_changes_the_picture(monkeypatch):
    links = []
    monkeypatch.setattr(widgets.ipywidgets, "jslink", lambda *ends: links.append(ends))
    control, stack = size_slider(frames(), start=16).widget().children
    assert links == [((control, "index"), (stack, "selected_index"))]
    assert stack.selected_index == control.index == 1


def test_pictures_that_a_phone_would_shrink_too_far_are_framed_to_scroll():
    for width, framed in ((9, True), (7, False)):
        shown = {size: Frame(Figure(figsize=(width, 1)), f"{size}") for size in (8, 16)}
        pages = pages_of(size_slider(shown))
        assert all(('class="msun-scroll"' in page) == framed for page in pages)
        assert all(f"--drawn:{96 * width}px" in page for page in pages)


@pytest.mark.parametrize(("sharp", "kind"), [(True, "svg+xml"), (False, "webp")])
def test_each_stop_has_its_own_picture_with_a_description(sharp, kind):
    pages = pages_of(size_slider(frames(sharp)))
    assert len(set(pages)) == 3
    for size, page in zip((8, 16, 32), pages, strict=True):
        assert f'alt="{size} px: what is seen at &lt;{size}&gt;"' in page
        assert f"<b>{size} px</b>" in page
        data = re.search(rf'src="data:image/{re.escape(kind)};base64,([^"]+)"', page)[1]
        content = base64.b64decode(data)
        if sharp:
            assert f"{size}</text>".encode() in content, "letters stay letters"
        else:
            assert Image.open(io.BytesIO(content)).format == "WEBP"


def test_without_the_stack_python_changes_the_picture(monkeypatch):
    monkeypatch.delattr(widgets.ipywidgets, "Stack")
    control, shown = size_slider(frames()).widget().children
    assert isinstance(shown, ipywidgets.HTML)
    for number, size in enumerate((8, 16, 32)):
        control.index = number
        assert f"<b>{size} px</b>" in shown.value


def test_a_notebook_shows_a_widget_and_the_built_book_its_own_slider(monkeypatch):
    outputs = []
    monkeypatch.setattr(widgets, "display", outputs.append)
    shown = size_slider(frames(), start=8)
    shown._ipython_display_()
    assert isinstance(outputs[0], ipywidgets.VBox)
    monkeypatch.setenv(widgets.PAGES, "html")
    monkeypatch.setattr(Slider, "widget", None)  # none is made: its state would be in the page
    shown._ipython_display_()
    assert outputs[1].data == shown.to_html()


def test_the_books_slider_starts_where_it_is_told_to_and_marks_what_it_is_told_to():
    page = size_slider(frames(), start=16, ticks=(8, 20, 32)).to_html()
    assert 'type="range" min="0" max="2" step="1" value="1" aria-valuetext="16 px"' in page
    assert re.findall(r'<span style="--at:([\d.]+)">([^<]+)<', page) == [("0.0000", "8 px"), ("1.0000", "32 px")]
    stops = re.findall(r'<div class="msun-stop([^"]*)" data-stop="([^"]+)"', page)
    assert stops == [(" msun-still", "8 px"), (" msun-shown msun-still", "16 px"), (" msun-still", "32 px")]


def test_the_first_and_the_last_stop_are_marked_if_nothing_else_is():
    page = slider({name: Frame("<p>", "<") for name in ("a", "b<", "c")}, "what & how", "c").to_html()
    assert re.findall(r'<span style="--at:[\d.]+">([^<]+)<', page) == ["a", "c"]
    assert "<label>what &amp; how <output>c</output>" in page
    assert 'data-stop="b&lt;"' in page


def test_stops_can_be_anything_but_must_be_several():
    shown = slider({"0": Frame(figure("a"), "a"), "0.01": Frame(figure("b"), "b")}, "lambda", "0.01")
    assert shown.stops[shown.start] == "0.01"
    with pytest.raises(ValueError, match="two stops or more"):
        slider({"0": Frame(figure("a"), "a")}, "lambda", "0")
    with pytest.raises(ValueError, match="one of them to start with"):
        size_slider(frames(), start=9)


@pytest.fixture(scope="module")
def chapter():
    return Chapter()


def png(side=90, mode="RGB"):
    buffer = io.BytesIO()
    Image.new(mode, (side, side + 30), 128).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_an_upload_is_read_from_both_versions_of_ipywidgets(mode):
    for value in (({"name": "a.png", "content": memoryview(png(mode=mode))},), {"a.png": {"content": png(mode=mode)}}):
        assert read_upload(value).shape == (3, 120, 90)
        assert (read_upload(value)[0] == 128).all()


def test_an_upload_is_seen_upright_and_in_its_own_depth():
    buffer, grey = io.BytesIO(), np.full((4, 6), 40_000, np.uint16)
    sideways = Image.Exif()
    sideways[0x0112] = 6
    Image.fromarray(grey).save(buffer, "PNG", exif=sideways)
    pixels = read_upload(({"name": "a.png", "content": memoryview(buffer.getvalue())},))
    assert pixels.shape == (3, 6, 4)
    assert (pixels == 40_000 >> 8).all()


def test_your_own_image_goes_through_every_network_at_the_chosen_size(chapter):
    message, upload, control, shown = own_image(chapter).children
    upload.value = (
        {"name": "a.png", "type": "image/png", "size": 3, "content": memoryview(png()), "last_modified": WHEN},
    )
    for size in (chapter.sizes[0], chapter.largest):
        control.value = size
        assert f"<b>{size} px</b>" in shown.value
        for name in ("Vanilla", "MST", "MSUN"):
            assert f"{name} says" in shown.value
    assert message.value == ""


def test_the_built_book_says_where_an_own_image_can_be_tried(chapter, monkeypatch):
    monkeypatch.setenv(widgets.PAGES, "html")
    assert "runs as a notebook" in own_image(chapter).data


def test_a_card_shows_the_images_own_pixels_and_three_answers_of_each_network():
    picture = np.zeros((4, 6, 3))
    picture[1, 2] = (1, 0.5, 0)
    names = ("a & b", "c", "d", "e")
    rows = {"vanilla": [0.1, 0.6, 0.25, 0.05], "msun": [0.7, 0.1, 0.15, 0.05]}
    card = prediction_card(picture, rows, names, 0, "a & b, 4 px")
    shown = Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", card)[1])))
    assert np.array_equal(np.asarray(shown), np.rint(255 * picture).astype(np.uint8))
    first, second = card.split("<b>Vanilla</b>")[1].split("<b>MSUN</b>")
    assert re.findall(r"<span>([^<]+)</span><span>(\d+)&nbsp;%", first) == [
        ("c", "60"),
        ("d", "25"),
        ("a &amp; b", "10"),
    ]
    assert re.findall(r"width:(\d+)%;background:(#|r)", first) == [("60", "r"), ("25", "r"), ("10", "#")]
    assert re.findall(r"width:(\d+)%;background:(#|r)", second) == [("70", "#"), ("15", "r"), ("10", "r")]
    unknown = prediction_card(picture, rows, names, None, "4 px")
    assert 'alt="4 px"' in unknown
    assert "gradient" not in unknown


def test_the_text_says_which_networks_are_right_where_the_label_is_known(chapter):
    sample = chapter.images(10)
    right = {
        name: model(sample.images[:1]).argmax().item() == sample.labels[0] for name, model in chapter.models.items()
    }
    words = prediction_frame(chapter, sample, 0, chapter.largest).text.split("; ")
    assert ["right" in word for word in words] == list(right.values())


def test_what_is_no_image_is_said_in_words(chapter):
    message, upload, _, shown = own_image(chapter).children
    upload.value = ({"name": "a", "type": "", "size": 3, "content": memoryview(b"abc"), "last_modified": WHEN},)
    assert message.value.startswith("expected an image, got:")
    assert shown.value == ""


def test_the_module_loads_where_there_is_no_stack():
    code = "import ipywidgets; del ipywidgets.Stack; import msun_lite.book.widgets"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
