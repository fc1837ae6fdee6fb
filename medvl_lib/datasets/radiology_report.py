"""The sections of a radiologist's report in English, as MIMIC-CXR and many hospitals print them, and the text that two of them hold.

In: a report as it was typed. Out: ``sections(report)``, which cuts it without losing a character: the headings and texts of all sections,
put one behind the other, are the report. ``findings`` and ``impression`` choose among them. What a section says is not judged here.

    FINAL REPORT                                         final_report
    INDICATION:  ___F with cough.                        indication
    COMPARISON:  None.                                   comparison

    The lungs are clear. No pleural effusion.            unnamed
    IMPRESSION:  No acute process.                       impression

What counts as a heading, known from the layout's description and not from counting real reports (they are credentialed):

* a known name with a colon at the beginning of a line: in capitals or with a capital first; in small letters only below an empty line,
  since a wrapped sentence may begin a line with any word;
* a known name in capitals alone on its line, with a capital first only below an empty line; FINAL REPORT has no colon at all;
* WET READ and ADDENDUM in capitals at the beginning of a line, whatever follows (a name, a time);
* a known name and a colon inside a line, behind the end of a sentence, with a capital first; in capitals also behind two blanks or another
  mark: reports of one paragraph have such;
* any other words in capitals with a colon at the beginning of a line, by the word in them that says what they head ("PRIOR HISTORY:").
  Those that name only the picture ("PA AND LATERAL VIEWS OF THE CHEST:") head findings, except inside findings or an impression, where
  "CHEST WALL:" is one of their topics. All other words in capitals with a colon ("LUNGS:") belong to the text that they stand in.

Examination, indication, comparison and technique have one paragraph; what follows below an empty line has no name (``unnamed``). What is
between WET READ or ADDENDUM and the next FINAL REPORT belongs to that reading: it is no part of the final report. Without a FINAL REPORT
behind it, that is one section, or, where findings or an impression stand before it, all the rest.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, cast

Kind = Literal[
    "findings_and_impression", "findings", "impression", "indication", "comparison", "technique", "examination", "notification",
    "recommendation", "final_report", "wet_read", "addendum",
    "views",  # its heading names the picture
    "unnamed",  # it has no heading
]  # fmt: skip
Part = Literal["final", "wet_read", "addendum"]

NAMES: Mapping[Kind, str] = {
    "findings_and_impression": r"FINDINGS? *(?:AND|&|/|,) *IMPRESSIONS?|IMPRESSIONS? *(?:AND|&|/|,) *FINDINGS?",
    "findings": r"FINDINGS?",
    "impression": r"IMPRESSIONS?|CONCLUSIONS?|OPINION",
    "indication": r"(?:CLINICAL |PATIENT )?(?:INDICATIONS?|HISTORY|INFORMATION)|REASON FOR (?:THIS )?(?:EXAM|EXAMINATION|STUDY)",
    "comparison": r"COMPARISONS?(?: (?:STUDY|STUDIES|EXAM|EXAMS|EXAMINATION))?",
    "technique": r"TECHNIQUES?|VIEWS?",
    "examination": r"(?:TYPE OF )?(?:EXAM|EXAMINATION|STUDY)",
    "notification": r"NOTIFICATIONS?",
    "recommendation": r"RECOMMENDATIONS?|RECOMMENDATION\(S\)",
    "final_report": r"FINAL REPORT(?: *\([A-Z]+\))?",
    "wet_read": r"WET READ",
    "addendum": r"(?:FINAL )?ADDEND(?:UM|A)(?: *#? *\d+)?",
}
"""Headings by what they head; blanks stand for one blank or more."""
WORDS: Mapping[Kind, str] = {
    "findings_and_impression": r"FINDINGS?\b.*\bIMPRESSION|IMPRESSION\b.*\bFINDING",
    "findings": r"FINDINGS?",
    "impression": r"IMPRESSIONS?|CONCLUSIONS?",
    "indication": r"HISTORY|INDICATIONS?|REASON|CLINICAL",
    "comparison": r"COMPARISONS?",
    "technique": r"TECHNIQUE",
    "notification": r"NOTIFICATION",
    "recommendation": r"RECOMMENDATIONS?",
    "examination": r"EXAM|EXAMINATION",
    "views": r"CHEST|VIEWS?|RADIOGRAPHS?|PORTABLE|X-RAY|FILMS?",
}
"""Words that say what another heading in capitals heads; the first that it holds counts."""
ONE_PARAGRAPH: frozenset[Kind] = frozenset(["indication", "comparison", "technique", "examination"])
OTHER_READINGS: Mapping[Kind, Part] = {"wet_read": "wet_read", "addendum": "addendum"}
SAID: frozenset[Kind] = frozenset(["findings", "impression", "findings_and_impression"])


def _pattern(names: str) -> str:
    """Headings as a regular expression: a blank is one or more, and a blank with a star any number, on one line."""
    return re.sub(r" ([*]?)", lambda blank: r"[ \t]" + (blank[1] or "+"), names)


_NAMED = "|".join(f"(?P<{kind}>{_pattern(names)})" for kind, names in NAMES.items())
_AT_LINE = re.compile(rf"^[ \t]*(?P<name>{_NAMED})[ \t]*(?P<end>:|(?=\r?$))", re.IGNORECASE | re.MULTILINE)
_READING = re.compile(
    rf"^[ \t]*(?P<name>(?P<wet_read>{_pattern(NAMES['wet_read'])})|(?P<addendum>{_pattern(NAMES['addendum'])}))\b[ \t]*:?", re.MULTILINE
)
_IN_LINE = re.compile(rf"(?:(?<=[.!?:;)_\]])[ \t]|(?<=[^\s][ \t])[ \t])[ \t]*(?P<name>{_NAMED})[ \t]*:")
_IN_LINE_MIXED = re.compile(rf"(?<=[.!?])[ \t]+(?P<name>{_NAMED})[ \t]*:", re.IGNORECASE)
_CAPITALS = re.compile(r"^[ \t]*(?P<name>[A-Z][A-Z0-9 \t,/()&'-]{2,80}?)[ \t]*:(?=\s|$)", re.MULTILINE)
_HEADS: Mapping[Kind, re.Pattern[str]] = {kind: re.compile(rf"\b(?:{words})\b") for kind, words in WORDS.items()}
_EMPTY_LINE = re.compile(r"\n[ \t\r]*\n")
_RULED_LINE = re.compile(r"[ \t]*[_=*-]{10,}[ \t]*")  # printed between the readings of a report; no mask
_ITEM = re.compile(r"\d{1,2}[.)][ \t]+\S")
_SENTENCE_END = re.compile(r"[A-Za-z]{2,}[.!?][\"')\]]*(?=\s|$)")
_WORD = re.compile(r"[A-Za-z]{2,}")
MIN_WORDS = 3  # of a paragraph without a name that says something


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A piece of a report."""

    kind: Kind
    part: Part
    """Whose reading it belongs to."""
    heading: str
    """As printed, with the blanks before it and its colon; empty where there is none."""
    text: str
    """All that follows, up to the next heading, unchanged."""


class Chosen(NamedTuple):
    """The text of a report's findings or impression."""

    text: str
    """One line per paragraph and list item; the printer's line breaks are gone."""
    kind: Kind
    """The kind of section that it was taken from."""


class _Mark(NamedTuple):
    start: int
    end: int
    kind: Kind
    is_named: bool
    """Whether its name is known; otherwise a word in it said what it heads."""


def _kind(match: re.Match[str]) -> Kind:
    return next(kind for kind in NAMES if kind in match.re.groupindex and match[kind])


def _is_below_empty_line(report: str, start: int) -> bool:
    """Whether the line that begins at ``start`` is the first, or the one before it has nothing on it."""
    return not report[: max(0, start - 1)].rpartition("\n")[2].strip()


def _stands_as_heading(report: str, match: re.Match[str]) -> bool:
    """Whether a known name at the beginning of a line is a heading, by its capitals and what is around it."""
    name = match["name"]
    if name.isupper():
        return True
    if not match["end"] and not name[0].isupper():
        return False
    return (bool(match["end"]) and name[0].isupper()) or _is_below_empty_line(report, match.start())


def _found(report: str) -> Iterator[_Mark]:
    for match in _AT_LINE.finditer(report):
        if _stands_as_heading(report, match):
            yield _Mark(match.start(), match.end(), _kind(match), is_named=True)
    for pattern in (_READING, _IN_LINE, _IN_LINE_MIXED):
        for match in (found for found in pattern.finditer(report) if found["name"][0].isupper()):
            yield _Mark(match.start(), match.end(), _kind(match), is_named=True)
    for match in _CAPITALS.finditer(report):
        kinds: list[Kind] = [kind for kind, words in _HEADS.items() if words.search(match["name"])]
        if kinds:
            yield _Mark(match.start(), match.end(), kinds[0], is_named=False)


def _marks(report: str) -> Iterator[_Mark]:
    """The headings in their order, each place once; one that names a picture is none inside findings or an impression."""
    end, within = 0, cast("Kind", "unnamed")
    for mark in sorted(_found(report), key=lambda mark: (mark.start, not mark.is_named)):
        if mark.start < end or (mark.kind == "views" and within in SAID):
            continue
        yield mark
        end, within = mark.end, mark.kind


def sections(report: str) -> tuple[Section, ...]:
    """Cut a report into its sections; their headings and texts, one behind the other, are the report. An empty report has none."""
    marks = list(_marks(report))
    starts = [mark.start for mark in marks] + [len(report)]
    found: list[Section] = []
    if report[: starts[0]]:
        found.append(Section(kind="unnamed", part="final", heading="", text=report[: starts[0]]))
    for mark, end in zip(marks, starts[1:], strict=True):
        section = Section(kind=mark.kind, part="final", heading=report[mark.start : mark.end], text=report[mark.end : end])
        found += _without_the_unnamed(section)
    return tuple(_in_parts(found))


def _without_the_unnamed(section: Section) -> list[Section]:
    """A section, and behind it the paragraphs that only stand below it."""
    if section.kind == "final_report":
        cut = len(section.text) - len(section.text.lstrip())
    elif section.kind in ONE_PARAGRAPH and (gap := _EMPTY_LINE.search(section.text, len(section.text) - len(section.text.lstrip()))):
        cut = gap.end()
    else:
        return [section]
    if not section.text[cut:].strip():
        return [section]
    rest = Section(kind="unnamed", part=section.part, heading="", text=section.text[cut:])
    return [replace(section, text=section.text[:cut]), rest]


def _in_parts(found: Sequence[Section]) -> Iterator[Section]:
    """The sections, each with the reading that it belongs to."""
    last_final = max((place for place, section in enumerate(found) if section.kind == "final_report"), default=-1)
    part, has_said = cast("Part", "final"), False
    for place, section in enumerate(found):
        if section.kind == "final_report":
            part = "final"
        elif section.kind in OTHER_READINGS:
            own = OTHER_READINGS[section.kind]
            if place < last_final or has_said:
                part = own
            else:
                yield replace(section, part=own)
                continue
        has_said = has_said or (part == "final" and section.kind in SAID)
        yield replace(section, part=part)


def paragraphs(text: str) -> list[str]:
    """A text's paragraphs and list items, each on one line; lines that only rule the page are left out."""
    found: list[list[str]] = [[]]
    for line in text.splitlines():
        words = line.split()
        if not words or _RULED_LINE.fullmatch(line):
            found.append([])
            continue
        if _ITEM.match(" ".join(words)):
            found.append([])
        found[-1] += words
    return [" ".join(words) for words in found if words]


def _says_something(paragraph: str) -> bool:
    """Whether a paragraph without a name is a text, and no title ("AP chest, 9:04 a.m., ___:"): it has the end of a sentence, and words."""
    return _SENTENCE_END.search(paragraph) is not None and len(_WORD.findall(paragraph)) >= MIN_WORDS


def _chosen(found: Sequence[Section], kinds: Sequence[Kind]) -> Chosen | None:
    for kind in kinds:
        lines = [line for section in found if section.part == "final" and section.kind == kind for line in paragraphs(section.text)]
        if kind == "unnamed":
            lines = [line for line in lines if _says_something(line)]
        if lines:
            return Chosen("\n".join(lines), kind)
    return None


def findings(found: Sequence[Section]) -> Chosen | None:
    """What the final report says that is seen: its findings; else findings and impression in one; else what stands below a heading that
    names the picture; else the sentences that no heading names. None where there is none of them.
    """
    return _chosen(found, ("findings", "findings_and_impression", "views", "unnamed"))


def impression(found: Sequence[Section]) -> Chosen | None:
    """What the final report concludes: its impression, else findings and impression in one; None where there is neither."""
    return _chosen(found, ("impression", "findings_and_impression"))
