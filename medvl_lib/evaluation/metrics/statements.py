"""Metrics for reasoned answers: which statements of the wanted findings they make, and how many that nothing supports.

In: an answer and the wanted one, each a text of findings with diagnoses below it or not. Out: what corpus metrics sum, and numbers from 0
to 1. A *statement* is one of the thirteen CheXpert observations with its state: "edema present", "effusion absent", "pneumonia uncertain",
as the rule labeler reads it in the findings; no diagnosis (those are ``diagnoses``'s) and no number of the record. What is wanted is the
report's own words, so a statement that they do not make is *unsupported*, also where the picture might bear it out: nobody wrote it down.

* **Fact recall**: wanted statements that the answer makes, by all wanted ones. An answer that says everything of everything has much of it.
* **Rate of unsupported statements**: made ones that are not wanted, by all made ones; 0 for silence. So neither decides; both are guarded.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from medvl_lib import chexpert
from medvl_lib.chexpert import PATHOLOGIES, RULE_SET, label_report
from medvl_lib.datasets.mimic_cxr_texts import read_findings
from medvl_lib.evaluation.metrics.reports import MASK
from medvl_lib.evaluation.metrics.tokens import UnscorableError

Floats = NDArray[np.float64]
VERSION = chexpert.REVISION + 0
"""Of every metric here: raised with the labeler's rules, and by one for each change of this module that gives an answer another number."""
SIGNATURE = f"rules:{RULE_SET}|labels:{len(PATHOLOGIES)}|states:3"


@lru_cache(maxsize=1024)  # a wanted text is held against every variant's answer
def statements(text: str) -> frozenset[tuple[str, str]]:
    """The observations that a text's findings speak of, each with its state.

    >>> sorted(statements("Findings: Mild edema. No effusion."))
    [('Edema', 'present'), ('Pleural Effusion', 'absent')]
    """
    findings = MASK.sub(" ", read_findings(text))
    if not any(map(str.isalnum, findings)):
        return frozenset()
    states = label_report(findings)
    return frozenset((name, states[name]) for name in PATHOLOGIES if states[name] != "not_mentioned")


def overlap(answer: str, wanted: str) -> tuple[float, float, float]:
    """What a pair adds up: statements that are wanted, that are made, and both."""
    meant, said = statements(wanted), statements(answer)
    if not meant:
        raise UnscorableError("the wanted findings speak of no observation")
    return float(len(meant)), float(len(said)), float(len(meant & said))


def recall(sums: Floats) -> Floats:
    """Wanted statements that are made by all wanted ones, over all pairs together."""
    return sums[..., 2] / np.maximum(sums[..., 0], 1)


def unsupported(sums: Floats) -> Floats:
    """Made statements that are not wanted by all made ones, over all pairs together; 0 where none is made."""
    return (sums[..., 1] - sums[..., 2]) / np.maximum(sums[..., 1], 1)
