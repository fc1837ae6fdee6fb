"""What the UI shows of each step of a line, beside its facts: the table of contents of the exhibits.

In: a line. Out: step -> exhibits. Pictures are drawn by ``report.pictures``, as those of the report are; numbers are those that were
written.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from medvl_lib.benchmark.promotion import PROMOTION_DECISIONS, Decision
from medvl_lib.benchmark.tables import BenchmarkRow, GoalRow
from medvl_lib.evaluation import parity
from medvl_lib.evaluation.galleries import RetrievalRow, read_rows
from medvl_lib.evaluation.parquet_sql import query
from medvl_lib.evaluation.scores import SCORES
from medvl_lib.exhibits import Exhibit, ShownColumn, ShownPicture, ShownTable, table_of
from medvl_lib.lines import Line
from medvl_lib.report.blocks import place
from medvl_lib.report.figures import interval_figures, loss_figure, whole
from medvl_lib.report.pictures import standing_alone
from medvl_lib.report.written import PAGE
from medvl_lib.route.encoding import RETRIEVAL
from medvl_lib.tables import columns, read_table
from medvl_lib.training.overfit import OVERFIT
from medvl_lib.training.steps import TRAINING_STEPS, TrainingStep

LEADERBOARD = (
    "dataset", "metric", "slice", "condition", "variant", "mean", "ci_low", "ci_high", "num_pairs", "num_clusters", "num_unscored",
    "num_empty", "num_cut",
)  # fmt: skip
FIRST = ("challenger", "verdict", "is_winner", "champion", "primary_metric", "difference", "ci_low", "ci_high", "num_pairs", "num_clusters")
TOKEN, PAIR = "answer token", "pair"  # what the loss of a stage is a mean over
TOLD_ELSEWHERE = ("line", "evaluation_id", "reasons")  # of a decision: in the asset's key and facts, and in a table of their own


def exhibits_of(line: Line) -> Mapping[str, tuple[Exhibit, ...]]:
    """Step of the line -> what the UI shows of it."""
    metric = line.gate.primary_metric
    units = {OVERFIT: TOKEN, **{stage.name: PAIR if stage == line.encoder else TOKEN for stage in line.stages}}
    return {
        **{stage: (Exhibit(name="loss", show=partial(loss, stage=stage, unit=unit)),) for stage, unit in units.items()},
        RETRIEVAL: (Exhibit(name="recall", show=recall),),
        "scores": (Exhibit(name="answers", show=answers),),
        "benchmark": (
            Exhibit(name="leaderboard", show=leaderboard),
            Exhibit(name="intervals", show=lambda directory: intervals(directory, metric)),
            *((Exhibit(name="stretch_goals", show=goals),) if line.stretch_goals else ()),
        ),
        "promotion": (Exhibit(name="decision", show=decision), Exhibit(name="reasons", show=reasons)),
        "parity": (Exhibit(name="forms", show=forms), Exhibit(name="scores", show=compared_scores)),
        "report": (Exhibit(name="page", show=lambda directory: directory / PAGE),),
    }


def recall(directory: Path) -> ShownTable:
    """How often an encoder finds the right text and picture, beside chance and the class alone."""
    return table_of(RetrievalRow, read_rows(directory), [column.name for column in columns(RetrievalRow)])


def loss(directory: Path, stage: str, unit: str) -> tuple[ShownPicture, ...]:
    """The loss of a stage, step by step."""
    figure = loss_figure(stage, list(read_table(directory / TRAINING_STEPS, TrainingStep)), unit)
    return (ShownPicture(svg=standing_alone(figure.svg), caption=figure.caption),)


def answers(directory: Path) -> ShownTable:
    """How many answers of each variant there are by metric and state, and how many of them could not be scored."""
    question = """
        select variant, condition, metric, answer_state, count(*) as num_answers,
               count(*) filter (value is null and len(statistics) = 0) as num_unscored
        from scores group by all order by all
    """
    rows = sorted(query(question, {"scores": directory / SCORES}), key=lambda row: (row[1] != "as_is", row[1], place(row[0])))
    described = {
        "variant": "who answered", "condition": "as_is, or what was done to the question", "metric": "name of the metric",
        "answer_state": "complete, cut at the token limit, empty, or in another language", "num_answers": "answers in this state",
        "num_unscored": "of these, answers that the scorer could not score",
    }  # fmt: skip
    return ShownTable(columns=_described(described), rows=tuple(rows))


def _tested(directory: Path) -> list[BenchmarkRow]:
    """What the leaderboard may look at."""
    rows = read_table(directory / "benchmark_rows.parquet", BenchmarkRow)
    return whole([row for row in rows if row.split == "test"])


def leaderboard(directory: Path) -> ShownTable:
    """The means of the test split, best first."""
    rows = sorted(
        _tested(directory),
        key=lambda row: (
            row.dataset,
            row.metric,
            row.slice,
            row.condition,
            row.mean is None,
            (-1 if row.is_higher_better else 1) * (row.mean or 0.0),
            place(row.variant),
        ),
    )
    return table_of(BenchmarkRow, rows, LEADERBOARD)


def intervals(directory: Path, metric: str) -> tuple[ShownPicture, ...]:
    """Everyone's interval by the metric that decides, for each dataset."""
    figures = interval_figures([row for row in _tested(directory) if row.metric == metric], metric)
    return tuple(ShownPicture(svg=standing_alone(figure.svg), caption=figure.caption) for figure in figures)


def goals(directory: Path) -> ShownTable:
    """What somebody hoped for, beside what was measured: nothing is decided by it."""
    names = [column.name for column in columns(GoalRow) if column.name not in {"evaluation_id", "line"}]
    return table_of(GoalRow, read_table(directory / "goals.parquet", GoalRow), names)


def decision(directory: Path) -> ShownTable:
    """What the gate said, with every number; the verdict and who was compared first."""
    names = [column.name for column in columns(Decision) if column.name not in {*TOLD_ELSEWHERE, *FIRST}]
    return table_of(Decision, read_table(directory / PROMOTION_DECISIONS, Decision), [*FIRST, *names])


def reasons(directory: Path) -> ShownTable:
    """Every reason, the deciding one first."""
    rows = tuple(
        (row.challenger, number, reason)
        for row in read_table(directory / PROMOTION_DECISIONS, Decision) for number, reason in enumerate(row.reasons, start=1)
    )  # fmt: skip
    described = {"challenger": "the variant that wants to be served", "number": "the deciding reason is the first", "reason": "in words"}
    return ShownTable(columns=_described(described), rows=rows)


def _described(columns_: Mapping[str, str]) -> tuple[ShownColumn, ...]:
    return tuple(ShownColumn(name=name, description=description) for name, description in columns_.items())


def forms(directory: Path) -> ShownTable:
    """How many answers stay the same from form to form."""
    rows = read_table(directory / parity.COMPARISONS, parity.Comparison)
    return table_of(parity.Comparison, rows, [column.name for column in columns(parity.Comparison)])


def compared_scores(directory: Path) -> ShownTable:
    """By how much the scores of two forms differ."""
    rows = read_table(directory / parity.SCORES, parity.ComparedScore)
    return table_of(parity.ComparedScore, rows, [column.name for column in columns(parity.ComparedScore)])
