"""The entries of the radiology line's own metrics: CheXpert-rule F1 of impressions; statements and ICD diagnoses of reasoned answers.

In: nothing. Out: ``RADIOLOGY``, which ``METRICS`` takes in, and ``report_in``, the part of such an answer that is scored as a report. They
apply by the stage that a pair's metadata names (``descriptions.STAGE``): of an impression its text and findings, of a reasoned answer what
it states and the diagnoses that it lists, where any are wanted. What is computed stands in ``findings``, ``statements`` and ``diagnoses``.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from medvl_lib.datasets.descriptions import STAGE
from medvl_lib.datasets.mimic_cxr_texts import read_impression
from medvl_lib.evaluation.metrics import diagnoses, findings, statements
from medvl_lib.evaluation.metrics.metric import Corpus, Metric, Part
from medvl_lib.evaluation.predictions import Reference


def _is_impression(reference: Reference) -> bool:
    return reference.slices.get(STAGE) == "impression" and reference.language == "en"


def is_scored_as_report(reference: Reference) -> bool:
    """Whether a wanted report is one text to be compared word by word: a reasoned answer, findings over a list of codes, is not."""
    return reference.is_report and reference.slices.get(STAGE) in {None, "impression"}


def report_in(answer: str, reference: Reference) -> str:
    """The part of an answer that is compared with a wanted report: of an impression its text, without heading and labels.

    Nothing, which scores 0, where the answer does not have the format; ``impression_unparsable`` counts such.
    """
    if reference.slices.get(STAGE) != "impression":
        return answer
    read = read_impression(answer)
    return read.impression if read.is_readable else ""


def wanted_report(reference: Reference) -> str:
    """The same part of what is wanted."""
    if reference.slices.get(STAGE) != "impression":
        return reference.response
    return read_impression(reference.response).impression


def _has_statements(reference: Reference) -> bool:
    is_reasoned = reference.slices.get(STAGE) == "reasoning" and reference.language == "en"
    return is_reasoned and bool(statements.statements(reference.response))


def _has_diagnoses(reference: Reference) -> bool:
    return reference.slices.get(STAGE) == "reasoning" and bool(diagnoses.listed(reference.response))


def _chexpert_rule_f1(name: str, counting: findings.Counting, value: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Metric:
    """CheXpert-rule F1 of a report under one counting, averaged one way; the macro one has a part for each label."""
    is_macro, is_without_no_finding = value is findings.macro_f1, counting.labels == findings.PATHOLOGIES
    over = "mean over the labels that occur" if is_macro else "all labels together"
    which = "13 labels, without No Finding" if is_without_no_finding else "14 labels, with No Finding, which normal reports earn"
    parts = findings.by_label(counting) if is_macro else {}
    return Metric(
        name=name, applies_to=_is_impression, needs="impression",
        score=lambda answer, reference: findings.report_f1(answer, reference.response, counting),
        definition=f"CheXpert-rule F1, {over}: {which}; uncertain counts as {counting.uncertain}. Labels of answer and wanted impression "
        "are both the rule labeler's. A pair's own score is the F1 of its labels, whose mean it is not.",
        source="Irvin et al. 2019, https://arxiv.org/abs/1901.07031; stanfordmlgroup/chexpert-labeler @ 44ddeb3; "
        "medvl_lib/evaluation/metrics/findings.py",
        version=findings.VERSION,
        is_gateable=is_without_no_finding,  # on 14 labels a report that is always normal does well
        corpus=Corpus(
            statistics=lambda answer, reference: findings.statistics(answer, reference.response, counting), value=value,
            parts={label: Part(value=of_label, num_wanted=wanted) for label, (of_label, wanted) in parts.items()},
        ),
        signature=lambda _: findings.signature(counting),
    )  # fmt: skip


COUNTINGS: Mapping[str, findings.Counting] = {
    "": findings.THIRTEEN, "_uncertain_positive": findings.THIRTEEN_UNCERTAIN_POSITIVE,
    "_14": findings.FOURTEEN, "_14_uncertain_positive": findings.FOURTEEN_UNCERTAIN_POSITIVE,
}  # fmt: skip
"""What stands behind ``chexpert_rule_f1_micro`` and ``_macro`` -> what is counted; the first is the one to decide by."""
_CHEXPERT_RULE_F1 = {
    f"{name}{suffix}": _chexpert_rule_f1(f"{name}{suffix}", counting, value)
    for suffix, counting in COUNTINGS.items()
    for name, value in (("chexpert_rule_f1_micro", findings.micro_f1), ("chexpert_rule_f1_macro", findings.macro_f1))
}

_Codes = Callable[[tuple[diagnoses.Code, ...]], tuple[diagnoses.Code, ...]]


def _icd_counts(as_counted: _Codes, answer: str, reference: Reference) -> tuple[float, ...]:
    wanted = diagnoses.wanted_codes(reference.response)
    return diagnoses.overlap(as_counted(diagnoses.listed(answer)), as_counted(wanted))


def _icd(name: str, what: str, as_counted: _Codes) -> Metric:
    """Precision, recall or F1 of the diagnoses that answers list, over all pairs together."""
    value, words = {
        "precision": (diagnoses.precision, "Share of the named {} that are wanted"),
        "recall": (diagnoses.recall, "Share of the wanted {} that are named"),
        "f1": (diagnoses.f1, "Harmonic mean of precision and recall of the named {}"),
    }[name.rpartition("_")[2]]
    counts = partial(_icd_counts, as_counted)
    return Metric(
        name=name, applies_to=_has_diagnoses, needs="diagnoses",
        score=lambda answer, reference: float(value(np.array(counts(answer, reference)))),
        definition=f"{words.format(what)}, over all pairs together (micro). A pair's own score is that of its own list.",
        source="Mullenbach et al. 2018, https://arxiv.org/abs/1802.05695; medvl_lib/evaluation/metrics/diagnoses.py",
        version=1,  # first version
        is_gateable=name.endswith("f1"),  # one sure code has precision, a list of everything recall
        corpus=Corpus(statistics=counts, value=value),
    )  # fmt: skip


def _exactly(codes: tuple[diagnoses.Code, ...]) -> tuple[diagnoses.Code, ...]:
    return codes


_EXACT, _CATEGORY = "ICD codes, with their version", "ICD categories (three characters, with their version)"
_ICD = {
    f"icd_{kind}_{value}": _icd(f"icd_{kind}_{value}", what, as_counted)
    for kind, what, as_counted in (("exact", _EXACT, _exactly), ("category", _CATEGORY, diagnoses.categories))
    for value in ("f1", "precision", "recall")
}
_ICD_LISTS = {
    "icd_top5_precision": Metric(
        name="icd_top5_precision", applies_to=_has_diagnoses, needs="diagnoses",
        score=lambda answer, reference: diagnoses.top_precision(
            diagnoses.listed(answer), diagnoses.wanted_codes(reference.response)
        ),
        definition="Right ICD codes among the first five that an answer lists, by 5; with fewer wanted codes it cannot reach 1.",
        source="Mullenbach et al. 2018, https://arxiv.org/abs/1802.05695, precision@n; medvl_lib/evaluation/metrics/diagnoses.py",
        version=1,  # first version
    ),
    "icd_top5_recall": Metric(
        name="icd_top5_recall", applies_to=_has_diagnoses, needs="diagnoses",
        score=lambda answer, reference: diagnoses.top_recall(diagnoses.listed(answer), diagnoses.wanted_codes(reference.response)),
        definition="Share of the wanted ICD codes among the first five that an answer lists; with more wanted codes it cannot reach 1.",
        source="MedVL; medvl_lib/evaluation/metrics/diagnoses.py",
        version=1,  # first version
    ),
    "icd_unparsable": Metric(
        name="icd_unparsable", applies_to=_has_diagnoses, needs="diagnoses", score=lambda answer, _: float(not diagnoses.listed(answer)),
        definition="Whether an answer lists no ICD diagnosis that can be read; such an answer also names none.",
        source="MedVL; medvl_lib/evaluation/metrics/diagnoses.py",
        version=1,  # first version
        is_higher_better=False,
        is_gateable=False,  # one code said to everything
    ),
}  # fmt: skip


def _of_statements(
    name: str, value: Callable[[NDArray[np.float64]], NDArray[np.float64]], definition: str, *, is_higher_better: bool
) -> Metric:
    """Fact recall or its opposite, over all pairs together."""
    return Metric(
        name=name, applies_to=_has_statements, needs="findings",
        score=lambda answer, reference: float(value(np.array(statements.overlap(answer, reference.response)))),
        definition=definition, source="MedVL; medvl_lib/evaluation/metrics/statements.py", version=statements.VERSION,
        is_higher_better=is_higher_better, is_gateable=False,  # everything stated recalls all, nothing stated errs in nothing
        corpus=Corpus(statistics=lambda answer, reference: statements.overlap(answer, reference.response), value=value),
        signature=lambda _: statements.SIGNATURE,
    )  # fmt: skip


_ANSWERS = {
    "impression_unparsable": Metric(
        name="impression_unparsable", applies_to=_is_impression, needs="impression",
        score=lambda answer, _: float(not read_impression(answer).is_readable),
        definition="Whether an answer that should be an impression has not its format: the heading `Impression:` and a word behind it that "
        "belongs to no list of labels. Such an answer has 0 by bleu_4 and rouge_l too.",
        source="MedVL; medvl_lib/datasets/mimic_cxr_texts.py",
        version=1,  # first version
        is_higher_better=False,
        is_gateable=False,  # one impression said of everything
    ),
    "fact_recall": _of_statements(
        "fact_recall", statements.recall, is_higher_better=True,
        definition="Share of the wanted findings' statements (one of 13 CheXpert observations with its state, by the rule labeler) that an "
        "answer makes, over all pairs together. A pair's own score is that of its own statements.",
    ),
    "unsupported_statement_rate": _of_statements(
        "unsupported_statement_rate", statements.unsupported, is_higher_better=False,
        definition="Share of an answer's statements (one of 13 CheXpert observations with its state, by the rule labeler) that the wanted "
        "findings do not make, over all pairs together; 0 where none is made.",
    ),
}  # fmt: skip
RADIOLOGY: Mapping[str, Metric] = {**_CHEXPERT_RULE_F1, **_ANSWERS, **_ICD, **_ICD_LISTS}
"""Every metric of reports on chest radiographs and of listed diagnoses, by name."""
