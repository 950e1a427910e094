"""A folder that a web server shows as the live page: the component, its runtime, the networks and the photographs."""

import html
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from msun_lite.data import decode
from msun_lite.live.photographs import Photograph
from msun_lite.live.still import still
from msun_lite.networks import MSUN, class_names, default_sizes, flops_by_size, new_folder, serving
from msun_lite.utils.errors import UserError, one_of

ROOM = Path(__file__).parent
RUNTIME = ROOM / "onnxruntime"
"""ONNX Runtime for browsers, renewed by tools/vendor.py."""

WEIGHTS = ("shared", "half")
"""How a page keeps weights, see `MSUN.export`."""

GRAPHS = ("scale-*.onnx", "weights.bin")
"""What a page needs of an exported model; all else that it must know is in live.json."""


SAID = ("name", "title", "labels", "credit", "source")
"""What a page says of a photograph."""

COMPONENT = """<link rel="stylesheet" href="{folder}/live.css">
<msun-live from="{part}">{still}
<noscript><p>To try it with your own photograph, switch JavaScript on.</p></noscript>
<p class="ml-small ml-from-file" hidden>Browsers run this only from a web server: for instance
<code>python -m http.server</code> in the folder of this page, and then http://127.0.0.1:8000.</p></msun-live>
<script>
for (const line of document.querySelectorAll(".ml-from-file")) line.hidden = location.protocol !== "file:";
</script>
<script type="module" src="{folder}/live.js"></script>"""
"""The component as a page holds it: what it shows before it is started, or where it cannot be."""


@dataclass(frozen=True)
class Shown:
    """A network of a page.

    Args:
        name: of its folder.
        title: what readers see.
        model: ready for evaluation, on the CPU.
        crop_ratio: side of the central square that it looks at, as a part of a photograph's shorter side.
    """

    name: str
    title: str
    model: MSUN
    crop_ratio: float


def title_networks(named: Sequence[tuple[str, str]]) -> list[str]:
    """Return titles, all different, of networks by their names and what their methods are called."""
    times = Counter(method for _, method in named)
    return [method if times[method] == 1 else f"{method} ({name})" for name, method in named]


def write_page(
    networks: Sequence[Shown],
    folder: str | Path,
    photographs: Sequence[Photograph] = (),
    weights: str = "shared",
    title: str = "One photograph, every size",
) -> Path:
    """Write the live page of some networks into a new folder, whole or not at all.

    It starts with the first of the photographs, at the smallest size. `index.html` is a page of its own; another page
    of the same server shows the same with the lines of `component`.

    Args:
        networks: their names and titles all different.
        folder: which must not exist yet.
        photographs: to choose from beside one's own.
        weights: one of `WEIGHTS`.
        title: of the page.

    Returns:
        The folder.

    Raises:
        UserError: if the folder exists or cannot be made, if names are repeated, or for what `MSUN.export` refuses.
    """
    _check(networks, weights)
    with new_folder(Path(folder)) as unfinished:
        _fill(unfinished, networks, photographs, weights)
        for path in (ROOM / "assets").glob("live*"):
            shutil.copyfile(path, unfinished / path.name)
        shutil.copytree(RUNTIME, unfinished / "onnxruntime")
        page = (ROOM / "assets" / "index.html").read_text(encoding="utf-8")
        page = page.replace("{title}", html.escape(title)).replace("{component}", component(networks, photographs))
        (unfinished / "index.html").write_text(page, encoding="utf-8")
    return Path(folder)


def write_networks(
    networks: Sequence[Shown], folder: str | Path, photographs: Sequence[Photograph] = (), weights: str = "shared"
) -> Path:
    """Write what one more component of a live page loads into a new folder below that page's; see `write_page`."""
    _check(networks, weights)
    with new_folder(Path(folder)) as unfinished:
        _fill(unfinished, networks, photographs, weights)
    return Path(folder)


def _check(networks: Sequence[Shown], weights: str) -> None:
    one_of("weights", weights, WEIGHTS)
    check_names([shown.name for shown in networks])


def _fill(folder: Path, networks: Sequence[Shown], photographs: Sequence[Photograph], weights: str) -> None:
    """Write networks, photographs and what the script must know of them into a folder."""
    for shown in networks:
        exported = shown.model.export(folder / "exported", "onnx", shown.crop_ratio, weights)
        kept = folder / "networks" / shown.name
        kept.mkdir(parents=True)
        for pattern in GRAPHS:
            for path in exported.glob(pattern):
                path.rename(kept / path.name)
        shutil.rmtree(exported)
    (folder / "photographs").mkdir()
    for photograph in photographs:
        shutil.copyfile(photograph.file, folder / "photographs" / photograph.name)
    about = describe(networks, photographs, folder)
    (folder / "live.json").write_text(json.dumps(about, indent=1, ensure_ascii=False), encoding="utf-8")


def check_names(names: Sequence[str]) -> None:
    """Raise a `UserError` if networks of a page have the same name."""
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise UserError(f"page: expected networks of different names, got {twice[0]!r} twice")


def sizes(networks: Sequence[Shown]) -> tuple[int, int]:
    """Return the smallest and the largest size of a page, in pixels."""
    return min(default_sizes(one.model.scales)[0] for one in networks), max(one.model.scales[-1] for one in networks)


def component(networks: Sequence[Shown], photographs: Sequence[Photograph], folder: str = ".", part: str = "") -> str:
    """Return the HTML of the component, with its still in it.

    Args:
        networks: of the page.
        photographs: likewise.
        folder: where `write_page` has written, as seen from the page that shows the component.
        part: for one more component, where `write_networks` has written, as seen from there: `more/`.
    """
    smallest, largest = sizes(networks)
    shown = ""
    if photographs:
        first = photographs[0]
        image = decode(first.file)
        parts = [(one.title, one.model, one.crop_ratio) for one in networks]
        known = {name for one in networks for name in class_names(one.model.spec)}
        shown = f'<p class="ml-lead">{html.escape(_lead(first, smallest, known))}</p>'
        shown += still(image, parts, largest, smallest, first.title)
    return COMPONENT.format(folder=folder, part=part, still=shown)


def _lead(photograph: Photograph, size: int, known: set[str]) -> str:
    unknown = "" if known.intersection(photograph.labels) else ", though none knows such things"
    return f"A photograph of {photograph.title}, {size} × {size} pixels, and what each network says it is{unknown}:"


def describe(networks: Sequence[Shown], photographs: Sequence[Photograph], folder: Path) -> dict:
    """Return what the page's script must know, live.json, of the files that lie in `folder`."""
    smallest, largest = sizes(networks)
    runtime = sorted(path.name for path in RUNTIME.iterdir() if path.suffix in (".mjs", ".gz"))
    return {
        "smallest": smallest,
        "largest": largest,
        "ticks": sorted({scale for one in networks for scale in one.model.scales} | {smallest}),
        "runtime": {path: (RUNTIME / path).stat().st_size for path in runtime},
        "networks": [describe_network(one, folder / "networks" / one.name) for one in networks],
        "photographs": [
            {name: getattr(one, name) for name in ("name", "title", "labels", "credit", "source")}
            for one in photographs
        ],
    }


def describe_network(shown: Shown, folder: Path) -> dict:
    """Return what the script must know of a network, whose graphs lie in `folder`."""
    model, rows = shown.model, serving(shown.model.router)
    counted = flops_by_size(model, [row["upto"] for row in rows])
    return {
        "name": shown.name,
        "title": shown.title,
        "classes": class_names(model.spec),
        "scales": list(model.scales),
        "antialias": model.antialias,
        "averages": bool(model.averages),
        "normalisation": model.spec["normalisation"],
        "crop_ratio": shown.crop_ratio,
        "serving": [row | {"flops": counted[row["scale"]][row["upto"]]} for row in rows],
        "files": {path.name: path.stat().st_size for path in sorted(folder.iterdir())},
    }
