"""Sliders that change a picture: with a kernel or without, on a phone, by keyboard, for a screen reader.

    size_slider({32: frame, 64: frame, 112: frame})

With ipywidgets 8 the slider works in a static page too: every picture is in the page, and the slider shows one of them
without any Python. With ipywidgets 7 (Colab) Python changes the picture.
"""

import base64
import html
import io
from collections.abc import Mapping
from dataclasses import dataclass

import ipywidgets
from IPython.display import HTML, display
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from msun_lite.book.image_figures import prediction_figure
from msun_lite.book.lab import Chapter, Sample
from msun_lite.data import UnreadableImage, decode
from msun_lite.results import NAMES, STYLE

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
        picture: drawn once, when the slider is made.
        text: says in words what can be seen, for all readers: it stands under the picture and is its description.
        sharp: vector graphics, for charts; else WebP, for photographs and anything with many points.
    """

    picture: Figure
    text: str
    sharp: bool = True


class Slider(ipywidgets.VBox):
    """A slider with its picture; in a page read without JavaScript, the picture it starts with."""

    def __init__(self, control: ipywidgets.SelectionSlider, shown: ipywidgets.Widget, still: str):
        super().__init__([control, shown], layout=ipywidgets.Layout(max_width=WIDTH, width="100%"))
        self.add_class("msun-slider")
        self.control = control
        self._still = still

    def _ipython_display_(self, **options) -> None:
        display(HTML(f"<noscript>{self._still}</noscript>"))
        if hasattr(super(), "_ipython_display_"):  # ipywidgets 7
            super()._ipython_display_(**options)
        else:
            display(self._repr_mimebundle_(), raw=True)


def size_slider(frames: Mapping[int, Frame], start: int | None = None) -> Slider:
    """Return a slider over image sizes in pixels; `start` is the first one shown, the largest by default."""
    stops = {f"{size} px": frame for size, frame in sorted(frames.items())}
    return slider(stops, "image size", f"{max(frames) if start is None else start} px")


def slider(frames: Mapping[str, Frame], name: str, start: str) -> Slider:
    """Return a slider over any stops: what is shown and spoken of each -> its frame.

    Args:
        frames: in the slider's order.
        name: what the slider changes.
        start: the stop shown first.

    Raises:
        ValueError: if `start` is none of the stops, or there are fewer than two.
    """
    stops = list(frames)
    if start not in stops or len(stops) < 2:
        raise ValueError(f"slider: expected two stops or more and one of them to start with, got {stops}, {start!r}")
    pages = [_page(stop, frame) for stop, frame in frames.items()]
    control = ipywidgets.SelectionSlider(
        options=[(stop, number) for number, stop in enumerate(stops)],
        value=stops.index(start),
        description=name,
        continuous_update=True,
        layout=ipywidgets.Layout(width="98%", max_width=WIDTH),
        style={"description_width": "initial"},
    )
    shown = _stack(control, pages) if hasattr(ipywidgets, "Stack") else _changed_by_python(control, pages)
    return Slider(control, shown, pages[control.index])


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
    width = CSS_PIXELS * frame.picture.get_figwidth()
    style = f"width:100%;height:auto;--drawn:{width:.0f}px"
    picture = f'<img class="msun-frame" style="{style}" alt="{stop}: {text}" src="{_encoded(frame)}">'
    if width > WIDE:
        picture = f'<div class="msun-scroll">{picture}</div>'
    return f'<figure style="margin:0">{picture}<figcaption><b>{stop}</b>: {text}</figcaption></figure>'


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


def own_image(chapter: Chapter) -> ipywidgets.VBox:
    """Return a form: upload an image, move the slider, see what each network makes of it.

    It needs a running kernel; in a static page a line says so.
    """
    upload = ipywidgets.FileUpload(accept="image/*", multiple=False, description="Choose an image")
    control = ipywidgets.SelectionSlider(
        options=[(f"{size} px", size) for size in chapter.sizes], value=chapter.largest, description="image size"
    )
    message, shown = ipywidgets.HTML(NEEDS_KERNEL), ipywidgets.HTML()

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
    figure = prediction_figure(sample.picture(index, size), rows, names, known, title)
    return Frame(figure, "; ".join(words) + ".", sharp=False)
