"""Scores: one number per prediction and metric, or the reason why there is none.

In: a predictions directory (what each variant said, and what was wanted). Out: ``scores.parquet``, and ``evaluated_pairs.parquet``, which
says what should have been answered, so that the rules can judge this directory alone. What the *model* failed at (empty, unreadable, in
the wrong language) is a zero and is counted apart by ``answer_state``; what the *scorer* could not do is null with a reason. Means and
intervals come later.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from medvl_lib.errors import InputRefused
from medvl_lib.evaluation.metrics import METRICS, SIMILARITY, Metric, metric_versions, of_cosine, ranges
from medvl_lib.evaluation.metrics.languages import is_in_another_script
from medvl_lib.evaluation.metrics.reports import num_masks
from medvl_lib.evaluation.metrics.tokens import UnscorableError
from medvl_lib.evaluation.parquet_sql import query
from medvl_lib.evaluation.predictions import (
    PREDICTIONS,
    REFERENCES,
    Condition,
    Prediction,
    Reference,
    Variant,
)
from medvl_lib.evaluation.similarities import read_similarities
from medvl_lib.files import read_json
from medvl_lib.pairs import Split
from medvl_lib.provenance import PROVENANCE, Fact, Outcome, Rule, digest
from medvl_lib.tables import Column, TableWriter, read_column, read_table, write_table

REVISION = 4  # an answer in capitals is in a language, too; the metrics have versions of their own
REVISIONS = (REVISION,)
SCORES = "scores.parquet"
EVALUATED_PAIRS = "evaluated_pairs.parquet"
MAX_UNSCORED_SHARE = 0.01  # more than this makes every comparison with the variant invalid
NOTHING_COUNTED = "the answer holds nothing of what this metric is a share of: it adds to the sums alone"

AnswerState = Literal["complete", "cut", "empty", "wrong_language"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What one metric makes of one answer. Key: (evaluation_id, pair_id, variant, condition, metric)."""

    evaluation_id: Annotated[str, Column("these very answers, the scoring and the metrics' versions, as one hash")]
    pair_id: Annotated[str, Column("the pair")]
    group_id: Annotated[str, Column("patient or document: the unit of error bars")]
    dataset: Annotated[str, Column("name of the dataset")]
    split: Annotated[Split, Column("the split of the pair")]
    variant: Annotated[Variant, Column("who answered")]
    condition: Annotated[Condition, Column("as_is, or what was done to the question")]
    metric: Annotated[str, Column("name of the metric")]
    value: Annotated[
        float | None,
        Column(
            "0 to 1, of bleu_4 the sentence BLEU of this pair, 0 to 100; null where the scorer had nothing to score against, or where of a "
            "corpus metric the pair alone has none: its statistics count"
        ),
    ]
    reason: Annotated[str | None, Column("why there is no value; null where there is one")]
    answer_state: Annotated[
        AnswerState, Column("complete, cut at the token limit, or what the model failed at and scores 0 for: empty, or wrong_language")
    ]
    statistics: Annotated[
        tuple[float, ...],
        Column(
            "what a corpus metric sums over pairs, of bleu_4 the words of answer and reference, the n-grams of 1 to 4 words that match, "
            "and those of the answer, of hallucinated_pair_rate the wrong and all stated values; empty where the result is the mean of the "
            "values"
        ),
    ] = ()
    signature: Annotated[
        str | None, Column("how both texts were cut and counted, of bleu_4 as sacrebleu says it; null where there is one way only")
    ] = None
    num_masks: Annotated[int, Column("marks of de-identification (___, XXXX) in the answer; bleu_4 and rouge_l do not see them")] = 0

    @property
    def is_scored(self) -> bool:
        """Whether the scorer could score it: it has a value, or what it adds to the sums."""
        return self.value is not None or bool(self.statistics)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedPair:
    """A pair that every variant has to answer."""

    pair_id: Annotated[str, Column("the pair")]
    group_id: Annotated[str, Column("patient or document: the unit of error bars")]
    dataset: Annotated[str, Column("name of the dataset")]
    split: Annotated[Split, Column("the split of the pair")]
    language: Annotated[str, Column("ISO 639-1 code")]
    slices: Annotated[dict[str, str], Column("labels to report separately, such as document_type=lab_results")]


def evaluation_id(predictions_directory: Path) -> str:
    """What an evaluation is: these very answers, as this room and this version of the metrics score them.

    Weights, conversations and generation settings are in the predictions' fingerprint; their data version tells apart what the same
    weights answered when they were asked again.
    """
    record = read_json(predictions_directory / PROVENANCE)
    return digest(["evaluation", record["fingerprint"], record["data_version"], REVISIONS, metric_versions()])


class Measured(NamedTuple):
    """What a metric makes of an answer."""

    value: float | None
    reason: str | None
    """Why there is no value."""
    statistics: tuple[float, ...] = ()
    """What it adds to the sums of a corpus metric; empty of any other, and where the reference cannot be scored against."""


def measure(metric: Metric, answer: str, reference: Reference) -> Measured:
    """The metric's value, or None and the reason why there is none, with what the pair adds to its sums."""
    try:
        value = metric.score(answer, reference)
    except UnscorableError as error:
        return Measured(None, str(error))
    return Measured(value, NOTHING_COUNTED if value is None else None, metric.corpus.statistics(answer, reference) if metric.corpus else ())


def is_in_wrong_language(answer: str, reference: Reference) -> bool:
    """Whether an answer is written in another script than the pair's language asks for."""
    return is_in_another_script(answer, reference.response, reference.language, (reference.request, *reference.labels))


def answer_state(prediction: Prediction, reference: Reference) -> AnswerState:
    """Whether the model answered at all, and in the script that the pair's language asks for."""
    if not prediction.answer.strip():
        return "empty"
    if is_in_wrong_language(prediction.answer, reference):
        return "wrong_language"
    return "cut" if prediction.is_cut else "complete"


def _evaluated(predictions_directory: Path) -> dict[str, Reference]:
    """The references of the test split and of each split that was predicted, by pair."""
    path = predictions_directory / REFERENCES
    predicted: set[str] = set(read_column(predictions_directory / PREDICTIONS, "pair_id"))
    references = {reference.pair_id: reference for reference in read_table(path, Reference)}
    if orphans := sorted(predicted - references.keys()):
        raise InputRefused(
            found=f"{len(orphans)} predicted pairs have no reference, first {orphans[0]!r}", where=str(path),
            do="materialize the predictions again: answers and references must come from one chat directory",
        )  # fmt: skip
    splits = {"test"} | {references[pair_id].split for pair_id in predicted}
    return {pair_id: reference for pair_id, reference in references.items() if reference.split in splits}


def _scored(predictions_directory: Path, references: dict[str, Reference]) -> Iterator[Score]:
    mark, measured = evaluation_id(predictions_directory), read_similarities(predictions_directory)
    for prediction in read_table(predictions_directory / PREDICTIONS, Prediction):
        reference = references[prediction.pair_id]
        state = answer_state(prediction, reference)
        of_this = partial(
            Score, evaluation_id=mark, pair_id=prediction.pair_id, group_id=reference.group_id, dataset=reference.dataset,
            split=reference.split, variant=prediction.variant, condition=prediction.condition, answer_state=state,
            num_masks=num_masks(prediction.answer),
        )  # fmt: skip
        for metric in METRICS.values():
            if metric.applies_to(reference):
                answer = "" if state == "wrong_language" and metric.is_higher_better else prediction.answer
                yield of_this(
                    metric=metric.name, **measure(metric, answer, reference)._asdict(),
                    signature=metric.signature(reference) if metric.signature else None,
                )  # fmt: skip
        if measured and reference.is_report:
            cosine = 0.0 if state in {"empty", "wrong_language"} else measured[prediction.pair_id, prediction.variant, prediction.condition]
            yield of_this(metric=SIMILARITY, value=of_cosine(cosine), reason=None)


def write_scores(directory: Path, predictions_directory: Path) -> dict[str, Fact]:
    """Write ``scores.parquet`` and ``evaluated_pairs.parquet``; returns how many scores there are, and how many have no value."""
    references = _evaluated(predictions_directory)
    num_pairs = write_table(directory / EVALUATED_PAIRS, EvaluatedPair, (
        EvaluatedPair(pair_id=r.pair_id, group_id=r.group_id, dataset=r.dataset, split=r.split, language=r.language, slices=r.slices)
        for r in references.values()
    ))  # fmt: skip
    num_unscored = 0
    with TableWriter(directory / SCORES, Score) as writer:
        for score in _scored(predictions_directory, references):
            num_unscored += not score.is_scored
            writer.write(score)
    return {
        "evaluation_id": evaluation_id(predictions_directory), "num_evaluated_pairs": num_pairs,
        "num_scores": writer.num_rows, "num_unscored": num_unscored,
        "num_masks_in_references": sum(num_masks(reference.response) for reference in references.values()),
    }  # fmt: skip


def _tables(directory: Path) -> dict[str, Path]:
    return {"scores": directory / SCORES, "evaluated_pairs": directory / EVALUATED_PAIRS}


def every_test_pair_is_predicted(directory: Path) -> Outcome:
    """Under each condition that a variant was asked under, it answered every evaluated pair; and there is a test pair."""
    missing = query(
        """
        with asked as (select distinct variant, condition from scores)
        select variant, condition, pair_id from evaluated_pairs cross join asked
        anti join scores using (pair_id, variant, condition) order by all
        """,
        _tables(directory),
    )
    [(num_test, num_asked)] = query(
        """
        select (select count(*) from evaluated_pairs where split = 'test'), count(*) from (select distinct variant, condition from scores)
        """,
        _tables(directory),
    )
    return Outcome(
        passed=not missing and num_test > 0 and num_asked > 0,
        found=f"{len(missing)} answers are missing; {num_test} test pairs were put to {num_asked} variants and conditions",
        offenders=tuple(f"{variant} {condition} {pair_id}" for variant, condition, pair_id in missing[:10]),
    )


def no_answer_is_scored_twice(directory: Path) -> Outcome:
    """A pair, variant, condition and metric have one score."""
    twice = query(
        "select pair_id, variant, condition, metric from scores group by all having count(*) > 1 order by all", _tables(directory)
    )
    return Outcome(passed=not twice, found=f"{len(twice)} scores stand there twice", offenders=tuple(" ".join(row) for row in twice[:10]))


def scores_are_in_range(directory: Path) -> Outcome:
    """Each value is a number within its metric's range."""
    tops = " ".join(f"when '{name}' then {highest}" for name, highest in ranges().items())
    outside = query(
        f"""
        select pair_id, variant, metric from scores
        where value is not null and not coalesce(value between 0 and case metric {tops} end, false) order by all
        """,  # noqa: S608 (our own names)
        _tables(directory),
    )
    return Outcome(
        passed=not outside,
        found=f"{len(outside)} values lie outside the range of their metric",
        offenders=tuple(" ".join(row) for row in outside[:10]),
    )


def few_scores_are_missing(directory: Path) -> Outcome:
    """Nothing that is compared has more than 1 % of its scores missing: a variant under a condition, on a dataset, by a metric."""
    shares = query(
        """
        select variant, condition, dataset, metric, count(*) filter (value is null and len(statistics) = 0) as num_missing,
               count(*) as num_scores, any_value(reason) filter (len(statistics) = 0) as reason
        from scores group by variant, condition, dataset, split, metric having num_missing > 0
        order by num_missing / num_scores desc, variant, condition, dataset, metric
        """,
        _tables(directory),
    )
    bad = [row for row in shares if row[4] > MAX_UNSCORED_SHARE * row[5]]
    worst = f"; most for {' '.join(bad[0][:4])}: {bad[0][4]} of {bad[0][5]} ({bad[0][6]})" if bad else ""
    return Outcome(
        passed=not bad,
        found=f"{sum(row[4] for row in shares)} scores are missing{worst}",
        offenders=tuple(" ".join(row[:4]) for row in bad[:10]),
    )


RULES = (
    Rule(
        name="every_test_pair_is_predicted",
        sentence="Every variant answered every pair of the evaluated splits.",
        holds=every_test_pair_is_predicted,
    ),
    Rule(name="no_answer_is_scored_twice", sentence="No answer is scored twice by one metric.", holds=no_answer_is_scored_twice),
    Rule(
        name="scores_are_in_range",
        sentence="Every score lies within the range of its metric.",
        holds=scores_are_in_range,
        literals=(ranges(),),
    ),
    Rule(
        name="few_scores_are_missing",
        sentence="At most 1 % of the scores that are compared are missing because the scorer failed.",
        holds=few_scores_are_missing,
        literals=(MAX_UNSCORED_SHARE,),
    ),
)
