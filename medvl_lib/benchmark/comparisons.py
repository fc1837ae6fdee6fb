"""Comparisons: two variants' scores of one evaluation, pair by pair.

In: scores, and which pairs are in which slice. Out: ``Answers`` by name, and ``Comparisons``, which holds one against another. What a
difference means for the gate is judged in ``findings``; the arithmetic is ``evaluation.statistics``'s.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from medvl_lib.benchmark.gate import EVERY, Gate
from medvl_lib.benchmark.slices import ALL, LANGUAGE, WAY
from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.evaluation.predictions import Condition, Variant
from medvl_lib.evaluation.scores import Score
from medvl_lib.evaluation.statistics import Difference, Floats, Functional, Statistics, cluster_sums, is_too_few, mean, paired_difference

UNPARSABLE = frozenset(name for name in METRICS if name.endswith("_unparsable"))  # they count answers without a readable choice
FAILED_STATES = frozenset(["empty", "wrong_language"])


class Answers(NamedTuple):
    """Who answered, under which condition."""

    variant: Variant
    condition: Condition = "as_is"

    def __str__(self) -> str:
        return self.variant if self.condition == "as_is" else f"{self.variant} ({self.condition})"


class _Column(NamedTuple):
    answers: Answers
    metric: str


@dataclass(frozen=True, kw_only=True)
class Comparisons:
    """What the gate may look at: the test split of its datasets. Clusters of two datasets are never one."""

    scores: Sequence[Score]
    gate: Gate
    slices: Mapping[str, Sequence[str]]
    """Pair -> the slices that it is in; a pair that is not named is in ``all`` alone."""

    @cached_property
    def _table(self) -> dict[_Column, dict[str, Score]]:
        """(answers, metric) -> pair -> score."""
        table: dict[_Column, dict[str, Score]] = {}
        for score in self.scores:
            if score.split == "test" and (not self.gate.datasets or score.dataset in self.gate.datasets):
                table.setdefault(_Column(Answers(score.variant, score.condition), score.metric), {})[score.pair_id] = score
        return table

    def has(self, variant: Variant) -> bool:
        """Whether a variant was scored at all."""
        return any(column.answers.variant == variant for column in self._table)

    def column(self, answers: Answers, metric: str) -> Mapping[str, Score]:
        """Pair -> score; empty where these were not scored by this metric."""
        return self._table.get(_Column(answers, metric), {})

    def matching(self, pattern: str, metric: str) -> list[str]:
        """The slices that a guardrail names: one, or of ``label=*`` each value that a pair with a score of its metric has.

        Of a metric over several labels its own: ``label=*`` is each of them.
        """
        label, _, value = pattern.partition("=")
        if value != EVERY:
            return [pattern]
        if parts := [name for name in METRICS[metric].parts if name.startswith(f"{label}=")]:
            return sorted(parts)
        judged = {pair_id for column, found in self._table.items() if column.metric == metric for pair_id in found}
        return sorted({name for pair_id in judged for name in self.slices.get(pair_id, ()) if name.startswith(f"{label}=")})

    def in_one_way(self, answers: Answers, metric: str, within: str = ALL) -> tuple["Comparisons", list[str]]:
        """Where in a slice a metric is one number: the slice itself, or its parts where texts are cut in several ways; none without pairs.

        Parts are languages, or datasets where one language has several ways, or else the ways. They are slices of the comparisons that come
        with them, and of no others.
        """
        found = self._within(self.column(answers, metric), within)
        if len({score.signature for score in found.values()}) <= 1 or within in METRICS[metric].parts:
            return self, [within] if found else []
        for name in (self._language, _dataset, _way):
            ways: dict[str, set[str | None]] = {}
            for score in found.values():
                ways.setdefault(name(score), set()).add(score.signature)
            if all(len(signatures) == 1 for signatures in ways.values()):
                break
        own = {pair_id: dict.fromkeys([*self.slices.get(pair_id, ()), name(score)]) for pair_id, score in found.items()}
        return replace(self, slices={**self.slices, **{pair_id: tuple(names) for pair_id, names in own.items()}}), sorted(ways)

    def _language(self, score: Score) -> str:
        return next((name for name in self.slices.get(score.pair_id, ()) if name.startswith(LANGUAGE)), f"{LANGUAGE}und")  # ISO 639-2

    def unlike(self, mine: Answers, others: Answers, metric: str, *, within: str = ALL) -> str | None:
        """Why two cannot be compared in a slice; nothing where they can."""
        ours, theirs = (self._within(self.column(answers, metric), within) for answers in (mine, others))
        if odd := sorted(ours.keys() ^ theirs.keys()):
            return f"not comparable: {len(odd)} pairs were answered by only one of {mine} and {others}, first {odd[0]}"
        return self._unsound(theirs, others)

    def _unsound(self, found: Mapping[str, Score], answers: Answers) -> str | None:
        """Why no metric over these scores is sound: too many are missing, or sums would mix words and characters. Nothing where it is."""
        num_unscored = sum(not score.is_scored for score in found.values())
        if num_unscored > self.gate.max_unscored_share * len(found):
            return f"not comparable: {num_unscored} of {len(found)} answers of {answers} could not be scored"
        cuts = sorted({score.signature for score in found.values() if score.signature is not None})
        if len(cuts) > 1:
            return f"not comparable: texts of {answers} were cut in {len(cuts)} ways, which make no one number: {' and '.join(cuts)}"
        return None

    def on(self, datasets: tuple[str, ...]) -> "Comparisons":
        """The same scores on other datasets than the gate decides by; empty for all."""
        return replace(self, gate=replace(self.gate, datasets=datasets))

    def datasets(self, variant: Variant) -> list[str]:
        """Every dataset whose test pairs a variant answered, whether the gate decides by it or not."""
        return sorted({score.dataset for score in self.scores if score.variant == variant and score.split == "test"})

    def values(self, mine: Answers, others: Answers, metric: str, *, within: str = ALL) -> tuple[float, float]:
        """What a metric comes to of each of two, over the pairs of a slice that both were scored on."""
        pairs, corpus = self._shared(mine, others, metric, within), METRICS[metric].corpus
        first, second = (
            cluster_sums(((_cluster(one), _added(one)) for one in found), corpus.value if corpus else mean).value
            for found in zip(*pairs, strict=True)
        )
        return first, second

    def difference(self, mine: Answers, others: Answers, metric: str, *, confidence: float, within: str = ALL) -> Difference | None:
        """Mine minus others over the pairs of a slice that both were scored on, turned so that positive is better.

        None where there are no such pairs, where they cannot be compared, or where the metric is not defined of one of the two. Without an
        interval where the clusters are too few for one at this confidence.
        """
        part = METRICS[metric].parts.get(within)
        place = ALL if part else within
        ours, theirs = (self._within(self.column(answers, metric), place) for answers in (mine, others))
        if self._unsound(ours, mine) or self._unsound(theirs, others):
            return None
        sign, corpus = 1 if METRICS[metric].is_higher_better else -1, METRICS[metric].corpus
        by_mean = 1 if corpus else sign
        pairs = [
            (_cluster(first), _added(first, by_mean), _added(second, by_mean))
            for first, second in self._shared(mine, others, metric, place)
        ]  # fmt: skip
        functional = _turned(part.value if part else corpus.value, sign) if corpus else mean
        found = paired_difference(pairs, functional=functional, confidence=confidence) if pairs else None
        if found is None or not math.isfinite(found.difference):
            return None
        return replace(found, ci_low=None, ci_high=None) if is_too_few(found.num_informative, confidence) else found

    def _shared(self, mine: Answers, others: Answers, metric: str, within: str) -> list[tuple[Score, Score]]:
        """Both scores of each pair of a slice that both were scored on, in the order of their ids."""
        ours, theirs = (self._within(self.column(answers, metric), within) for answers in (mine, others))
        both = ((ours[pair_id], theirs[pair_id]) for pair_id in sorted(ours.keys() & theirs.keys()))
        return [(first, second) for first, second in both if first.is_scored and second.is_scored]

    def _within(self, found: Mapping[str, Score], name: str) -> Mapping[str, Score]:
        """The scores of a slice."""
        return found if name == ALL else {pair_id: score for pair_id, score in found.items() if name in self.slices.get(pair_id, ())}

    def failed_share(self, answers: Answers) -> float:
        """Which share of the answers (0-1), to every test pair and by whatever metric, is empty, in another language, or unreadable.

        Unreadable is one without a choice, a class or what else its ``*_unparsable`` metric looks for.
        """
        judged = [score for column, found in self._table.items() if column.answers == answers for score in found.values()]
        failed = {score.pair_id for score in judged if score.answer_state in FAILED_STATES}
        failed |= {score.pair_id for score in judged if score.metric in UNPARSABLE and score.value == 1}
        asked = {score.pair_id for score in judged}
        return len(failed) / len(asked) if asked else 0.0


def _cluster(score: Score) -> str:
    return f"{score.dataset}/{score.group_id}"


def _added(score: Score, sign: int = 1) -> Statistics:
    """What a scored pair adds up: all that its metric sums, or else its value."""
    return score.statistics or sign * (score.value or 0.0)


def _dataset(score: Score) -> str:
    return f"dataset={score.dataset}"


def _way(score: Score) -> str:
    return f"{WAY}{score.signature}"


def _turned(functional: Functional, sign: int) -> Functional:
    """A corpus metric, turned so that positive is better."""

    def turned(sums: Floats) -> Floats:
        return sign * functional(sums)

    return turned


def in_words(
    found: Difference, mine: Answers, others: Answers, metric: str, *, confidence: float, within: str = ALL, margin: float | None = None
) -> str:
    """A difference as a sentence; with a ``margin``, how the interval stands to it: that was asked then, and p answers something else."""
    few = f"too few clusters ({found.num_informative}) for an interval"
    interval = few if found.ci_low is None else f"{100 * confidence:.4g} % interval {found.ci_low:+.3f} to {found.ci_high:+.3f}"
    turned = "" if METRICS[metric].is_higher_better else " (less is better: sign turned)"
    place = "" if within == ALL else f" in {within}"
    counted = f"{found.num_pairs} pairs, {clusters_in_words(found)}"
    said = f"{metric}{place}{turned}: {mine} minus {others} is {found.difference:+.3f} ({interval}, "
    if margin is None:
        return f"{said}p = {found.p_value:.4f}, {counted})"
    return f"{said}{counted}); {_against(found, margin)}"


def clusters_in_words(found: Difference) -> str:
    """How many patients or documents were compared, and how many of them have a say in it, where these are not all."""
    if found.num_informative == found.num_clusters:
        return f"{found.num_clusters} clusters"
    return f"{found.num_clusters} clusters, {found.num_informative} of which count: in the others nothing is wanted and nothing was said"


def _against(found: Difference, margin: float) -> str:
    """Where an interval lies of the margin, and what the p beside it is of."""
    if found.ci_low is None or found.ci_high is None:
        return f"without an interval nothing can be held against the margin of {-margin:+g}"
    if found.ci_low > -margin:
        where = f"the whole interval lies above the margin of {-margin:+g}, so a loss of {margin:g} or more is ruled out at this confidence"
    elif found.ci_high < -margin:
        where = f"the whole interval lies below the margin of {-margin:+g}, so the loss is larger than {margin:g}"
    else:
        where = f"the margin of {-margin:+g} lies within the interval, so a loss of {margin:g} or more is not ruled out"
    return f"{where} (whether there is any difference at all is another question, and decides nothing here: p = {found.p_value:.4f})"
