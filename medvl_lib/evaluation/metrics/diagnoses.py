"""Metrics for the ICD diagnoses that an answer lists: how many of the wanted codes it names, and how many it names beside them.

In: an answer and the wanted one, or two lists of (code, version). Out: what corpus metrics sum, and numbers from 0 to 1. Lists come out of
texts in one place, ``listed``; everything else is a function of two lists.

* A code counts **with its version**: 4280 of ICD-9 is none of ICD-10. Dots and capitals say nothing (I50.9 = I509); leading zeros do.
* **Exact**: the code. **Category**: its first three characters (I50; of ICD-9's external causes four, E812), as ICD calls it;
  several codes of one category count once.
* Both are sets: precision is the share of named codes that are wanted, recall the share of wanted ones that are named, over all pairs
  together (micro: the field's usual figure, Mullenbach et al. 2018, arXiv:1802.05695, section 4). Only F1 may decide: one sure code has a
  fine precision, a list of everything a fine recall.
* **Top k**: of a list in order the first five alone: precision@5 (the right ones by 5, as in Mullenbach et al.: with fewer wanted codes it
  cannot reach 1) and recall@5 (by all that are wanted), as means over pairs. A code that is repeated takes a place.
* An answer without a list names nothing: 0, and counted apart by ``icd_unparsable``.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medvl_lib.ehr.template import parse_diagnoses
from medvl_lib.evaluation.metrics.tokens import UnscorableError

Floats = NDArray[np.float64]
TOP = 5


class Code(NamedTuple):
    """A diagnosis."""

    code: str
    """Without dots, in capitals."""
    version: str
    """9 or 10."""


def normalised(code: str, version: str) -> Code:
    """A code in the one spelling that is compared.

    >>> normalised("i50.9", "10")
    Code(code='I509', version='10')
    """
    return Code(re.sub(r"[^A-Z0-9]", "", code.upper()), version.strip())


def category(code: Code) -> Code:
    """The category that a code belongs to: three characters; four of an external cause in ICD-9.

    >>> category(Code("E8120", "9")).code, category(Code("I509", "10")).code
    ('E812', 'I50')
    """
    length = 4 if code.version == "9" and code.code.startswith("E") else 3
    return Code(code.code[:length], code.version)


def listed(text: str) -> tuple[Code, ...]:
    r"""The codes that a text lists below its last heading ``Diagnoses:``, in order; the first line that is none ends the list.

    >>> listed("Findings: Clear.\n\nDiagnoses:\n- ICD-10 I50.9: Heart failure\n- ICD-9 4280: Heart failure")
    (Code(code='I509', version='10'), Code(code='4280', version='9'))
    """
    return tuple(normalised(coded.icd_code, coded.icd_version) for coded in parse_diagnoses(text))


def wanted_codes(text: str) -> tuple[Code, ...]:
    """The codes of the wanted answer; raises UnscorableError where it has none."""
    found = listed(text)
    if not found:
        raise UnscorableError("the wanted answer lists no diagnosis")
    return found


def overlap(named: Sequence[Code], wanted: Sequence[Code]) -> tuple[float, float, float]:
    """What a pair adds up: how many codes are wanted, how many named, how many both; each code once."""
    said, meant = set(named), set(wanted)
    return float(len(meant)), float(len(said)), float(len(said & meant))


def categories(codes: Sequence[Code]) -> tuple[Code, ...]:
    """The categories of codes, each as often as it occurs."""
    return tuple(map(category, codes))


def precision(sums: Floats) -> Floats:
    """Right by named, over all pairs together; 0 where nothing is named."""
    return sums[..., 2] / np.maximum(sums[..., 1], 1)


def recall(sums: Floats) -> Floats:
    """Right by wanted, over all pairs together; 0 where nothing is wanted."""
    return sums[..., 2] / np.maximum(sums[..., 0], 1)


def f1(sums: Floats) -> Floats:
    """2 x right / (wanted + named): the harmonic mean of both; 0 where none is right."""
    return 2 * sums[..., 2] / np.maximum(sums[..., 0] + sums[..., 1], 1)


def top_precision(named: Sequence[Code], wanted: Sequence[Code], top: int = TOP) -> float:
    """Right ones among the first ``top`` codes, by ``top``; 0 for an empty list.

    >>> top_precision([Code("I10", "10"), Code("J189", "10")], [Code("J189", "10")])
    0.2
    """
    return len(set(named[:top]) & set(wanted)) / top


def top_recall(named: Sequence[Code], wanted: Sequence[Code], top: int = TOP) -> float:
    """Share of the wanted codes that are among the first ``top``; 0 for an empty list."""
    return len(set(named[:top]) & set(wanted)) / len(set(wanted))
