"""Parity: whether the same weights say the same in whatever form they are asked. No model and no torch here.

In: what each form said to the same pairs. Out: where two forms differ (whether, and from which character on, never the text), by how much
their scores differ, with the paired interval, and the rules with their bounds. Asking the forms is ``serving.forms``'s work.

* Answers that were given alone, one pair at a time, must be the very same text: greedy decoding leaves nothing to chance on one profile.
* Where one of two answers came out of a batch, padding and other kernels round otherwise, and a greedy answer may turn at a near tie: then
  99 % must be the same text, and no metric may show a difference: 0 lies in the paired interval over patients or documents.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from medvl_lib.evaluation import statistics
from medvl_lib.evaluation.metrics import METRICS, Metric
from medvl_lib.evaluation.predictions import Reference
from medvl_lib.evaluation.scores import is_in_wrong_language, measure
from medvl_lib.evaluation.statistics import Statistics, cluster_sums, mean, paired_difference
from medvl_lib.provenance import Fact, Outcome, Rule
from medvl_lib.rules import SHOWN_OFFENDERS
from medvl_lib.tables import Column, read_table, write_table

REVISION = 2  # a metric that is not defined of both forms is not compared
REVISIONS = (REVISION, statistics.REVISION)
ANSWERS = "compared_answers.parquet"
SCORES = "compared_scores.parquet"
COMPARISONS = "comparisons.parquet"

Form = Literal["evaluated", "reloaded", "batched", "merged", "http", "served", "exported"]
"""``evaluated``: as predicted, then scored and judged; ``reloaded``: by a fresh process, one pair at a time; ``batched``: by a fresh
process, in the evaluation's batches; ``merged``: the adapter added into the 16-bit weights, in the same batches; ``http``: by a server;
``served``, ``exported``: what is served, and plain transformers from an exported folder, one pair at a time (``export.comparing``)."""

AGAINST: Mapping[Form, Form] = {"reloaded": "evaluated", "batched": "evaluated", "merged": "batched", "http": "reloaded"}
"""What each form is held against: merged weights against the adapter asked in the same batches, so that nothing else differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParitySpec:
    """How many pairs are asked again, and how alike the answers must be. Every field bears identity."""

    max_pairs: int = 200
    """The most test pairs that are asked (the first by a seeded hash of their ids)."""
    min_equal_share: float = 0.99
    """Share (0-1) of answers that must be the same text where one of two was given in a batch; of those given alone all must."""
    confidence: float = 0.95
    """Of the paired interval in which a score difference of 0 must lie."""

    def __post_init__(self) -> None:
        """Refuse a comparison of nothing, and one that anything passes."""
        if self.max_pairs < 1:
            raise ValueError(f"max_pairs = {self.max_pairs!r} must be 1 or more")
        if not 0.5 < self.min_equal_share <= 1:
            raise ValueError(f"min_equal_share = {self.min_equal_share!r} must be above 0.5 and at most 1")
        if not 0.5 < self.confidence < 1:
            raise ValueError(f"confidence = {self.confidence!r} must lie between 0.5 and 1")


class Heard(NamedTuple):
    """What a form said to a pair."""

    answer: str
    batch_size: int
    """Pairs that were answered together with it, itself included."""


Answers = Mapping[str, Heard]
"""By pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedAnswer:
    """One pair in two forms. The texts themselves stand nowhere here."""

    pair_id: Annotated[str, Column("the pair")]
    group_id: Annotated[str, Column("patient or document: the unit of error bars")]
    form: Annotated[Form, Column("how it was asked")]
    against: Annotated[Form, Column("the form that it is held against")]
    batch_size: Annotated[int, Column("pairs answered together with it, itself included")]
    batch_size_against: Annotated[int, Column("the same of the other form")]
    is_equal: Annotated[bool, Column("whether both said the same text")]
    first_difference: Annotated[int | None, Column("place of the first character that differs, from 0; null where none does")]
    num_characters: Annotated[int, Column("length of the answer", unit="characters")]
    num_characters_against: Annotated[int, Column("length of the other form's answer", unit="characters")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedScore:
    """What one metric makes of two forms: the first minus the other, pair by pair."""

    form: Annotated[Form, Column("how it was asked")]
    against: Annotated[Form, Column("the form that it is held against")]
    metric: Annotated[str, Column("name of the metric")]
    signature: Annotated[str | None, Column("how both texts were cut and counted; null where there is one way only")]
    mean: Annotated[float, Column("the form's score: the mean over pairs, or the value of a corpus metric")]
    mean_against: Annotated[float, Column("the same of the other form")]
    difference: Annotated[float, Column("mean minus mean_against")]
    ci_low: Annotated[float | None, Column("lower end of its paired interval over clusters; null for one cluster")]
    ci_high: Annotated[float | None, Column("upper end of its paired interval over clusters; null for one cluster")]
    num_pairs: Annotated[int, Column("pairs that the metric scored")]
    num_clusters: Annotated[int, Column("patients, documents or images with a say: something is wanted of them, or was said")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two forms over all pairs."""

    form: Annotated[Form, Column("how it was asked")]
    against: Annotated[Form, Column("the form that it is held against")]
    num_pairs: Annotated[int, Column("pairs that both answered")]
    num_equal: Annotated[int, Column("pairs to which both said the same text")]
    equal_share: Annotated[float, Column("num_equal by num_pairs")]
    required_share: Annotated[float, Column("share that is required where the comparison blocks: 1 where both answered pairs alone")]
    first_difference: Annotated[int | None, Column("place of the earliest character that differs, from 0; null where none does")]


# -- comparing ---------------------------------------------------------------------------------------------------------
def first_difference(text: str, other: str) -> int | None:
    """Where two texts part, counted from 0; None where they are the same.

    >>> first_difference("K: 4.1", "K: 4.7"), first_difference("K", "K: 4"), first_difference("K", "K")
    (5, 1, None)
    """
    return next((place for place, (one, two) in enumerate(zip_longest(text, other)) if one != two), None)


def compared_answers(form: Form, said: Answers, against: Form, said_there: Answers, groups: Mapping[str, str]) -> Iterator[ComparedAnswer]:
    """Two forms pair by pair, in the order of ``groups`` (pair -> cluster); raises KeyError where one of them did not answer."""
    for pair_id, group_id in groups.items():
        one, other = said[pair_id], said_there[pair_id]
        place = first_difference(one.answer, other.answer)
        yield ComparedAnswer(
            pair_id=pair_id, group_id=group_id, form=form, against=against, batch_size=one.batch_size, batch_size_against=other.batch_size,
            is_equal=place is None, first_difference=place, num_characters=len(one.answer), num_characters_against=len(other.answer),
        )  # fmt: skip


def compared_scores(
    form: Form, said: Answers, against: Form, said_there: Answers, references: Sequence[Reference], spec: ParitySpec
) -> Iterator[ComparedScore]:
    """The paired difference of each metric over the pairs that it can score, where it is defined; ways to cut texts are apart."""
    for metric in METRICS.values():
        by_signature: dict[str | None, list[tuple[str, Statistics, Statistics]]] = defaultdict(list)
        for reference in filter(metric.applies_to, references):
            one, other = (_statistics(metric, heard[reference.pair_id].answer, reference) for heard in (said, said_there))
            if one is not None and other is not None:
                signature = metric.signature(reference) if metric.signature else None
                by_signature[signature].append((f"{reference.dataset}/{reference.group_id}", one, other))
        functional = metric.corpus.value if metric.corpus else mean
        for signature, pairs in by_signature.items():
            found = paired_difference(pairs, functional=functional, confidence=spec.confidence)
            if math.isfinite(found.difference):
                yield ComparedScore(
                    form=form, against=against, metric=metric.name, signature=signature,
                    mean=cluster_sums(((name, one) for name, one, _ in pairs), functional).value,
                    mean_against=cluster_sums(((name, other) for name, _, other in pairs), functional).value, difference=found.difference,
                    ci_low=found.ci_low, ci_high=found.ci_high, num_pairs=found.num_pairs, num_clusters=found.num_informative,
                )  # fmt: skip


def _statistics(metric: Metric, answer: str, reference: Reference) -> Statistics | None:
    """What a pair adds to a metric, as ``scores`` counts it; None where it cannot be scored."""
    text = "" if metric.is_higher_better and is_in_wrong_language(answer, reference) else answer
    found = measure(metric, text, reference)
    return found.statistics or found.value


def summary(rows: Sequence[ComparedAnswer], spec: ParitySpec) -> Iterator[Comparison]:
    """One row for each two forms, in the order in which they come."""
    compared: Iterable[tuple[Form, Form]] = dict.fromkeys((row.form, row.against) for row in rows)
    for form, against in compared:
        mine = [row for row in rows if row.form == form]
        num_equal = sum(row.is_equal for row in mine)
        yield Comparison(
            form=form, against=against, num_pairs=len(mine), num_equal=num_equal, equal_share=num_equal / len(mine),
            required_share=spec.min_equal_share if any(map(_was_in_a_batch, mine)) else 1.0,
            first_difference=min((row.first_difference for row in mine if row.first_difference is not None), default=None),
        )  # fmt: skip


def _was_in_a_batch(row: ComparedAnswer) -> bool:
    return max(row.batch_size, row.batch_size_against) > 1


def write_parity(directory: Path, forms: Mapping[Form, Answers], references: Sequence[Reference], spec: ParitySpec) -> dict[str, Fact]:
    """Hold every form against its own, and write the three tables; returns the shares of equal answers."""
    groups = {reference.pair_id: reference.group_id for reference in references}
    asked: list[tuple[Form, Form]] = [(form, AGAINST[form]) for form in forms if form in AGAINST]
    answers = [row for form, other in asked for row in compared_answers(form, forms[form], other, forms[other], groups)]
    scores = [row for form, other in asked for row in compared_scores(form, forms[form], other, forms[other], references, spec)]
    comparisons = list(summary(answers, spec))
    write_table(directory / ANSWERS, ComparedAnswer, answers)
    write_table(directory / SCORES, ComparedScore, scores)
    write_table(directory / COMPARISONS, Comparison, comparisons)
    shares: dict[str, Fact] = {f"equal_share_{row.form}_{row.against}": row.equal_share for row in comparisons}
    return {"num_pairs": len(groups), "num_clusters": len(set(groups.values())), **shares}


# -- judging -----------------------------------------------------------------------------------------------------------
def _answers(directory: Path) -> list[ComparedAnswer]:
    return list(read_table(directory / ANSWERS, ComparedAnswer))


def is_shown(row: ComparedScore) -> bool:
    """Whether two forms score differently: 0 lies outside the paired interval; without an interval any difference counts."""
    if row.ci_low is None or row.ci_high is None:
        return row.difference != 0
    return not row.ci_low <= 0 <= row.ci_high


def _in_words(row: ComparedScore) -> str:
    interval = "one cluster" if row.ci_low is None or row.ci_high is None else f"[{row.ci_low:+.4f}, {row.ci_high:+.4f}]"
    return f"{row.metric} {row.difference:+.4f} {interval}"


def sentence(comparison: Comparison, scores: Sequence[ComparedScore]) -> str:
    """By how much two forms differ: the share of equal texts, and the largest difference of a score."""
    said = f"{comparison.form}: {comparison.num_equal} of {comparison.num_pairs} answers are those of {comparison.against}"
    if comparison.first_difference is not None:
        said += f", the others part from it at character {comparison.first_difference} or later"
    most = max(scores, key=lambda row: abs(row.difference) / METRICS[row.metric].highest, default=None)
    return said if most is None or most.difference == 0 else f"{said}; most in {_in_words(most)}"


def _judged(directory: Path, forms: Sequence[Form], spec: ParitySpec) -> Outcome:
    """Whether these forms, as far as they were asked, say what the forms say that they are held against."""
    rows = [row for row in _answers(directory) if row.form in forms]
    scores = [row for row in read_table(directory / SCORES, ComparedScore) if row.form in forms]
    said: list[str] = []
    astray: list[str] = []
    for comparison in summary(rows, spec):
        mine = [row for row in scores if row.form == comparison.form]
        said.append(sentence(comparison, mine))
        alone = [row.pair_id for row in rows if row.form == comparison.form and not _was_in_a_batch(row) and not row.is_equal]
        if alone or comparison.equal_share < comparison.required_share:
            unequal = [row.pair_id for row in rows if row.form == comparison.form and not row.is_equal]
            astray.extend(f"{comparison.form} {pair_id}" for pair_id in alone or unequal)
        astray.extend(f"{row.form} {row.metric}" for row in mine if is_shown(row))
    return Outcome(
        passed=bool(said) and not astray, found="; ".join(said) or "not asked", offenders=tuple(astray[:SHOWN_OFFENDERS])
    )  # fmt: skip


def every_form_answered_every_pair(directory: Path) -> Outcome:
    """Each form that was asked, and the one that it is held against, answered the same pairs, each once."""
    rows = _answers(directory)
    pairs = {row.pair_id for row in rows}
    asked = {row.form for row in rows} | {"reloaded", "batched", "http"}
    counted = [(form, sorted(row.pair_id for row in rows if row.form == form)) for form in sorted(asked)]
    astray = tuple(form for form, found in counted if found != sorted(pairs) or not found)
    return Outcome(passed=not astray, found=f"{len(pairs)} pairs, asked as {', '.join(sorted(asked))}", offenders=astray)


def merging_changes_no_score(min_pairs: int, directory: Path) -> Outcome:
    """No metric shows a difference between the adapter and its merged weights, where there is an adapter, on enough pairs to tell.

    In an interval of a few pairs 0 lies nearly always: with fewer than the gate needs, that none is shown says nothing.
    """
    scores = [row for row in read_table(directory / SCORES, ComparedScore) if row.form == "merged"]
    rows = [row for row in _answers(directory) if row.form == "merged"]
    if not rows:
        return Outcome(passed=True, found="no adapter is served: there is nothing to merge")
    num_equal = sum(row.is_equal for row in rows)
    shown = tuple(row.metric for row in scores if is_shown(row))
    few = "" if len(rows) >= min_pairs or shown else f"not decidable with {len(rows)} pairs (needed: {min_pairs}): "
    return Outcome(
        passed=not shown and not few, offenders=shown,
        found=f"{few}{num_equal} of {len(rows)} answers stay the same in 16 bit; merged minus adapter: {'; '.join(map(_in_words, scores))}",
    )  # fmt: skip


def rules(spec: ParitySpec, min_pairs: int) -> tuple[Rule, ...]:
    """What must be true of a comparison under these bounds; ``min_pairs`` are the fewest by which the line's gate decides anything."""
    bounds = (REVISIONS, spec)

    def the_summary_counts_the_answers(directory: Path) -> Outcome:
        wanted, found = list(summary(_answers(directory), spec)), list(read_table(directory / COMPARISONS, Comparison))
        astray = tuple(sorted({row.form for row in {*wanted} ^ {*found}}))
        return Outcome(passed=bool(wanted) and not astray, found=f"{len(found)} comparisons, {len(astray)} miscounted", offenders=astray)

    return (
        Rule(
            name="every_form_answered_every_pair", sentence="Every form answered every chosen pair, once.",
            holds=every_form_answered_every_pair,
        ),
        Rule(
            name="the_summary_counts_the_answers", sentence="The summary says what the compared answers say.",
            holds=the_summary_counts_the_answers, literals=bounds,
        ),
        Rule(
            name="served_answers_are_the_evaluated_answers",
            sentence="What would be served says what was evaluated: the same text alone, nearly always the same in batches.",
            holds=lambda directory: _judged(directory, ("reloaded", "batched"), spec), literals=bounds,
        ),
        Rule(
            name="http_answers_are_the_served_answers", sentence="The server says what the same weights say without it.",
            holds=lambda directory: _judged(directory, ("http",), spec), literals=bounds,
        ),
        Rule(
            name="merging_changes_no_score", sentence="The adapter scores the same when it is merged into 16 bit.",
            holds=partial(merging_changes_no_score, min_pairs), is_blocking=False, literals=(*bounds, min_pairs),
        ),
    )  # fmt: skip
