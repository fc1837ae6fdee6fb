"""A table for the terminal: aligned, three significant digits, ``-`` for null.

In: column names and rows, as ``publish.ask`` gives them. Out: text. Rounding happens here and nowhere before.
"""

import unicodedata
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

SIGNIFICANT_DIGITS = 3
WIDEST_CELL = 120
PLAIN_RANGE = (1e-4, 1e6)  # beyond it a number is shown with an exponent


def _width(text: str) -> int:
    """Columns of a terminal that ``text`` takes: a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _number(value: float) -> str:
    short = f"{value:.{SIGNIFICANT_DIGITS}g}"
    if value == 0 or not PLAIN_RANGE[0] <= abs(value) < PLAIN_RANGE[1]:
        return short
    return format(Decimal(short), "f")


def render_cell(value: Any) -> str:
    """One value: floats to three significant digits, counts in full, lists and texts on one line."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, list | tuple):
        return "; ".join(render_cell(item) for item in value)  # pyright: ignore[reportUnknownVariableType]
    return " ".join(str(value).split())


def _cut(text: str) -> str:
    """A cell of a terminal's table; longer ones are cut visibly, and whole in any other client."""
    return text if _width(text) <= WIDEST_CELL else text[: WIDEST_CELL - 1] + "…"


def render_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """The rows under their column names, numbers to the right, and how many there are below."""
    cells = [list(columns), *([_cut(render_cell(value)) for value in row] for row in rows)]
    widths = [max(_width(line[index]) for line in cells) for index in range(len(columns))]
    is_number = [
        any(isinstance(row[index], int | float) for row in rows) and all(isinstance(row[index], int | float | None) for row in rows)
        for index in range(len(columns))
    ]

    def line(texts: Sequence[str]) -> str:
        padded = (
            " " * (width - _width(text)) + text if right else text + " " * (width - _width(text))
            for text, width, right in zip(texts, widths, is_number, strict=True)
        )
        return "  ".join(padded).rstrip()

    rule = "  ".join("-" * width for width in widths)
    count = f"({len(rows)} row{'' if len(rows) == 1 else 's'})"
    return "\n".join([line(cells[0]), rule, *(line(texts) for texts in cells[1:]), count])
