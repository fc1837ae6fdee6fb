"""SQL over the Parquet files of one written directory: how table-wide rules are judged without reading rows into Python.

In: a query and the files it names as tables. Out: rows. The published store has its own room (``benchmark.publish``).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb


def quoted(path: Path) -> str:
    """A path as an SQL literal: where a statement takes no parameters."""
    return "'" + str(path).replace("'", "''") + "'"


def query(sql: str, tables: Mapping[str, Path]) -> list[tuple[Any, ...]]:
    """The rows that ``sql`` finds; each table of ``tables`` is one Parquet file."""
    with duckdb.connect() as connection:
        for name, path in tables.items():
            connection.execute(f"create view {name} as from read_parquet({quoted(path)})")
        return connection.execute(sql).fetchall()
