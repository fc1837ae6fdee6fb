"""What is asked about a study of MIMIC-CXR and what is wanted, for the two stages of the radiology line: templates, readable back.

In: what a report says, CheXpert labels, and what was on record about the patient. Out: requests and responses. ``impression`` shows the
pictures alone and wants the report's impression with those labels that the publisher's table states (four states there, three here: what
is not mentioned is not listed):

    Impression: Cardiomegaly. No focal opacity.
    CheXpert labels: Cardiomegaly present, Lung Opacity absent, Pneumonia uncertain

A row that states none gives "CheXpert labels: none stated"; a study without a row has no such line. ``reasoning`` shows the pictures with
the patient's record, where there is one, and wants the report's findings and the diagnoses of the admission, where there are any:

    Findings: The heart is enlarged. The lungs are clear.

    Diagnoses:
    - ICD-10 I509: Heart failure, unspecified

Both texts of the record are made elsewhere, from MIMIC-IV; here they only find their place. Every word of a response is the report's, the
table's or the template's: no model wrote any of it.
"""

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from medvl_lib import chexpert

Stage = Literal["impression", "reasoning"]
State = Literal["present", "absent", "uncertain"]

STAGES: tuple[Stage, ...] = ("impression", "reasoning")
STUDY_ID, STUDY_TIME = "study_id", "study_time"
"""Metadata keys by which others know a pair, beside ``descriptions.STAGE``: its study, and when that was taken (ISO 8601 to the second;
empty if not known)."""

OBSERVATIONS = tuple(sorted(chexpert.OBSERVATIONS))
"""The fourteen columns of the publisher's table, in its order and spelling."""
STATES: Mapping[str, State | None] = {"1.0": "present", "0.0": "absent", "-1.0": "uncertain", "": None}
"""What the table's cells say; an empty one, that the report does not mention it."""

IMPRESSION_REQUEST = "Write the impression of this chest radiograph study, then its CheXpert labels."
FINDINGS_REQUEST = "Describe the findings of this chest radiograph study."
DIAGNOSES_REQUEST = "Describe the findings of this chest radiograph study, then name the ICD diagnoses of the admission."
RECORD_HEADING = "On record before the study:"
IMPRESSION, LABELS, FINDINGS = "Impression:", "CheXpert labels:", "Findings:"
NONE_STATED = "none stated"

_LABEL = re.compile(rf"({'|'.join(OBSERVATIONS)})\s+(present|absent|uncertain)", re.IGNORECASE)
_SPELT = {name.lower(): name for name in OBSERVATIONS}
_STATES: Mapping[str, State] = {state: state for state in STATES.values() if state is not None}
_DECORATION = r"[\s*_#]*"  # of headings, by models that were taught to chat
_IMPRESSION_HEADING, _FINDINGS_HEADING = (
    re.compile(rf"{_DECORATION}{name}{_DECORATION}", re.IGNORECASE) for name in (IMPRESSION, FINDINGS)
)
_LABELS_HEADING = re.compile(rf"{_DECORATION}{LABELS}", re.IGNORECASE)
_DIAGNOSES_LINE = re.compile(r"^[ \t]*Diagnoses:", re.MULTILINE)


class Record(NamedTuple):
    """What MIMIC-IV had on record about a study's patient, as texts."""

    context: str
    """Facts that were known before the study."""
    diagnoses: str
    """Those of the admission that the study belongs to, below the heading ``Diagnoses:``; empty where there are none."""


class Wanted(NamedTuple):
    """The two texts of a pair."""

    request: str
    response: str


class ImpressionAnswer(NamedTuple):
    """An answer of the stage ``impression``, read back."""

    impression: str
    labels: dict[str, State]
    """Those that it states, each at its last word, in the table's order."""
    has_labels: bool
    """Whether it has a line of labels at all, even one which says that none is stated."""
    has_heading: bool
    """Whether its impression stands behind the heading that the format wants."""

    @property
    def is_readable(self) -> bool:
        """Whether it has the format: the heading, and a word behind it that belongs to no list of labels."""
        return self.has_heading and any(map(str.isalnum, self.impression))


def impression_texts(impression: str, labels: Mapping[str, str] | None) -> Wanted:
    """Request and response of a study's impression; ``labels`` are its cells of the publisher's table, None without a row."""
    response = f"{IMPRESSION} {impression}"
    if labels is not None:
        stated = [f"{name} {state}" for name in OBSERVATIONS if (state := STATES[labels[name]]) is not None]
        response += f"\n{LABELS} {', '.join(stated) or NONE_STATED}"
    return Wanted(IMPRESSION_REQUEST, response)


def reasoning_texts(findings: str, record: Record | None) -> Wanted:
    """Request and response of a study's findings, with what is on record about its patient, or None where nothing is known."""
    if record is None:
        return Wanted(FINDINGS_REQUEST, f"{FINDINGS} {findings}")
    asked = DIAGNOSES_REQUEST if record.diagnoses else FINDINGS_REQUEST
    wanted = [f"{FINDINGS} {findings}", *([record.diagnoses] if record.diagnoses else [])]
    return Wanted(f"{asked}\n\n{RECORD_HEADING}\n{record.context}", "\n\n".join(wanted))


def _behind(heading: re.Pattern[str], text: str) -> tuple[str, bool]:
    """A text without its heading, and whether it had one; as it is where it has none."""
    found = heading.match(text)
    return (text if found is None else text[found.end() :]).strip(), found is not None


def read_impression(answer: str) -> ImpressionAnswer:
    """Read back what ``impression_texts`` wrote, and what a model wrote like it; capitals and a chat model's asterisks do not count.

    What stands before the first list of labels is the impression, wherever that list begins: it would be read as a report otherwise, and
    name what the report does not say. Of the labels behind it the last word on each counts; words that are no observation with a state
    say nothing. An answer without the headings is all impression.
    """
    labels = _LABELS_HEADING.search(answer)
    said, line = (answer, "") if labels is None else (answer[: labels.start()], answer[labels.end() :])
    found: dict[str, State] = {_SPELT[name.lower()]: _STATES[state.lower()] for name, state in _LABEL.findall(line)}
    impression, has_heading = _behind(_IMPRESSION_HEADING, said)
    stated: dict[str, State] = {name: found[name] for name in OBSERVATIONS if name in found}
    return ImpressionAnswer(impression, stated, labels is not None, has_heading)


def read_findings(answer: str) -> str:
    """The findings of an answer of the stage ``reasoning``: what stands before its diagnoses, without the heading."""
    diagnoses = _DIAGNOSES_LINE.search(answer)
    return _behind(_FINDINGS_HEADING, answer if diagnoses is None else answer[: diagnoses.start()])[0]
