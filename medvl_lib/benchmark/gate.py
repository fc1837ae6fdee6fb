"""The gate: what a challenger has to show before it is served, as numbers that bear identity.

In: nothing. Out: ``Gate`` and ``Guardrail``, refused where they cannot be meant. Judging scores by them is ``promotion``'s work; which
gate a line has stands in ``lines``.
"""

from dataclasses import dataclass

from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.evaluation.predictions import FLOORS, Variant


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardrail:
    """A metric that must not get worse than the champion's."""

    metric: str
    margin: float
    """How much worse it may be, 0 to 1."""

    def __post_init__(self) -> None:
        """Refuse a metric that does not exist, and a margin that stops everything or nothing."""
        _require_metric(self.metric)
        if not 0 <= self.margin < 1:
            raise ValueError(f"margin = {self.margin!r} of {self.metric} must be 0 or more and below 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a challenger has to show. Every field bears identity."""

    primary_metric: str = "pair_accuracy"
    datasets: tuple[str, ...] = ()
    """The test sets that decide; empty for every one that has the primary metric."""
    min_pairs: int = 50  # below, 20 % discordant answers hide a gain of 18 points (McNemar at 80 % power)
    min_clusters: int = 7  # 2 / 2^7 = 0.016: six clusters cannot give p below 0.031, and the first look wants 0.030
    confidence: float = 0.95
    """That nothing is wrongly shown on one test set, over all looks at it together; ``looks`` says what one look gets."""
    worn_after: int = 10
    """Looks at one test set after which it is called worn: the eleventh shows differences from 1.5 times what the first showed."""
    floors: tuple[Variant, ...] = FLOORS
    """Answers that need no model: each has to be beaten."""
    guardrails: tuple[Guardrail, ...] = ()
    max_unscored_share: float = 0.01

    def __post_init__(self) -> None:
        """Refuse a gate that lets everything through, or nothing."""
        _require_metric(self.primary_metric)
        if not 0.5 < self.confidence < 1:
            raise ValueError(f"confidence = {self.confidence!r} must lie between 0.5 and 1")
        if self.min_pairs < 1:
            raise ValueError(f"min_pairs = {self.min_pairs!r} must be 1 or more")
        if self.min_clusters < 2:
            raise ValueError(f"min_clusters = {self.min_clusters!r} must be 2 or more: one cluster has no interval")
        if self.worn_after < 1:
            raise ValueError(f"worn_after = {self.worn_after!r} must be 1 or more")
        if not self.floors or not set(self.floors) <= set(FLOORS):
            raise ValueError(f"floors = {list(self.floors)!r} must name one or more of {', '.join(FLOORS)}")
        if not 0 <= self.max_unscored_share < 0.5:
            raise ValueError(f"max_unscored_share = {self.max_unscored_share!r} must be 0 or more and below 0.5")


def _require_metric(name: str) -> None:
    if name not in METRICS:
        raise ValueError(f"{name!r} is no metric; there are {', '.join(METRICS)}")
