"""The chapters' tables."""

from collections.abc import Sequence

from IPython.display import Markdown
from tabulate import tabulate


def table(
    rows: Sequence[dict | Sequence], headers: str | Sequence[str] = "keys", words: int = 1, digits: str = ".2f"
) -> Markdown:
    """Show rows as a table; numbers stay on one line with their units.

    Args:
        rows: dictionaries {column: cell} with the same keys, or lists of cells.
        headers: names of the columns, for rows that are lists.
        words: how many columns hold words, which stand to the left: the first ones. Numbers stand to the right.
        digits: format of the cells that are floats.
    """
    if headers == "keys":
        headers, rows = list(rows[0]), [row.values() for row in rows]
    cells = [[_one_line(cell, digits) for cell in row] for row in rows]
    sides = ["left"] * words + ["right"] * (len(headers) - words)
    names = [_one_line(name, digits) for name in headers]
    return Markdown(tabulate(cells, names, tablefmt="pipe", colalign=sides, disable_numparse=True))


def _one_line(cell: object, digits: str) -> str:
    text = f"{cell:{digits}}" if isinstance(cell, float) else str(cell)
    for joined in (" px", " %", " × ", " = "):
        text = text.replace(joined, joined.replace(" ", "\u00a0"))
    return text
