"""Print the built book into one PDF, `_build/html/msun-lite.pdf`: every page in order, sliders as strips of stops.

    make pdf            # builds the book first; needs Chromium

Chromium prints each page as a reader's own would, and the contents of the book become the PDF's outline.
"""

import argparse
import io
import shutil
import sys
from pathlib import Path

import yaml
from playwright.sync_api import Page, sync_playwright
from pypdf import PdfReader, PdfWriter

from tools.book import ROOT

NAME = "msun-lite.pdf"

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")

READY = """
async (home) => {
  document.documentElement.dataset.theme = "light";
  for (const fold of document.querySelectorAll("details.admonition, details.sd-sphinx-override")) fold.open = true;
  for (const link of document.querySelectorAll("a[href]")) {
    const target = link.getAttribute("href");
    if (!/^(#|[a-z]+:)/.test(target)) link.href = new URL(target, home);
  }
  for (const picture of document.images) picture.loading = "eager";
  await window.MathJax?.startup?.promise;
  await Promise.all([...document.images].map((picture) => picture.decode().catch(() => {})));
}
"""
"""What is done to a page before it is printed: solutions opened, links made to lead to the book online, all drawn."""

FOOT = '<div style="font-size:8px;width:100%;text-align:center"><span class="pageNumber"></span></div>'
"""What stands below each printed page: its number in its chapter."""


def contents() -> list[str]:
    """Return the names of the book's pages, in order."""
    found = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))
    return [found["root"], *(entry["file"] for part in found["parts"] for entry in part["chapters"])]


def printed(page: Page, file: Path, home: str) -> tuple[str, bytes]:
    """Return the title of a built page and the page as a PDF."""
    page.goto(file.resolve().as_uri())
    page.wait_for_load_state("load")
    page.evaluate(READY, f"{home}/{file.name}")
    margin = {"top": "15mm", "bottom": "18mm", "left": "14mm", "right": "14mm"}
    feet = {"display_header_footer": True, "header_template": "<span></span>", "footer_template": FOOT}
    content = page.pdf(format="A4", scale=0.85, margin=margin, print_background=True, **feet)
    return page.locator("h1").first.inner_text().removesuffix("#").strip(), content


def print_book(site: Path, out: Path, names: list[str]) -> int:
    """Print the pages of a built book into one PDF and return how many sheets it has.

    Args:
        site: the folder of the built book.
        out: the PDF.
        names: its pages, in order.

    Raises:
        SystemExit: if a page was not built, or there is no Chromium.
    """
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise SystemExit(f"error: expected Chromium to print the book, found none of {', '.join(PROGRAMS)}")
    for name in names:
        if not (site / f"{name}.html").exists():
            raise SystemExit(f"error: {site / name}.html: expected a built page, found none; make book builds it")
    home = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["html"]["baseurl"]
    writer = PdfWriter()
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--headless", "--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        for name in names:
            title, content = printed(page, site / f"{name}.html", home)
            first = len(writer.pages)
            writer.append(fileobj=PdfReader(io.BytesIO(content)), import_outline=False)
            writer.add_outline_item(title=title, page_number=first)
            print(f"{name}: {len(writer.pages) - first} sheets", flush=True)
        browser.close()
    writer.add_metadata(
        {"/Title": "MSUN Lite: one network for every image size", "/Author": "The MSUN Lite developers"}
    )
    writer.compress_identical_objects()
    writer.write(out)
    return len(writer.pages)


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Print the built book into a PDF.")
    parser.add_argument("--site", type=Path, default=ROOT / "_build" / "html", help="folder of the built book")
    parser.add_argument("--out", type=Path, default=None, help=f"the PDF; {NAME} in that folder by default")
    options = parser.parse_args(argv)
    out = options.out or options.site / NAME
    sheets = print_book(options.site, out, contents())
    print(f"{out}: {sheets} sheets, {out.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
