"""Masks: the ``___`` that de-identification left where a date, a name, a place or an age stood.

In: a text of one line per paragraph. Out: the text without any mask, and how much went with them. A mask is nothing that a picture shows,
so a model must never learn to write one, and no score may ask for one.

* A phrase that only dates something is taken out, and the sentence stays: "Compared to ___, the heart is larger." becomes "The heart is
  larger.", "unchanged since ___" becomes "unchanged". Taken out is a mask behind *compared to*, *in comparison with* or *relative to*;
  behind *since*, *from*, *dated* or *on*, with a time of day; behind *of*, where a word for a picture comes first ("the radiograph of
  ___"), since "no evidence of ___" says something else without its end; before such a word ("the prior ___ radiograph"); alone in
  brackets; and a title that a mask and a colon end ("AP chest compared to ___:"). Nothing may follow that the mask could belong to: "on ___
  liters" is a dose.
* Any other sentence with a mask is left out whole: what it says hangs on what is not there. So are all those that tell who was told ("The
  findings were discussed with Dr. ___ on ___"): they describe no picture.

The items of a list that lost one are numbered anew. Ends of sentences are told by their full stop and a capital; where that is in doubt
(Dr., a.m., 1.) two sentences count as one, so that a half of a masked one never stays.
"""

import re
from typing import NamedTuple

MASK = re.compile(r"_{2,}")
_MASKS = r"_{2,}(?:(?:,|/|-|:|,?\s+and|\s+at)?\s*_{2,})*"
_CLOCK = r"(?:,?\s+at\s+\d{1,2}(?::\d{2})?(?:\s*[ap]\.?m\b(?:\.(?=\s*[,;):]))?)?(?:\s+hours)?)?"
_ENDS = r"(?=\s*(?:[,.;:)]|$)|\s+(?:and|but|or|with|there|the|has|have|had|is|are|was|were|which|at)\b)"
_PICTURE = r"stud(?:y|ies)|exam(?:ination)?s?|radiographs?|films?|x-?rays?|images?|scans?|CTs?"
_DATES: tuple[re.Pattern[str], ...] = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"^.{{0,120}}\b(?P<kept>)(?:chest|views?|{_PICTURE}|comparison)\b.{{0,80}}?\s{_MASKS}{_CLOCK}:\s+(?=\S)",
        rf"(?P<kept>)[,;]?\s*\b(?:(?:as\s+)?compared\s+(?:to|with)|in\s+comparison\s+(?:to|with)|relative\s+to)\s+{_MASKS}{_CLOCK}"
        r"(?=\s*(?:[,.;)]|$))(?:\s*,)?",
        rf"(?P<kept>\b(?:{_PICTURE}|chest|series|priors?))\s+of\s+{_MASKS}{_CLOCK}{_ENDS}",
        rf"(?P<kept>)\s*\b(?:since|from|dated|on)\s+{_MASKS}{_CLOCK}{_ENDS}",
        rf"(?P<kept>\b(?:the|an?|prior|previous|earlier|recent|last))\s+{_MASKS}(?=\s+(?:chest\s+)?(?:{_PICTURE})\b)",
        rf"(?P<kept>)\s*\(\s*(?:{_MASKS})?\s*\)",
    )
)
"""Phrases that date something, in the order in which they are taken out, down to what each of them keeps."""
_TOLD = re.compile(
    r"\b(?:Drs?\.|discussed|communicated|notified|notification|paged|telephoned?|phone|informed|relayed|conveyed|reported\s+to)",
    re.IGNORECASE,
)
_ITEM = re.compile(r"(\d{1,2})([.)]\s+)")
_BOUNDARY = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[A-Z0-9_(\"\[])")
_UNSURE = re.compile(r"(?:\b(?:drs?|mr|mrs|ms|prof|st|no|vs|approx|fig|cf|e\.g|i\.e|a\.m|p\.m|am|pm|[a-z])|^\d+|\s\d+)\.$", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z]{2,}")
MIN_WORDS = 2  # of what a sentence still says: "Unchanged." alone says nothing of what


class Unmasked(NamedTuple):
    """A text without masks."""

    text: str
    """Empty where nothing was left."""
    num_phrases: int
    """Dates taken out of sentences that stayed."""
    num_sentences: int
    """Sentences left out."""


def unmasked(text: str) -> Unmasked:
    """Take every mask out of a text, with what hangs on it; a text without one is returned as it is."""
    if not MASK.search(text):
        return Unmasked(text, 0, 0)
    lines, num_phrases, num_sentences, number = list[str](), 0, 0, 0
    for line in text.split("\n"):
        item = _ITEM.match(line)
        kept: list[str] = []
        for sentence in _sentences(line[item.end() :] if item else line):
            left = _without_dates(sentence)
            num_phrases += 0 if left is None else left.num_phrases
            num_sentences += left is None
            kept += [] if left is None else [left.text]
        if not kept:
            continue
        # counted from the item that comes first, so that a list which begins with 2 goes on from there
        number = (int(item[1]) if number == 0 and not lines else number + 1) if item else number
        lines.append((f"{number}{item[2]}" if item else "") + " ".join(kept))
    return Unmasked("\n".join(lines), num_phrases, num_sentences)


def _sentences(line: str) -> list[str]:
    found, start = list[str](), 0
    for boundary in _BOUNDARY.finditer(line):
        sentence = line[start : boundary.start()]
        if not _UNSURE.search(sentence):
            found.append(line[start : boundary.end()].rstrip())
            start = boundary.end()
    return [sentence for sentence in [*found, line[start:].strip()] if sentence]


class _Left(NamedTuple):
    text: str
    num_phrases: int


def _without_dates(sentence: str) -> _Left | None:
    """A sentence without the phrases that date something; None where a mask, or too little, is left of it."""
    if not MASK.search(sentence):
        return _Left(sentence, 0)
    if _TOLD.search(sentence):
        return None
    text, num_phrases = sentence, 0
    for dates in _DATES:
        text, number = dates.subn(lambda found: found["kept"], text)
        num_phrases += number
    text = re.sub(r"\s+([,.;:)])", r"\1", re.sub(r"\s{2,}", " ", text)).lstrip(" ,;:.")
    if MASK.search(text) or len(_WORD.findall(text)) < MIN_WORDS:
        return None
    return _Left(text[:1].upper() + text[1:], num_phrases)
