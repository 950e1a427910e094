"""Sliders that change a picture: with a kernel or without, on a phone, by keyboard, for a screen reader, on paper.

    size_slider({32: frame, 64: frame, 112: frame}, ticks=(32, 112))

Where a notebook runs, the slider is one of ipywidgets: in version 8 the browser changes the picture, in 7 (Colab)
Python does. In the built book, where `tools/book.py` sets `MSUN_LITE_PAGES`, it is the browser's own. Such a page has
all the pictures, and needs a few lines of JavaScript; on paper and without JavaScript three of them stand side by side.
"""

import base64
import html
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ipywidgets
from IPython.display import HTML, display
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from msun_lite.book.cards import prediction_card
from msun_lite.book.lab import Chapter, Sample
from msun_lite.data import UnreadableImage, decode
from msun_lite.results import NAMES, STYLE

PAGES = "MSUN_LITE_PAGES"
"""Environment variable that says, if it is set, that pages without a kernel are made."""

QUALITY = 60
"""Quality of WebP pictures, 0 to 100: letters stay clear, and a cloud of points weighs a third less than at 80."""

NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
"""What a drawing says of how it was made: half a kilobyte in each of a page's many frames, else."""

CSS_PIXELS = 96
"""Pixels of a page an inch."""

WIDE = 720
"""Pixels of a page; a picture drawn wider than that scrolls on a phone, where its letters would get too small else."""

WIDTH = "44rem"
"""Widest a slider gets; on a phone it is as wide as the page."""


@dataclass(frozen=True)
class Frame:
    """What a slider shows at one of its stops.

    Args:
        picture: drawn once, when the slider is made; or HTML.
        text: says in words what can be seen, for all readers: it stands under the picture and is its description.
        sharp: how it is drawn: vector graphics, for charts; else WebP, for photographs and anything with many points.
    """

    picture: Figure | str
    text: str
    sharp: bool = True


class Slider:
    """A slider and its pictures, one of them shown; see `slider`.

    Args:
        name: what the slider changes.
        pages: what is shown and spoken of each stop -> its HTML.
        start: the stop shown first.
        ticks: the stops that have a mark; the first and the last by default.
        width: widest that it gets, as CSS has it.
    """

    def __init__(self, name: str, pages: Mapping[str, str], start: str, ticks: Sequence[str] = (), width: str = WIDTH):
        self.name, self.stops, self.pages, self.width = name, list(pages), list(pages.values()), width
        self.start = self.stops.index(start)
        self.ticks = [self.stops.index(stop) for stop in ticks] or [0, len(self.stops) - 1]

    def widget(self) -> ipywidgets.VBox:
        """Return it as a widget, which needs a kernel in ipywidgets 7 alone."""
        control = ipywidgets.SelectionSlider(
            options=[(stop, number) for number, stop in enumerate(self.stops)],
            value=self.start,
            description=self.name,
            continuous_update=True,
            layout=ipywidgets.Layout(width="98%", max_width=self.width),
            style={"description_width": "initial"},
        )
        make = _stack if hasattr(ipywidgets, "Stack") else _changed_by_python
        layout = ipywidgets.Layout(max_width=self.width, width="100%")
        return ipywidgets.VBox([control, make(control, self.pages)], layout=layout)

    def to_html(self) -> str:
        """Return it as part of a page, whose style and script are those of the book."""
        last, name = len(self.stops) - 1, html.escape(self.name, quote=True)
        spoken = [html.escape(stop, quote=True) for stop in self.stops]
        stills = {0, last // 2, last}
        figures = "".join(
            f'<div class="{_classes(number == self.start, number in stills)}" data-stop="{stop}">{page}</div>'
            for number, (stop, page) in enumerate(zip(spoken, self.pages, strict=True))
        )
        marks = "".join(f'<span style="--at:{number / last:.4f}">{spoken[number]}</span>' for number in self.ticks)
        return (
            f'<div class="msun-slider" style="max-width:{self.width}"><div class="msun-control"><label>{name} '
            f'<output>{spoken[self.start]}</output><input type="range" min="0" max="{last}" step="1" '
            f'value="{self.start}" aria-valuetext="{spoken[self.start]}" autocomplete="off"></label>'
            f'<div class="msun-ticks" aria-hidden="true">{marks}</div></div>'
            f'<div class="msun-stops">{figures}</div></div>'
        )

    def _ipython_display_(self) -> None:
        display(HTML(self.to_html()) if PAGES in os.environ else self.widget())


def size_slider(
    frames: Mapping[int, Frame], start: int | None = None, ticks: Sequence[int] = (), width: str = WIDTH
) -> Slider:
    """Return a slider over image sizes in pixels; `start` is the first one shown, the largest by default.

    Args:
        frames: size -> what is shown.
        start: one of the sizes.
        ticks: sizes that have a mark, such as a network's scales; those that are no stop have none.
        width: widest that it gets, as CSS has it.
    """
    stops = {f"{size} px": frame for size, frame in sorted(frames.items())}
    first = max(frames) if start is None else start
    return slider(stops, "image size", f"{first} px", [f"{size} px" for size in ticks if size in frames], width)


def slider(frames: Mapping[str, Frame], name: str, start: str, ticks: Sequence[str] = (), width: str = WIDTH) -> Slider:
    """Return a slider over any stops: what is shown and spoken of each -> its frame.

    Args:
        frames: in the slider's order.
        name: what the slider changes.
        start: the stop shown first.
        ticks: the stops that have a mark; the first and the last by default.
        width: widest that it gets, as CSS has it.

    Raises:
        ValueError: if `start` is none of the stops, or there are fewer than two.
    """
    stops = list(frames)
    if start not in stops or len(stops) < 2:
        raise ValueError(f"slider: expected two stops or more and one of them to start with, got {stops}, {start!r}")
    return Slider(name, {stop: _page(stop, frame) for stop, frame in frames.items()}, start, ticks, width)


def _classes(shown: bool, still: bool) -> str:
    """Return the classes of a stop: the one that is `shown`, and those that stand side by side on paper."""
    return " ".join(["msun-stop", *["msun-shown"] * shown, *["msun-still"] * still])


def _stack(control: ipywidgets.SelectionSlider, pages: list[str]) -> ipywidgets.Widget:
    """Return all pages, one of them shown: which one is the slider's index, linked in the browser."""
    stack = ipywidgets.Stack([ipywidgets.HTML(page) for page in pages], selected_index=control.index)
    ipywidgets.jslink((control, "index"), (stack, "selected_index"))
    return stack


def _changed_by_python(control: ipywidgets.SelectionSlider, pages: list[str]) -> ipywidgets.HTML:
    """Return one page that a kernel changes: ipywidgets 7 has no Stack."""
    shown = ipywidgets.HTML(pages[control.index])
    control.observe(lambda change: setattr(shown, "value", pages[change["new"]]), "index")
    return shown


def _page(stop: str, frame: Frame) -> str:
    text = html.escape(frame.text, quote=True)
    stop = html.escape(stop, quote=True)
    picture = _card(frame, f"{stop}: {text}") if isinstance(frame.picture, str) else _drawn(frame, f"{stop}: {text}")
    return f'<figure style="margin:0">{picture}<figcaption><b>{stop}</b>: {text}</figcaption></figure>'


def _card(frame: Frame, words: str) -> str:
    return f'<div class="msun-frame" role="img" aria-label="{words}">{frame.picture}</div>'


def _drawn(frame: Frame, words: str) -> str:
    width = CSS_PIXELS * frame.picture.get_figwidth()
    kind = "msun-frame msun-chart" if frame.sharp else "msun-frame"
    style = f"width:100%;height:auto;--drawn:{width:.0f}px"
    picture = f'<img class="{kind}" style="{style}" alt="{words}" src="{_encoded(frame)}">'
    return f'<div class="msun-scroll">{picture}</div>' if width > WIDE else picture


def _encoded(frame: Frame) -> str:
    """Return a frame's picture as a data address."""
    buffer = io.BytesIO()
    with rc_context({**STYLE, "svg.fonttype": "none"}):  # letters as letters: a quarter of the size
        if frame.sharp:
            frame.picture.savefig(buffer, format="svg", metadata=NO_METADATA)
            kind = "svg+xml"
        else:
            frame.picture.savefig(buffer, format="png", dpi=130)
            image = Image.open(buffer).convert("RGB")
            buffer = io.BytesIO()
            image.save(buffer, "WEBP", quality=QUALITY, method=6)  # the slowest way, and the smallest file
            kind = "webp"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


NEEDS_KERNEL = "Your own image: upload one here when this page runs as a notebook (Colab, Jupyter)."


def own_image(chapter: Chapter) -> ipywidgets.VBox | HTML:
    """Return a form: upload an image, move the slider, see what each network makes of it.

    It needs a running kernel; in the built book a line says so.
    """
    if PAGES in os.environ:
        return HTML(f'<p>{NEEDS_KERNEL} Or <a href="try_it.html">try it in the page</a>.</p>')
    upload = ipywidgets.FileUpload(accept="image/*", multiple=False, description="Choose an image")
    control = ipywidgets.SelectionSlider(
        options=[(f"{size} px", size) for size in chapter.sizes], value=chapter.largest, description="image size"
    )
    message, shown = ipywidgets.HTML(), ipywidgets.HTML()

    def redraw(_: object) -> None:
        if not upload.value:
            return
        try:
            image = read_upload(upload.value)
        except UnreadableImage as error:
            message.value, shown.value = html.escape(f"expected an image, got: {error}"), ""
            return
        frame = prediction_frame(chapter, chapter.sample(image), 0, control.value)
        message.value, shown.value = "", _page(f"{control.value} px", frame)

    upload.observe(redraw, "value")
    control.observe(redraw, "value")
    return ipywidgets.VBox([message, upload, control, shown], layout=ipywidgets.Layout(max_width=WIDTH))


def read_upload(value: tuple | dict) -> Tensor:
    """Return the image in an upload widget's value, uint8 [3, H, W]: a tuple of files in ipywidgets 8, a dict in 7.

    Raises:
        UnreadableImage: if it is none.
    """
    name, file = next(iter(value.items())) if isinstance(value, dict) else (value[0]["name"], value[0])
    return decode(io.BytesIO(bytes(file["content"])), name)


def prediction_frame(chapter: Chapter, sample: Sample, index: int, size: int) -> Frame:
    """Return image `index` of a sample as the networks get it at a size, with what each makes of it.

    Where its label is known, it is in the title, and the text says which networks are right.
    """
    image, label, names = sample.images[index : index + 1], int(sample.labels[index]), chapter.class_names
    rows = {method: chapter.probabilities(method, image, size)[0].tolist() for method in chapter.models}
    words = []
    for method, row in rows.items():
        best = max(range(len(row)), key=row.__getitem__)
        verdict = "" if label < 0 else ", right" if best == label else ", wrong"
        words.append(f"{NAMES[method]} says {names[best]} with {100 * row[best]:.0f} %{verdict}")
    known = None if label < 0 else label
    title = f"{size} px" if known is None else f"{names[label]}, {size} px"
    card = prediction_card(sample.picture(index, size), rows, names, known, title)
    return Frame(card, "; ".join(words) + ".")
