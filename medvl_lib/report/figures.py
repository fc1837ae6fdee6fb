"""The figures that page and UI share: intervals of one metric, and the loss of one stage.

In: rows of the store. Out: figures. How they are drawn stands in ``pictures``.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from medvl_lib.benchmark.slices import ALL, LANGUAGE, WAY
from medvl_lib.benchmark.tables import BenchmarkRow
from medvl_lib.report.blocks import Figure, place, words
from medvl_lib.report.pictures import Mark, draw_curves, draw_intervals
from medvl_lib.training.steps import TrainingStep


def whole(rows: Sequence[BenchmarkRow]) -> list[BenchmarkRow]:
    """The rows over all pairs of a dataset; over those of one language, or of one way, where its texts have no row over all."""
    have = {(row.dataset, row.metric) for row in rows if row.slice == ALL}
    return [row for row in rows if row.slice == ALL or (row.slice.startswith((LANGUAGE, WAY)) and (row.dataset, row.metric) not in have)]


def by_metric(rows: Iterable[BenchmarkRow], first: str) -> list[list[BenchmarkRow]]:
    """The rows of each metric, dataset and slice, answers to the pictures as they are first; the metric ``first`` leads."""

    def key(row: BenchmarkRow) -> tuple[bool, str, str, str]:
        return row.metric != first, row.dataset, row.metric, row.slice

    ordered = sorted(rows, key=lambda row: (*key(row), row.condition != "as_is", place(row.variant)))
    return [list(mine) for _, mine in groupby(ordered, key)]


def where_measured(row: BenchmarkRow) -> str:
    """The dataset of a row, and its slice where that is not all of it."""
    return row.dataset if row.slice == ALL else f"{row.dataset}, {row.slice}"


def scale(row: BenchmarkRow) -> str:
    """How a row's numbers are to be read."""
    better = "higher" if row.is_higher_better else "lower"
    return f"0 to {row.highest:g}, {better} is better" + (f"; {row.signature}" if row.signature else "")


def interval_figures(rows: Iterable[BenchmarkRow], first: str) -> Iterator[Figure]:
    """For each dataset and metric everyone's interval on one axis."""
    for mine in by_metric(rows, first):
        row = mine[0]
        counted = f"{row.num_pairs} pairs of {row.num_clusters} clusters"
        caption = f"{row.metric} on {where_measured(row)}, with 95 % intervals, {counted} ({scale(row)})"
        marks = [
            Mark(label=_answers(row), mean=row.mean, low=row.ci_low, high=row.ci_high, is_emphasized=_answers(row) == "adapter")
            for row in mine if row.mean is not None
        ]  # fmt: skip
        if marks:
            yield Figure(svg=draw_intervals(marks, title=caption), caption=caption)


def _answers(row: BenchmarkRow) -> str:
    """Who answered, and under which condition."""
    return words(row.variant) if row.condition == "as_is" else f"{words(row.variant)}, {words(row.condition)}"


def loss_figure(stage: str, steps: Sequence[TrainingStep], unit: str = "answer token") -> Figure:
    """The loss of each batch, and what was measured on held-out pairs."""
    caption = f"Loss of the stage {stage} in nats per {unit}, by optimizer step"
    curves = {
        "training batch": [(float(row.step), row.loss) for row in steps],
        "held out": [(float(row.step), row.validation_loss) for row in steps if row.validation_loss is not None],
    }
    return Figure(svg=draw_curves(curves, title=caption), caption=caption)
