"""Metrics: pure functions (answer, reference) -> a number from 0 to 1, each with its definition, source and version.

In: an answer and a ``Reference``. Out: a number; ``UnscorableError`` where the reference gives nothing to score against. A new metric is
one function in the module of its family and one entry here. No file is opened, nothing is rounded, and means are ``statistics``'s.
"""

from collections.abc import Callable
from dataclasses import dataclass

from medvl_lib.evaluation.metrics.documents import hallucinated_pair_rate, pair_accuracy, term_recall, value_recall
from medvl_lib.evaluation.metrics.text import token_f1
from medvl_lib.evaluation.metrics.vqa import closed_accuracy, closed_unparsable, open_exact, open_recall
from medvl_lib.evaluation.predictions import Reference

ANSWER_TYPE = "answer_type"  # the slice that tells closed questions from open ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric as it is scored, shown and compared."""

    name: str
    score: Callable[[str, Reference], float]
    """(answer, reference) -> 0 to 1."""
    applies_to: Callable[[Reference], bool]
    """Whether a reference has what the metric needs."""
    definition: str
    source: str
    """Paper, or implementation at a commit."""
    version: int
    """Raised, with the reason beside it, whenever an answer would get another number, also because of tokens, units or dates."""
    is_higher_better: bool = True


def _has_triples(reference: Reference) -> bool:
    return bool(reference.expected)


def _is_closed(reference: Reference) -> bool:
    return reference.slices.get(ANSWER_TYPE) == "closed"


def _is_open(reference: Reference) -> bool:
    return reference.slices.get(ANSWER_TYPE) == "open"


def _is_free_text(reference: Reference) -> bool:
    return not reference.expected and not _is_closed(reference)


METRICS: dict[str, Metric] = {
    "term_recall": Metric(
        name="term_recall", score=lambda answer, reference: term_recall(answer, reference.expected), applies_to=_has_triples,
        definition="Share of the page's terms that stand anywhere in the answer.",
        source="MedVL requirement documents, 'term accuracy'; medvl_lib/evaluation/metrics/documents.py",
        version=1,  # first version
    ),
    "value_recall": Metric(
        name="value_recall", score=lambda answer, reference: value_recall(answer, reference.expected), applies_to=_has_triples,
        definition="Share of the page's values that stand anywhere in the answer, on whatever term: gameable, never gated.",
        source="MedVL requirement documents, 'value accuracy'; medvl_lib/evaluation/metrics/documents.py",
        version=1,  # first version
    ),
    "pair_accuracy": Metric(
        name="pair_accuracy", score=lambda answer, reference: pair_accuracy(answer, reference.expected), applies_to=_has_triples,
        definition="Share of the page's (term, value, unit) triples whose value stands with its term and no other unit is stated.",
        source="MedVL; medvl_lib/evaluation/metrics/documents.py",
        version=1,  # first version
    ),
    "hallucinated_pair_rate": Metric(
        name="hallucinated_pair_rate", score=lambda answer, reference: hallucinated_pair_rate(answer, reference.expected),
        applies_to=_has_triples,
        definition="Share of the values stated for a term of the page that the page does not state for it; 0 where none is stated.",
        source="MedVL; medvl_lib/evaluation/metrics/documents.py",
        version=1,  # first version
        is_higher_better=False,
    ),
    "token_f1": Metric(
        name="token_f1", score=lambda answer, reference: token_f1(answer, reference.response), applies_to=_is_free_text,
        definition="Harmonic mean of precision and recall over the tokens of answer and wanted answer, without articles.",
        source="https://arxiv.org/abs/1606.05250; compute_f1 in huggingface/transformers @ 0cbcecb69, data/metrics/squad_metrics.py",
        version=1,  # first version
    ),
    "closed_accuracy": Metric(
        name="closed_accuracy", score=lambda answer, reference: closed_accuracy(answer, reference.response), applies_to=_is_closed,
        definition="Whether the answer to a closed question states the wanted one of yes and no, as a word, and not the other.",
        source="MedVL; medvl_lib/evaluation/metrics/vqa.py",
        version=1,  # first version
    ),
    "closed_unparsable": Metric(
        name="closed_unparsable", score=lambda answer, reference: closed_unparsable(answer, reference.response), applies_to=_is_closed,
        definition="Whether the answer to a closed question states neither yes nor no, or both; such an answer is also wrong.",
        source="MedVL; medvl_lib/evaluation/metrics/vqa.py",
        version=1,  # first version
        is_higher_better=False,
    ),
    "open_exact": Metric(
        name="open_exact", score=lambda answer, reference: open_exact(answer, reference.response), applies_to=_is_open,
        definition="Whether the answer to an open question is the wanted one, word for word, without articles.",
        source="https://arxiv.org/abs/1606.05250, exact match; medvl_lib/evaluation/metrics/vqa.py",
        version=1,  # first version
    ),
    "open_recall": Metric(
        name="open_recall", score=lambda answer, reference: open_recall(answer, reference.response), applies_to=_is_open,
        definition="Share of the wanted words that stand in the answer to an open question, without articles: gameable, never gated.",
        source="LLaVA-Med, run_eval.py @ b9a98a7; medvl_lib/evaluation/metrics/vqa.py",
        version=1,  # first version
    ),
}  # fmt: skip


def metric_versions() -> dict[str, str]:
    """The version of every metric: part of an evaluation's identity."""
    return {name: str(metric.version) for name, metric in METRICS.items()}
