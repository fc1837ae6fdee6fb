"""Typed tables. If these passed wrongly, a value could come back as another one, a foreign file could be read as ours, or a long table
could be lost from its second batch on.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medvl_lib.errors import InputRefused
from medvl_lib.tables import (
    BATCH_ROWS,
    Column,
    ColumnInfo,
    TableWriter,
    columns,
    num_rows,
    read_column,
    read_table,
    require_schema,
    write_table,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    term: Annotated[str, Column("what was found")]
    places: Annotated[tuple[str, ...], Column("where")]
    size: Annotated[float | None, Column("how large", unit="mm")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Everything:
    text: Annotated[str, Column("any text")]
    count: Annotated[int, Column("how many", unit="pages")]
    share: Annotated[float, Column("from 0 to 1")]
    is_read: Annotated[bool, Column("whether it was read")]
    kind: Annotated[Literal["a", "b"], Column("one of two")]
    nothing: Annotated[int | None, Column("perhaps how many")]
    numbers: Annotated[tuple[int, ...], Column("several numbers")]
    findings: Annotated[tuple[Finding, ...], Column("several findings")]
    first: Annotated[Finding | None, Column("one finding")]
    labels: Annotated[dict[str, str], Column("labels")]


FULL = Everything(
    text="µ, 中, \n", count=2**40, share=0.1, is_read=True, kind="b", nothing=7, numbers=(3, 1, 2),
    findings=(Finding(term="cyst", places=("left", "right"), size=4.5), Finding(term="none", places=(), size=None)),
    first=Finding(term="cyst", places=(), size=1.0), labels={"z": "1", "a": ""},
)  # fmt: skip
EMPTY = Everything(
    text="", count=-1, share=-0.0, is_read=False, kind="a", nothing=None, numbers=(), findings=(), first=None, labels={}
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    name: Annotated[str, Column("a name")]
    number: Annotated[int, Column("a number")]


def rows(count: int) -> Iterator[Row]:
    return (Row(name=str(number), number=number) for number in range(count))


def test_every_supported_type_comes_back_as_it_was(tmp_path: Path):
    assert write_table(tmp_path / "all.parquet", Everything, [FULL, EMPTY]) == 2
    found = list(read_table(tmp_path / "all.parquet", Everything))
    assert found == [FULL, EMPTY]
    assert [type(value) for value in (found[0].numbers, found[0].findings, found[0].findings[0], found[0].labels)] == [
        tuple, tuple, Finding, dict,
    ]  # fmt: skip


def test_an_empty_table_has_its_columns(tmp_path: Path):
    assert write_table(tmp_path / "none.parquet", Everything, []) == 0
    require_schema(tmp_path / "none.parquet", Everything)
    assert list(read_table(tmp_path / "none.parquet", Everything)) == []


@pytest.mark.parametrize("count", [BATCH_ROWS - 1, BATCH_ROWS, 2 * BATCH_ROWS + 1])
def test_a_long_table_is_whole_and_in_order(tmp_path: Path, count: int):
    assert write_table(tmp_path / "long.parquet", Row, rows(count)) == count
    assert num_rows(tmp_path / "long.parquet") == count
    assert list(read_table(tmp_path / "long.parquet", Row)) == list(rows(count))
    assert list(read_column(tmp_path / "long.parquet", "number")) == list(range(count))


def test_rows_go_to_disk_while_they_come(tmp_path: Path):
    path = tmp_path / "long.parquet"
    with TableWriter(path, Row) as table:
        for row in rows(3 * BATCH_ROWS):
            table.write(row)
        assert len(table._rows) < BATCH_ROWS
    assert pq.ParquetFile(path).num_row_groups == 3


@pytest.mark.parametrize("row", [replace(FULL, text=None), replace(FULL, count=None)])
def test_none_is_refused_where_it_was_not_declared(tmp_path: Path, row: Everything):
    with pytest.raises(pa.ArrowInvalid, match="non-nullable"):
        write_table(tmp_path / "rows.parquet", Everything, [row])


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (pa.table({"name": ["a"]}), "column 'number' is absent"),
        (pa.table({"name": ["a"], "number": ["1"]}), "column 'number' is string"),
        (pa.table({"name": ["a"], "number": pa.array([1], pa.int32())}), "column 'number' is int32"),
        (pa.table({"name": ["a"], "number": [1], "more": [1]}), "column 'more' is int64"),
    ],
)
def test_a_foreign_table_is_refused_by_the_name_of_its_column(tmp_path: Path, table: pa.Table, says: str):
    pq.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(InputRefused) as refused:
        list(read_table(tmp_path / "rows.parquet", Row))
    assert refused.value.found == says
    assert refused.value.where == str(tmp_path / "rows.parquet")
    assert refused.value.do.startswith("Row wants ")


def test_a_changed_field_of_a_nested_row_is_refused(tmp_path: Path):
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Before:
        findings: Annotated[tuple[Row, ...], Column("several rows")]

    @dataclass(frozen=True, slots=True, kw_only=True)
    class After:
        findings: Annotated[tuple[Finding, ...], Column("several findings")]

    write_table(tmp_path / "rows.parquet", Before, [Before(findings=())])
    with pytest.raises(InputRefused, match="column 'findings'"):
        require_schema(tmp_path / "rows.parquet", After)


def test_columns_carry_type_unit_and_meaning():
    found = {column.name: column for column in columns(Everything)}
    assert found["count"] == ColumnInfo(name="count", type="int64", unit="pages", description="how many", is_nullable=False)
    assert found["nothing"] == ColumnInfo(name="nothing", type="int64", unit=None, description="perhaps how many", is_nullable=True)
    assert list(found) == list(Everything.__dataclass_fields__)


def test_a_field_without_a_column_is_refused():
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Bare:
        name: Annotated[str, Column("a name")]
        number: int

    with pytest.raises(TypeError, match=r"Bare\.number has no Column"):
        columns(Bare)


@pytest.mark.parametrize("hint", [Path, list[int], dict[str, int], int | str])
def test_a_type_that_no_column_can_hold_is_refused(hint: object):
    model = dataclass(type("Odd", (), {"__annotations__": {"field": Annotated[hint, Column("odd")]}}))
    with pytest.raises(TypeError):
        columns(model)
