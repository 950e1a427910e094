"""The book's live page: which networks and photographs are on it."""

from pathlib import Path

from IPython.display import HTML

from msun_lite.data import decode
from msun_lite.evaluate import crop_ratio_of, find_model
from msun_lite.live import Shown, answers_at, component, find_photographs, square_at, write_page
from msun_lite.networks import MSUN
from msun_lite.results import NAMES

FOLDER = "live"
"""Where it is in the built book."""

SHIPPED = ("lite-vanilla", "lite-mst", "lite-msun", "lite-plus")


def shown_networks() -> list[Shown]:
    """Return the networks of the page, three trained alike and the best, ready for evaluation."""
    shown = []
    for name in SHIPPED:
        found = find_model(name)
        title = "MSUN, lite-plus" if name == "lite-plus" else NAMES[found.method]
        shown.append(Shown(name, title, MSUN.from_pretrained(name), crop_ratio_of(found, None)))
    return shown


def live_component() -> HTML:
    """Return what a page of the book shows: answers to the first photograph, until the reader starts it."""
    return HTML(component(shown_networks(), find_photographs(), FOLDER))


def write_live_page(html: Path) -> None:
    """Write what the component loads beside the pages of a built book."""
    write_page(shown_networks(), html / FOLDER, find_photographs())


def first_answers(size: int) -> list[tuple[str, str, float]]:
    """Return what each network says of the first photograph at a size: its title, the class and the probability."""
    shown, image = shown_networks(), decode(find_photographs()[0].file)
    largest = max(one.model.scales[-1] for one in shown)
    answers = [answers_at(square_at(image, one.crop_ratio, largest, size), one.model)[0] for one in shown]
    return [(one.title, *answer) for one, answer in zip(shown, answers, strict=True)]
