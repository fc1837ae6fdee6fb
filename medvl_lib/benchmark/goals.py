"""Stretch goals: figures that somebody hoped for, each with the exact thing that is measured for it. Nothing is decided by them.

In: goals, and the rows of a benchmark. Out: ``StretchGoal``, and rows with what was measured for it. The requirement documents name
targets without saying how they are measured: another patient's report, drawn at random, passes "BLEU 0.3" as BLEU-1, and no published
system does as BLEU-4. So a goal names the metric of ours (or the loss of a stage) that it is held against, and stands beside what was
measured, met or not.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from medvl_lib.benchmark.slices import ALL
from medvl_lib.benchmark.tables import BenchmarkRow, GoalRow
from medvl_lib.evaluation.metrics import METRICS


@dataclass(frozen=True, slots=True, kw_only=True)
class StretchGoal:
    """One figure that was hoped for."""

    wanted: str
    """As the requirement document has it."""
    metric: str | None = None
    """The metric that it is held against: of the test split as it is, over all pairs that the metric applies to."""
    stage: str | None = None
    """Or the stage whose lowest held-out loss it is: the mean over answer tokens, of the adapter that is kept."""
    above: float | None = None
    """Met above this, in the metric's own unit (BLEU: 0-100)."""
    below: float | None = None
    """Or met below this."""

    def __post_init__(self) -> None:
        """Refuse a goal of nothing, or of two things, and one without a bound."""
        if (self.metric is None) == (self.stage is None) or (self.above is None) == (self.below is None):
            raise ValueError(f"the goal {self.wanted!r} must name a metric or a stage, and a bound above or below, one of each")
        if self.metric is not None and self.metric not in METRICS:
            raise ValueError(f"the goal {self.wanted!r} names {self.metric!r}, which is no metric")

    @property
    def bound(self) -> str:
        """``> 30`` or ``< 2``."""
        return f"> {self.above:g}" if self.above is not None else f"< {self.below:g}"

    @property
    def definition(self) -> str:
        """What exactly is measured."""
        if self.metric is not None:
            return METRICS[self.metric].definition
        return f"Lowest held-out loss of the stage {self.stage}: nats per token of the answers, prompt and pictures not counted."

    def is_met(self, value: float) -> bool:
        """Whether a measured value reaches it."""
        return value > self.above if self.above is not None else self.below is not None and value < self.below


def goal_rows(
    goals: Sequence[StretchGoal], measured: Sequence[BenchmarkRow], losses: Mapping[str, float], *, evaluation_id: str, line: str
) -> Iterator[GoalRow]:
    """Each goal with what was measured: a row for each test set of a metric, and one for a loss."""
    for goal in goals:
        if goal.stage is not None:
            value = losses.get(goal.stage)
            yield GoalRow(
                evaluation_id=evaluation_id, line=line, wanted=goal.wanted, stage=goal.stage, metric=None, bound=goal.bound, dataset=None,
                value=value, ci_low=None, ci_high=None, num_pairs=None, is_met=None if value is None else goal.is_met(value),
                definition=goal.definition,
            )  # fmt: skip
            continue
        found = [
            row for row in measured
            if (row.metric, row.variant, row.condition, row.split, row.slice) == (goal.metric, "adapter", "as_is", "test", ALL)
        ]  # fmt: skip
        for row in found or (None,):
            yield GoalRow(
                evaluation_id=evaluation_id, line=line, wanted=goal.wanted, stage=None, metric=goal.metric, bound=goal.bound,
                dataset=row and row.dataset, value=row and row.mean, ci_low=row and row.ci_low, ci_high=row and row.ci_high,
                num_pairs=row and row.num_pairs, is_met=None if row is None or row.mean is None else goal.is_met(row.mean),
                definition=goal.definition,
            )  # fmt: skip
