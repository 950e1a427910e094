"""What networks answer to one image, as HTML that needs no style sheet: bars in the page's own letters and colours."""

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from msun_lite.results import NAMES

LIKELIEST = 3
"""Classes that are named."""

RIGHT, WRONG = "#0072B2", "repeating-linear-gradient(45deg, #9a9a9a 0 4px, #c8c8c8 4px 8px)"
"""How bars are filled, so that they can be told apart without colours."""


def prediction_card(
    picture: NDArray,
    probabilities: dict[str, Sequence[float]],
    class_names: Sequence[str],
    label: int | None,
    title: str,
) -> str:
    """Return one image as the networks get it, and beside it how sure each network is of its three likeliest classes.

    Side by side where there is room, else one under the other.

    Args:
        picture: [H, W, 3] from 0 to 1; its pixels are shown as they are.
        probabilities: method -> probabilities [classes].
        class_names: what the classes are called.
        label: the image's class, whose bars are filled, while the others are hatched; None if it is unknown.
        title: what stands under the image, and describes it.
    """
    columns = "".join(_column(NAMES[method], row, class_names, label) for method, row in probabilities.items())
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:0.5rem 1.25rem;line-height:1.35;font-size:0.9rem">'
        '<div style="flex:1 1 8rem;max-width:12rem">'
        f'<img src="{_encoded(picture)}" alt="{html.escape(title, quote=True)}" class="msun-card-picture" '
        'style="display:block;width:100%;image-rendering:pixelated">'
        f"<div>{html.escape(title)}</div></div>"
        f'<div style="flex:4 1 16rem;display:flex;flex-wrap:wrap;gap:0.5rem 1.25rem">{columns}</div></div>'
    )


def _column(name: str, row: Sequence[float], class_names: Sequence[str], label: int | None) -> str:
    """Return a network's answers, one under the other."""
    likeliest = sorted(range(len(row)), key=lambda index: -row[index])[:LIKELIEST]
    bars = "".join(_bar(class_names[index], row[index], label in (None, index)) for index in likeliest)
    return f'<div style="flex:1 1 8rem;min-width:8rem"><b>{html.escape(name)}</b>{bars}</div>'


def _bar(name: str, share: float, right: bool) -> str:
    percent, fill = f"{100 * share:.0f}", RIGHT if right else WRONG
    return (
        '<div style="margin-top:0.3rem"><div style="display:flex;justify-content:space-between;gap:0.5rem">'
        f"<span>{html.escape(name)}</span><span>{percent}&nbsp;%</span></div>"
        '<div style="height:0.55rem;border-radius:2px;background:rgb(128 128 128 / 18%)">'
        f'<div style="height:100%;border-radius:2px;width:{percent}%;background:{fill}"></div></div></div>'
    )


def _encoded(picture: NDArray) -> str:
    """Return a picture as a data address, its pixels as they are: a small image weighs next to nothing."""
    buffer = io.BytesIO()
    Image.fromarray(np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
