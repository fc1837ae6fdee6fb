"""Findings: what the scores of one challenger say about each thing that the gate asks of it, in words.

In: comparisons, costs, and a challenger with its rivals. Out: ``Finding``s, each with the verdict that it alone would give. In which order
candidates are judged, and what the findings together mean, is ``promotion``'s.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from medvl_lib.benchmark.comparisons import Answers, Comparisons, clusters_in_words, in_words
from medvl_lib.benchmark.costs import Cost
from medvl_lib.benchmark.gate import Candidate, CostLimit, Gate, Guardrail, RecallGuardrail
from medvl_lib.benchmark.slices import ALL
from medvl_lib.evaluation.galleries import EncoderVariant, Rank
from medvl_lib.evaluation.predictions import Condition, Variant
from medvl_lib.evaluation.statistics import MAX_EXACT_CLUSTERS, Difference, holm_alphas, paired_difference, smallest_p

CONTROL: Condition = "blank_image"  # the one that every evaluation needs
CONTROLS: tuple[Condition, ...] = (CONTROL, "noise_image", "shuffled_image")

Verdict = Literal["promote", "reject", "inconclusive"]
Topic = Literal["validity", "size", "rival", "cost", "floor", "image", "failures", "guardrail"]
ORDER: tuple[Verdict, ...] = ("reject", "inconclusive", "promote")  # a reject outweighs an inconclusive, that a promote


class Finding(NamedTuple):
    """What one question came to."""

    topic: Topic
    verdict: Verdict
    reason: str


class Deciding(NamedTuple):
    """The comparison that a decision's numbers are of."""

    metric: str
    alpha: float
    """Two-sided error that it was held to."""
    difference: Difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One candidate before the gate."""

    comparisons: Comparisons
    gate: Gate
    candidate: Candidate
    rivals: tuple[Answers, ...]
    """Whom it is held against, the champion first."""
    alpha: float
    """Two-sided error of this look at the test set."""
    costs: Mapping[Variant, Cost]
    ranks: Sequence[Rank] = ()
    """Of the test gallery, by each variant of the line's encoder; empty where it has none."""

    @property
    def mine(self) -> Answers:
        """The candidate's answers."""
        return Answers(self.candidate.variant)

    @property
    def confidence(self) -> float:
        """That of this look's intervals."""
        return 1 - self.alpha

    def on(self, datasets: tuple[str, ...]) -> "Trial":
        """The same trial on other datasets; empty for every one that was answered."""
        return replace(self, comparisons=self.comparisons.on(datasets))

    def in_one_way(self, metric: str, within: str = ALL) -> tuple["Trial", list[str]]:
        """The slices that a metric is one number over, and the trial that knows them: ``Comparisons.in_one_way`` of the candidate."""
        comparisons, names = self.comparisons.in_one_way(self.mine, metric, within)
        return replace(self, comparisons=comparisons), names

    def against(self, others: Answers, metric: str | None = None, *, alpha: float | None = None, within: str = ALL) -> Difference | None:
        """The candidate minus others, by the first primary metric and at this look's confidence unless said otherwise."""
        confidence = 1 - (self.alpha if alpha is None else alpha)
        return self.comparisons.difference(self.mine, others, metric or self.gate.primary_metric, confidence=confidence, within=within)

    def words(
        self, found: Difference, others: Answers, metric: str | None = None, *, alpha: float | None = None, within: str = ALL,
        margin: float | None = None,
    ) -> str:  # fmt: skip
        """A difference as a sentence."""
        confidence = 1 - (self.alpha if alpha is None else alpha)
        return in_words(found, self.mine, others, metric or self.gate.primary_metric, confidence=confidence, within=within, margin=margin)


# -- may they be compared at all ---------------------------------------------------------------------------------------
def invalid(trial: Trial) -> list[str]:
    """Why the candidate cannot be compared with its rivals and the floors; nothing where it can."""
    comparisons, problems = trial.comparisons, list[str]()
    for metric in trial.gate.primaries:
        if not comparisons.column(trial.mine, metric):
            problems.append(f"not decidable: no test pair has {metric} of {trial.mine}")
            continue
        others = (trial.mine, *trial.rivals, *map(Answers, trial.gate.floors))
        problems.extend(problem for one in others if (problem := comparisons.unlike(trial.mine, one, metric)) is not None)
    return problems


def too_few(trial: Trial, against_the_champion: Deciding) -> Finding | None:
    """Why so few pairs decide nothing; None where they are enough."""
    (metric, alpha, found), gate = against_the_champion, trial.gate
    is_enough = found.num_pairs >= gate.min_pairs and found.num_informative >= gate.min_clusters
    lowest = smallest_p(found.num_informative)
    if is_enough and lowest <= trial.alpha:
        return None
    counted = f"{found.num_pairs} pairs in {clusters_in_words(found)} (needed: {gate.min_pairs} in {gate.min_clusters})"
    least = (
        f"{found.num_informative} clusters cannot give p below {lowest:.4f}, and this look needs {trial.alpha:.2g}; "
        if lowest > trial.alpha else ""
    )  # fmt: skip
    said = trial.words(found, trial.rivals[0], metric, alpha=alpha)
    return Finding("size", "inconclusive", f"not decidable with {counted}: {least}{least_visible(found)}; {said}")


def least_visible(found: Difference) -> str:
    """The smallest difference that would have been shown, in words."""
    smallest = found.minimum_detectable_difference
    if smallest is None:
        return "the clusters show no spread, so no smallest visible difference can be stated"
    return f"with 80 % power these clusters show differences from {smallest:.3f}"


def is_shown(found: Difference, alpha: float) -> bool:
    """Whether the permutation test agrees with the interval, and few clusters show some spread."""
    has_spread = found.minimum_detectable_difference is not None or found.num_informative > MAX_EXACT_CLUSTERS
    return has_spread and found.p_value <= alpha


# -- rivals ------------------------------------------------------------------------------------------------------------
def by_primaries(trial: Trial, rival: Answers) -> dict[str, Deciding]:
    """The candidate minus a rival by each primary metric, each held to Holm's share of this look's error."""
    found = {metric: _known(trial.against(rival, metric)) for metric in trial.gate.primaries}
    alphas = holm_alphas({metric: one.p_value for metric, one in found.items()}, trial.alpha)
    return {
        metric: Deciding(metric, alpha, found[metric] if alpha == trial.alpha else _known(trial.against(rival, metric, alpha=alpha)))
        for metric, alpha in alphas.items()
    }


def deciding(trial: Trial) -> Deciding:
    """Against the champion: where better is to be shown by the metric that shows it, or else of the smallest p; else by the worst one."""
    rival = trial.rivals[0]
    if trial.candidate.claim == "non_inferiority":
        each = [Deciding(metric, trial.alpha, _known(trial.against(rival, metric))) for metric in trial.gate.primaries]
        return min(each, key=lambda one: math.inf if one.difference.ci_low is None else one.difference.ci_low)
    found = by_primaries(trial, rival).values()
    return min(found, key=lambda one: (not _is_better(one), one.difference.p_value, trial.gate.primaries.index(one.metric)))


def _is_better(one: Deciding) -> bool:
    """Whether the candidate was shown to be better by this metric."""
    return is_shown(one.difference, one.alpha) and one.difference.ci_low is not None and one.difference.ci_low > 0


def _known(found: Difference | None) -> Difference:
    assert found is not None  # noqa: S101 (validity was established: both have this metric on the same pairs)
    return found


def superiority(trial: Trial, rival: Answers) -> Finding:
    """Better by a primary metric, and worse by none."""
    found = list(by_primaries(trial, rival).values())
    found.sort(key=lambda one: trial.gate.primaries.index(one.metric))
    better = [one for one in found if _is_better(one)]
    worse = [one for one in found if is_shown(one.difference, one.alpha) and _high(one.difference) < 0]
    if worse:
        return Finding("rival", "reject", f"worse than {rival}: {_all_words(trial, rival, worse)}")
    if better:
        return Finding("rival", "promote", f"better than {rival}: {_all_words(trial, rival, better)}")
    is_split = any((one.difference.ci_low or 0.0) > 0 or _high(one.difference) < 0 for one in found)
    both = "interval and p do not both say so: " if is_split else ""
    first = found[0].difference
    said = f"{both}{_all_words(trial, rival, found)}; {least_visible(first)}"
    return Finding("rival", "inconclusive", f"neither better nor worse than {rival} was shown: {said}")


def _high(found: Difference) -> float:
    """The upper end of an interval; 0 where there is none."""
    return 0.0 if found.ci_high is None else found.ci_high


def _all_words(trial: Trial, rival: Answers, found: list[Deciding]) -> str:
    return "; ".join(trial.words(one.difference, rival, one.metric, alpha=one.alpha) for one in found)


def non_inferiority(trial: Trial, rival: Answers) -> Finding:
    """Worse by less than the margin, by every primary metric; of more than 20 clusters, for below that the interval alone is too narrow."""
    margin, findings = trial.candidate.margin, list[Finding]()
    for metric in trial.gate.primaries:
        found = _known(trial.against(rival, metric))
        said = f"{trial.words(found, rival, metric, margin=margin)}; {least_visible(found)}"
        if found.num_informative <= MAX_EXACT_CLUSTERS:
            few = f"{found.num_informative} clusters are too few to show that {trial.mine} is not worse than {rival} by {margin}: {said}"
            findings.append(Finding("rival", "inconclusive", few))
        elif found.ci_low is not None and found.ci_low > -margin:
            findings.append(Finding("rival", "promote", f"not worse than {rival} by {margin} or more: {said}"))
        elif _high(found) < -margin:
            findings.append(Finding("rival", "reject", f"worse than {rival} by more than {margin}: {said}"))
        else:
            findings.append(Finding("rival", "inconclusive", f"that it is not worse than {rival} by {margin} was not shown: {said}"))
    return min(findings, key=lambda finding: ORDER.index(finding.verdict))


def saving(trial: Trial) -> Iterator[Finding]:
    """What only has to be no worse must need less memory than what it replaces."""
    mine, theirs = (trial.costs.get(answers.variant) for answers in (trial.mine, trial.rivals[0]))
    if mine is None or theirs is None:
        unknown = trial.mine if mine is None else trial.rivals[0]
        yield Finding("cost", "inconclusive", f"whether it needs less memory is unknown: {unknown} was not weighed")
        return
    said = f"{mine.memory_after_load / 1e6:.1f} MB after loading, {trial.rivals[0]} {theirs.memory_after_load / 1e6:.1f} MB"
    if mine.memory_after_load < theirs.memory_after_load:
        yield Finding("cost", "promote", f"needs less memory: {said}")
    else:
        yield Finding("cost", "reject", f"no worse is not enough, it needs as much memory: {said}")


# -- floors, the picture, failures -------------------------------------------------------------------------------------
def floor(trial: Trial, other: Answers) -> Finding:
    """Better than an answer that needs no model."""
    found = _known(trial.against(other))
    said = trial.words(found, other)
    if found.ci_low is None:
        return Finding("floor", "inconclusive", f"whether it beats {other} is not decidable: {said}; {least_visible(found)}")
    if found.ci_low > 0:
        if is_shown(found, trial.alpha):
            return Finding("floor", "promote", f"better than {other}: {said}")
        both = f"interval and p do not both say so: {said}; {least_visible(found)}"
        return Finding("floor", "inconclusive", f"neither better nor worse than {other} was shown: {both}")
    return Finding("floor", "reject", f"does not beat {other}, which needs no model: {said}; {least_visible(found)}")


def image_effect(trial: Trial, control: Condition = CONTROL) -> Difference | None:
    """What the picture adds to the candidate's score; None where those of the control were not shown for each pair."""
    blind, metric = Answers(trial.candidate.variant, control), trial.gate.primary_metric
    return None if trial.comparisons.unlike(trial.mine, blind, metric) else trial.against(blind)


def images(trial: Trial) -> Iterator[Finding]:
    """Better on the pictures as they are than on blank ones, and than under every further control that was asked for."""
    for control in CONTROLS:
        blind = Answers(trial.candidate.variant, control)
        if control == CONTROL or trial.comparisons.column(blind, trial.gate.primary_metric):
            yield _image(trial, control)


def _image(trial: Trial, control: Condition) -> Finding:
    effect, metric = image_effect(trial, control), trial.gate.primary_metric
    blind = Answers(trial.candidate.variant, control)
    if effect is None or effect.ci_low is None or effect.ci_high is None:
        has_control = bool(trial.comparisons.column(blind, metric))
        unlike = trial.comparisons.unlike(trial.mine, blind, metric)
        why = unlike or "too few clusters for an interval" if has_control else f"{control} was not predicted for {trial.mine}"
        return Finding("image", "inconclusive", f"whether answers use the image is unknown: {why}")
    said, other = trial.words(effect, blind), control.replace("_image", " ones")
    if effect.ci_high <= 0:
        return Finding("image", "reject", f"answers do not use the image, {other} do as well: {said}")
    if effect.ci_low > 0 and is_shown(effect, trial.alpha):
        return Finding("image", "promote", f"answers use the image: {said}")
    return Finding("image", "inconclusive", f"that answers use the image was not shown: {said}; {least_visible(effect)}")


def failures(trial: Trial) -> Finding:
    """Not too many answers that say nothing that can be scored, unless the champion's are as many."""
    mine, theirs = (trial.comparisons.failed_share(answers) for answers in (trial.mine, trial.rivals[0]))
    said = f"{mine:.1%} of the answers are empty, in another language or without a readable choice ({trial.rivals[0]}: {theirs:.1%})"
    is_kept = mine <= max(theirs, trial.gate.max_failed_share)
    return Finding("failures", "promote" if is_kept else "reject", said if is_kept else f"too many answers failed: {said}")


# -- guardrails --------------------------------------------------------------------------------------------------------
def guardrails(trial: Trial) -> Iterator[Finding]:
    """No other metric, no slice and no cost is worse than the champion's by more than its margin.

    Where a guarded metric is several numbers, since texts are cut in several ways, each of them is guarded by itself.
    """
    for rail in trial.gate.guardrails:
        named = trial.comparisons.matching(rail.slice, rail.metric)
        if not named:
            yield Finding("guardrail", "inconclusive", f"guardrail {rail.metric} in {rail.slice}: no test pair has such a label")
        for within in named:
            there, parts = trial.in_one_way(rail.metric, within)
            yield from (_guardrail(there, rail, part) for part in parts or [within])
    yield from (_cost_limit(trial, limit) for limit in trial.gate.cost_limits)
    yield from (_recall(trial, rail) for rail in trial.gate.recall_guardrails)


def _guardrail(trial: Trial, rail: Guardrail, within: str) -> Finding:
    champion = trial.rivals[0]
    found = trial.against(champion, rail.metric, within=within)
    name = rail.metric if within == ALL else f"{rail.metric} in {within}"
    if found is None:
        unlike = trial.comparisons.unlike(trial.mine, champion, rail.metric, within=within)
        return Finding("guardrail", "inconclusive", f"guardrail {name}: {unlike or 'nothing to judge it by'}")
    if found.num_informative <= MAX_EXACT_CLUSTERS or found.ci_low is None or found.ci_high is None:
        few = f"{found.num_informative} clusters are too few to guard it by: more than {MAX_EXACT_CLUSTERS} are needed"
        return Finding("guardrail", "inconclusive", f"guardrail {name}: {few}")
    said = f"guardrail {name} (margin {rail.margin}): {trial.words(found, champion, rail.metric, within=within, margin=rail.margin)}"
    if found.ci_low > -rail.margin:
        return Finding("guardrail", "promote", said)
    return Finding("guardrail", "reject" if found.ci_high < -rail.margin else "inconclusive", said)


def _cost_limit(trial: Trial, limit: CostLimit) -> Finding:
    champion = trial.rivals[0]
    mine, theirs = (trial.costs.get(answers.variant) for answers in (trial.mine, champion))
    ours, others = (cost and cost.of(limit.measure) for cost in (mine, theirs))
    if limit.measure == "validation_loss" and (ours is None or others is None):
        without = trial.mine if ours is None else champion
        said = f"limit on validation_loss: {without} has none on the same conversations, so this asks nothing"
        return Finding("guardrail", "promote", said)
    if not ours or not others:
        unknown = trial.mine if not ours else champion
        return Finding("guardrail", "inconclusive", f"limit on {limit.measure}: it is not known of {unknown}")
    ratio = f"{ours / others:.2f} times (at most {limit.max_ratio})"
    said = f"limit on {limit.measure}: {trial.mine} {ours:.4g}, {champion} {others:.4g}: {ratio}"
    return Finding("guardrail", "promote" if ours / others <= limit.max_ratio else "reject", said)


def _recall(trial: Trial, rail: RecallGuardrail) -> Finding:
    """Whether the encoder that would be served finds as much as the one that is served now, query by query."""
    name = f"guardrail {rail.direction} recall at {rail.cutoff}"
    ranked: dict[EncoderVariant, dict[tuple[str, str], Rank]] = {}
    for rank in trial.ranks:
        if rank.direction == rail.direction:
            ranked.setdefault(rank.variant, {})[rank.pair_id, rank.image_id] = rank
    mine, rival = ranked.get("trained", {}), "champion" if "champion" in ranked else "base"
    theirs = ranked.get(rival, {})
    shared = sorted(mine.keys() & theirs.keys())
    if not shared:
        return Finding("guardrail", "inconclusive", f"{name}: no test picture to judge it by")
    pairs = [
        (mine[key].group_id, float(mine[key].rank <= rail.cutoff), float(theirs[key].rank <= rail.cutoff)) for key in shared
    ]  # fmt: skip
    found = paired_difference(pairs, confidence=trial.confidence)
    if found.num_informative <= MAX_EXACT_CLUSTERS or found.ci_low is None or found.ci_high is None:
        few = f"{found.num_informative} clusters are too few to guard it by: more than {MAX_EXACT_CLUSTERS} are needed"
        return Finding("guardrail", "inconclusive", f"{name}: {few}")
    said = (
        f"{name} (margin {rail.margin}): the trained encoder minus {rival} is {found.difference:+.3f} ({100 * trial.confidence:.4g} % "
        f"interval {found.ci_low:+.3f} to {found.ci_high:+.3f}, {found.num_pairs} queries, {found.num_clusters} clusters)"
    )
    if found.ci_low > -rail.margin:
        return Finding("guardrail", "promote", said)
    return Finding("guardrail", "reject" if found.ci_high < -rail.margin else "inconclusive", said)
