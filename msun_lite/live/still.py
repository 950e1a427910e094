"""What stands in the page before anything is loaded, and where nothing can be: a photograph at one size, answered."""

import base64
import html
import io
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from msun_lite.live.squares import normalised, square_at
from msun_lite.networks import MSUN, class_names

NAMED = 3
"""Classes that are named of each answer."""


@torch.no_grad()
def answers_at(square: Tensor, model: MSUN, top: int = NAMED) -> list[tuple[str, float]]:
    """Return the likeliest classes of a square, floats [1, 3, size, size] from 0 to 255, and their probabilities."""
    shares, labels = model(normalised(square, model.spec))[0].softmax(0).topk(min(top, model.spec["classes"]))
    names = class_names(model.spec)
    return [(names[label], share) for label, share in zip(labels.tolist(), shares.tolist(), strict=True)]


def still(image: Tensor, networks: Sequence[tuple[str, MSUN, float]], largest: int, size: int, words: str) -> str:
    """Return the HTML of an image with the networks' answers to it at one size.

    Args:
        image: uint8 [3, H, W].
        networks: title, model and crop ratio of each.
        largest: of the sizes of the page, in pixels.
        size: in pixels.
        words: what is on the image.
    """
    cards = []
    for number, (title, model, ratio) in enumerate(networks):
        own = min(size, model.scales[-1])
        square = square_at(image, ratio, largest, own)
        served = f"subnet of {model.router.scale(own)} px" if len(model.scales) > 1 else "one network"
        shown = _picture(square, f"{words}, {own} × {own} pixels")
        cards.append(_card(number, title, shown, answers_at(square, model), served))
    return f'<div class="ml-cards">{"".join(cards)}</div>'


def _card(number: int, title: str, picture: str, answers: list[tuple[str, float]], served: str) -> str:
    """Return a network's part, built as the one that live.js builds."""
    bars = "".join(
        f'<li><span class="ml-class">{html.escape(name)}</span><span class="ml-share">{_percent(share)}</span>'
        f'<span class="ml-bar"><i style="width:{100 * share:.1f}%"></i></span></li>'
        for name, share in answers
    )
    return (
        f'<section class="ml-card ml-n{number % 6}"><p class="ml-name">{html.escape(title)}</p>'
        f'<div class="ml-view">{picture}</div><ol class="ml-answers">{bars}</ol>'
        f'<p class="ml-about">{html.escape(served)}</p></section>'
    )


def _percent(share: float) -> str:
    if share < 0.005:
        return "&lt; 1 %"
    if share > 0.995:
        return "&gt; 99 %"
    return f"{100 * share:.0f} %"


def _picture(square: Tensor, words: str) -> str:
    pixels = square[0].round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(words, quote=True)}" src="data:image/png;base64,{data}">'
