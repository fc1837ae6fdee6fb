"""The report as one page: no script, nothing from outside, readable on light, dark and paper.

In: a ``Report``. Out: HTML; and a table of such a page read back as rows. Whatever comes from data is escaped by the template, and every
number stands unrounded in ``<data value="...">`` around what is shown of it.
"""

from functools import cache
from html.parser import HTMLParser
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from medvl_lib.report.blocks import Block, Figure, Quotes, Table
from medvl_lib.report.content import Report
from medvl_lib.report.layout import sections
from medvl_lib.report.pictures import STYLE

TEMPLATE = "report.html.jinja"

Value = str | float | None


def environment(*folders: Path) -> Environment:
    """Templates that escape what comes from data, and know blocks: those of these folders, and ``blocks.html.jinja``."""
    found = Environment(
        loader=FileSystemLoader([*folders, Path(__file__).parent]), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    found.filters["kind"] = _kind
    return found


@cache
def _template() -> Template:
    return environment().get_template(TEMPLATE)


def _kind(block: Block) -> str:
    if isinstance(block, str):
        return "paragraph"
    return {Table: "table", Figure: "figure", Quotes: "quotes"}[type(block)]


def render_html(report: Report) -> str:
    """The whole page."""
    return _template().render(report=report, sections=sections(report), picture_style=STYLE)


class _TableReader(HTMLParser):
    """Collects the rows of the table with one id."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self._key = key
        self._is_inside = False
        self._is_in_head = False
        self._value: Value = None
        self.columns: list[str] = []
        self.rows: list[list[Value]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "table":
            self._is_inside = given.get("id") == self._key
        elif not self._is_inside:
            return
        elif tag in {"thead", "tbody"}:
            self._is_in_head = tag == "thead"
        elif tag == "tr" and not self._is_in_head:
            self.rows.append([])
        elif tag in {"td", "th"}:
            self._value = ""
        elif tag == "data":
            self._value = float(given["value"] or "nan")

    def handle_data(self, data: str) -> None:
        if isinstance(self._value, str):
            self._value += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self._is_inside = False
        elif self._is_inside and tag in {"td", "th"}:
            value = self._value.strip() if isinstance(self._value, str) else self._value
            if self._is_in_head:
                self.columns.append(str(value))
            else:
                self.rows[-1].append(value)
            self._value = None


def read_table_of(page: str, key: str) -> list[dict[str, Value]]:
    """The rows of the table ``key`` in a page: column name -> the unrounded number, or the text where there is none."""
    reader = _TableReader(key)
    reader.feed(page)
    return [dict(zip(reader.columns, row, strict=True)) for row in reader.rows]
