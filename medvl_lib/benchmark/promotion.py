"""Promotion: may the challenger replace the champion? Promote, reject or inconclusive, with the reasons in words.

In: the scores of one evaluation and a gate. Out: one ``Decision``. It is made pair by pair on the test split alone, in this order (facts
on evaluation, section 6.3):

1. *Validity*: champion, base and floors answered the very pairs that the challenger answered, and hardly a score is missing.
2. *Decidability*: fewer than 50 pairs or 6 clusters decide nothing, whatever the numbers say: 5 documents cannot give p below 0.0625.
3. *Floors*: the challenger beats every floor by interval, or it has shown nothing and is rejected.
4. *Superiority* over champion and base: the lower end of the paired interval over clusters lies above 0. An upper end below 0 rejects.
   The sign-flip p must agree, since the bootstrap alone is too narrow for few clusters (with no true difference its lower end lies above 0
   in 8 % of cases at 5 clusters, 3.5 % at 50, 2.5 % from 100 on, measured); and up to 20 clusters must not all differ by the same amount.
5. *Guardrails*: no other metric falls by more than its margin.

Everything else is inconclusive, with the smallest difference that these pairs could have shown. Moving the pointer is not done here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from medvl_lib.benchmark.tables import SCHEMA_VERSION
from medvl_lib.errors import InputRefused
from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.evaluation.predictions import FLOORS, Variant
from medvl_lib.evaluation.scores import SCORES, Score
from medvl_lib.evaluation.statistics import MAX_EXACT_CLUSTERS, Difference, paired_difference
from medvl_lib.provenance import Fact, Outcome, Rule, digest
from medvl_lib.tables import Column, read_table, write_table

REVISION = 1  # first version
PROMOTION_DECISIONS = "promotion_decisions.parquet"

Verdict = Literal["promote", "reject", "inconclusive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardrail:
    """A metric that must not get worse than the champion's."""

    metric: str
    margin: float
    """How much worse it may be, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a challenger has to show. Every field bears identity."""

    primary_metric: str = "pair_accuracy"
    datasets: tuple[str, ...] = ()
    """The test sets that decide; empty for every one that has the primary metric."""
    challenger: Variant = "adapter"
    min_pairs: int = 50  # below, 20 % discordant answers hide a gain of 18 points (McNemar at 80 % power)
    min_clusters: int = 6  # 2 / 2^5 = 0.0625: five clusters can never be significant
    confidence: float = 0.95
    floors: tuple[Variant, ...] = FLOORS
    guardrails: tuple[Guardrail, ...] = ()
    max_unscored_share: float = 0.01

    def __post_init__(self) -> None:
        unknown = sorted({self.primary_metric, *(guardrail.metric for guardrail in self.guardrails)} - METRICS.keys())
        if unknown:
            raise ValueError(f"{', '.join(unknown)} is no metric; there are {', '.join(METRICS)}")
        if not 0.5 < self.confidence < 1:
            raise ValueError(f"confidence = {self.confidence} must lie between 0.5 and 1")
        if self.min_pairs < 1:
            raise ValueError(f"min_pairs = {self.min_pairs} must be 1 or more")
        if self.min_clusters < 2:
            raise ValueError(f"min_clusters = {self.min_clusters} must be 2 or more: one cluster has no interval")
        if not 0 <= self.max_unscored_share < 0.5:
            raise ValueError(f"max_unscored_share = {self.max_unscored_share} must be 0 or more and below 0.5")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the gate said of one evaluation. Key: (evaluation_id, gate_id)."""

    line: Annotated[str, Column("the line that was judged")]
    evaluation_id: Annotated[str, Column("the evaluation that was judged")]
    gate_id: Annotated[str, Column("hash of the gate's values")]
    verdict: Annotated[Verdict, Column("promote, reject or inconclusive")]
    reasons: Annotated[tuple[str, ...], Column("why, in words, the deciding one first")]
    primary_metric: Annotated[str, Column("the metric that decides")]
    challenger: Annotated[str, Column("the variant that wants to be served")]
    champion: Annotated[str, Column("the variant that it is held against")]
    num_pairs: Annotated[int, Column("test pairs that both were scored on")]
    num_clusters: Annotated[int, Column("patients or documents that these pairs belong to")]
    difference: Annotated[float | None, Column("challenger minus champion, positive is better; null where they cannot be compared")]
    ci_low: Annotated[float | None, Column("lower end of its interval over clusters")]
    ci_high: Annotated[float | None, Column("upper end of its interval over clusters")]
    p_value: Annotated[float | None, Column("two-sided sign-flip permutation over clusters; exact up to 20 clusters")]
    minimum_detectable_difference: Annotated[
        float | None, Column("true difference that would be shown with 80 % probability; null where the clusters show no spread")
    ]


class _Scored(NamedTuple):
    cluster: str
    value: float | None


_Table = Mapping[tuple[str, str], Mapping[str, _Scored]]
"""(variant, metric) -> pair -> score."""


class _Finding(NamedTuple):
    verdict: Verdict
    reason: str


def _table(scores: Iterable[Score], gate: Gate) -> dict[tuple[str, str], dict[str, _Scored]]:
    """What the gate may look at: the test split, as it is, in the gate's datasets. Clusters of two datasets are never one."""
    table: dict[tuple[str, str], dict[str, _Scored]] = {}
    for score in scores:
        is_of_interest = score.split == "test" and score.condition == "as_is" and (not gate.datasets or score.dataset in gate.datasets)
        if is_of_interest:
            column = table.setdefault((score.variant, score.metric), {})
            column[score.pair_id] = _Scored(cluster=f"{score.dataset}/{score.group_id}", value=score.value)
    return table


def _invalid(table: _Table, gate: Gate, rivals: Sequence[str]) -> list[str]:
    """Why variants cannot be compared, if they cannot."""
    mine = table.get((gate.challenger, gate.primary_metric), {})
    if not mine:
        return [f"not decidable: no test pair has {gate.primary_metric} of {gate.challenger}"]
    problems: list[str] = []
    for variant in (gate.challenger, *rivals, *gate.floors):
        theirs = table.get((variant, gate.primary_metric), {})
        odd = sorted(mine.keys() ^ theirs.keys())
        num_unscored = sum(scored.value is None for scored in theirs.values())
        if odd:
            problems.append(
                f"not comparable: {len(odd)} pairs were answered by only one of {gate.challenger} and {variant}, first {odd[0]}"
            )
        elif num_unscored > gate.max_unscored_share * len(theirs):
            problems.append(f"not comparable: {num_unscored} of {len(theirs)} answers of {variant} could not be scored")
    return problems


def _compare(table: _Table, gate: Gate, rival: str, metric: str) -> Difference | None:
    """Challenger minus rival over the pairs that both have a value of, turned so that positive is better; None without such pairs."""
    mine, theirs = table.get((gate.challenger, metric), {}), table.get((rival, metric), {})
    sign = 1 if METRICS[metric].is_higher_better else -1
    pairs: list[tuple[str, float, float]] = []
    for pair_id in sorted(mine.keys() & theirs.keys()):
        (cluster, first), (_, second) = mine[pair_id], theirs[pair_id]
        if first is not None and second is not None:
            pairs.append((cluster, sign * first, sign * second))
    return paired_difference(pairs, confidence=gate.confidence) if pairs else None


def _in_words(found: Difference, gate: Gate, rival: str, metric: str) -> str:
    interval = "no interval" if found.ci_low is None else f"{gate.confidence:.0%} interval {found.ci_low:+.3f} to {found.ci_high:+.3f}"
    turned = "" if METRICS[metric].is_higher_better else " (less is better: sign turned)"
    return (
        f"{metric}{turned}: {gate.challenger} minus {rival} is {found.difference:+.3f} ({interval}, p = {found.p_value:.4f}, "
        f"{found.num_pairs} pairs, {found.num_clusters} clusters)"
    )


def _is_shown(found: Difference, gate: Gate) -> bool:
    """Whether the permutation test agrees with the interval, and few clusters show some spread."""
    has_spread = found.minimum_detectable_difference is not None or found.num_clusters > MAX_EXACT_CLUSTERS
    return has_spread and found.p_value <= 1 - gate.confidence


def _least_visible(found: Difference) -> str:
    smallest = found.minimum_detectable_difference
    if smallest is None:
        return "the clusters show no spread, so no smallest visible difference can be stated"
    return f"with 80 % power these clusters show differences from {smallest:.3f}"


def _superiority(table: _Table, gate: Gate, rival: str) -> _Finding:
    found = _compare(table, gate, rival, gate.primary_metric)
    assert found is not None  # noqa: S101 (validity was established)
    said = _in_words(found, gate, rival, gate.primary_metric)
    if found.ci_low is not None and found.ci_high is not None and _is_shown(found, gate):
        if found.ci_low > 0:
            return _Finding("promote", f"better than {rival}: {said}")
        if found.ci_high < 0:
            return _Finding("reject", f"worse than {rival}: {said}")
    return _Finding("inconclusive", f"neither better nor worse than {rival} was shown: {said}; {_least_visible(found)}")


def _floor(table: _Table, gate: Gate, floor: str) -> _Finding:
    finding, found = _superiority(table, gate, floor), _compare(table, gate, floor, gate.primary_metric)
    is_above = found is not None and found.ci_low is not None and found.ci_low > 0
    if finding.verdict == "reject" or not is_above:
        return _Finding("reject", f"does not beat {floor}, which needs no model: {finding.reason}")
    return finding


def _guardrail(table: _Table, gate: Gate, champion: str, guardrail: Guardrail) -> _Finding:
    found = _compare(table, gate, champion, guardrail.metric)
    if found is None or found.ci_low is None or found.ci_high is None:
        return _Finding("inconclusive", f"guardrail {guardrail.metric}: no test pairs to judge it by")
    said = f"guardrail {guardrail.metric} (margin {guardrail.margin}): {_in_words(found, gate, champion, guardrail.metric)}"
    if found.ci_low > -guardrail.margin:
        return _Finding("promote", said)
    return _Finding("reject" if found.ci_high < -guardrail.margin else "inconclusive", said)


def _findings(table: _Table, gate: Gate, champion: str, rivals: Sequence[str]) -> list[_Finding]:
    """Every finding, the deciding ones first: a reject outweighs an inconclusive, that a promote."""
    found = [
        *(_superiority(table, gate, rival) for rival in rivals),
        *(_floor(table, gate, floor) for floor in gate.floors),
        *(_guardrail(table, gate, champion, guardrail) for guardrail in gate.guardrails),
    ]
    return sorted(found, key=lambda finding: ("reject", "inconclusive", "promote").index(finding.verdict))


def _too_few(found: Difference, gate: Gate, rival: str) -> _Finding | None:
    if found.num_pairs >= gate.min_pairs and found.num_clusters >= gate.min_clusters:
        return None
    said = _in_words(found, gate, rival, gate.primary_metric)
    lowest = f"{found.num_clusters} clusters cannot give p below {2 / 2**found.num_clusters:.4f}; " if found.num_clusters < 6 else ""
    return _Finding(
        "inconclusive",
        f"not decidable with {found.num_pairs} pairs in {found.num_clusters} clusters (needed: {gate.min_pairs} in {gate.min_clusters}): "
        f"{lowest}{_least_visible(found)}; {said}",
    )


def champion_of(scores: Iterable[Score]) -> Variant:
    """The variant to beat: ``champion`` where one was predicted, or else the base model."""
    return "champion" if any(score.variant == "champion" for score in scores) else "base"


def decide(scores: Sequence[Score], gate: Gate, champion: Variant, line: str) -> Decision:
    """The gate's verdict on one evaluation; raises InputRefused when the scores are of several."""
    evaluations = sorted({score.evaluation_id for score in scores})
    if len(evaluations) != 1:
        raise InputRefused(
            found=f"scores of {len(evaluations)} evaluations: {', '.join(evaluations)}", where=f"scores of {line}",
            do="give the gate the scores of one evaluation: materialize the scores, then the promotion",
        )  # fmt: skip
    table = _table(scores, gate)
    rivals = list(dict.fromkeys([champion, "base"]))
    found: Difference | None = None
    if problems := _invalid(table, gate, rivals):
        findings = [_Finding("inconclusive", problem) for problem in problems]
    else:
        found = _compare(table, gate, champion, gate.primary_metric)
        assert found is not None  # noqa: S101 (validity was established)
        few = _too_few(found, gate, champion)
        findings = _findings(table, gate, champion, rivals) if few is None else [few]
    return Decision(
        line=line, evaluation_id=evaluations[0], gate_id=digest(gate), verdict=findings[0].verdict,
        reasons=tuple(finding.reason for finding in findings), primary_metric=gate.primary_metric, challenger=gate.challenger,
        champion=champion, num_pairs=found.num_pairs if found else 0, num_clusters=found.num_clusters if found else 0,
        difference=found and found.difference, ci_low=found and found.ci_low, ci_high=found and found.ci_high,
        p_value=found and found.p_value, minimum_detectable_difference=found and found.minimum_detectable_difference,
    )  # fmt: skip


def write_promotion(directory: Path, scores_directory: Path, gate: Gate, line: str) -> dict[str, Fact]:
    """Decide on the scores and write the one row; returns verdict, deciding reason and numbers."""
    scores = list(read_table(scores_directory / SCORES, Score))
    decision = decide(scores, gate, champion_of(scores), line)
    write_table(directory / PROMOTION_DECISIONS, Decision, [decision])
    return {
        "schema_version": SCHEMA_VERSION, "verdict": decision.verdict, "reason": decision.reasons[0], "champion": decision.champion,
        "num_pairs": decision.num_pairs,
        "num_clusters": decision.num_clusters, "difference": decision.difference, "ci_low": decision.ci_low, "ci_high": decision.ci_high,
        "p_value": decision.p_value, "minimum_detectable_difference": decision.minimum_detectable_difference,
    }  # fmt: skip


def read_decision(directory: Path) -> Decision:
    """The decision in a promotion directory."""
    [decision] = read_table(directory / PROMOTION_DECISIONS, Decision)
    return decision


def one_decision_was_made(directory: Path) -> Outcome:
    """There is one decision, with a reason."""
    rows = list(read_table(directory / PROMOTION_DECISIONS, Decision))
    num_reasons = sum(len(row.reasons) for row in rows)
    return Outcome(passed=len(rows) == 1 and num_reasons > 0, found=f"{len(rows)} decisions with {num_reasons} reasons")


def the_verdict_follows_the_numbers(directory: Path) -> Outcome:
    """A promotion has a positive interval over enough pairs and clusters; a verdict is one of three."""
    wrong: list[str] = []
    for row in read_table(directory / PROMOTION_DECISIONS, Decision):
        is_positive = row.ci_low is not None and row.ci_high is not None and row.difference is not None and 0 < row.ci_low <= row.ci_high
        is_earned = is_positive and row.num_clusters >= 2 and row.num_pairs >= row.num_clusters
        if row.verdict not in {"promote", "reject", "inconclusive"} or (row.verdict == "promote" and not is_earned):
            wrong.append(f"{row.line}: {row.verdict}, interval from {row.ci_low} over {row.num_pairs} pairs")
    return Outcome(passed=not wrong, found=f"{len(wrong)} verdicts that the numbers do not carry", offenders=tuple(wrong))


RULES = (
    Rule(name="one_decision_was_made", sentence="There is one decision, and it says why.", holds=one_decision_was_made),
    Rule(
        name="the_verdict_follows_the_numbers",
        sentence="Nothing is promoted without a paired difference whose interval lies above zero.",
        holds=the_verdict_follows_the_numbers,
    ),
)
