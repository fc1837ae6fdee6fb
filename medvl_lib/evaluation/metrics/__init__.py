"""Metrics: pure functions (answer, reference) -> a number, each with its definition, range, source and version.

In: an answer and a ``Reference``. Out: a number; ``UnscorableError`` where the reference gives nothing to score against. A new metric is
one function in the module of its family and one entry here. No file is opened, nothing is rounded, and means are ``statistics``'s.

Most metrics are means: the result is the mean of what each pair scores. A *corpus metric* is not: BLEU is a function of sums over all
pairs, so it says what a pair adds to the sums, and which function of them the result is.
"""

from medvl_lib.datasets.descriptions import CATEGORY
from medvl_lib.evaluation.metrics import classes, reports, vqa
from medvl_lib.evaluation.metrics.documents import (
    hallucinated_pair_rate,
    hallucinated_share,
    is_silent,
    pair_accuracy,
    stated_values,
    term_recall,
    value_recall,
)
from medvl_lib.evaluation.metrics.metric import Corpus, Metric, Part
from medvl_lib.evaluation.metrics.radiology import RADIOLOGY, is_scored_as_report, report_in, wanted_report
from medvl_lib.evaluation.metrics.text import token_f1
from medvl_lib.evaluation.metrics.tokens import UnscorableError
from medvl_lib.evaluation.predictions import ANSWER_TYPE, Reference

__all__ = ["METRICS", "SIMILARITY", "Corpus", "Metric", "Part", "metric_versions", "of_cosine", "ranges"]


SIMILARITY = "image_text_similarity"  # the one metric that takes a model: measured beside the answers, in ``similarities``


def of_cosine(cosine: float) -> float:
    """A cosine as the metric has it: what points away from a picture is as far from it as what has nothing to do with it."""
    return min(1.0, max(0.0, cosine))


def _takes_a_model(_: str, __: Reference) -> float:
    raise UnscorableError("a similarity is measured by an encoder, not by the text alone")


def _has_triples(reference: Reference) -> bool:
    return bool(reference.expected)


def _is_closed(reference: Reference) -> bool:
    return reference.slices.get(ANSWER_TYPE) == "closed"


def _is_open(reference: Reference) -> bool:
    return reference.slices.get(ANSWER_TYPE) == "open"


def _has_bleu(reference: Reference) -> bool:
    return is_scored_as_report(reference) and reports.bleu_tokenizer(reference.language) is not None


def _has_rouge(reference: Reference) -> bool:
    return is_scored_as_report(reference) and reports.rouge_signature(reference.language) is not None


def _has_classes(reference: Reference) -> bool:
    return reference.is_report and bool(reference.labels) and CATEGORY in reference.slices


def _has_grades(reference: Reference) -> bool:
    return _has_classes(reference) and classes.is_ordinal(reference.labels)


def _tokenizer(reference: Reference) -> str:
    return reports.bleu_tokenizer(reference.language) or ""


def _labels(reference: Reference) -> vqa.Labels:
    return vqa.labels_of(reference.labels, reference.language)


METRICS: dict[str, Metric] = {
    "term_recall": Metric(
        name="term_recall", score=lambda answer, reference: term_recall(answer, reference.expected), applies_to=_has_triples, needs="facts",
        definition="Share of the page's terms that stand anywhere in the answer: gameable, never gated.",
        source="MedVL requirement documents, 'term accuracy'; medvl_lib/evaluation/metrics/documents.py",
        version=1,  # first version
        is_gateable=False,  # a list of all terms
    ),
    "value_recall": Metric(
        name="value_recall", score=lambda answer, reference: value_recall(answer, reference.expected), applies_to=_has_triples,
        needs="facts",
        definition="Share of the page's values that stand anywhere in the answer, on whatever term: gameable, never gated.",
        source="MedVL requirement documents, 'value accuracy'; medvl_lib/evaluation/metrics/documents.py",
        version=1,  # first version
        is_gateable=False,  # values on the wrong terms, or all numbers
    ),
    "pair_accuracy": Metric(
        name="pair_accuracy", score=lambda answer, reference: pair_accuracy(answer, reference.expected), applies_to=_has_triples,
        needs="facts",
        definition="Share of the page's (term, value, unit) triples whose value stands with its term and no other unit is stated.",
        source="MedVL; medvl_lib/evaluation/metrics/documents.py",
        version=1,  # first version
    ),
    "hallucinated_pair_rate": Metric(
        name="hallucinated_pair_rate", score=lambda answer, reference: hallucinated_pair_rate(answer, reference.expected),
        applies_to=_has_triples, needs="facts",
        definition="Share of the values stated for a term of its page that the page does not state for it, over the values of all pages "
        "together; not defined where none is stated, of a page or of all. A pair's own score is that of its page, whose mean it is not.",
        source="MedVL; medvl_lib/evaluation/metrics/documents.py",
        version=2,  # over all stated values: in a mean over pages silence was no error
        is_higher_better=False,
        is_gateable=False,  # one sure value on one page
        corpus=Corpus(
            statistics=lambda answer, reference: stated_values(answer, reference.expected), value=hallucinated_share,
            is_always_defined=False,
        ),
    ),
    "silent_page_rate": Metric(
        name="silent_page_rate", score=lambda answer, reference: float(is_silent(answer, reference.expected)),
        applies_to=_has_triples, needs="facts",
        definition="Whether an answer states no value for any of the page's terms: nothing is made up on such a page, and nothing read.",
        source="MedVL; medvl_lib/evaluation/metrics/documents.py",
        version=1,  # first version
        is_higher_better=False,
        is_gateable=False,  # any value said for any term
    ),
    "token_f1": Metric(
        name="token_f1", score=lambda answer, reference: token_f1(answer, reference.response), applies_to=_is_open, needs="open",
        definition="Harmonic mean of precision and recall over the tokens of the answer to an open question and the wanted one, without "
        "articles. Not of reports: there the 50 commonest words beat every floor.",
        source="https://arxiv.org/abs/1606.05250; compute_f1 in huggingface/transformers @ 0cbcecb69, data/metrics/squad_metrics.py",
        version=2,  # of open questions alone
    ),
    "closed_accuracy": Metric(
        name="closed_accuracy", score=lambda answer, reference: vqa.closed_accuracy(answer, reference.response, _labels(reference)),
        applies_to=_is_closed, needs="closed",
        definition="Whether the answer to a closed question states the wanted one of its labels (yes and no where none are declared), as a "
        "word, and no other.",
        source="MedVL; medvl_lib/evaluation/metrics/vqa.py",
        version=3,  # a label in a later clause that says more is not beside the first
    ),
    "closed_unparsable": Metric(
        name="closed_unparsable", score=lambda answer, reference: vqa.closed_unparsable(answer, reference.response, _labels(reference)),
        applies_to=_is_closed, needs="closed",
        definition="Whether the answer to a closed question states none of its labels, or several; such an answer is also wrong.",
        source="MedVL; medvl_lib/evaluation/metrics/vqa.py",
        version=3,  # a label in a later clause that says more is not beside the first
        is_higher_better=False,
        is_gateable=False,  # one label said to everything
    ),
    "open_exact": Metric(
        name="open_exact", score=lambda answer, reference: vqa.open_exact(answer, reference.response), applies_to=_is_open, needs="open",
        definition="Whether the answer to an open question is the wanted one, word for word, without articles.",
        source="https://arxiv.org/abs/1606.05250, exact match; medvl_lib/evaluation/metrics/vqa.py",
        version=1,  # first version
    ),
    "open_recall": Metric(
        name="open_recall", score=lambda answer, reference: vqa.open_recall(answer, reference.response), applies_to=_is_open, needs="open",
        definition="Share of the wanted words that stand in the answer to an open question, without articles: gameable, never gated.",
        source="LLaVA-Med, run_eval.py @ b9a98a7; medvl_lib/evaluation/metrics/vqa.py",
        version=1,  # first version
        is_gateable=False,  # a dump of common words
    ),
    "bleu_4": Metric(
        name="bleu_4",
        score=lambda answer, reference: reports.sentence_bleu(
            report_in(answer, reference), wanted_report(reference), _tokenizer(reference)
        ),
        applies_to=_has_bleu, needs="report",
        definition="Corpus BLEU-4 of reports and transcriptions in lower case, 0 to 100: n-grams of up to four words that answers share "
        "with the wanted texts; of an impression of a study its text alone, without heading and labels. A pair's own score is its sentence "
        "BLEU, whose mean it is not.",
        source="Papineni et al. 2002, ACL; sacrebleu 2.6.0, metrics/bleu.py; medvl_lib/evaluation/metrics/reports.py",
        version=2,  # of impressions their text alone, of reasoned answers none
        highest=reports.PERFECT,
        corpus=Corpus(
            statistics=lambda answer, reference: reports.bleu_statistics(
                report_in(answer, reference), wanted_report(reference), _tokenizer(reference)
            ),
            value=reports.corpus_bleu,
        ),
        signature=lambda reference: reports.bleu_signature(_tokenizer(reference)),
    ),
    "rouge_l": Metric(
        name="rouge_l",
        score=lambda answer, reference: reports.rouge_l(report_in(answer, reference), wanted_report(reference), reference.language),
        applies_to=_has_rouge, needs="report",
        definition="F1 of the longest common subsequence of words (in Chinese: characters) of a report or transcription and the answer; of "
        "an impression of a study its text alone, without heading and labels.",
        source="Lin 2004, Text Summarization Branches Out; rouge-score 0.1.2; medvl_lib/evaluation/metrics/reports.py",
        version=2,  # of impressions their text alone, of reasoned answers none
        signature=lambda reference: reports.rouge_signature(reference.language) or "",
    ),
    "class_agreement": Metric(
        name="class_agreement", applies_to=_has_classes, needs="class",
        score=lambda answer, reference: classes.class_agreement(answer, reference.slices[CATEGORY], reference.labels),
        definition="Whether a description names the picture's declared class (a grade, a diagnosis), and no other.",
        source="MedVL; medvl_lib/evaluation/metrics/classes.py",
        version=2,  # a class in a later clause that says more is not beside the first
    ),
    "class_unparsable": Metric(
        name="class_unparsable", applies_to=_has_classes, needs="class",
        score=lambda answer, reference: classes.class_unparsable(answer, reference.slices[CATEGORY], reference.labels),
        definition="Whether a description names none of the declared classes, or several; such an answer is also wrong.",
        source="MedVL; medvl_lib/evaluation/metrics/classes.py",
        version=2,  # a class in a later clause that says more is not beside the first
        is_higher_better=False,
        is_gateable=False,  # one class said to everything
    ),
    "class_macro_f1": Metric(
        name="class_macro_f1", applies_to=_has_classes, needs="class",
        score=lambda answer, reference: classes.class_agreement(answer, reference.slices[CATEGORY], reference.labels),
        definition="Mean over the classes that occur of the F1 with which descriptions name them. A pair's own score is its agreement, "
        "whose mean it is not.",
        source="Sokolova and Lapalme 2009, doi.org/10.1016/j.ipm.2009.03.002; medvl_lib/evaluation/metrics/classes.py",
        version=2,  # a class in a later clause that says more is not beside the first
        corpus=Corpus(
            statistics=lambda answer, reference: classes.counts(answer, reference.slices[CATEGORY], reference.labels),
            value=classes.macro_f1,
        ),
        signature=lambda reference: classes.signature(reference.labels),
    ),
    "quadratic_kappa": Metric(
        name="quadratic_kappa", applies_to=_has_grades, needs="grade",
        score=lambda answer, reference: classes.grade_agreement(answer, reference.slices[CATEGORY], reference.labels),
        definition="Cohen's kappa of wanted and named grades, weighted by the square of their distance; 0 where it is below 0. An answer "
        "that names none counts as the furthest one.",
        source="Cohen 1968, Psychological Bulletin 70; medvl_lib/evaluation/metrics/classes.py",
        version=2,  # a class in a later clause that says more is not beside the first
        is_gateable=False,  # of pictures of one grade it says nothing
        corpus=Corpus(
            statistics=lambda answer, reference: classes.counts(answer, reference.slices[CATEGORY], reference.labels),
            value=classes.quadratic_kappa,
        ),
        signature=lambda reference: classes.signature(reference.labels),
    ),
    SIMILARITY: Metric(
        name=SIMILARITY, score=_takes_a_model, applies_to=lambda _: False, needs="report",
        definition="Cosine of a description and the pair's own pictures in the space of the line's encoder, 0 where it is below 0 and "
        "where nothing was said: how like this picture's texts it sounds, not whether it is true. Never gated.",
        source="Hessel et al. 2021, arXiv 2104.08718, with w = 1; medvl_lib/evaluation/similarities.py",
        version=1,  # first version
        is_gateable=False,  # the encoder likes the words that it was trained on
    ),
    **RADIOLOGY,
}  # fmt: skip


def metric_versions() -> dict[str, str]:
    """The version of every metric: part of an evaluation's identity."""
    return {name: str(metric.version) for name, metric in METRICS.items()}


def ranges() -> dict[str, float]:
    """The upper end of every metric's range; the lower one is 0."""
    return {name: metric.highest for name, metric in METRICS.items()}
