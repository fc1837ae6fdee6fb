"""Exhibits: what the UI shows of a written directory beside its facts: small tables, pictures and places.

In: rows of a typed table, or a drawing. Out: ``Exhibit``, a name and a function of the directory, and what such a function gives. No row of
a dataset is an exhibit: those are ``examples``, which ask the data card. Whatever is shown stays in the event log for ever, so a table is a
leaderboard and not the scores, and a picture is drawn and not painted. Which step shows what stands in ``route.exhibiting``.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvl_lib.tables import columns

Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownColumn:
    """A column of a shown table."""

    name: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownTable:
    """A small table, every number unrounded."""

    columns: tuple[ShownColumn, ...]
    rows: tuple[tuple[Value, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownPicture:
    """A picture that needs nothing around it."""

    svg: str
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """Something that the UI shows of a directory, by its name."""

    name: str
    show: Callable[[Path], ShownTable | tuple[ShownPicture, ...] | Path]


def table_of(model: type, rows: Iterable[Any], names: Sequence[str]) -> ShownTable:
    """Rows of a typed table, of which the named columns are shown with what they mean; a cell of several texts has them on lines."""
    known = {column.name: column for column in columns(model)}
    shown = [known[name] for name in names]
    return ShownTable(
        columns=tuple(
            ShownColumn(name=column.name, description=column.description + (f" [{column.unit}]" if column.unit else "")) for column in shown
        ),
        rows=tuple(tuple(_value(getattr(row, name)) for name in names) for row in rows),
    )


def _value(value: Any) -> Value:
    return "\n".join(map(str, value)) if isinstance(value, tuple) else value  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
