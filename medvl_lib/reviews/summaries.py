"""What the ratings of a sheet come to: for each variant and question a mean with its interval, how far it is from base, and the agreement.

In: the reviews of one sheet. Out: a ``RatingSummary`` for each variant, and one over all answers of the sheet. An answer's value is the
mean over its raters; answers are averaged, and clusters of patients or documents drawn, as for any metric. No gate reads them.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from medvl_lib.evaluation import agreement as agreement_room
from medvl_lib.evaluation import statistics
from medvl_lib.evaluation.agreement import Rated, agreement
from medvl_lib.evaluation.predictions import Variant
from medvl_lib.evaluation.statistics import Difference, cluster_sums, estimate, is_too_few, paired_difference
from medvl_lib.reviews.tables import ALL, HARM, QUESTIONS, SCALE, Question, RatingSummary, Review

REVISION = 2  # no interval below six clusters
REVISIONS = (REVISION, agreement_room.REVISION, statistics.REVISION)
REFERENCE: Variant = "base"
CONFIDENCE = 0.95
LEVELS: Mapping[Question, tuple[int, ...]] = {"correctness": tuple(SCALE), "harmful": tuple(int(is_harm) for is_harm in HARM.values())}
IS_ORDERED: Mapping[Question, bool] = {"correctness": True, "harmful": False}


class _Given(NamedTuple):
    """A rating as a number."""

    cluster: str
    pair_id: str
    item_id: str
    rater: str
    value: int


class _Answer(NamedTuple):
    """An answer and what its raters make of it."""

    cluster: str
    pair_id: str
    value: float


class _Ends(NamedTuple):
    """Of an interval; None where there is none."""

    low: float | None
    high: float | None


def summaries(reviews: Iterable[Review]) -> Iterator[RatingSummary]:
    """Every variant's rows, and those of all answers, in the order of the questions; none of a question that nobody answered."""
    reviews = list(reviews)
    variants = sorted({review.variant for review in reviews})
    for question in QUESTIONS:
        given = {variant: _given([review for review in reviews if review.variant == variant], question) for variant in variants}
        for variant in variants:
            if given[variant]:
                yield _summary(reviews[0], variant, question, given[variant], given.get(REFERENCE, []))
        if everything := [rating for found in given.values() for rating in found]:
            yield _summary(reviews[0], ALL, question, everything, [])


def _given(reviews: Sequence[Review], question: Question) -> list[_Given]:
    """The ratings that answer a question."""
    values = [(review, review.correctness if question == "correctness" else review.is_harmful) for review in reviews]
    return [
        _Given(
            cluster=f"{review.dataset}/{review.group_id}", pair_id=review.pair_id, item_id=review.item_id, rater=review.rater,
            value=int(value),
        ) for review, value in values if value is not None
    ]  # fmt: skip


def _summary(sheet: Review, variant: str, question: Question, given: Sequence[_Given], base: Sequence[_Given]) -> RatingSummary:
    answers = _answers(given)
    found = estimate(cluster_sums((answer.cluster, answer.value) for answer in answers))
    difference = None if variant in {REFERENCE, ALL} else _minus(answers, _answers(base))
    ends = _Ends(None, None) if is_too_few(found.num_clusters, CONFIDENCE) else _Ends(found.ci_low, found.ci_high)
    apart = difference and not is_too_few(difference.num_informative, CONFIDENCE)
    levels = LEVELS[question]
    rated = (Rated(cluster=one.cluster, item=one.item_id, rater=one.rater, category=levels.index(one.value)) for one in given)
    agreed = agreement(rated, num_categories=len(levels), is_ordered=IS_ORDERED[question])
    return RatingSummary(
        evaluation_id=sheet.evaluation_id, line=sheet.line, sheet_id=sheet.sheet_id, variant=variant, question=question,
        num_items=found.num_pairs, num_clusters=found.num_clusters, num_raters=len({one.rater for one in given}), num_ratings=len(given),
        mean=found.mean, ci_low=ends.low, ci_high=ends.high, num_paired=difference.num_pairs if difference else 0,
        minus_base=difference and difference.difference, minus_base_ci_low=difference.ci_low if difference and apart else None,
        minus_base_ci_high=difference.ci_high if difference and apart else None, p_value=difference and difference.p_value,
        num_agreed_on=agreed.num_items if agreed else 0, coefficient=agreed and agreed.coefficient, agreement=agreed and agreed.value,
        agreement_ci_low=agreed and agreed.ci_low, agreement_ci_high=agreed and agreed.ci_high,
        exact_agreement=agreed and agreed.exact_share,
    )  # fmt: skip


def _answers(given: Iterable[_Given]) -> list[_Answer]:
    """Each rated answer with the mean over its raters."""
    ratings: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for one in given:
        ratings[one.cluster, one.pair_id, one.item_id].append(one.value)
    return [_Answer(cluster=cluster, pair_id=pair, value=sum(found) / len(found)) for (cluster, pair, _), found in ratings.items()]


def _minus(mine: Iterable[_Answer], base: Iterable[_Answer]) -> Difference | None:
    """Over the pairs of which both answers were rated."""
    theirs = {answer.pair_id: answer.value for answer in base}
    pairs = [(answer.cluster, answer.value, theirs[answer.pair_id]) for answer in mine if answer.pair_id in theirs]
    return paired_difference(pairs) if pairs else None
