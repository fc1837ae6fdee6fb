"""What a report is laid out in: sections of paragraphs, tables, figures and examples; and how a number is written in a cell.

In: values. Out: blocks that HTML and Markdown can both be written from. What stands in which block is ``layout``'s.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medvl_lib.benchmark.terminal import render_cell
from medvl_lib.report.content import Example

NONE = "–"  # what stands in a cell where there is no number
VARIANTS = (
    "base", "nf4", "affine4", "adapter", "int8", "merged", "champion", "floor_empty", "floor_constant", "floor_random", "floor_majority",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell: what is read, and the unrounded number behind it."""

    text: str
    value: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table; its first column names the rows."""

    key: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def number_columns(self) -> frozenset[int]:
        """Which columns hold numbers and gaps alone: they stand to the right."""
        places = range(1, len(self.columns))
        return frozenset(place for place in places if all(row[place].value is not None or row[place].text == NONE for row in self.rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A picture of numbers that stand in a table beside it."""

    svg: str
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotes:
    """Examples under a heading of their own."""

    title: str
    examples: tuple[Example, ...]


Block = str | Table | Figure | Quotes
"""A str is a paragraph."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading and what stands below it."""

    key: str
    title: str
    blocks: tuple[Block, ...]


def cell(value: object) -> Cell:
    """Any value: a number keeps itself behind what is shown of it."""
    if isinstance(value, Cell):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Cell(text=render_cell(value), value=value)
    return Cell(text=NONE if value is None else render_cell(value))


def share(value: float | None, *, signed: bool = False) -> Cell:
    """A number in its metric's range, or a difference of two, to three places."""
    return Cell(text=NONE if value is None else f"{value:{'+' if signed else ''}.3f}", value=value)


def percent(value: float | None) -> Cell:
    """A change for the eye; no benchmark value is ever a percentage."""
    return Cell(text=NONE if value is None else f"{value:+.1f} %", value=value)


def megabytes(value: float | None) -> Cell:
    """Bytes as 10^6 bytes; the number behind it stays in bytes."""
    return Cell(text=NONE if value is None else f"{value / 1e6:,.1f}", value=value)


def interval(mean: float | None, low: float | None, high: float | None, *, signed: bool = False) -> str:
    """A mean with its interval, as it is read aloud."""
    told = share(mean, signed=signed).text
    return told if low is None or high is None else f"{told} ({share(low, signed=signed).text} to {share(high, signed=signed).text})"


def table(key: str, caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table of whatever values: what is no cell yet becomes one."""
    return Table(key=key, caption=caption, columns=tuple(columns), rows=tuple(tuple(map(cell, row)) for row in rows))


def words(name: str) -> str:
    """A name without underscores."""
    return name.replace("_", " ")


def place(variant: str) -> int:
    """Where a variant stands in every table and figure."""
    return VARIANTS.index(variant) if variant in VARIANTS else len(VARIANTS)
