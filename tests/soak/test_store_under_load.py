"""Four processes that evaluate and publish, and three that read, at once: for a minute (``make soak``), and for some seconds among the slow
tests. A fourth reader asks a copy that nobody writes: what it takes is the machine's doing, and not the store's.

If these passed wrongly, an evaluation could be missing from the store, a reader could see half of one, wait for a writer, or fail.
"""

import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import NamedTuple

import duckdb
import pytest

from medvl_lib.benchmark.publish import ask, publish
from medvl_lib.workspace import Workspace
from tests.benchmark.evaluated import run

NUM_DOCUMENTS = 8
NUM_WRITERS, NUM_READERS = 4, 4
MIN_READS = 10
MAX_WAIT_SECONDS = 1.0
EVALUATIONS = "select evaluation_id, count(*) from scores group by all order by all"
TOGETHER = """
    select (select count(distinct evaluation_id) from evaluations), (select count(distinct evaluation_id) from scores),
           (select count(distinct evaluation_id) from promotion_decisions), (select count(*) from leaderboard),
           (select count(*) from regressions)
"""
ALONE: dict[str, str | bool | int | float | list[str]] = {"threads": 1}
"""A reader has one thread, so that what it waited for can be told from what it waited for a core."""


class Seen(NamedTuple):
    """What one reader saw."""

    client: str
    num_reads: int
    longest_seconds: float
    """By the clock: on two cores with seven processes most of it is the reader's turn that has not come."""
    longest_wait_seconds: float
    """By the clock, less the time that the reader ran or was ready to: what it waited for a lock or for the disk."""
    num_evaluations: list[int]
    """At each read."""


class _Together:
    """What a process is told when it starts."""

    writers_are_done: Event


def begin(everyone: Barrier, writers_are_done: Event) -> None:
    """Begin together, when every process has imported what it needs."""
    _Together.writers_are_done = writers_are_done
    everyone.wait(timeout=120)


def write(root: Path, number: int, seconds: float, num_scores: int) -> list[str]:
    """Evaluate, judge and publish again and again; returns the evaluations, each of which was in the store when it was published."""
    made: list[str] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        evaluated = run(root, NUM_DOCUMENTS, weights=f"w{number}-{len(made)}")
        publish(evaluated.workspace)
        mark = str(evaluated.benchmark.facts["evaluation_id"])
        answer = ask(evaluated.workspace, f"select count(*) from scores where evaluation_id = '{mark}'")  # noqa: S608 (our own id)
        assert answer.rows == [(num_scores,)], f"{mark} is not whole in the store that was just published"
        made.append(mark)
    return made


def _busy_seconds() -> float:
    """How long this thread has run, or was ready and had to wait for a core; 0 where the system does not tell (macOS)."""
    path = Path("/proc/thread-self/schedstat")
    return sum(map(int, path.read_text().split()[:2])) / 1e9 if path.is_file() else 0.0


def _read(client: str, question: Callable[[], list[tuple]]) -> Seen:
    """Ask until the writers are done, and once more; every answer is of whole evaluations."""
    longest, wait, found, is_last = 0.0, 0.0, list[int](), False
    while not is_last:
        is_last = _Together.writers_are_done.is_set()
        started, busy = time.monotonic(), _busy_seconds()
        [(num_evaluations, num_scored, num_decisions, _, _)] = question()
        taken = time.monotonic() - started
        longest, wait = max(longest, taken), max(wait, taken - (_busy_seconds() - busy))
        assert num_evaluations == num_scored
        assert num_decisions <= num_evaluations
        found.append(num_evaluations)
        time.sleep(0.02)  # a person's client, not a loop that takes a core
    return Seen(client, len(found), longest, wait, found)


def read_by_ask(root: Path) -> Seen:
    """``medvl sql``."""
    duckdb.connect = partial(duckdb.connect, config=ALONE)  # in this process
    return _read("ask", lambda: ask(Workspace(root=root), TOGETHER).rows)


def read_by_client(root: Path) -> Seen:
    """Any client of DuckDB that opens the file for a question."""

    def question() -> list[tuple]:
        with duckdb.connect(str(Workspace(root=root).store), read_only=True, config=ALONE) as connection:
            return connection.execute(TOGETHER).fetchall()

    return _read("client", question)


def read_a_copy(root: Path) -> Seen:
    """As any client, but of a copy that nobody writes."""
    copy = root / "copy.duckdb"
    shutil.copyfile(Workspace(root=root).store, copy)

    def question() -> list[tuple]:
        with duckdb.connect(str(copy), read_only=True, config=ALONE) as connection:
            return connection.execute(TOGETHER).fetchall()

    return _read("copy", question)


def read_by_session(root: Path) -> Seen:
    """An analyst's session, opened before everything and closed after it."""
    with duckdb.connect(str(Workspace(root=root).store), read_only=True, config=ALONE) as connection:
        return _read("session", lambda: connection.execute(TOGETHER).fetchall())


@pytest.mark.parametrize("seconds", [pytest.param(5, marks=pytest.mark.slow), pytest.param(60, marks=pytest.mark.soak)])
def test_no_row_is_lost_no_read_fails_and_no_reader_waits(tmp_path: Path, capsys: pytest.CaptureFixture[str], seconds: int):
    workspace = run(tmp_path, NUM_DOCUMENTS).workspace
    publish(workspace)
    [(_, num_scores)] = ask(workspace, EVALUATIONS).rows
    processes = get_context("spawn")
    num_processes = NUM_WRITERS + NUM_READERS
    everyone, done = processes.Barrier(num_processes), processes.Event()
    with ProcessPoolExecutor(num_processes, mp_context=processes, initializer=begin, initargs=(everyone, done)) as pool:
        readers: list[Future[Seen]] = [pool.submit(read, tmp_path) for read in (read_a_copy, read_by_session, read_by_ask, read_by_client)]
        writers = [pool.submit(write, tmp_path, number, seconds, num_scores) for number in range(NUM_WRITERS)]
        try:
            made = [mark for writer in writers for mark in writer.result()]
        finally:
            done.set()
        seen = [reader.result() for reader in readers]
    copy, session, *others = seen
    stored = ask(workspace, EVALUATIONS).rows
    with capsys.disabled():
        sys.stdout.write(f"\n{time.strftime('%Y-%m-%d')}: {seconds} s, {NUM_WRITERS} writers made and published {len(made)} evaluations\n")
        sys.stdout.writelines(
            f"  {one.client}: {one.num_reads} reads, the longest {one.longest_seconds:.3f} s, not for want of a core at most"
            f" {one.longest_wait_seconds:.3f} s\n"
            for one in seen
        )
    assert len(made) >= NUM_WRITERS
    assert len(stored) == len(made) + 1
    assert {mark for mark, _ in stored} >= set(made)
    assert {count for _, count in stored} == {num_scores}
    for one in seen:
        assert one.num_reads >= MIN_READS
        assert one.longest_wait_seconds < MAX_WAIT_SECONDS + copy.longest_wait_seconds
        assert one.num_evaluations == sorted(one.num_evaluations), f"{one.client} saw an older version after a newer one"
    assert set(session.num_evaluations) == {1}
    assert [one.num_evaluations[-1] for one in others] == [len(stored)] * 2
