"""Comparing: does what was exported answer as it was judged? What goes into ``parity.json``, and whether the export may stand.

In: what plain transformers said of an exported folder, what MedVL said of the same weights, and what was evaluated. Out: counts, paired
differences of scores, and the reasons against it. No text, no id of a pair: the file goes wherever the folder goes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.evaluation.parity import (
    Answers,
    ComparedScore,
    Comparison,
    Form,
    ParitySpec,
    compared_answers,
    compared_scores,
    is_shown,
    summary,
)
from medvl_lib.evaluation.predictions import Reference, Variant
from medvl_lib.evaluation.statistics import is_too_few

CONFIDENCE = 0.95  # fewer clusters than can reach it show nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What one exported folder was asked, and what others said to the same."""

    variant: Variant
    """What the folder holds."""
    is_judged: bool
    """Whether these weights are the ones that were evaluated, and not another form of them."""
    exported: Answers
    """By plain transformers, from the folder, one pair at a time."""
    own: Answers
    """By MedVL, of the same weights, one pair at a time."""
    served: Answers
    """By MedVL, of what is served, one pair at a time: ``own`` again, where that is what the folder holds."""
    evaluated: Answers | None
    """As they were judged, in the evaluation's batches; None where the line was never evaluated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """What the comparison came to."""

    variant: Variant
    num_pairs: int
    num_clusters: int
    is_judged: bool
    comparisons: tuple[Comparison, ...]
    scores: tuple[ComparedScore, ...]
    """Of a folder whose weights are not those that were judged: the folder's answers minus those of what is served."""
    refusals: tuple[str, ...]
    """Why the export must not stand; empty where it may."""

    @property
    def said(self) -> Comparison:
        """Plain transformers against MedVL, on the same weights."""
        return self.comparisons[0]


def compare(asked: Asked, references: Sequence[Reference], spec: ParitySpec) -> Parity:
    """Hold the folder's answers against MedVL's own, and against what was judged.

    The same weights, asked one pair at a time, have to say the same text, all of it. Against what was evaluated in batches the share of the
    line's parity holds. Weights in another form than was judged (an adapter merged into 16 bits) say other texts: of them no metric may be
    shown to be worse.
    """
    groups = {reference.pair_id: reference.group_id for reference in references}
    held: list[tuple[Form, Answers, Form, Answers]] = [("exported", asked.exported, "reloaded", asked.own)]
    if asked.is_judged and asked.evaluated is not None:
        held.append(("exported", asked.exported, "evaluated", asked.evaluated))
    if not asked.is_judged:
        held.append(("exported", asked.exported, "served", asked.served))
    comparisons: list[Comparison] = []
    for form, said, against, said_there in held:
        comparisons += summary(list(compared_answers(form, said, against, said_there, groups)), spec)
    scores = () if asked.is_judged else compared_scores("exported", asked.exported, "served", asked.served, references, spec)
    told = tuple(replace(row, ci_low=None, ci_high=None) if is_too_few(row.num_clusters, CONFIDENCE) else row for row in scores)
    return Parity(
        variant=asked.variant, num_pairs=len(groups), num_clusters=len(set(groups.values())), is_judged=asked.is_judged,
        comparisons=tuple(comparisons), scores=told, refusals=tuple(_refusals(comparisons, told)),
    )  # fmt: skip


def _refusals(comparisons: Sequence[Comparison], scores: Sequence[ComparedScore]) -> list[str]:
    blocking = [row for row in comparisons if row.against != "served"]
    unequal = [f"{in_words(row)} (needed: {row.required_share:.0%})" for row in blocking if row.equal_share < row.required_share]
    return [*unequal, *(f"{row.metric} is worse by {abs(row.difference):.4f}, {_interval(row)}" for row in scores if is_worse(row))]


def is_worse(row: ComparedScore) -> bool:
    """Whether a metric is shown to be worse than what is served; fewer clusters than an interval needs show nothing."""
    worse = row.difference < 0 if METRICS[row.metric].is_higher_better else row.difference > 0
    return worse and row.ci_low is not None and is_shown(row)


def in_words(row: Comparison) -> str:
    """``41 of 41 answers are those of reloaded``."""
    said = f"{row.num_equal} of {row.num_pairs} answers are those of {NAMES[row.against]}"
    return said if row.first_difference is None else f"{said}; the others part from it at character {row.first_difference} or later"


NAMES: Mapping[Form, str] = {
    "reloaded": "MedVL with the same weights, one pair at a time", "evaluated": "the evaluation, which asked in batches",
    "served": "what is served, one pair at a time",
}  # fmt: skip


def _interval(row: ComparedScore) -> str:
    if row.ci_low is None or row.ci_high is None:
        return f"no interval with {row.num_clusters} patients or documents"
    return f"95 % {row.ci_low:+.4f} to {row.ci_high:+.4f}"


def score_in_words(row: ComparedScore) -> str:
    """``pair_accuracy -0.0213 (95 % -0.0512 to +0.0061)``."""
    return f"{row.metric} {row.difference:+.4f} ({_interval(row)})"


def as_json(parity: Parity, circumstances: Mapping[str, str]) -> dict[str, object]:
    """Every figure, and where it was found."""
    return {**asdict(parity), "is_checked": True, "holds": not parity.refusals, "circumstances": dict(circumstances)}
