"""Publish: every benchmark, decision and rating that passed, as one DuckDB file that anyone may read; and ask it a question.

In: the Parquet of the benchmark, promotion, override, rollback and reviews directories, and what each line's pointer rests on. Out:
``<data>/benchmark.duckdb``, replaced as a whole; whoever moves a pointer publishes after it. There is no live file: a reader keeps the
version it opened, a writer waits for nobody but another writer, and a new schema is a rebuild. The file is written in the storage format of
DuckDB 1.2, so that older clients open it. What the tables hold is ``schema.sql``'s.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
from filelock import FileLock

from medvl_lib.benchmark import override, rollback
from medvl_lib.benchmark.promotion import PROMOTION_DECISIONS
from medvl_lib.benchmark.tables import SCHEMA_VERSION, TABLES
from medvl_lib.elsewhere import send
from medvl_lib.errors import InputMissing, InputRefused, MedVLError
from medvl_lib.evaluation.parquet_sql import query, quoted
from medvl_lib.files import read_json, sync_directory
from medvl_lib.pointer import read_pointer, read_state
from medvl_lib.provenance import PROVENANCE, VERDICTS, Artifact, Fact, damage, read_artifact
from medvl_lib.reviews import tables as reviews_tables
from medvl_lib.reviews import written as reviews_written
from medvl_lib.workspace import Workspace

CATALOG = "benchmark"  # what a client that opens the file calls it
SCHEMA = Path(__file__).with_name("schema.sql")
STORAGE_VERSION = "v1.2.0"  # DuckDB 1.2 and everything newer read it


class Answer(NamedTuple):
    """What the store answered."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """A complete directory that passed."""

    artifact: Artifact
    finished_at: str
    is_current: bool
    served: str | None = None
    """The variant that the line serves because of it; None where nothing rests on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contents:
    """The directories whose rows are published."""

    benchmarks: Sequence[_Written]
    decisions: Sequence[_Written]
    reviews: Sequence[_Written]
    rollbacks: Sequence[_Written]
    holding: frozenset[str]
    """The rollbacks that hold a pointer now, by fingerprint."""


def has_passed(artifact: Artifact) -> bool:
    """Whether every blocking rule of its time passed on exactly these contents; rules added since do not unpublish history."""
    path = artifact.directory / VERDICTS
    if not path.is_file():
        return False
    said = read_json(path)
    is_this = said["data_version"] == artifact.data_version
    return is_this and all(entry["outcome"]["passed"] for entry in said["verdicts"] if entry["is_blocking"])


def _standing(directory: Path, schema_version: int) -> str:
    """Whether a directory is ``published``, or why it is left out."""
    if damage(directory) is not None:
        return "damaged"
    artifact = read_artifact(directory)
    if not has_passed(artifact):
        return "not_passed"
    return "published" if artifact.facts.get("schema_version") == schema_version else "other_schema_version"


def _survey(workspace: Workspace, step: str, schema_version: int = SCHEMA_VERSION) -> tuple[list[_Written], Counter[str]]:
    """Each directory of a step to publish, oldest first and the current ones last; and how many stand how."""
    found: list[_Written] = []
    standings: Counter[str] = Counter()
    for path in (workspace.root / step).glob(f"*/*/{PROVENANCE}"):
        directory = path.parent
        if directory.name.startswith("."):  # unfinished, or moved aside
            continue
        standing = _standing(directory, schema_version)
        standings[standing] += 1
        if standing == "published":
            artifact = read_artifact(directory)
            pointer = workspace.current(step, artifact.name)
            is_current = pointer.is_file() and read_json(pointer)["fingerprint"] == artifact.fingerprint
            finished_at = read_json(path)["finished_at"]
            served = _served_by(workspace, artifact)
            found.append(_Written(artifact=artifact, finished_at=finished_at, is_current=is_current, served=served))
    return sorted(found, key=lambda written: (written.is_current, written.finished_at, str(written.artifact.directory))), standings


def _served_by(workspace: Workspace, decided: Artifact) -> str | None:
    """The variant that a line serves because of this very decision."""
    pointer = read_pointer(workspace, decided.name)
    return pointer.variant if pointer and (pointer.decision_step, pointer.decision) == (decided.step, decided.fingerprint) else None


def _one_of_each_evaluation(benchmarks: Sequence[_Written]) -> list[_Written]:
    """The newest or current directory of each evaluation; those of one evaluation must stand on the same scores."""
    shown: dict[Fact, _Written] = {}
    for written in benchmarks:
        mark = written.artifact.facts["evaluation_id"]
        if mark in shown:
            _require_same_scores(str(mark), shown[mark].artifact.directory, written.artifact.directory)
        shown[mark] = written
    return list(shown.values())


def _require_same_scores(mark: str, first: Path, second: Path) -> None:
    [(num_different,)] = query(
        "select count(*) from ((from a except all from b) union all (from b except all from a))",
        {"a": first / "scores.parquet", "b": second / "scores.parquet"},
    )
    if num_different:
        raise InputRefused(
            found=f"evaluation {mark} stands there twice with different scores ({num_different} rows)", where=f"{first} and {second}",
            do="if a metric was changed, raise its version and materialize scores and benchmark again; move the wrong directory away",
        )  # fmt: skip


def _fill(store: duckdb.DuckDBPyConnection, contents: _Contents) -> None:
    """Copy every directory's rows into the tables, by column name."""
    unchanged = {name: contents.benchmarks for name in TABLES if name != "evaluations"}
    for table, directories in {**unchanged, **dict.fromkeys(reviews_tables.PUBLISHED, contents.reviews)}.items():
        if files := [quoted(written.artifact.directory / f"{table}.parquet") for written in directories]:
            store.execute(f"insert into {table} by name from read_parquet([{', '.join(files)}])")
    for written in contents.benchmarks:
        file = quoted(written.artifact.directory / "evaluations.parquet")
        store.execute(f"insert into evaluations by name select *, {written.is_current} as is_current from {file}")  # noqa: S608 (our own paths)
    for written in contents.decisions:
        file = quoted(written.artifact.directory / PROMOTION_DECISIONS)
        is_current = written.is_current if written.artifact.step != override.STEP else written.served is not None
        marks = [written.artifact.fingerprint, written.finished_at, is_current, written.served]
        columns = "*, ? as fingerprint, ? as decided_at, ? as is_current, coalesce(challenger = ?, false) as is_served"
        store.execute(f"insert into promotion_decisions by name select {columns} from {file}", marks)  # noqa: S608 (our own paths)
    for written in contents.rollbacks:
        file, mark = quoted(written.artifact.directory / rollback.ROLLBACKS), written.artifact.fingerprint
        store.execute(
            f"insert into rollbacks by name select *, ? as fingerprint, ? as decided_at, ? as is_holding from {file}",  # noqa: S608 (our own paths)
            [mark, written.finished_at, mark in contents.holding],
        )


def _build(path: Path, contents: _Contents) -> dict[str, int]:
    """Write a new store; returns the rows of each table."""
    with duckdb.connect() as connection:
        connection.execute(f"attach {quoted(path)} as store (storage_version '{STORAGE_VERSION}')")
        connection.execute("use store")
        connection.execute("begin")  # one transaction: 250 statements, each synced, would take as long as the data
        connection.execute(SCHEMA.read_text(encoding="utf-8"))
        _fill(connection, contents)
        connection.execute("commit")
        counts: dict[str, int] = {}
        for table in (*TABLES, "promotion_decisions", "rollbacks", *reviews_tables.PUBLISHED):
            [(counts[f"num_{table}"],)] = connection.execute(f"select count(*) from {table}").fetchall()  # noqa: S608 (our own names)
        connection.execute("use memory")
        connection.execute("detach store")  # writes the last bytes; no log file stays behind
    return counts


def publish(workspace: Workspace, url: str = "") -> dict[str, Fact]:
    """Rebuild the store from every evaluation, decision and rating that passed, and put it in place whole.

    Returns the rows of each table, and how many directories were left out because they are damaged, have not passed, have another schema
    version, or were measured again from the same scores. Raises InputRefused where two of one evaluation hold different scores. Doing it
    twice changes nothing; readers of the old file keep it until they close it.

    Where a ``url`` is named (``benchmark_url`` of the settings), a copy is sent there before anyone else may publish: an older one never
    takes the place of a newer. Raises NoCopy where it did not arrive; the store here is in place then.
    """
    lock = workspace.lock("benchmark")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        benchmarks, benchmark_standings = _survey(workspace, "benchmark")
        decided, decision_standings = _survey(workspace, "promotion")
        overrides, override_standings = _survey(workspace, override.STEP)
        decisions = [*decided, *overrides]
        shown = _one_of_each_evaluation(benchmarks)
        reviews, review_standings = _survey(workspace, reviews_written.STEP, reviews_tables.SCHEMA_VERSION)
        newest = [written for written in reviews if written.is_current]  # it holds all that was read of its sheet before
        rollbacks, rollback_standings = _survey(workspace, rollback.STEP, rollback.SCHEMA_VERSION)
        holds = {read_state(workspace, written.artifact.name).hold for written in rollbacks}
        counts = _put_in_place(workspace.store, _Contents(
            benchmarks=shown, decisions=decisions, reviews=newest, rollbacks=rollbacks,
            holding=frozenset(hold.record for hold in holds if hold is not None),
        ))  # fmt: skip
        sent = {"sent_to": _sent(workspace.store, url)} if url else {}
    standings = benchmark_standings + decision_standings + override_standings + review_standings + rollback_standings
    left_out = {f"num_{standing}": number for standing, number in standings.items() if standing != "published"}
    superseded = {"num_superseded": len(benchmarks) - len(shown)}
    return {
        "num_evaluated": len(shown),
        "num_decisions": len(decisions),
        "num_rated_sheets": len(newest),
        **superseded,
        **left_out,
        **counts,
        **sent,
    }


class NoCopy(MedVLError):
    """The benchmark is published here, and no copy of it arrived where one is wanted."""


class NoCopyYet(NoCopy):
    """The same, of a place that did not answer, or broke off."""

    is_passing = True


def _sent(store: Path, url: str) -> str:
    try:
        return send(store, url)
    except MedVLError as error:
        raise (NoCopyYet if error.is_passing else NoCopy)(
            found=f"the benchmark is published here, and no copy of it arrived ({error.found})", where=error.where,
            do=f"{error.do}; then materialize benchmark_store, which sends it",
        ) from error  # fmt: skip


def _put_in_place(store: Path, contents: _Contents) -> dict[str, int]:
    for left in store.parent.glob(f".{store.name}.*.tmp*"):  # of a publisher that was killed: whoever holds the lock is the only one
        left.unlink(missing_ok=True)
    temporary = store.with_name(f".{store.name}.{os.getpid()}.tmp")
    try:
        counts = _build(temporary, contents)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(store)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(store.parent)
    return counts


def ask(workspace: Workspace, sql: str) -> Answer:
    """What the published store answers, read-only and without any other file; a bare name (``leaderboard``) asks for all of it."""
    store = workspace.store
    if not store.is_file():
        raise InputMissing(
            found="no benchmark was published yet", where=str(store), do="materialize the asset benchmark_store, or run `make demo`"
        )
    name = re.fullmatch(r"(\w+)\s*;?", sql.strip())
    question = f"from {name[1]}" if name else sql.strip()
    try:
        with duckdb.connect() as connection:  # of its own: by path DuckDB would give the version that this process may hold open
            _attach(connection, store)
            connection.execute(f"use {CATALOG}")
            connection.execute("set enable_external_access = false")
            statements = connection.extract_statements(question)
            if len(statements) != 1:
                raise _refused(f"{len(statements)} statements where one was expected", question, store)
            rows = connection.execute(statements[0]).fetchall()
            return Answer(columns=tuple(str(column[0]) for column in connection.description or ()), rows=rows)
    except duckdb.Error as error:
        raise _refused(str(error), question, store) from error


def _attach(connection: duckdb.DuckDBPyConnection, store: Path) -> None:
    """Open the store read-only; raises InputRefused where the file is none."""
    try:
        connection.execute(f"attach {quoted(store)} as {CATALOG} (read_only)")
    except duckdb.Error as error:
        raise InputRefused(
            found=f"no DuckDB database that can be read: {str(error).splitlines()[0]}", where=str(store),
            do="move it away and materialize the asset benchmark_store: it is built anew from the Parquet files, nothing is lost with it",
        ) from error  # fmt: skip


def require_readable(store: Path) -> None:
    """Raise InputRefused where a published store is no database."""
    with duckdb.connect() as connection:
        _attach(connection, store)


def _refused(found: str, question: str, store: Path) -> MedVLError:
    return MedVLError(
        found=found,
        where=f"{question!r} to {store}",
        do="mend the question; `show tables` lists tables and views, `describe leaderboard` the columns of one",
    )
