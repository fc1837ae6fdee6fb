"""Facts in an answer: (term, value, unit) with the place of each in the text. No model and no server here.

In: an answer that states a fact a line ("Potassium: 4.1 mmol/L"), as the lines on documents are taught to. Out: the facts that
``pair_accuracy`` would count there: the scorer has the last word on whether a line states one, so that what is returned is what was judged.
Prose is not taken apart: nothing is guessed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from medvl_lib.evaluation.metrics.documents import pair_accuracy
from medvl_lib.evaluation.metrics.tokens import UnscorableError
from medvl_lib.evaluation.metrics.units import FLAGS, is_unit
from medvl_lib.pairs import Triple

LINE = re.compile(
    r"^[ \t|]*(?:[-*•][ \t]+)?(?P<term>[^:=|\t\n]*[^:=|\t\n ])[ \t]*(?:[:=|]|\t)[ \t]*(?P<rest>[^\n]*[^\n \t|])", re.MULTILINE
)
WORDS = "|".join(sorted(flag for flag in FLAGS if len(flag) > 1))
FLAG = rf"(?:[HLCN]|(?i:{WORDS}))"  # a letter only in capitals: 3 h are hours, and 3 H is too high
NUMBER = re.compile(
    rf"(?P<value>(?:[<>]=?[ ]?)?[-+]?\d(?:[^\s%°]*[^\s%°,;.])?)(?P<gap>[ \t|]*(?:{FLAG}(?!\S)[ \t|]*)*)(?P<remark>.*)", re.DOTALL
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A part of a text: from its first character, counted from 0, to the one behind its last."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedFact:
    """A fact, and where the answer says it."""

    term: str
    value: str
    unit: str
    """Empty where none is stated."""
    term_span: Span
    value_span: Span
    unit_span: Span | None


def stated_facts(answer: str) -> Iterator[StatedFact]:
    r"""The facts that an answer states, in its order.

    >>> [(fact.term, fact.value, fact.unit) for fact in stated_facts("Potassium: 4.1 mmol/L (high)\nSinus rhythm.\nStage: III")]
    [('Potassium', '4.1', 'mmol/L'), ('Stage', 'III', '')]
    """
    for line in LINE.finditer(answer):
        term, (value, gap, unit) = line["term"].strip("*"), _value_and_unit(line["rest"])
        if _counts(line[0], Triple(term=term, value=value, unit=unit)):
            start = line.start("rest")
            unit_start = start + len(value) + len(gap)
            yield StatedFact(
                term=term, value=value, unit=unit, term_span=_span(answer.index(term, line.start("term")), term),
                value_span=_span(start, value), unit_span=_span(unit_start, unit) if unit else None,
            )  # fmt: skip


def _value_and_unit(rest: str) -> tuple[str, str, str]:
    """A number, the gap behind it, and the unit there, where it begins a unit or is one word; or else the whole as a value in words."""
    found = NUMBER.fullmatch(rest)
    if found is None:
        return rest, "", ""
    value, gap, remark = found.groups()
    ends = [word.end() for word in re.finditer(r"\S+", remark)]
    unit = next((remark[:end] for end in reversed(ends) if is_unit(remark[:end])), "")
    if unit or not ends or remark[0] in "([,;.":
        return value, gap, unit
    return (value, gap, remark) if len(ends) == 1 else (rest, "", "")


def _counts(line: str, fact: Triple) -> bool:
    try:
        return pair_accuracy(line, (fact,)) == 1.0
    except UnscorableError:  # no letter and no digit in it
        return False


def _span(start: int, part: str) -> Span:
    return Span(start=start, end=start + len(part))
