"""The book's sources, and the pages built from them."""

import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import yaml

from tools.book import OPTIONS, ROOT

BOOK = ROOT / "book"
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
TOC = yaml.safe_load((BOOK / "_toc.yml").read_text())
PAGES = [TOC["root"], *(entry["file"] for part in TOC["parts"] for entry in part["chapters"])]
NOTEBOOKS = sorted(BOOK.glob("*.ipynb"))
LARGEST_PAGE = 1_500_000
"""Bytes of a page with sliders and of its pictures, without the shared JavaScript."""


def cells(path, kind):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def test_the_table_of_contents_has_every_page_and_no_other():
    assert sorted(PAGES) == sorted(path.stem for path in BOOK.iterdir() if path.suffix in (".md", ".ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_is_committed(path):
    for cell in cells(path, "code"):
        assert cell.outputs == []
        assert cell.execution_count is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_chapter_starts_with_the_same_cells(path):
    first = [cell.source for cell in cells(NOTEBOOKS[0], "code")[:2]]
    assert [cell.source for cell in cells(path, "code")[:2]] == first
    assert f"git clone --quiet --depth 1 {CONFIG['repository']['url']}" in first[0]
    assert (BOOK / "colab.py").exists()
    assert "book/colab.py" in first[0]
    assert re.search(r'^DATA = "scenes"', first[1], re.MULTILINE)
    assert re.search(r'^RUN = "quick-msun"', first[1], re.MULTILINE)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_chapter_ends_with_a_summary_and_three_to_five_solved_exercises(path):
    text = "\n".join(cell.source for cell in cells(path, "markdown"))
    assert "## Summary" in text
    exercises = text.partition("## Exercises")[2]
    assert 3 <= len(re.findall(r"\{dropdown\} Solution", exercises)) <= 5
    assert "{doc}`reproducibility`" in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_figure_has_a_description_and_a_caption(path):
    for cell in cells(path, "code"):
        drawn = cell.metadata.get("mystnb", {})
        if "figure" in drawn or "image" in drawn:
            assert len(drawn["image"]["alt"]) > 30, cell.source
            assert drawn["figure"]["caption"], cell.source
            assert drawn["figure"]["name"].startswith("fig-"), cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_text_refers_to_every_figure(path):
    text = "\n".join(cell.source for cell in cells(path, "markdown"))
    names = [cell.metadata.get("mystnb", {}).get("figure", {}).get("name") for cell in cells(path, "code")]
    assert [name for name in names if name and f"{{numref}}`{name}`" not in text] == []


def test_there_are_six_sliders_or_more():
    sources = [cell.source for path in NOTEBOOKS for cell in cells(path, "code")]
    sources.append((BOOK / "intro.md").read_text())
    assert sum(bool(re.search(r"^(\w+ = )?(size_)?slider\(", source, re.MULTILINE)) for source in sources) >= 6


def test_the_javascript_is_that_of_the_named_versions():
    record = json.loads((BOOK / "_vendor" / "versions.json").read_text())
    found = [path for path in (BOOK / "_vendor").rglob("*") if path.is_file()]
    files = {path.relative_to(BOOK).as_posix(): path for path in found if path.name != "versions.json"}
    assert {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()} == record["files"]
    assert all(entry["licence"] for entry in record["packages"].values())


class Page(HTMLParser):
    """The links, sources and anchors of a built page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors, self.images = [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        self.links += [attributes[name] for name in ("href", "src") if attributes.get(name)]
        if tag == "img":
            self.images.append(attributes)


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path.read_text()) for path in site.glob("*.html")}


def test_every_page_is_built(site):
    for page in PAGES:
        assert (site / f"{page}.html").exists()


def test_links_anchors_and_images_lead_somewhere(site, pages):
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or link.startswith("//"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                broken.append(f"{path.name}: {link}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                broken.append(f"{path.name}: no anchor {link}")
    assert not broken


def test_every_image_has_words(pages):
    for path, page in pages.items():
        for image in page.images:
            assert image.get("alt"), f"{path.name}: {image}"


def test_colab_links_lead_to_files_of_the_repository(site):
    tracked = subprocess.run(["git", "ls-files", "book"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for path in NOTEBOOKS:
        text = (site / f"{path.stem}.html").read_text()
        found = re.findall(r'href="https://colab[^"]+/blob/main/([^"]+)"', text)
        assert found == [f"book/{path.name}"]
        assert found[0] in tracked.split()


def test_a_page_with_sliders_is_no_heavier_than_allowed(site, pages):
    for path, page in pages.items():
        if 'class="msun-slider"' in path.read_text():
            shown = {image["src"] for image in page.images if image["src"].startswith("_images/")}
            files = [path, *(site / unquote(name) for name in shown)]
            assert sum(file.stat().st_size for file in files) <= LARGEST_PAGE, path.name


def test_no_page_waits_for_the_widgets_of_notebooks(pages):
    for path in pages:
        assert not re.search("require.js|embed-amd|vnd.jupyter.widget", path.read_text()), path.name


def test_a_warning_fails_the_build(tmp_path):
    book = tmp_path / "book"
    book.mkdir()
    (book / "intro.md").write_text("# A page\n\n{doc}`nowhere`\n")
    (book / "_toc.yml").write_text("format: jb-book\nroot: intro\n")
    program = [Path(sys.executable).with_name("jupyter-book"), "build", *OPTIONS, str(book)]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode != 0
    assert "nowhere" in done.stdout + done.stderr


def test_colab_gets_the_light_dependencies_and_keeps_its_pytorch():
    from book.colab import light_dependencies

    names = {re.match(r"[\w-]+", wanted)[0] for wanted in light_dependencies()}
    assert {"jsonargparse", "safetensors", "grad-cam", "scikit-learn"} <= names
    assert not names & {"torch", "torchvision", "ipywidgets"}


def test_colab_says_in_words_that_a_sessions_pytorch_is_too_old(monkeypatch):
    from book import colab

    assert colab.too_old() == []
    monkeypatch.setattr(colab, "installed", {"torch": "2.9.1+cu126", "torchvision": None}.get)
    assert [line.partition(":")[0] for line in colab.too_old()] == ["torch", "torchvision"]
    assert colab.too_old()[0].endswith("this session has 2.9.1+cu126")
    monkeypatch.setattr(colab.subprocess, "run", lambda command: subprocess.CompletedProcess(command, 0))
    with pytest.raises(SystemExit, match="restart the session"):
        colab.install()
    monkeypatch.setattr(colab.subprocess, "run", lambda command: subprocess.CompletedProcess(command, 1))
    with pytest.raises(SystemExit, match="pip says why above"):
        colab.install()
