"""What the rules of several rooms share: SQL questions to written tables, and the rule that a table has its declared columns.

In: Parquet files on disk. Out: rows, outcomes and rules. What a table means is its own room's business.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from medvl_lib.errors import InputRefused
from medvl_lib.provenance import Outcome, Rule
from medvl_lib.tables import require_schema

SHOWN_OFFENDERS = 10  # enough to find the cause; the event log never shrinks
BATCH_ROWS = 20_000  # rows in memory at a time; Great Expectations takes about 0.6 s for so many and hardly less for few
STREAM_ROWS = 2048  # DuckDB's own step: a row may hold long texts
BOUNDS: Mapping[str, str | int] = {"memory_limit": "128MiB", "threads": 2}
"""Of DuckDB, which takes 80 % of the machine's memory and all of its cores otherwise: what is more goes to disk, so that memory stays flat
however long a table is. Threads are few since each holds buffers of its own within the limit."""
NO_BOUNDS: Mapping[str, str | int] = {}

Parameter = Path | str | int | float | list[str] | list[float]


def _answer(question: str, num_rows: int, parameters: Mapping[str, Parameter]) -> Iterator[list[tuple[Any, ...]]]:
    """Within ``BOUNDS`` where that can be: DuckDB cannot sort long texts by way of the disk, and is asked again without them then."""
    values = {name: str(value) if isinstance(value, Path) else value for name, value in parameters.items()}
    has_begun = False
    with TemporaryDirectory(prefix="medvl-") as overflow:
        for bounds in (BOUNDS, NO_BOUNDS):
            try:
                with duckdb.connect(config={**bounds, "temp_directory": overflow}) as connection:
                    answer = connection.execute(question, values)
                    while batch := answer.fetchmany(num_rows):
                        has_begun = True
                        yield batch
                return
            except duckdb.OutOfMemoryException:
                if has_begun or not bounds:
                    raise


def batches(question: str, **parameters: Parameter) -> Iterator[list[tuple[Any, ...]]]:
    """The rows that answer an SQL question, some thousands at a time; it reads a table as ``read_parquet($name)``."""
    yield from _answer(question, BATCH_ROWS, parameters)


def stream(question: str, **parameters: Parameter) -> Iterator[tuple[Any, ...]]:
    """The rows that answer an SQL question, one at a time."""
    for batch in _answer(question, STREAM_ROWS, parameters):
        yield from batch


def outcome(offenders: list[str], found: str) -> Outcome:
    """Passed when there are no offenders; ``found`` says what they would be."""
    return Outcome(passed=not offenders, found=f"{len(offenders)} {found}", offenders=tuple(offenders[:SHOWN_OFFENDERS]))


def no_rows(found: str, question: str, **parameters: Parameter) -> Outcome:
    """Passed when the question, which selects the ids of offenders, finds none."""
    return outcome([str(row[0]) for row in stream(question, **parameters)], found)


def rule(holds: Callable[[Path], Outcome], sentence: str) -> Rule:
    """A blocking rule that is called what its function is called."""
    return Rule(name=holds.__name__, sentence=sentence, holds=holds)


def columns_are_as_declared(models: Mapping[str, type]) -> Rule:
    """The rule that every named file of a directory has the columns of its row model."""

    def holds(directory: Path) -> Outcome:
        for name, model in models.items():
            try:
                require_schema(directory / name, model)
            except InputRefused as error:
                return Outcome(passed=False, found=error.found, offenders=(name,))
        return Outcome(passed=True, found=f"{', '.join(models)}: all columns as declared")

    return Rule(name="columns_are_as_declared", sentence="Every table has exactly the declared columns.", holds=holds)
