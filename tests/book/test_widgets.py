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
from msun_lite.book.lab import Chapter
from msun_lite.book.widgets import Frame, own_image, prediction_frame, read_upload, size_slider, slider

WHEN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def figure(text):
    drawn = Figure(figsize=(2, 1))
    drawn.text(0.1, 0.5, text)
    return drawn


def frames(sharp=True):
    return {size: Frame(figure(f"{size}"), f"what is seen at <{size}>", sharp) for size in (32, 8, 16)}


def test_the_slider_has_its_stops_in_order_and_starts_at_the_largest():
    shown = size_slider(frames())
    assert [label for label, _ in shown.control.options] == ["8 px", "16 px", "32 px"]
    assert shown.control.label == "32 px"
    assert shown.control.description == "image size"


def test_the_browser_itself_changes_the_picture(monkeypatch):
    links = []
    monkeypatch.setattr(widgets.ipywidgets, "jslink", lambda *ends: links.append(ends))
    control, stack = size_slider(frames(), start=16).children
    assert links == [((control, "index"), (stack, "selected_index"))]
    assert stack.selected_index == control.index == 1


def test_pictures_that_a_phone_would_shrink_too_far_are_framed_to_scroll():
    for width, framed in ((9, True), (7, False)):
        shown = {size: Frame(Figure(figsize=(width, 1)), f"{size}") for size in (8, 16)}
        pages = [child.value for child in size_slider(shown).children[1].children]
        assert all(('class="msun-scroll"' in page) == framed for page in pages)
        assert all(f"--drawn:{96 * width}px" in page for page in pages)


@pytest.mark.parametrize(("sharp", "kind"), [(True, "svg+xml"), (False, "webp")])
def test_each_stop_has_its_own_picture_with_a_description(sharp, kind):
    _, stack = size_slider(frames(sharp)).children
    pages = [child.value for child in stack.children]
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
    control, shown = size_slider(frames()).children
    assert isinstance(shown, ipywidgets.HTML)
    for number, size in enumerate((8, 16, 32)):
        control.index = number
        assert f"<b>{size} px</b>" in shown.value


def test_a_page_without_javascript_has_the_first_picture(monkeypatch):
    outputs = []
    monkeypatch.setattr(widgets, "display", lambda content, **options: outputs.append(content))
    size_slider(frames(), start=8)._ipython_display_()
    assert outputs[0].data.startswith("<noscript>")
    assert "what is seen at &lt;8&gt;" in outputs[0].data
    assert "application/vnd.jupyter.widget-view+json" in outputs[1]


def test_stops_can_be_anything_but_must_be_several():
    shown = slider({"0": Frame(figure("a"), "a"), "0.01": Frame(figure("b"), "b")}, "lambda", "0.01")
    assert shown.control.label == "0.01"
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
    assert "runs as a notebook" in message.value
    upload.value = (
        {"name": "a.png", "type": "image/png", "size": 3, "content": memoryview(png()), "last_modified": WHEN},
    )
    for size in (chapter.sizes[0], chapter.largest):
        control.value = size
        assert f"<b>{size} px</b>" in shown.value
        for name in ("Vanilla", "MST", "MSUN"):
            assert f"{name} says" in shown.value
    assert message.value == ""


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
