"""An answer as text: a table for a person, aligned and shortened; CSV or JSON for a program, whole.

In: column names and rows, as ``publish.ask`` gives them. Out: text. Rounding and cutting happen in ``render_table`` and nowhere before.
"""

import csv
import io
import json
import math
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from medvl_lib.errors import MedVLError

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
    return visible(" ".join(str(value).split()))


def visible(text: str) -> str:
    r"""What a terminal would obey, and nobody see, by its code: a text from data moves no cursor.

    >>> visible("a\x1b[2J")
    'a\\x1b[2J'
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _cut(text: str) -> str:
    """A cell of a terminal's table; longer ones are cut visibly, and whole in CSV and JSON."""
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


def _plain(value: Any) -> Any:
    """A value as JSON has it, nothing rounded: dates and ids as text, and so what is no finite number."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def render_json(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A list with an object for each row; raises MedVLError for two columns of one name, of which an object could hold only one."""
    if twice := [name for name, number in Counter(columns).items() if number > 1]:
        raise MedVLError(
            found=f"{len(twice)} names that several columns have, first {twice[0]!r}", where="the columns of the answer",
            do=f'give each a name of its own, such as `select a.mean as "adapter_{twice[0]}"`, or ask for --csv',
        )  # fmt: skip
    return json.dumps([dict(zip(columns, map(_plain, row), strict=True)) for row in rows], ensure_ascii=False, indent=1)


def render_csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Lines of comma-separated values under their names; null is an empty field, a list or a map is JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in map(_plain, rows):
        writer.writerow([json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value for value in row])
    return text.getvalue().removesuffix("\n")
