"""The report as a step writes it: page, Markdown and JSON of one value, with the rows that they must agree with.

In: an evaluation and what may be shown of it. Out: a directory with ``report.html``, ``report.md``, ``report.json`` and a copy of the
store's ``benchmark_rows.parquet``, and the rules that hold the four together.
"""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from medvl_lib.benchmark.tables import BenchmarkRow
from medvl_lib.benchmark.terms import Terms
from medvl_lib.files import write_bytes
from medvl_lib.provenance import Fact, Outcome, Rule
from medvl_lib.report.blocks import NONE
from medvl_lib.report.content import Report, as_json, from_json
from medvl_lib.report.gather import OWN, Judged, gather
from medvl_lib.report.grounds import EVERY_ROW
from medvl_lib.report.html import Value, read_table_of, render_html
from medvl_lib.report.markdown import render_markdown
from medvl_lib.rules import outcome
from medvl_lib.tables import read_table
from medvl_lib.workspace import Workspace

PAGE, TEXT, MACHINE = "report.html", "report.md", "report.json"
ROWS = "benchmark_rows.parquet"
RENDERED = {PAGE: render_html, TEXT: render_markdown, MACHINE: as_json}
KEY = ("variant", "condition", "dataset", "split", "slice", "metric")
NUMBERS = {
    "pairs": "num_pairs", "clusters": "num_clusters", "unscored": "num_unscored", "empty": "num_empty",
    "wrong language": "num_wrong_language", "cut": "num_cut", "masked": "num_masked", "mean": "mean", "from": "ci_low", "to": "ci_high",
}  # fmt: skip
"""Columns of the page's table -> those of the store."""


def write_report(directory: Path, workspace: Workspace, judged: Judged, shown: Mapping[str, Sequence[str]], now: Terms) -> dict[str, Fact]:
    """Write one report in its three forms; returns the verdict and how much is quoted."""
    report = gather(workspace, judged, shown, now, OWN)
    for name, render in RENDERED.items():
        write_bytes(directory / name, render(report).encode())
    shutil.copyfile(judged.benchmark.directory / ROWS, directory / ROWS)
    return {
        "evaluation_id": report.evaluation_id, "verdict": report.decision.verdict,
        "decided_by": report.in_force.decided_by if report.in_force else report.decision.decided_by,
        "num_benchmark_rows": len(report.benchmark_rows),
        "num_examples": len(_quoted(report)), "num_pairs_withheld": sum(withheld.num_pairs for withheld in report.examples.withheld),
    }  # fmt: skip


def _quoted(report: Report) -> set[tuple[str, str, str]]:
    """(dataset, licence, pair) of each example."""
    return {(example.dataset, example.licence, example.pair_id) for example in (*report.examples.lowest, *report.examples.lost)}


def _value(directory: Path) -> Report:
    return from_json((directory / MACHINE).read_text(encoding="utf-8"))


def every_row_stands_in_the_page(directory: Path) -> Outcome:
    """Each benchmark row stands in the page's table with exactly the store's numbers, and no other row does."""
    page = (directory / PAGE).read_text(encoding="utf-8")
    shown = {tuple(row[name] for name in KEY): tuple(row[name] for name in NUMBERS) for row in read_table_of(page, EVERY_ROW)}
    stored = {tuple(getattr(row, name) for name in KEY): _numbers(row) for row in read_table(directory / ROWS, BenchmarkRow)}
    wrong = sorted(key for key in shown.keys() | stored.keys() if shown.get(key) != stored.get(key))
    found = outcome([" ".join(map(str, key)) for key in wrong], f"of {len(stored)} benchmark rows stand there otherwise, or not at all")
    return found if stored else Outcome(passed=False, found="there is no benchmark row")


def _numbers(row: BenchmarkRow) -> tuple[Value, ...]:
    """A row's numbers as a page tells them: a dash where there is none."""
    values = (getattr(row, name) for name in NUMBERS.values())
    return tuple(NONE if value is None else float(value) for value in values)


def all_forms_say_the_same(directory: Path) -> Outcome:
    """Page and Markdown are what their one value gives: nothing was added to them, changed or taken away."""
    report = _value(directory)
    different = [name for name, render in RENDERED.items() if render(report).encode() != (directory / name).read_bytes()]
    return outcome(different, f"files are not what {MACHINE} says")


def only_what_may_be_shown_is_quoted(shown: Mapping[str, Sequence[str]], directory: Path) -> Outcome:
    """Every example is a pair of a dataset, and under a licence, for which the data card allows it."""
    quoted = _quoted(_value(directory))
    offenders = sorted(pair_id for dataset, licence, pair_id in quoted if licence not in shown.get(dataset, ()))
    return outcome(offenders, f"of {len(quoted)} examples may not be shown")


def rules(shown: Mapping[str, Sequence[str]]) -> tuple[Rule, ...]:
    """What must be true of a written report; ``shown`` names the datasets that may be quoted, and under which licences."""
    return (
        Rule(
            name="every_row_stands_in_the_page", sentence="Every benchmark row stands in the page, with the numbers that the store has.",
            holds=every_row_stands_in_the_page,
        ),
        Rule(
            name="all_forms_say_the_same", sentence="Page, Markdown and JSON say the same, and nothing else.", holds=all_forms_say_the_same,
        ),
        Rule(
            name="only_what_may_be_shown_is_quoted", sentence="No text or picture that may not be shown is in the report.",
            holds=partial(only_what_may_be_shown_is_quoted, shown), literals=(dict(shown),),
        ),
    )  # fmt: skip
