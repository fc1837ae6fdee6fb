"""Metrics for questions about pictures: closed ones (yes or no) and open ones.

In: an answer and the wanted text. Out: a number from 0 to 1. Normalisation is ``tokens``'s; partial credit is ``text.token_f1``'s.

What other scorers count as right is told in ``closed_accuracy``: "yes and no" is no answer here, and "no" is not found in "normal".
"""

from collections import Counter

from medvl_lib.evaluation.metrics.text import ARTICLES
from medvl_lib.evaluation.metrics.tokens import UnscorableError, words

LABELS = frozenset(["yes", "no"])


def stated_label(answer: str) -> str | None:
    """The only label in an answer, as a word of its own; of both, the one that it begins with. None for none, and for "yes and no"."""
    said = words(answer)
    named = LABELS.intersection(said)
    if len(named) == 1:
        return next(iter(named))
    return said[0] if named and said[0] in LABELS and not LABELS.issubset(said[:3]) else None


def closed_accuracy(answer: str, wanted: str) -> float:
    """1 where the answer states the wanted label, 0 for anything else: an answer that states none or both is wrong.

    An answer that begins with a label means it, whatever follows ("Yes, there is no effusion left"), but for "yes and no" and "yes no".

    LLaVA-Med's first script (``run_eval.py`` @ b9a98a7) looked for the letters, so that "yes and no" was always right and "normal" held a
    "no"; MedEvalKit's rule for English has the same "no". Labels are words here. Raises UnscorableError for a reference that is no label.

    >>> closed_accuracy("Yes, there is a fracture.", "yes"), closed_accuracy("yes and no", "yes"), closed_accuracy("it looks normal", "no")
    (1.0, 0.0, 0.0)
    """
    label = stated_label(wanted)
    if label is None:
        raise UnscorableError("the wanted answer of a closed question is neither yes nor no")
    return float(stated_label(answer) == label)


def closed_unparsable(answer: str, wanted: str) -> float:
    """1 where an answer to a closed question states no label, or both; these are wrong in ``closed_accuracy`` and counted here.

    >>> closed_unparsable("I cannot determine this", "yes"), closed_unparsable("no", "yes")
    (1.0, 0.0)
    """
    if stated_label(wanted) is None:
        raise UnscorableError("the wanted answer of a closed question is neither yes nor no")
    return float(stated_label(answer) is None)


def open_exact(answer: str, wanted: str) -> float:
    """1 where both texts are the same words in the same order, without articles; 0 otherwise, and for an empty answer.

    >>> open_exact("The left lung.", "left lung"), open_exact("left lung, clear", "left lung")
    (1.0, 0.0)
    """
    said, meant = _content(answer), _content(wanted)
    if not meant:
        raise UnscorableError("the wanted answer has no word")
    return float(said == meant)


def open_recall(answer: str, wanted: str) -> float:
    """Share of the wanted words that stand in the answer (0-1): what LLaVA-Med reports. A dump of common words gets 0.8 of it: never gated.

    >>> open_recall("the left lung", "left lower lobe")
    0.3333333333333333
    """
    said, meant = Counter(_content(answer)), Counter(_content(wanted))
    if not meant:
        raise UnscorableError("the wanted answer has no word")
    return (said & meant).total() / meant.total()


def _content(text: str) -> tuple[str, ...]:
    return tuple(word for word in words(text) if word not in ARTICLES)
