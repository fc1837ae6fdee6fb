# pyright: basic
# (pyarrow ships no types)
"""Typed tables: one dataclass is a table's Parquet schema, its column descriptions and its structural rules.

In: frozen dataclasses whose fields are ``Annotated[type, Column(...)]``, and rows of them. Out: Parquet files written and read in
batches, never whole. Types: str, int, float, Float32, bool, any of them or None, ``tuple[X, ...]`` of them or of such a dataclass, and
``dict[str, str]``. What a row means does not belong here.
"""

import dataclasses
import functools
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, Self, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from medvl_lib.errors import InputRefused

Row = TypeVar("Row")
Float32 = NewType("Float32", float)  # a float that is stored in 32 bits: embeddings, of which there are many
BATCH_ROWS = 2048  # a few MB of text: memory stays flat however long the table is
PRE_BUFFER = False  # Arrow's own choice reads the whole file ahead, and keeps it in memory until it is closed
SCALARS = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(), Float32: pa.float32()}


@dataclass(frozen=True, slots=True)
class Column:
    """What a column holds."""

    description: str
    unit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnInfo:
    """A column as the UI shows it."""

    name: str
    type: str
    unit: str | None
    description: str
    is_nullable: bool


def _arrow_type(hint: Any) -> tuple[pa.DataType, bool]:
    """The Arrow type of a field and whether it may be null."""
    hint, is_nullable = _plain(hint)
    if hint in SCALARS:
        return SCALARS[hint], is_nullable
    if get_origin(hint) is tuple:
        return pa.list_(pa.field("element", _arrow_type(get_args(hint)[0])[0])), is_nullable  # the name that Parquet gives it
    if hint == dict[str, str]:
        return pa.map_(pa.string(), pa.string()), is_nullable
    if dataclasses.is_dataclass(hint):
        return pa.struct(list(schema(hint))), is_nullable  # pyright: ignore[reportArgumentType]
    if get_origin(hint) is Literal:
        return pa.string(), is_nullable
    raise TypeError(f"{hint!r} is not a column type")


def _plain(hint: Any) -> tuple[Any, bool]:
    """A hint without ``Annotated`` and ``| None``, and whether None was allowed."""
    if get_origin(hint) is Annotated:
        return _plain(get_args(hint)[0])
    if get_origin(hint) in {Union, types.UnionType}:
        inner = [argument for argument in get_args(hint) if argument is not type(None)]
        if len(inner) != 1:
            raise TypeError(f"{hint!r} is not one type or None")
        return inner[0], True
    return hint, False


def schema(model: type) -> pa.Schema:
    """The Parquet schema of a row model."""
    hints = get_type_hints(model, include_extras=True)
    fields: list[pa.Field] = []
    for field in dataclasses.fields(model):
        arrow, is_nullable = _arrow_type(hints[field.name])
        fields.append(pa.field(field.name, arrow, nullable=is_nullable))
    return pa.schema(fields)


def columns(model: type) -> tuple[ColumnInfo, ...]:
    """Name, type, unit and description of every column; raises TypeError for a field without a ``Column``."""
    hints = get_type_hints(model, include_extras=True)
    found: list[ColumnInfo] = []
    for field in schema(model):
        column = next((item for item in getattr(hints[field.name], "__metadata__", ()) if isinstance(item, Column)), None)
        if column is None:
            raise TypeError(f"{model.__name__}.{field.name} has no Column(description)")
        found.append(
            ColumnInfo(name=field.name, type=str(field.type), unit=column.unit, description=column.description, is_nullable=field.nullable)
        )
    return tuple(found)


class TableWriter:
    """Rows in, one Parquet file out, a batch at a time. A context manager; the file counts only after a clean exit."""

    def __init__(self, path: Path, model: type) -> None:
        self._schema = schema(model)
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self.num_rows = 0

    def write(self, row: Any) -> None:
        """Append one row."""
        self._rows.append(_record(row))
        self.num_rows += 1
        if len(self._rows) >= BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()


def write_table(path: Path, model: type, rows: Iterable[Any]) -> int:
    """Write rows of ``model`` to one Parquet file; returns how many there were."""
    with TableWriter(path, model) as writer:
        for row in rows:
            writer.write(row)
    return writer.num_rows


def _from_arrow(hint: Any, value: Any) -> Any:
    hint, _ = _plain(hint)
    if value is None:
        return None
    if get_origin(hint) is tuple:
        return tuple(_from_arrow(get_args(hint)[0], item) for item in value)
    if hint == dict[str, str]:
        return dict(value)
    if dataclasses.is_dataclass(hint):
        return _row(hint, value)  # pyright: ignore[reportArgumentType]
    return value


@functools.cache
def _hints(model: type) -> dict[str, Any]:
    return get_type_hints(model, include_extras=True)


@functools.cache
def _nested(model: type) -> dict[str, Any]:
    """The fields that Arrow and Python hold differently: all but the scalars."""
    return {name: hint for name, hint in _hints(model).items() if pa.types.is_nested(_arrow_type(hint)[0])}


def _row(model: type, record: dict[str, Any]) -> Any:
    for name, hint in _nested(model).items():
        record[name] = _from_arrow(hint, record[name])
    return model(**record)


def _record(row: Any) -> dict[str, Any]:
    """A row as a dict; a deep copy only where something is nested."""
    model = type(row)
    return dataclasses.asdict(row) if _nested(model) else {name: getattr(row, name) for name in _hints(model)}


def read_table(path: Path, model: type[Row]) -> Iterator[Row]:
    """The rows of a Parquet file in order; a file with another schema is refused by column name."""
    require_schema(path, model)
    yield from read_rows(path, model)


def read_rows(path: Path, model: type[Row]) -> Iterator[Row]:
    """The rows of a Parquet file in order, whatever other columns it has: for rules, of which one alone judges the columns."""
    with pq.ParquetFile(path, pre_buffer=PRE_BUFFER) as file:
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(_hints(model))):
            for record in batch.to_pylist():
                yield _row(model, record)


def read_column(path: Path, name: str) -> Iterator[Any]:
    """The values of one column in order, whatever other columns the file has."""
    with pq.ParquetFile(path, pre_buffer=PRE_BUFFER) as file:
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=[name]):
            yield from batch.column(name).to_pylist()


def read_vectors(path: Path, name: str) -> NDArray[np.float32]:
    """A column of vectors of one length as a matrix (rows, D); raises ValueError where their lengths differ."""
    parts: list[NDArray[np.float32]] = []
    with pq.ParquetFile(path, pre_buffer=PRE_BUFFER) as file:
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=[name]):
            column = batch.column(name)
            parts.append(column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1))
    return np.concatenate(parts) if parts else np.zeros((0, 0), dtype=np.float32)


def num_rows(path: Path) -> int:
    """How many rows a Parquet file holds, from its footer."""
    return pq.read_metadata(path).num_rows


def require_schema(path: Path, model: type) -> None:
    """Refuse a Parquet file whose columns are not those of ``model``, naming the first that differs."""
    expected = {field.name: field.type for field in schema(model)}
    found = {field.name: field.type for field in pq.read_schema(path)}
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            raise InputRefused(
                found=f"column {name!r} is {found.get(name, 'absent')}", where=str(path),
                do=f"{model.__name__} wants {expected.get(name, 'no such column')}: materialize the step that writes this file again",
            )  # fmt: skip
