"""The figures that page and UI share: intervals of one metric, and the loss of one stage.

In: rows of the store. Out: figures. How they are drawn stands in ``pictures``.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from medvl_lib.benchmark.tables import BenchmarkRow
from medvl_lib.report.blocks import Figure, place, words
from medvl_lib.report.pictures import Mark, draw_curves, draw_intervals
from medvl_lib.training.steps import TrainingStep


def by_metric(rows: Iterable[BenchmarkRow], first: str) -> list[tuple[tuple[str, str], list[BenchmarkRow]]]:
    """(dataset, metric) and its rows, the answers to the pictures as they are before those to others; the metric ``first`` leads."""

    def key(row: BenchmarkRow) -> tuple[bool, str, str]:
        return row.metric != first, row.dataset, row.metric

    ordered = sorted(rows, key=lambda row: (*key(row), row.condition != "as_is", place(row.variant)))
    return [((found[1], found[2]), list(mine)) for found, mine in groupby(ordered, key)]


def interval_figures(rows: Iterable[BenchmarkRow], first: str) -> Iterator[Figure]:
    """For each dataset and metric everyone's interval on one axis."""
    for (dataset, metric), mine in by_metric(rows, first):
        better = "higher" if mine[0].is_higher_better else "lower"
        caption = f"{metric} on {dataset}, with 95 % intervals, {mine[0].num_pairs} pairs ({better} is better)"
        marks = [
            Mark(label=_answers(row), mean=row.mean, low=row.ci_low, high=row.ci_high, is_emphasized=_answers(row) == "adapter")
            for row in mine
        ]
        yield Figure(svg=draw_intervals(marks, title=caption), caption=caption)


def _answers(row: BenchmarkRow) -> str:
    """Who answered, and under which condition."""
    return words(row.variant) if row.condition == "as_is" else f"{words(row.variant)}, {words(row.condition)}"


def loss_figure(stage: str, steps: Sequence[TrainingStep]) -> Figure:
    """The loss of each batch, and what was measured on held-out pairs."""
    caption = f"Loss of the stage {stage} in nats per answer token, by optimizer step"
    curves = {
        "training batch": [(float(row.step), row.loss) for row in steps],
        "held out": [(float(row.step), row.validation_loss) for row in steps if row.validation_loss is not None],
    }
    return Figure(svg=draw_curves(curves, title=caption), caption=caption)
