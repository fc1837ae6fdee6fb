"""Leaks: which subjects of a test set a model may have learned from, because they were in another split when it was trained.

In: split tables, that of the test set and those that a model was trained under. Out: the subjects' names. Inside one split its own rules
see to it that nobody is on both sides; between two of them, after another seed, other shares or another cut of the data, nobody else does.
Which splits a model was trained under stands in provenance: ``route.promoting`` looks them up.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from medvl_lib.pairs import Split
from medvl_lib.rules import stream

REVISION = 2  # the encoder's training and the index's cases are looked at, too


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What a stage of a model was trained under."""

    split: Path
    """The split table of its time."""
    datasets: tuple[str, ...]
    """Datasets that it learned from; empty for all of the split."""
    parts: tuple[Split, ...] = ("train", "validation")
    """Parts of the split that it knows: what is kept of a model is chosen by its validation split."""


def learned_subjects(test_split: Path, judged: Iterable[str], training: Training) -> list[str]:
    """The patients or documents of the judged pairs (ids) that are known from training: they themselves, or a picture of theirs.

    Which of the training split's pairs were really drawn is not asked: a model may have learned from every one of them.
    """
    question = """
        with judged as (
            select dataset, group_id, image_ids from read_parquet($test) where pair_id in (select unnest($judged::varchar[]))
        ), learned as (
            select dataset, group_id, image_ids from read_parquet($training)
            where list_contains($parts::varchar[], split)
                and (len($datasets::varchar[]) = 0 or list_contains($datasets::varchar[], dataset))
        )
        select dataset || ': ' || group_id from judged semi join learned using (dataset, group_id)
        union
        select dataset || ': ' || group_id from (select dataset, group_id, unnest(image_ids) as image_id from judged)
        semi join (select unnest(image_ids) as image_id from learned) using (image_id)
        order by 1
    """
    rows = stream(
        question, test=test_split, judged=list(judged), training=training.split, datasets=list(training.datasets),
        parts=list(training.parts),
    )  # fmt: skip
    return [str(subject) for (subject,) in rows]
