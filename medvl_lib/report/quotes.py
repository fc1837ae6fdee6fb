"""What a report quotes of the pairs themselves: counts of closed answers, and the worst examples with their pictures.

In: the predictions, scores and conversations of an evaluation. Out: counts of every dataset, and examples of those alone that may be shown;
of the others it is said how many there were. What is worst is told by the gate's primary metric on the test split.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvl_lib.chat import conversations_path, read_conversations
from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.evaluation.metrics.vqa import YES_NO, labels_of, names, stated_label
from medvl_lib.evaluation.predictions import ANSWER_TYPE, PREDICTIONS, REFERENCES
from medvl_lib.evaluation.scores import SCORES
from medvl_lib.images import ImageStore, thumbnail
from medvl_lib.report.content import Confusions, Example, Examples, Picture, Withheld
from medvl_lib.rules import stream

NUM_EXAMPLES = 4  # of each kind: a page or two of print
MAX_CHARACTERS = 1500  # of one text; a page of a document has about as many
MAX_SIDE_PIXELS = 640
COMPARED = ("base", "adapter")
MIN_ASKED = 10  # pairs of a label set from which on it has a matrix of its own; yes and no always have
OTHER, UNPARSABLE = "other", "unparsable"  # wanted: none of the labels, and unscored; said: none, or several


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Where the answers of an evaluation lie, and by which metric they are ranked."""

    predictions: Path
    scores: Path
    chat: Path
    images: Path
    metric: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ranked:
    """A test pair's dataset and licence, and its scores by variant."""

    pair_id: str
    dataset: str
    licence: str
    scores: Mapping[str, float]

    def loss(self, sign: int) -> float:
        """What the adapter lost against the base model."""
        return sign * (self.scores["base"] - self.scores["adapter"])


def confusions(answered: Answered) -> tuple[Confusions, ...]:
    """The as-is answers to closed test questions, and descriptions of pictures that have a class, by dataset, variant and label set."""
    rows = stream(
        """
        select r.dataset, p.variant, r.labels, r.language, r.response, p.answer
        from read_parquet($predictions) p join read_parquet($references) r using (pair_id)
        where r.split = 'test' and p.condition = 'as_is' and (r.slices[$label] = 'closed' or len(r.labels) > 0)
        order by r.dataset, p.variant, pair_id
        """,
        predictions=answered.predictions / PREDICTIONS, references=answered.predictions / REFERENCES, label=ANSWER_TYPE,
    )  # fmt: skip
    found: dict[tuple[str, str, tuple[str, ...]], Counter[tuple[str, str]]] = defaultdict(Counter)
    for dataset, variant, declared, language, wanted, said in rows:
        labels = labels_of(tuple(declared), language)
        pair = stated_label(wanted, labels) or OTHER, stated_label(said, labels) or UNPARSABLE
        found[dataset, variant, names(labels)][pair] += 1
    rare: dict[tuple[str, str], Counter[tuple[str, str]]] = defaultdict(Counter)
    matrices: list[Confusions] = []
    for (dataset, variant, labels), counts in found.items():
        if labels == YES_NO or counts.total() >= MIN_ASKED:
            matrices.append(_matrix(dataset, variant, labels, counts, ((*labels, OTHER), (*labels, UNPARSABLE))))
            continue
        for (wanted, said), count in counts.items():
            rare[dataset, variant]["any", UNPARSABLE if said == UNPARSABLE else "right" if said == wanted else "wrong"] += count
    together = (("any",), ("right", "wrong", UNPARSABLE))
    matrices.extend(_matrix(dataset, variant, (), counts, together) for (dataset, variant), counts in rare.items())
    return tuple(matrices)


def _matrix(
    dataset: str, variant: str, labels: tuple[str, ...], counts: Counter[tuple[str, str]], sides: tuple[Sequence[str], Sequence[str]]
) -> Confusions:
    wanted, said = sides
    table = {row: {column: counts[row, column] for column in said} for row in wanted}
    return Confusions(dataset=dataset, variant=variant, labels=labels, counts=table)


def examples(answered: Answered, shown: Mapping[str, Sequence[str]]) -> Examples:
    """The pairs that the adapter did worst on, and those where it lost most against base, as far as they may be shown."""
    ranked = _ranked(answered)
    may = [row for row in ranked if row.licence in shown.get(row.dataset, ())]
    sign = 1 if METRICS[answered.metric].is_higher_better else -1
    lowest = sorted(may, key=lambda row: (sign * row.scores["adapter"], row.pair_id))[:NUM_EXAMPLES]
    losers = [row for row in may if "base" in row.scores and row.loss(sign) > 0]
    lost = sorted(losers, key=lambda row: (-row.loss(sign), row.pair_id))[:NUM_EXAMPLES]
    quoted = _quoted(answered, [*lowest, *lost])
    return Examples(
        lowest=tuple(quoted[row.pair_id] for row in lowest), lost=tuple(quoted[row.pair_id] for row in lost),
        withheld=tuple(found for found in _tested(answered) if found.licence not in shown.get(found.dataset, ())),
    )  # fmt: skip


def _tested(answered: Answered) -> Iterator[Withheld]:
    """How many test pairs there are of each dataset and licence, whatever metric they are scored by."""
    rows = stream(
        """
        select r.dataset, r.licence, count(distinct pair_id) from read_parquet($scores) s join read_parquet($references) r using (pair_id)
        where s.split = 'test' group by all order by all
        """,
        scores=answered.scores / SCORES, references=answered.predictions / REFERENCES,
    )  # fmt: skip
    return (Withheld(dataset=dataset, licence=licence, num_pairs=count) for dataset, licence, count in rows)


def _ranked(answered: Answered) -> list[_Ranked]:
    rows = stream(
        """
        select pair_id, any_value(r.dataset), any_value(r.licence), list(variant order by variant), list(value order by variant)
        from read_parquet($scores) s join read_parquet($references) r using (pair_id)
        where s.split = 'test' and condition = 'as_is' and list_contains($compared, variant) and metric = $metric and value is not null
        group by pair_id having list_contains(list(variant), 'adapter') order by pair_id
        """,
        scores=answered.scores / SCORES, references=answered.predictions / REFERENCES, metric=answered.metric, compared=list(COMPARED),
    )  # fmt: skip
    return [
        _Ranked(pair_id=pair_id, dataset=dataset, licence=licence, scores=dict(zip(variants, values, strict=True)))
        for pair_id, dataset, licence, variants, values in rows
    ]


def _quoted(answered: Answered, rows: Sequence[_Ranked]) -> dict[str, Example]:
    """Each chosen pair with its texts and pictures."""
    chosen = {row.pair_id: row for row in rows}
    pictures = _pictures(answered, chosen)
    found: dict[str, Example] = {}
    for pair_id, request, wanted, variants, answers in _texts(answered, list(chosen)):
        row, said = chosen[pair_id], dict(zip(variants, answers, strict=True))
        found[pair_id] = Example(
            pair_id=pair_id, dataset=row.dataset, licence=row.licence, pictures=pictures[pair_id], request=_cut(request),
            wanted=_cut(wanted), said={variant: _cut(said[variant]) for variant in COMPARED if variant in said},
            scores={variant: row.scores[variant] for variant in COMPARED if variant in row.scores},
        )  # fmt: skip
    return found


def _texts(answered: Answered, chosen: list[str]) -> Iterator[tuple[Any, ...]]:
    """(pair, request, wanted, variants, their answers) of the chosen pairs."""
    return stream(
        """
        select pair_id, any_value(request), any_value(response), list(variant), list(answer)
        from read_parquet($predictions) p join read_parquet($references) r using (pair_id)
        where condition = 'as_is' and list_contains($chosen, pair_id) group by pair_id
        """,
        predictions=answered.predictions / PREDICTIONS, references=answered.predictions / REFERENCES, chosen=chosen,
    )  # fmt: skip


def _pictures(answered: Answered, chosen: Collection[str]) -> dict[str, tuple[Picture, ...]]:
    store = ImageStore(answered.images)
    conversations = read_conversations(conversations_path(answered.chat, "test"))
    return {
        conversation.pair_id: tuple(
            Picture(image_id=image_id, **thumbnail(store.read(image_id), MAX_SIDE_PIXELS)._asdict()) for image_id in conversation.image_ids
        )
        for conversation in conversations if conversation.pair_id in chosen
    }  # fmt: skip


def _cut(text: str) -> str:
    left_out = len(text) - MAX_CHARACTERS
    return text if left_out <= 0 else f"{text[:MAX_CHARACTERS]} [... {left_out} characters more]"
