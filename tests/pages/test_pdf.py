"""The book on paper."""

import shutil

import pytest

from tests.pages.test_book import CONFIG, PAGES

pypdf = pytest.importorskip("pypdf")
pytest.importorskip("playwright")

from tools.pdf import PROGRAMS, contents, main, print_book  # noqa: E402 they need both


def test_the_pages_are_in_the_order_of_the_contents():
    assert contents() == PAGES


def test_a_page_that_was_not_built_is_named(tmp_path):
    with pytest.raises(SystemExit, match="intro.html: expected a built page, found none; make book builds it"):
        main(["--site", str(tmp_path)])


@pytest.mark.skipif(not any(map(shutil.which, PROGRAMS)), reason="needs Chromium")
def test_a_page_is_printed_with_its_sliders_as_strips_and_its_links_lead_online(site, tmp_path):
    out = tmp_path / "book.pdf"
    sheets = print_book(site, out, ["01_scale_collapse", "glossary"])
    found = pypdf.PdfReader(out)
    assert len(found.pages) == sheets > 2
    assert [item.title for item in found.outline] == ["Scale collapse", "Glossary"]
    text = "".join(page.extract_text() for page in found.pages)
    for stop in ("8 px: Vanilla says", "32 px: Vanilla says", "56 px: Vanilla says"):
        assert stop in text.replace("\n", " ")
    links = [note.get_object()["/A"].get("/URI", "") for page in found.pages for note in page.get("/Annots", [])
             if "/A" in note.get_object()]  # fmt: skip
    assert f"{CONFIG['html']['baseurl']}/02_cka.html" in links
    assert not [link for link in links if link.startswith("file:")]
