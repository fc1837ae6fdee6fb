"""Sheets as raters send them back: rows written the way a spreadsheet would, and whatever else people do to a file."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from medvl_lib.reviews.sheet import COLUMNS

Row = Mapping[str, str]


def blank(sheet: Path) -> list[dict[str, str]]:
    """The rows of a sheet as it was handed out."""
    return list(csv.DictReader(io.StringIO(sheet.read_text(encoding="utf-8-sig"), newline="")))


def filled_in(path: Path, rows: Iterable[Row], *, columns: Iterable[str] = COLUMNS, delimiter: str = ",", encoding: str = "utf-8") -> Path:
    """A file with these rows."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), delimiter=delimiter, lineterminator="\r\n", restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.getvalue().encode(encoding))
    return path


def rated_by(
    rater: str, rows: Iterable[Row], correctness: Callable[[Row], int], harmful: Callable[[Row], str] = lambda _: "no"
) -> list[Row]:
    """Every row filled in by one rater."""
    return [{**row, "rater": rater, "correctness": str(correctness(row)), "harmful": harmful(row)} for row in rows]
