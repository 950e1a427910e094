"""The book's live page: which networks and photographs are on it."""

from pathlib import Path

from IPython.display import HTML

from msun_lite.data import decode
from msun_lite.evaluate import crop_ratio_of, find_model
from msun_lite.live import Shown, answers_at, component, find_photographs, square_at, write_networks, write_page
from msun_lite.networks import DEFAULT, MSUN
from msun_lite.results import NAMES

FOLDER = "live"
"""Where it is in the built book."""

LITE, IMAGENET = "", "imagenet/"
"""Its two components, by the part of the folder that they load: our small networks of ten classes; a published one of
1,000 classes, and what has been made of it."""

TRAINED = ("lite-vanilla", "lite-mst", "lite-msun", "lite-plus")


def shown_networks(part: str) -> list[Shown]:
    """Return the networks of a component, ready for evaluation."""
    if part == IMAGENET:
        plain = MSUN.vanilla("efficientnet_lite0", 224, weights=DEFAULT).eval()
        adapted = MSUN.from_pretrained("lite0-adapted")
        titles = (("lite0", "EfficientNet-Lite0", plain), ("lite0-adapted", "Adapted, without labels", adapted))
        return [Shown(*about, about[-1].spec["crop_ratio"]) for about in titles]
    shown = []
    for name in TRAINED:
        found = find_model(name)
        title = "MSUN, lite-plus" if name == "lite-plus" else NAMES[found.method]
        shown.append(Shown(name, title, MSUN.from_pretrained(name), crop_ratio_of(found, None)))
    return shown


def live_component(part: str = LITE) -> HTML:
    """Return what a page of the book shows: answers to the first photograph, until the reader starts it."""
    return HTML(component(shown_networks(part), find_photographs(), FOLDER, part))


def write_live_page(html: Path) -> None:
    """Write what the components load beside the pages of a built book.

    The weights of the published network are rounded to half precision, which halves what a reader must load.
    """
    write_page(shown_networks(LITE), html / FOLDER, find_photographs())
    write_networks(shown_networks(IMAGENET), html / FOLDER / IMAGENET, find_photographs(), weights="half")


def first_answers(size: int, part: str = LITE) -> list[tuple[str, str, float]]:
    """Return what each network says of the first photograph at a size: its title, the class and the probability."""
    shown, image = shown_networks(part), decode(find_photographs()[0].file)
    largest = max(one.model.scales[-1] for one in shown)
    answers = [answers_at(square_at(image, one.crop_ratio, largest, size), one.model)[0] for one in shown]
    return [(one.title, *answer) for one, answer in zip(shown, answers, strict=True)]
