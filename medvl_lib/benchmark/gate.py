"""The gate: what a challenger has to show before it is served, as numbers that bear identity.

In: nothing. Out: ``Gate`` and its parts, refused where they cannot be meant. Judging scores by them is ``promotion``'s work; which
gate a line has stands in ``lines``.
"""

from dataclasses import dataclass
from typing import Literal

from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.evaluation.predictions import FLOORS, Variant
from medvl_lib.overrides import nearest_of
from medvl_lib.retrieval import CUTOFFS, Direction

Claim = Literal["superiority", "non_inferiority"]
Measure = Literal["latency_p95", "memory_peak", "memory_after_load", "validation_loss"]
EVERY = "*"  # in a guardrail's slice: each value of the label by itself
WIDEST_MARGIN = 0.1
"""The most that a candidate may be worse and still be called no worse, as a share of its metrics' range. The requirement documents lost 9.8
points unseen (83.5 % to 73.7 %), which a margin above 10 would call no loss. A margin is the largest loss that does not matter, and never
more than what is replaced is good for (FDA 2016, Non-Inferiority Clinical Trials to Establish Effectiveness, section III)."""
WIDEST_GUARDRAIL = 0.2
"""The same of a guardrail: twice that, since the interval of a slice is wide. With 21 clusters of SD 0.3 its half is 0.15, and a margin
within that would stop models that lost nothing; a guardrail that lets more than a fifth of the range go guards nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A variant that may be served, and what it has to show."""

    variant: Variant
    margin: float = 0.0
    """0: it must be better than its rivals. Above: it may be worse by less than this, in the unit of the primary metrics, if it needs less
    memory than the champion, and where nothing that was trained is served."""

    def __post_init__(self) -> None:
        """Refuse a floor, the champion itself, and a margin below 0; how wide one may be depends on the metric, which ``Gate`` knows."""
        if self.variant in (*FLOORS, "champion"):
            raise ValueError(f"variant = {self.variant!r} cannot be a candidate: name base, nf4, affine4, int8, adapter or merged")
        if self.margin < 0:
            raise ValueError(f"margin = {self.margin!r} of {self.variant} must be 0 or more")
        if self.variant == "base" and self.margin == 0:
            raise ValueError("variant = 'base' needs a margin: it cannot be better than itself")

    @property
    def claim(self) -> Claim:
        """What it has to show."""
        return "non_inferiority" if self.margin else "superiority"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardrail:
    """A metric that must not get worse than the champion's, overall or in one slice of the test pairs."""

    metric: str
    margin: float
    """How much worse it may be, in the metric's own unit."""
    slice: str = "all"
    """``all``; ``language=zh`` or ``label=pneumothorax``: the pairs with that label; ``language=*``: each of its values by itself."""

    def __post_init__(self) -> None:
        """Refuse a metric that does not exist, a margin that stops everything or nothing, and a slice without a name or a value."""
        _require_metric(self.metric)
        highest = METRICS[self.metric].highest
        if not 0 <= self.margin <= WIDEST_GUARDRAIL * highest:
            raise ValueError(
                f"margin = {self.margin!r} of {self.metric} must be 0 or more and at most {WIDEST_GUARDRAIL * highest:g}: "
                f"a guardrail that lets more than a fifth of the range ({highest:g}) go guards nothing"
            )
        label, sign, value = self.slice.partition("=")
        if self.slice != "all" and not (label and sign and value):
            raise ValueError(f"slice = {self.slice!r} must be all, or label=value, or label=* for each of its values")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallGuardrail:
    """How far the encoder that is served with a winner may fall behind the one that is served now, or the base where none is."""

    direction: Direction
    """``image_to_text``: a picture looks for its text; ``text_to_image``: the other way round."""
    cutoff: int
    """k: a query is right with a right candidate among the first k of the test gallery."""
    margin: float
    """How much recall (0-1) it may lose."""

    def __post_init__(self) -> None:
        """Refuse a cutoff that is not ranked, and a margin that stops everything or nothing."""
        if self.cutoff not in CUTOFFS:
            raise ValueError(f"cutoff = {self.cutoff!r} must be one of {', '.join(map(str, CUTOFFS))}")
        if not 0 < self.margin < 1:
            raise ValueError(f"margin = {self.margin!r} of recall must lie between 0 and 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class CostLimit:
    """How much more than the champion a challenger may cost."""

    measure: Measure
    """``latency_p95``: seconds per answer, over batches; ``memory_peak`` and ``memory_after_load``: bytes, alone in a fresh process;
    ``validation_loss``: held-out loss of the adapter that is kept, where the champion was validated on the same conversations."""
    max_ratio: float
    """Most that the challenger's may be, divided by the champion's."""

    def __post_init__(self) -> None:
        """Refuse a ratio that nothing can keep."""
        if not 0 < self.max_ratio <= 100:
            raise ValueError(f"max_ratio = {self.max_ratio!r} of {self.measure} must be above 0 and at most 100")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a challenger has to show. Every field bears identity."""

    primary_metric: str = "pair_accuracy"
    further_primaries: tuple[str, ...] = ()
    """More metrics that may decide: better by one of them and worse by none is better, each held to Holm's share of the error."""
    datasets: tuple[str, ...] = ()
    """The test sets that decide; empty for every one that has the primary metric."""
    candidates: tuple[Candidate, ...] = (Candidate(variant="adapter"), Candidate(variant="nf4", margin=0.05))
    """Who may be served, judged in this order, each against what would be served without it. The first one is what the line trains."""
    min_pairs: int = 50  # below, 20 % discordant answers hide a gain of 18 points (McNemar at 80 % power)
    min_clusters: int = 7  # 2 / 2^7 = 0.016: six clusters cannot give p below 0.031, and the first look wants 0.030
    confidence: float = 0.95
    """That nothing is wrongly shown on one test set, over all looks at it together; ``looks`` says what one look gets."""
    worn_after: int = 10
    """Looks at one test set after which it is called worn: the eleventh shows differences from 1.5 times what the first showed."""
    floors: tuple[Variant, ...] = FLOORS
    """Answers that need no model: each has to be beaten."""
    guardrails: tuple[Guardrail, ...] = ()
    cost_limits: tuple[CostLimit, ...] = ()
    recall_guardrails: tuple[RecallGuardrail, ...] = ()
    """Of a line that has an encoder: it is served together with what wins."""
    max_failed_share: float = 0.2
    """Most answers (0-1) that may be empty, in another language or without a readable choice, unless the champion has as many."""
    max_unscored_share: float = 0.01

    def __post_init__(self) -> None:
        """Refuse a gate that lets everything through, or nothing."""
        self._require_names()
        if not 0.5 < self.confidence < 1:
            raise ValueError(f"confidence = {self.confidence!r} must lie between 0.5 and 1")
        for name, least in (("min_pairs", 1), ("min_clusters", 2), ("worn_after", 1)):  # one cluster has no interval
            if getattr(self, name) < least:
                raise ValueError(f"{name} = {getattr(self, name)!r} must be {least} or more")
        if not 0 <= self.max_failed_share <= 1:
            raise ValueError(f"max_failed_share = {self.max_failed_share!r} must lie between 0 and 1")
        if not 0 <= self.max_unscored_share < 0.5:
            raise ValueError(f"max_unscored_share = {self.max_unscored_share!r} must be 0 or more and below 0.5")

    def _require_names(self) -> None:
        """Refuse a metric, a candidate or a floor that does not exist, is named twice, or is missing."""
        for name in self.primaries:
            _require_metric(name, decides=True)
        if len(set(self.primaries)) < len(self.primaries):
            raise ValueError(f"further_primaries = {list(self.further_primaries)!r} must name none twice, nor {self.primary_metric}")
        variants = [candidate.variant for candidate in self.candidates]
        if not variants or len(set(variants)) < len(variants) or variants[0] == "base":
            raise ValueError(f"candidates = {variants!r} must name one or more variants, none twice, and base not first")
        highest = min(METRICS[name].highest for name in self.primaries)
        for candidate in self.candidates:
            if candidate.margin > WIDEST_MARGIN * highest:
                raise ValueError(
                    f"margin = {candidate.margin!r} of {candidate.variant} must be at most {WIDEST_MARGIN * highest:g}, a tenth of the "
                    f"range ({highest:g}): what is worse by more than that is not to be called no worse"
                )
        if not self.floors or not set(self.floors) <= set(FLOORS):
            raise ValueError(f"floors = {list(self.floors)!r} must name one or more of {', '.join(FLOORS)}")

    @property
    def primaries(self) -> tuple[str, ...]:
        """Every metric that may decide, the first one first."""
        return (self.primary_metric, *self.further_primaries)


def _require_metric(name: str, *, decides: bool = False) -> None:
    if name not in METRICS:
        raise ValueError(f"{name!r} is no metric: {nearest_of(name, METRICS)}")
    if decides and not METRICS[name].is_gateable:
        gateable = ", ".join(other for other, metric in METRICS.items() if metric.is_gateable)
        raise ValueError(f"{name!r} is won by an answer that says everything, or nothing: no gate decides by it; name one of {gateable}")
