"""Metrics for structured documents: are the terms there, are the values there, and does each value stand with its term?

In: an answer and the (term, value, unit) triples that the page states. Out: numbers from 0 to 1. Only ``pair_accuracy`` may be gated:
"found in the output" is won by any answer that holds many numbers. Normalisation is ``tokens``'s, units are ``units``'s.

How a value is bound to a term (``pair_accuracy``, ``hallucinated_pair_rate``):

* A *mention* is a term's tokens in the answer; where one term is part of another ("Hemoglobin", "Hemoglobin A1c"), the longer one is meant.
* The value must begin on the mention's line. A **number** is the first one after the term with nothing between but linking words ("was",
  "level", "low") and bracketed words ("Potassium (K+): 4.1"). A **text** value follows a separator (colon, bar, dash, tab) or a verb.
* A mention with a value behind it is a *statement*. The first statement of a term counts, or the first k where the page states the
  term k times: naming every possible value helps nobody.
* The unit: another unit than the expected one makes the pair wrong. A missing one does not, since nothing false is said and tables carry
  units in their heads; where no unit is expected, a stated one is not judged.

The requirement documents scored "term accuracy" and "value accuracy" by finding text anywhere; those are ``term_recall`` and
``value_recall`` here. Definitions: facts on evaluation, section 1; measured there, values on the *wrong* terms are "found" 1.000.

What is made up (``hallucinated_pair_rate``) is counted over the values that *were* stated, of all pages together: in a mean over pages
each page about which nothing is said would be one without an error, and silence would look like care. How many these are is
``silent_page_rate``.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medvl_lib.evaluation.metrics.tokens import Token, UnscorableError, tokens
from medvl_lib.evaluation.metrics.units import FLAGS, stated_unit
from medvl_lib.pairs import Triple

VERBS = frozenset(["is", "was", "are", "were"])
ARTICLES = frozenset(["the", "a", "an", "as"])
LINKS = frozenset([
    "at", "of", "to", "equals", "about", "approximately", "noted", "found", "measured", "recorded", "value", "level", "levels", "result",
    "reading", "dose", "dosage", "count",
])  # fmt: skip
SEPARATORS = ("|", ":", "=", "\t", "  ", " -", "- ", "->")


SCALE = re.compile(r"\s*/\s*\d")  # a pain score of 3 /10 is the value 3/10: without its scale it is another one


class _Fact(NamedTuple):
    """A triple as it is compared."""

    term: tuple[str, ...]
    value: tuple[Token, ...]
    unit: str


def _facts(expected: Sequence[Triple]) -> list[_Fact]:
    facts: list[_Fact] = []
    for index, triple in enumerate(expected):
        is_scale = SCALE.match(triple.unit) is not None
        term, value = tuple(token.text for token in tokens(triple.term)), tokens(triple.value + triple.unit * is_scale)
        if not term or not value:
            raise UnscorableError(f"expected triple {index} has no letter or digit in its {'value' if term else 'term'}")
        facts.append(_Fact(term=term, value=value, unit="" if is_scale else triple.unit))
    if not facts:
        raise UnscorableError("no triples are expected")
    return facts


def _starts(said: Sequence[Token], start: int, wanted: Sequence[Token]) -> bool:
    return [token.text for token in said[start : start + len(wanted)]] == [token.text for token in wanted]


def _running(words: Iterable[str]) -> str:
    return f" {' '.join(words)} "  # no token holds a space, so containment respects the tokens' boundaries


def _share_found(answer: str, wanted: Sequence[Iterable[str]]) -> float:
    said = _running(token.text for token in tokens(answer))
    return sum(_running(words) in said for words in wanted) / len(wanted)


def term_recall(answer: str, expected: Sequence[Triple]) -> float:
    """Share of the expected terms that the answer names anywhere. 1: all; 0: none, and for an empty answer.

    >>> term_recall("K 4.1", [Triple(term="K", value="4.1", unit=""), Triple(term="Na", value="140", unit="")])
    0.5
    """
    return _share_found(answer, [fact.term for fact in _facts(expected)])


def value_recall(answer: str, expected: Sequence[Triple]) -> float:
    """Share of the expected values that stand anywhere in the answer, on whatever term. 1: all; 0: none, and for an empty answer.

    >>> value_recall("K 140", [Triple(term="K", value="4.1", unit=""), Triple(term="Na", value="140", unit="")])
    0.5
    """
    return _share_found(answer, [[token.text for token in fact.value] for fact in _facts(expected)])


def _mentions(said: Sequence[Token], terms: Sequence[tuple[str, ...]]) -> Iterator[tuple[tuple[str, ...], int]]:
    """Each mention of a term with the index of the token after it; the longest term wins."""
    by_first: dict[str, list[tuple[str, ...]]] = {}
    for term in sorted(set(terms), key=lambda term: (-len(term), term)):
        by_first.setdefault(term[0], []).append(term)
    start = 0
    while start < len(said):
        for term in by_first.get(said[start].text, ()):
            if tuple(token.text for token in said[start : start + len(term)]) == term:
                yield term, start + len(term)
                start += len(term) - 1
                break
        start += 1


def _number_start(said: Sequence[Token], after: int) -> int | None:
    """Where the first number after a term stands, if only linking words come before it."""
    term = said[after - 1]
    for index in range(after, len(said)):
        token = said[index]
        if token.line != term.line:
            return None
        if token.is_number:
            return index
        if token.depth <= term.depth and token.text not in VERBS | ARTICLES | LINKS | FLAGS:
            return None
    return None


def _text_starts(said: Sequence[Token], after: int) -> list[int]:
    """Where a text value may begin: behind a separator or a verb, with or without an article."""
    term = said[after - 1]
    is_open = False
    starts: list[int] = []
    for index in range(after, len(said)):
        token = said[index]
        if token.line != term.line:
            break
        is_open = is_open or any(separator in token.gap for separator in SEPARATORS)
        if is_open:
            starts.append(index)
        if token.text in VERBS:
            is_open = True
        elif not (token.text in ARTICLES or (not is_open and token.depth > term.depth)):
            break
    return starts


def _says(said: Sequence[Token], after: int, fact: _Fact) -> bool | None:
    """Whether the mention that ends before ``after`` states ``fact``: yes, something else, or (None) nothing."""
    if fact.value[0].is_number:
        number = _number_start(said, after)
        starts = [] if number is None else [number]
    else:
        starts = _text_starts(said, after)
    if not starts:
        return None
    for start in starts:
        end = start + len(fact.value)
        if _starts(said, start, fact.value) and stated_unit(said[end : end + 8], fact.unit) != "other":
            return True
    return False


def _verdicts(answer: str, facts: Sequence[_Fact]) -> Mapping[tuple[str, ...], list[bool]]:
    """Per term, whether each of its statements (in order) states a fact of that term not stated before."""
    said = tokens(answer)
    left: dict[tuple[str, ...], list[_Fact]] = {}
    for fact in facts:
        left.setdefault(fact.term, []).append(fact)
    wanted = {term: list(group) for term, group in left.items()}
    verdicts: dict[tuple[str, ...], list[bool]] = {term: [] for term in left}
    for term, after in _mentions(said, list(left)):
        answers = [_says(said, after, fact) for fact in wanted[term]]
        if any(answer is not None for answer in answers):
            right = next((fact for fact in left[term] if _says(said, after, fact)), None)
            if right is not None:
                left[term].remove(right)
            verdicts[term].append(right is not None)
    return verdicts


def pair_accuracy(answer: str, expected: Sequence[Triple]) -> float:
    r"""Share of the expected triples whose value (and unit, if one is stated) stands with its term. 0 for an empty answer.

    >>> pair_accuracy("K: 140\nNa: 140 mmol/L", [Triple(term="K", value="4.1", unit=""), Triple(term="Na", value="140", unit="mmol/L")])
    0.5
    """
    facts = _facts(expected)
    times: dict[tuple[str, ...], int] = {}
    for fact in facts:
        times[fact.term] = times.get(fact.term, 0) + 1
    return sum(sum(verdicts[: times[term]]) for term, verdicts in _verdicts(answer, facts).items()) / len(facts)


def stated_values(answer: str, expected: Sequence[Triple]) -> tuple[float, float]:
    r"""How many values are stated for an expected term that the page does not state for it, and how many are stated at all.

    Saying a right value twice is not an error.

    >>> stated_values("K: 140\nNa: 140", [Triple(term="K", value="4.1", unit=""), Triple(term="Na", value="140", unit="")])
    (1.0, 2.0)
    """
    facts = _facts(expected)
    said = tokens(answer)
    stated = false = 0
    for term, after in _mentions(said, [fact.term for fact in facts]):
        answers = [_says(said, after, fact) for fact in facts if fact.term == term]
        if any(answer is not None for answer in answers):
            stated += 1
            false += not any(answers)
    return float(false), float(stated)


def hallucinated_share(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """The wrong ones of all stated values, of sums of ``stated_values``; not a number where none was stated. Lower is better.

    It means something only beside ``pair_accuracy`` and ``silent_page_rate``: who states one sure value a page makes little up.

    >>> hallucinated_share(np.array([[1.0, 2.0], [0.0, 0.0]])).tolist()
    [0.5, nan]
    """
    wrong, stated = sums[..., 0], sums[..., 1]
    return np.divide(wrong, stated, out=np.full_like(wrong, np.nan), where=stated > 0)


def hallucinated_pair_rate(answer: str, expected: Sequence[Triple]) -> float | None:
    r"""Share of the values stated for an expected term that the page does not state for it; None where none is stated.

    >>> hallucinated_pair_rate("K: 140\nNa: 140", [Triple(term="K", value="4.1", unit=""), Triple(term="Na", value="140", unit="")])
    0.5
    """
    wrong, stated = stated_values(answer, expected)
    return wrong / stated if stated else None


def is_silent(answer: str, expected: Sequence[Triple]) -> bool:
    """Whether an answer states no value for any expected term. True for an empty answer, and for one that only names the terms.

    >>> is_silent("K is on this page", [Triple(term="K", value="4.1", unit="")])
    True
    """
    return not stated_values(answer, expected)[1]
