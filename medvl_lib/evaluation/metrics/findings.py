"""CheXpert-rule F1: whether a report names the findings that it should, as the rule labeler of ``chexpert`` reads both texts.

In: an answer and the wanted report. Out: what a corpus metric sums, a number from 0 to 1 of these sums, and a pair's own score. The labels
of the wanted answer come from the same labeler over the wanted text, label by label: a publisher's table of labels is not asked, so that an
answer that is the wanted one word for word has 1. What the labeler misreads it mostly misreads in both texts; how well it reads is another
measurement.

* A label is *wanted* or *named* where its state counts as positive: ``present``; ``uncertain`` too where the counting says so. Absent and
  not mentioned are the same here: no positive.
* **Thirteen labels, without No Finding, uncertain as negative, is the figure that a gate decides by.** No Finding is given for silence: on
  fourteen labels an empty answer has a micro-F1 of 0.45 (facts on evaluation, section 0). Here an **empty answer names nothing, not even No
  Finding**; a report that is always normal still earns No Finding where that is wanted, so fourteen labels decide nothing.
* A report that names all thirteen has a recall of 1 and a precision p, their share, and so an F1 of 2 p / (1 + p): more than another
  patient's report. The controls without the picture are what tells it from a model that looks.

Never CheXbert F1, whose labels are a network's; values of two rule sets are never in one number (``signature``).
"""

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medvl_lib import chexpert
from medvl_lib.chexpert import OBSERVATIONS, PATHOLOGIES, RULE_SET, label_report
from medvl_lib.datasets.mimic_cxr_texts import read_impression
from medvl_lib.evaluation.metrics.reports import MASK
from medvl_lib.evaluation.metrics.tokens import UnscorableError

Floats = NDArray[np.float64]
VERSION = chexpert.REVISION + 1  # a list of labels on the line of the impression is none of it
"""Of every metric here: raised with the labeler's rules, and by one for each change of this module that gives an answer another number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """Which labels are counted, and as what an uncertain one counts."""

    labels: tuple[str, ...]
    uncertain: Literal["negative", "positive"]


THIRTEEN = Counting(labels=PATHOLOGIES, uncertain="negative")
THIRTEEN_UNCERTAIN_POSITIVE = Counting(labels=PATHOLOGIES, uncertain="positive")
FOURTEEN = Counting(labels=OBSERVATIONS, uncertain="negative")
FOURTEEN_UNCERTAIN_POSITIVE = Counting(labels=OBSERVATIONS, uncertain="positive")


def report_of(answer: str) -> str:
    r"""The report in an answer: without its heading, without marks of de-identification, and without a list of labels that follows it.

    A list would be read as a report, and a model could name in it what its report does not say.

    >>> report_of("Impression: No effusion.\nCheXpert labels: Edema present")
    'No effusion.'
    """
    return MASK.sub(" ", read_impression(answer).impression).strip()


@lru_cache(maxsize=1024)  # a wanted text is held against every variant's answer, by several metrics
def _positives(answer: str, counting: Counting) -> tuple[bool, ...]:
    """Which of the counted labels a text names; none where it says nothing."""
    report = report_of(answer)
    if not any(map(str.isalnum, report)):
        return (False,) * len(counting.labels)
    counted = ("present", "uncertain") if counting.uncertain == "positive" else ("present",)
    states = label_report(report)
    return tuple(states[label] in counted for label in counting.labels)


def statistics(answer: str, wanted: str, counting: Counting) -> tuple[float, ...]:
    """What a pair adds up: of each label whether it is wanted, then whether it is named, then whether both.

    >>> sum(statistics("Edema. No effusion.", "Edema and effusion.", THIRTEEN))
    4.0
    """
    if not any(map(str.isalnum, report_of(wanted))):
        raise UnscorableError("the wanted report has no word")
    meant, said = _positives(wanted, counting), _positives(answer, counting)
    return tuple(map(float, (*meant, *said, *(one and other for one, other in zip(meant, said, strict=True)))))


def _tables(sums: Floats) -> tuple[Floats, Floats, Floats]:
    """Sums (..., 3 x labels) as wanted, named and right, each (..., labels)."""
    if sums.shape[-1] % 3:
        raise ValueError(f"{sums.shape[-1]} sums are no three counts a label")
    wanted, named, right = np.split(sums, 3, axis=-1)
    return wanted, named, right


def _f1(wanted: Floats, named: Floats, right: Floats) -> Floats:
    """2 x right / (wanted + named): the harmonic mean of precision and recall; 0 where nothing is wanted and nothing named."""
    return 2 * right / np.maximum(wanted + named, 1)


def micro_f1(sums: Floats) -> Floats:
    """F1 of all labels of all reports together; scikit-learn's ``f1_score(average="micro")``."""
    wanted, named, right = _tables(sums)
    return _f1(wanted.sum(axis=-1), named.sum(axis=-1), right.sum(axis=-1))


def macro_f1(sums: Floats) -> Floats:
    """Mean of the labels' F1 over those that some report wants; 0 where none is wanted.

    scikit-learn's ``f1_score(average="macro", labels=<the wanted ones>)``. Published macros are over all labels; the same number where each
    occurs. A label that no report wants has no F1: naming it costs in ``micro_f1``.
    """
    wanted, named, right = _tables(sums)
    each: Floats = np.where(wanted > 0, _f1(wanted, named, right), 0.0)
    return each.sum(axis=-1) / np.maximum((wanted > 0).sum(axis=-1), 1)


def label_f1(place: int, sums: Floats) -> Floats:
    """F1 of the label at a place; 0 where it is neither wanted nor named."""
    wanted, named, right = (counts[..., place] for counts in _tables(sums))
    return _f1(wanted, named, right)


def num_wanted(place: int, sums: Floats) -> Floats:
    """How many reports want the label at a place."""
    return _tables(sums)[0][..., place]


def by_label(counting: Counting) -> dict[str, tuple[partial[Floats], partial[Floats]]]:
    """Slice -> the F1 of one label and the number of reports that want it, as functions of the sums."""
    return {
        f"label={label.lower().replace(' ', '_')}": (partial(label_f1, place), partial(num_wanted, place))
        for place, label in enumerate(counting.labels)
    }


def report_f1(answer: str, wanted: str, counting: Counting) -> float:
    """F1 of one report's labels (0-1), to find the worst pairs by: its mean is not the corpus F1.

    1 also where no label is wanted and none named; 0 for an empty answer.

    >>> report_f1("Edema. No effusion.", "Edema and effusion.", THIRTEEN)
    0.6666666666666666
    """
    wanted_count, named_count, right = (float(counts.sum()) for counts in _tables(np.array(statistics(answer, wanted, counting))))
    if not any(map(str.isalnum, report_of(answer))):
        return 0.0
    return 2 * right / (wanted_count + named_count) if wanted_count + named_count else 1.0


def signature(counting: Counting) -> str:
    """The rules that both texts were read by, and what was counted: stands beside each value."""
    return f"rules:{RULE_SET}|labels:{len(counting.labels)}|uncertain:{counting.uncertain}"
