"""Promotion: may the challenger replace the champion? Promote, reject or inconclusive, with the reasons in words.

In: the scores of one evaluation, a gate, and which look at this test set it is. Out: one ``Decision`` on the adapter, since nothing else
can be promoted. It is made pair by pair on the test split alone, in this order (facts on evaluation, section 6.3):

1. *Validity*: rivals and floors answered the very pairs that the challenger answered, hardly a score is missing, and neither challenger nor
   champion was trained on a subject of the test set, under another split (``leaks``).
2. *Decidability*: fewer than 50 pairs or 7 clusters decide nothing, whatever the numbers say: 5 documents cannot give p below 0.0625. Every
   interval and p is held to the alpha of this look, a share of the gate's error for all looks (``looks``).
3. *Superiority* over each rival: champion and base; before the first promotion base and, where it was predicted, nf4 (either may be what
   is served without an adapter). The lower end of the paired interval over clusters lies above 0. An upper end below 0 rejects.
   The sign-flip p must agree, since the bootstrap alone is too narrow for few clusters (with no true difference its lower end lies above 0
   in 8 % of cases at 5 clusters, 3.5 % at 50, 2.5 % from 100 on, measured); and up to 20 clusters must not all differ by the same amount.
4. *Floors*: the challenger beats every floor by interval, or it has shown nothing and is rejected.
5. *Answers use the image*: the challenger is better on the pictures as they are than on blank ones. Without this control nothing is
   promoted; as good without the picture rejects.
6. *Guardrails*: no other metric falls by more than its margin.

Everything else is inconclusive, with the smallest difference that these pairs could have shown. Moving the pointer is not done here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from medvl_lib.benchmark import leaks as leaks_room
from medvl_lib.benchmark import looks
from medvl_lib.benchmark.gate import Gate, Guardrail
from medvl_lib.benchmark.looks import Look, alpha_of, write_look
from medvl_lib.benchmark.tables import SCHEMA_VERSION
from medvl_lib.errors import InputRefused
from medvl_lib.evaluation import statistics
from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.evaluation.predictions import Condition, Variant
from medvl_lib.evaluation.scores import SCORES, Score
from medvl_lib.evaluation.statistics import MAX_EXACT_CLUSTERS, Difference, paired_difference, smallest_p
from medvl_lib.provenance import Fact, Outcome, Rule, digest
from medvl_lib.tables import Column, read_table, write_table

REVISION = 3  # the error is a budget for all looks at one test set
REVISIONS = (REVISION, looks.REVISION, leaks_room.REVISION, statistics.REVISION, SCHEMA_VERSION)
PROMOTION_DECISIONS = "promotion_decisions.parquet"

CHALLENGER: Variant = "adapter"  # what serving serves when it wins
CONTROL: Condition = "blank_image"

Verdict = Literal["promote", "reject", "inconclusive"]


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
    look: Annotated[int, Column("which look at this test set it is: challengers that were compared on it, this one included")]
    alpha: Annotated[float, Column("two-sided error of this look: its share of what the gate allows all looks together")]
    is_worn: Annotated[bool, Column("whether the test set was looked at more often than the gate calls sound")]
    num_pairs: Annotated[int, Column("test pairs that both were scored on")]
    num_clusters: Annotated[int, Column("patients or documents that these pairs belong to")]
    difference: Annotated[float | None, Column("challenger minus champion, positive is better; null where they cannot be compared")]
    ci_low: Annotated[float | None, Column("lower end of its interval over clusters, of confidence 1 - alpha")]
    ci_high: Annotated[float | None, Column("upper end of its interval over clusters, of confidence 1 - alpha")]
    p_value: Annotated[float | None, Column("two-sided sign-flip permutation over clusters; exact up to 20 clusters")]
    minimum_detectable_difference: Annotated[
        float | None, Column("true difference that this look would show with 80 % probability; null where the clusters show no spread")
    ]
    image_difference: Annotated[
        float | None, Column("challenger on the pictures minus on blank ones, positive is better; null where blank ones were not shown")
    ]
    image_ci_low: Annotated[float | None, Column("lower end of its interval over clusters, of confidence 1 - alpha")]
    image_ci_high: Annotated[float | None, Column("upper end of its interval over clusters, of confidence 1 - alpha")]


class _Scored(NamedTuple):
    cluster: str
    value: float | None


class _Answers(NamedTuple):
    """Who answered, under which condition."""

    variant: str
    condition: Condition = "as_is"

    def __str__(self) -> str:
        return self.variant if self.condition == "as_is" else f"{self.variant} ({self.condition})"


_Table = Mapping[tuple[_Answers, str], Mapping[str, _Scored]]
"""(answers, metric) -> pair -> score."""

_MINE = _Answers(CHALLENGER)
_BLIND = _Answers(CHALLENGER, CONTROL)


class _Finding(NamedTuple):
    verdict: Verdict
    reason: str


def _table(scores: Iterable[Score], gate: Gate) -> dict[tuple[_Answers, str], dict[str, _Scored]]:
    """What the gate may look at: the test split of the gate's datasets. Clusters of two datasets are never one."""
    table: dict[tuple[_Answers, str], dict[str, _Scored]] = {}
    for score in scores:
        if score.split == "test" and (not gate.datasets or score.dataset in gate.datasets):
            column = table.setdefault((_Answers(score.variant, score.condition), score.metric), {})
            column[score.pair_id] = _Scored(cluster=f"{score.dataset}/{score.group_id}", value=score.value)
    return table


def _rivals(table: _Table, champion: Variant) -> list[_Answers]:
    """The champion and the base model; before the first promotion the base model, also in four bits where these were predicted."""
    has_nf4 = any(answers.variant == "nf4" for answers, _ in table)
    second: Variant = "nf4" if champion == "base" and has_nf4 else "base"
    return [_Answers(variant) for variant in dict.fromkeys([champion, second])]


def _unlike(table: _Table, gate: Gate, others: _Answers) -> str | None:
    """Why the challenger's answers cannot be held against others, if they cannot."""
    mine, theirs = table.get((_MINE, gate.primary_metric), {}), table.get((others, gate.primary_metric), {})
    if odd := sorted(mine.keys() ^ theirs.keys()):
        return f"not comparable: {len(odd)} pairs were answered by only one of {_MINE} and {others}, first {odd[0]}"
    num_unscored = sum(scored.value is None for scored in theirs.values())
    if num_unscored > gate.max_unscored_share * len(theirs):
        return f"not comparable: {num_unscored} of {len(theirs)} answers of {others} could not be scored"
    return None


def _invalid(table: _Table, gate: Gate, rivals: Sequence[_Answers]) -> list[str]:
    """Why variants cannot be compared, if they cannot."""
    if not table.get((_MINE, gate.primary_metric)):
        return [f"not decidable: no test pair has {gate.primary_metric} of {_MINE}"]
    problems = [_unlike(table, gate, others) for others in (_MINE, *rivals, *map(_Answers, gate.floors))]
    return [problem for problem in problems if problem is not None]


def _compare(table: _Table, gate: Gate, others: _Answers, metric: str) -> Difference | None:
    """The challenger minus others over the pairs that both have a value of, turned so that positive is better; None without such pairs."""
    mine, theirs = table.get((_MINE, metric), {}), table.get((others, metric), {})
    sign = 1 if METRICS[metric].is_higher_better else -1
    pairs: list[tuple[str, float, float]] = []
    for pair_id in sorted(mine.keys() & theirs.keys()):
        (cluster, first), (_, second) = mine[pair_id], theirs[pair_id]
        if first is not None and second is not None:
            pairs.append((cluster, sign * first, sign * second))
    return paired_difference(pairs, confidence=gate.confidence) if pairs else None


def _compare_valid(table: _Table, gate: Gate, others: _Answers) -> Difference:
    """The same by the primary metric, once it is known that there are such pairs."""
    found = _compare(table, gate, others, gate.primary_metric)
    assert found is not None  # noqa: S101 (validity was established)
    return found


def _in_words(found: Difference, gate: Gate, others: _Answers, metric: str) -> str:
    interval = (
        "no interval" if found.ci_low is None else f"{100 * gate.confidence:.4g} % interval {found.ci_low:+.3f} to {found.ci_high:+.3f}"
    )
    turned = "" if METRICS[metric].is_higher_better else " (less is better: sign turned)"
    return (
        f"{metric}{turned}: {_MINE} minus {others} is {found.difference:+.3f} ({interval}, p = {found.p_value:.4f}, "
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


def _superiority(found: Difference, gate: Gate, rival: _Answers) -> _Finding:
    said = _in_words(found, gate, rival, gate.primary_metric)
    if found.ci_low is not None and found.ci_high is not None and _is_shown(found, gate):
        if found.ci_low > 0:
            return _Finding("promote", f"better than {rival}: {said}")
        if found.ci_high < 0:
            return _Finding("reject", f"worse than {rival}: {said}")
    both = "" if found.ci_low is None else "interval and p do not both say so: " if found.ci_low > 0 or (found.ci_high or 0) < 0 else ""
    return _Finding("inconclusive", f"neither better nor worse than {rival} was shown: {both}{said}; {_least_visible(found)}")


def _floor(found: Difference, gate: Gate, floor: _Answers) -> _Finding:
    finding = _superiority(found, gate, floor)
    is_above = found.ci_low is not None and found.ci_low > 0
    if finding.verdict == "reject" or not is_above:
        return _Finding("reject", f"does not beat {floor}, which needs no model: {finding.reason}")
    return finding


def _image_effect(table: _Table, gate: Gate) -> Difference | None:
    """What the picture adds to the challenger's score; None where blank pictures were not shown for each pair."""
    return None if _unlike(table, gate, _BLIND) else _compare(table, gate, _BLIND, gate.primary_metric)


def _answers_use_the_image(table: _Table, gate: Gate, effect: Difference | None) -> _Finding:
    if effect is None or effect.ci_low is None or effect.ci_high is None:
        has_control = bool(table.get((_BLIND, gate.primary_metric)))
        why = _unlike(table, gate, _BLIND) or "no interval over one cluster" if has_control else f"{CONTROL} was not predicted for {_MINE}"
        return _Finding("inconclusive", f"whether answers use the image is unknown: {why}")
    said = _in_words(effect, gate, _BLIND, gate.primary_metric)
    if effect.ci_high <= 0:
        return _Finding("reject", f"answers do not use the image, blank ones do as well: {said}")
    if effect.ci_low > 0 and _is_shown(effect, gate):
        return _Finding("promote", f"answers use the image: {said}")
    return _Finding("inconclusive", f"that answers use the image was not shown: {said}; {_least_visible(effect)}")


def _guardrail(table: _Table, gate: Gate, champion: _Answers, guardrail: Guardrail) -> _Finding:
    found = _compare(table, gate, champion, guardrail.metric)
    if found is None or found.ci_low is None or found.ci_high is None:
        return _Finding("inconclusive", f"guardrail {guardrail.metric}: no test pairs to judge it by")
    said = f"guardrail {guardrail.metric} (margin {guardrail.margin}): {_in_words(found, gate, champion, guardrail.metric)}"
    if found.ci_low > -guardrail.margin:
        return _Finding("promote", said)
    return _Finding("reject" if found.ci_high < -guardrail.margin else "inconclusive", said)


def _findings(table: _Table, gate: Gate, rivals: Sequence[_Answers], effect: Difference | None) -> list[_Finding]:
    """Every finding, the deciding ones first: a reject outweighs an inconclusive, that a promote."""
    found = [
        *(_superiority(_compare_valid(table, gate, rival), gate, rival) for rival in rivals),
        *(_floor(_compare_valid(table, gate, floor), gate, floor) for floor in map(_Answers, gate.floors)),
        _answers_use_the_image(table, gate, effect),
        *(_guardrail(table, gate, rivals[0], guardrail) for guardrail in gate.guardrails),
    ]
    return sorted(found, key=lambda finding: ("reject", "inconclusive", "promote").index(finding.verdict))


def _too_few(found: Difference, gate: Gate, rival: _Answers) -> _Finding | None:
    """Why so many pairs decide nothing, if they do not."""
    is_enough = found.num_pairs >= gate.min_pairs and found.num_clusters >= gate.min_clusters
    alpha, lowest = 1 - gate.confidence, smallest_p(found.num_clusters)
    if is_enough and lowest <= alpha:
        return None
    counted = f"{found.num_pairs} pairs in {found.num_clusters} clusters (needed: {gate.min_pairs} in {gate.min_clusters})"
    least = f"{found.num_clusters} clusters cannot give p below {lowest:.4f}, and this look needs {alpha:.2g}; " if lowest > alpha else ""
    said = _in_words(found, gate, rival, gate.primary_metric)
    return _Finding("inconclusive", f"not decidable with {counted}: {least}{_least_visible(found)}; {said}")


def _wear(gate: Gate, look: int) -> str:
    """What this look may err, and whether there were too many."""
    share = f"look {look} at this test set: {alpha_of(look, gate):.2%} of the {1 - gate.confidence:.2%} of error for all looks together"
    worn = f"; the set is worn, which {gate.worn_after} looks make it: collect fresh test documents"
    return share + (worn if look > gate.worn_after else "")


def champion_of(scores: Iterable[Score]) -> Variant:
    """The variant to beat: ``champion`` where one was predicted, or else the base model."""
    return "champion" if any(score.variant == "champion" for score in scores) else "base"


def decide(scores: Sequence[Score], gate: Gate, champion: Variant, line: str, *, look: int = 1, leaks: Sequence[str] = ()) -> Decision:
    """The gate's verdict on one evaluation; raises InputRefused when the scores are of several.

    ``look`` counts the looks at this test set, ``leaks`` say which model learned from it.
    """
    evaluations = sorted({score.evaluation_id for score in scores})
    if len(evaluations) != 1:
        raise InputRefused(
            found=f"scores of {len(evaluations)} evaluations: {', '.join(evaluations)}", where=f"scores of {line}",
            do="give the gate the scores of one evaluation: materialize the scores, then the promotion",
        )  # fmt: skip
    alpha = alpha_of(look, gate)
    judging = replace(gate, confidence=1 - alpha)
    table = _table(scores, gate)
    rivals = _rivals(table, champion)
    found = effect = None
    if problems := [*leaks, *_invalid(table, gate, rivals)]:
        findings = [_Finding("inconclusive", problem) for problem in problems]
    else:
        found, effect = _compare_valid(table, judging, rivals[0]), _image_effect(table, judging)
        few = _too_few(found, judging, rivals[0])
        findings = _findings(table, judging, rivals, effect) if few is None else [few]
    return Decision(
        line=line, evaluation_id=evaluations[0], gate_id=digest(gate), verdict=findings[0].verdict,
        reasons=(*(finding.reason for finding in findings), *([_wear(gate, look)] if found else [])), primary_metric=gate.primary_metric,
        challenger=CHALLENGER, champion=champion, look=look, alpha=alpha, is_worn=look > gate.worn_after,
        num_pairs=found.num_pairs if found else 0, num_clusters=found.num_clusters if found else 0,
        difference=found and found.difference, ci_low=found and found.ci_low, ci_high=found and found.ci_high,
        p_value=found and found.p_value, minimum_detectable_difference=found and found.minimum_detectable_difference,
        image_difference=effect and effect.difference, image_ci_low=effect and effect.ci_low, image_ci_high=effect and effect.ci_high,
    )  # fmt: skip


def write_promotion(
    directory: Path, scores_directory: Path, gate: Gate, line: str, look: Look, leaks: Sequence[str] = ()
) -> dict[str, Fact]:
    """Decide on the scores and write the one row; returns verdict, deciding reason and numbers."""
    scores = list(read_table(scores_directory / SCORES, Score))
    decision = decide(scores, gate, champion_of(scores), line, look=look.number, leaks=leaks)
    write_table(directory / PROMOTION_DECISIONS, Decision, [decision])
    return {
        "schema_version": SCHEMA_VERSION, "verdict": decision.verdict, "reason": decision.reasons[0], "champion": decision.champion,
        "num_pairs": decision.num_pairs, "num_clusters": decision.num_clusters,
        "difference": decision.difference, "ci_low": decision.ci_low, "ci_high": decision.ci_high,
        "p_value": decision.p_value, "minimum_detectable_difference": decision.minimum_detectable_difference,
        "image_difference": decision.image_difference, "image_ci_low": decision.image_ci_low, "image_ci_high": decision.image_ci_high,
        "alpha": decision.alpha, "is_worn": decision.is_worn, **write_look(directory, look, is_compared=decision.difference is not None),
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


def _is_positive(difference: float | None, low: float | None, high: float | None) -> bool:
    return difference is not None and low is not None and high is not None and 0 < low <= high


def the_verdict_follows_the_numbers(directory: Path) -> Outcome:
    """A promotion has two positive intervals, over the champion and over blank pictures, and enough pairs; a verdict is one of three."""
    wrong: list[str] = []
    for row in read_table(directory / PROMOTION_DECISIONS, Decision):
        is_better = _is_positive(row.difference, row.ci_low, row.ci_high)
        uses_the_image = _is_positive(row.image_difference, row.image_ci_low, row.image_ci_high)
        is_earned = is_better and uses_the_image and row.num_clusters >= 2 and row.num_pairs >= row.num_clusters
        if row.verdict not in {"promote", "reject", "inconclusive"} or (row.verdict == "promote" and not is_earned):
            intervals = f"interval from {row.ci_low} over {row.num_pairs} pairs, of the image from {row.image_ci_low}"
            wrong.append(f"{row.line}: {row.verdict}, {intervals}")
    return Outcome(passed=not wrong, found=f"{len(wrong)} verdicts that the numbers do not carry", offenders=tuple(wrong))


def the_test_set_is_not_worn(directory: Path) -> Outcome:
    """The test set was not looked at more often than the gate calls sound."""
    rows = list(read_table(directory / PROMOTION_DECISIONS, Decision))
    found = "; ".join(f"look {row.look} at this test set, which may err in {row.alpha:.2%}" for row in rows)
    worn = tuple(row.line for row in rows if row.is_worn)
    return Outcome(passed=not worn, found=found + ("; it is worn: collect fresh test documents" if worn else ""), offenders=worn)


RULES = (
    Rule(name="one_decision_was_made", sentence="There is one decision, and it says why.", holds=one_decision_was_made),
    Rule(
        name="the_verdict_follows_the_numbers",
        sentence="Nothing is promoted unless it is better than the champion and on blank pictures, each by an interval above zero.",
        holds=the_verdict_follows_the_numbers,
    ),
    Rule(
        name="the_test_set_is_not_worn",
        sentence="The test set was not looked at so often that only large differences can still be seen on it.",
        holds=the_test_set_is_not_worn,
        is_blocking=False,
    ),
)
