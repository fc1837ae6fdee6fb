"""How far something long has come: rows that go by are counted, timed and told.

In: rows, and who is told. Out: the same rows. What is told is thinned here by the clock alone; what a run makes of it is the graph's.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from medvl_lib.provenance import Fact

Row = TypeVar("Row")
Report = Callable[[Mapping[str, Fact]], None]
"""Takes what the UI shows while a step runs."""
REPORT_SECONDS = 1.0


def silent(_: Mapping[str, Fact]) -> None:
    """A report that nobody reads."""


def told(rows: Iterable[Row], report: Report, what: str, total: int | None = None) -> Iterator[Row]:
    """The rows; once a second it is told how many went by (``num_<what>``), how fast, and, of a known total, how long the others take."""
    began = said_at = time.monotonic()
    for number, row in enumerate(rows):
        now = time.monotonic()
        if now - said_at >= REPORT_SECONDS:
            said_at = now
            report(so_far(what, number, now - began, total))
        yield row


def so_far(what: str, number: int, seconds: float, total: int | None = None) -> dict[str, Fact]:
    """How many there were in so many seconds; of a known total also how many there are, and the seconds that the others will take."""
    facts: dict[str, Fact] = {f"num_{what}": number, f"{what}_per_second": number / max(seconds, 1e-9)}
    left = {} if total is None else {f"num_{what}_in_all": total, "seconds_left": max(0, total - number) * seconds / max(1, number)}
    return {**facts, **left}
