"""What all rules stand on. If these passed wrongly, a rule could pass on rows that it never read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import duckdb
import pytest

from medvl_lib.rules import batches, columns_are_as_declared, no_rows, rule, stream
from medvl_lib.tables import Column, write_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    name: Annotated[str, Column("a name")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    name: Annotated[int, Column("a number")]


def table(folder: Path, *names: str) -> Path:
    write_table(folder / "rows.parquet", Row, (Row(name=name) for name in names))
    return folder / "rows.parquet"


def test_rows_come_in_order_and_in_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("medvl_lib.rules.BATCH_ROWS", 2)
    path = table(tmp_path, "c", "a", "b")
    assert list(batches("select name from read_parquet($rows)", rows=path)) == [[("c",), ("a",)], [("b",)]]
    assert list(stream("select name from read_parquet($rows) where name > $least", rows=path, least="a")) == [("c",), ("b",)]


def test_questions_are_asked_within_bounds_and_leave_nothing_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    question = "select current_setting('memory_limit'), current_setting('threads'), current_setting('temp_directory')"
    [(memory, threads, overflow)] = stream(question)
    assert (memory, threads) == ("128.0 MiB", 2)
    assert Path(overflow).parent == tmp_path
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_answered_within_bounds_is_answered_without(tmp_path, monkeypatch):
    monkeypatch.setattr("medvl_lib.rules.BOUNDS", {"memory_limit": "8MiB", "threads": 1})
    path = table(tmp_path, *(f"{number * 7919 % 50_021:06}" * 50 for number in range(50_021)))  # 15 MB in no order
    with pytest.raises(duckdb.OutOfMemoryException), duckdb.connect(config={"memory_limit": "8MiB", "threads": 1}) as connection:
        connection.execute("select name from read_parquet($rows) order by name", {"rows": str(path)}).fetchall()
    found = stream("select name from read_parquet($rows) order by name", rows=path)
    assert [name[:6] for (name,) in found] == [f"{number:06}" for number in range(50_021)]


def test_all_offenders_are_counted_and_ten_are_named(tmp_path):
    found = no_rows("rows are named", "select name from read_parquet($rows)", rows=table(tmp_path, *"abcdefghijklm"))
    assert (found.passed, found.found, found.offenders) == (False, "13 rows are named", tuple("abcdefghij"))


def test_no_offenders_is_a_pass(tmp_path):
    assert no_rows("rows", "select name from read_parquet($rows)", rows=table(tmp_path)).passed


def test_a_rule_is_called_what_its_function_is_called():
    def all_is_well(directory: Path):
        return None

    assert rule(all_is_well, "All is well.").name == "all_is_well"


def test_a_table_of_another_model_is_named_by_column(tmp_path):
    table(tmp_path, "a")
    assert columns_are_as_declared({"rows.parquet": Row}).holds(tmp_path).passed
    found = columns_are_as_declared({"rows.parquet": Other}).holds(tmp_path)
    assert (found.passed, found.found, found.offenders) == (False, "column 'name' is string", ("rows.parquet",))
