"""The benchmark tab: what the published store knows of a line, as blocks of the report.

In: the store, read-only, and a line. Out: the lines that it knows, and sections with tables and pictures. Nothing is measured or rounded
here; how blocks are drawn stands in ``report``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from medvl_lib.benchmark.publish import ask
from medvl_lib.benchmark.tables import BenchmarkRow
from medvl_lib.errors import InputMissing
from medvl_lib.report.blocks import NONE, Block, Section, cell, interval, share, table, words
from medvl_lib.report.figures import by_metric, interval_figures, where_measured, whole
from medvl_lib.report.results import compared
from medvl_lib.workspace import Workspace

Row = dict[str, Any]
THREE = ("base", "nf4", "adapter")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the store says of a line."""

    lines: tuple[str, ...]
    line: str
    sections: tuple[Section, ...]
    """Empty where nothing of it was published."""


def measured(workspace: Workspace, line: str) -> Measured:
    """The newest evaluation of a line, its decision and its ratings; without sections where there is none."""
    try:
        lines = [row["line"] for row in _rows(workspace, "select distinct line from evaluations order by line")]
    except InputMissing:
        return Measured(lines=(line,), line=line, sections=())
    sections = tuple(_sections(workspace, line)) if line in lines else ()
    return Measured(lines=tuple(dict.fromkeys([*lines, line])), line=line, sections=sections)


def deciding(found: Measured) -> Section | None:
    """The section on the metric that the gate decides by; None where nothing was published."""
    return next((section for section in found.sections if section.key.startswith("metric-")), None)


def _rows(workspace: Workspace, sql: str) -> list[Row]:
    columns, rows = ask(workspace, sql)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _of_line(workspace: Workspace, view: str, line: str, also: str = "true") -> list[Row]:
    """Rows of a view that are of one line; its name goes into the question as a literal."""
    literal = "'" + line.replace("'", "''") + "'"
    return _rows(workspace, f"select * from {view} where line = {literal} and ({also})")  # noqa: S608 (a literal, and our own words)


def _sections(workspace: Workspace, line: str) -> Iterator[Section]:
    board = _of_line(workspace, "leaderboard", line)
    decisions = _of_line(workspace, "promotion_decisions", line, "is_current")
    first = decisions[0]["primary_metric"] if decisions else board[0]["metric"]
    rows = _benchmark_rows(workspace, board)
    as_is = [row for row in board if row["condition"] == "as_is"]
    yield Section(key="verdict", title="Verdict", blocks=tuple(_verdict(decisions)))
    yield from _by_metric(rows, first)
    yield Section(key="leaderboard", title="Leaderboard", blocks=(_leaderboard("board", [row for row in as_is if row["metric"] == first]),))
    yield Section(key="folded-board", title="Leaderboard, every metric", blocks=(_leaderboard("whole-board", as_is),))
    if ratings := _of_line(workspace, "expert_ratings", line, "is_current"):
        yield Section(key="ratings", title="Ratings by experts", blocks=(_ratings(ratings),))


def _benchmark_rows(workspace: Workspace, board: Sequence[Row]) -> list[BenchmarkRow]:
    """The rows of the evaluations that the leaderboard shows."""
    marks = ", ".join(sorted({f"'{row['evaluation_id']}'" for row in board}))
    columns = ", ".join(field.name for field in fields(BenchmarkRow))
    found = _rows(workspace, f"select {columns} from benchmark_rows where split = 'test' and evaluation_id in ({marks})")  # noqa: S608 (our own names)
    return [BenchmarkRow(**row) for row in found]


def _verdict(decisions: Sequence[Row]) -> Iterator[Block]:
    if not decisions:
        yield "Nothing was decided on this evaluation yet."
        return
    columns = ("candidate", "verdict", "against", "served", "difference", "why")
    yield table("verdict", f"Decided by {words(decisions[0]['primary_metric'])}, pair by pair; the deciding reason of each", columns, (
        (
            words(row["challenger"]), row["verdict"], words(row["champion"]), "yes" if row["is_served"] else "no",
            cell(interval(row["difference"], row["ci_low"], row["ci_high"], signed=True)), row["reasons"][0] if row["reasons"] else None,
        ) for row in decisions
    ))  # fmt: skip


def _by_metric(rows: Sequence[BenchmarkRow], first: str) -> Iterator[Section]:
    """For each metric the three-way table and the picture; the deciding one first, the others folded."""
    mine = [row for row in whole(rows) if row.split == "test"]
    for group in by_metric(mine, first):
        row = group[0]
        variants = [one for one in group if one.condition == "as_is" and one.variant in THREE]
        blocks: list[Block] = [compared(variants)] if variants else []
        blocks.extend(interval_figures(group, first))
        key = f"{'metric' if row.metric == first else 'folded'}-{row.dataset}-{row.metric}-{row.slice}"
        yield Section(key=key, title=f"{words(row.metric)}, {where_measured(row)}", blocks=tuple(blocks))


def _leaderboard(key: str, rows: Sequence[Row]) -> Block:
    columns = ("dataset", "metric", "slice", "variant", "mean", "from", "to", "pairs", "clusters", "seconds", "memory in 10^6 bytes")
    return table(key, "Answers to the pictures as they are, best first, with 95 % intervals over patients or documents", columns, (
        (
            row["dataset"], row["metric"], row["slice"], words(row["variant"]), share(row["mean"]), share(row["ci_low"]),
            share(row["ci_high"]), row["n"], row["num_clusters"], row["p50_seconds_per_answer"],
            NONE if row["memory_mb"] is None else round(row["memory_mb"], 1),
        ) for row in rows
    ))  # fmt: skip


def _ratings(ratings: Sequence[Row]) -> Block:
    columns = ("variant", "question", "mean", "from", "to", "minus base", "answers", "raters", "agreement", "sheet")
    return table("expert-ratings", "Blinded ratings: correctness 1 to 5, harmful as a share", columns, (
        (
            words(row["variant"]), row["question"], share(row["mean"]), share(row["ci_low"]), share(row["ci_high"]),
            share(row["minus_base"], signed=True), row["n"], row["num_raters"], share(row["agreement"]), row["sheet_id"],
        ) for row in ratings
    ))  # fmt: skip
