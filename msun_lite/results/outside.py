"""Names from outside, of classes, files and data sets, as pictures and Markdown show them: as they are."""

import re

from msun_lite.utils.errors import printable


def drawn_name(name: object, most: int | None = None) -> str:
    """Return a name for a text in a picture, where what stands between dollar signs would be a formula.

    Args:
        name: what is to be read there.
        most: characters that there is room for; a longer name is cut, and ends with an ellipsis.
    """
    text = printable(name)
    if most is not None and len(text) > most:
        text = f"{text[: most - 1].rstrip()}…"
    return text.replace("$", r"\$")


def markdown_name(name: object) -> str:
    """Return a name for a text in Markdown, where it would end a cell of a table, or be code or a formula."""
    return re.sub(r"([\\`*_<>\[\]|#$~])", r"\\\1", printable(name))
