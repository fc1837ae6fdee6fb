"""What raters were given, read back: the items of a sheet as its table and its page show them, and nothing of its key.

In: the directory of a sheet. Out: ``Given`` items in their order. Whoever shows these shows no more than the two files that ``medvl reviews
sheet`` hands out.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path

from medvl_lib.reviews.sheet import ANSWER, ENCODING, FORMULA, ITEM, PAGE, QUESTION, SHEET

KEPT = 4  # sheets in memory: each holds its pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """An item as a rater gets it."""

    item_id: str
    question: str
    answer: str
    pictures: tuple[str, ...]
    """As data URIs; none where the data card does not allow to show them."""
    looked_up: str
    """The pair whose picture is to be looked up where the data lie; empty where the pictures are here."""


@lru_cache(maxsize=KEPT)
def given(directory: Path) -> tuple[Given, ...]:
    """Every item of a sheet; what was written does not change, so it is read once."""
    page = _PageReader()
    page.feed((directory / PAGE).read_text(encoding="utf-8"))
    return tuple(_rows(directory / SHEET, page))


def _rows(sheet: Path, page: "_PageReader") -> Iterator[Given]:
    for row in csv.DictReader(io.StringIO(sheet.read_text(encoding=ENCODING), newline="")):
        item_id = row[ITEM]
        shown = page.texts.get(item_id)
        question, answer = shown if shown else (_as_said(row[QUESTION]), _as_said(row[ANSWER]))
        yield Given(
            item_id=item_id, question=question, answer=answer, pictures=tuple(page.pictures.get(item_id, ())),
            looked_up="" if shown else page.pairs[item_id],
        )  # fmt: skip


def _as_said(cell: str) -> str:
    """A text of the table without the sign that keeps a spreadsheet from running it."""
    return cell[1:] if cell.startswith(tuple(f"'{mark}" for mark in FORMULA)) else cell


class _PageReader(HTMLParser):
    """Collects what a sheet's page shows of each item: pictures, question and answer, or the pair to look up."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: dict[str, list[str]] = {}
        self.texts: dict[str, list[str]] = {}
        self.pairs: dict[str, str] = {}
        self._item = self._hidden = ""
        self._text: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "article":
            self._item = found["id"] or ""
            self.pictures[self._item], self.texts[self._item] = [], []
        elif tag == "img" and self._item:
            self.pictures[self._item].append(found["src"] or "")
        elif tag in {"dd", "th", "td"}:
            self._text = ""

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self._text += data

    def handle_endtag(self, tag: str) -> None:
        said, self._text = self._text, None
        if tag == "article":
            self._item = ""
        elif said is None:
            return
        elif tag == "dd":
            self.texts[self._item].append(said)
        elif tag == "th":
            self._hidden = said
        elif tag == "td":
            self.pairs[self._hidden] = said
