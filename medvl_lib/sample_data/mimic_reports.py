"""Invented reports of invented chest radiographs, in the forms that MIMIC-CXR's reports take, with the labels that agree with their words.

In: a study. Out: a ``Reported``: the report's text and, by CheXpert observation, what its impression (or the text that stands for one)
says. The forms: all sections; a WET READ of somebody who was wrong before it; FINDINGS AND IMPRESSION in one; findings below no heading; an
addendum behind it; findings alone; an impression alone. Every third has masks in its wanted text.
"""

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from medvl_lib.sample_data.chests import Chest
from medvl_lib.sample_data.mimic_patients import Study

RULE = "_" * 78
MASKED_EVERY = 3
NORMAL, NOT_LARGE, NO_AIR = "No acute cardiopulmonary process.", "No cardiomegaly.", "No pneumothorax."
NO_FLUID_OR_AIR = "No pleural effusion or pneumothorax."
MASKED_SENTENCE = "Findings were discussed with Dr. ___ by telephone at ___ on ___."
PRESENT, ABSENT, UNCERTAIN = "1.0", "0.0", "-1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """A report and the labels of what it concludes."""

    text: str
    labels: Mapping[str, str]
    """Cells of the CheXpert table that are not empty."""


class _Said(NamedTuple):
    findings: str
    impression: str
    labels: dict[str, str]
    """Of the impression."""


def _labelled(chest: Chest, number: int) -> tuple[list[str], dict[str, str]]:
    """The sentences of an impression, and what they say."""
    sentences, labels = list[str](), dict[str, str]()
    if chest.side:
        may_be = chest.size != "small"
        doubt = ", which may represent pneumonia" if may_be else ""
        sentences.append(f"{chest.size.capitalize()} round opacity in the {chest.side} {chest.zone} zone{doubt}.")
        labels |= {"Lung Opacity": PRESENT} | ({"Pneumonia": UNCERTAIN} if may_be else {})
    if chest.has_large_heart:
        sentences.append("Cardiomegaly.")
        labels |= {"Cardiomegaly": PRESENT}
    if not sentences:
        sentences.append(NORMAL)
        labels |= {"No Finding": PRESENT}
    if not chest.has_large_heart and number % 2:
        sentences.append(NOT_LARGE)
        labels |= {"Cardiomegaly": ABSENT}
    if number % 5 == 0:
        sentences.append(NO_AIR)
        labels |= {"Pneumothorax": ABSENT}
    return sentences, labels


def _said(study: Study) -> _Said:
    impressions, labels = _labelled(study.chest, study.number)
    findings = f"{study.chest.report('en')} {NO_FLUID_OR_AIR}"
    if study.number % MASKED_EVERY == 0:
        findings = f"Compared to ___, {findings[0].lower()}{findings[1:]} {MASKED_SENTENCE}"
        impressions.append(MASKED_SENTENCE)
    numbered = [f"{place}. {sentence}" for place, sentence in enumerate(impressions, start=1)]
    return _Said(findings, "\n".join(numbered) if len(impressions) > 2 else " ".join(impressions), labels)


def _section(heading: str, text: str) -> str:
    """A section as printed: every line begins with a blank, and none is long."""
    lines = [line for part in f"{heading}  {text}".split("\n") for line in textwrap.wrap(part, 72, break_long_words=False)]
    return "".join(f" {line}\n" for line in lines) + " \n"


def _head(study: Study, last: str = "None.") -> str:
    whom = "___-year-old patient with chest pain, to evaluate for an acute process."
    sections = (("EXAMINATION:", "CHEST RADIOGRAPH"), ("INDICATION:", whom), ("TECHNIQUE:", "Chest, frontal and lateral."))
    return "".join(_section(*each) for each in sections) + _section("COMPARISON:", "___." if study.number % 2 else last)


TITLE = f"{'FINAL REPORT':>44}\n"


def _whole(study: Study, said: _Said) -> str:
    return TITLE + _head(study) + _section("FINDINGS:", said.findings) + _section("IMPRESSION:", said.impression)


def _with_wet_read(study: Study, said: _Said) -> str:
    mixed = _section("Findings:", said.findings) + _section("Impression:", said.impression)
    return f" WET READ: ___ ___ ___ 2:46 PM\n  Fracture of a rib. Large pneumothorax.\n {RULE}\n{TITLE}{_head(study)}{mixed}"


def _in_one(study: Study, said: _Said) -> str:
    return TITLE + _head(study) + _section("FINDINGS AND IMPRESSION:", f"{said.findings} {said.impression}")


def _without_name(study: Study, said: _Said) -> str:
    return (
        f"{TITLE} CHEST RADIOGRAPH PERFORMED ON ___\n \n"
        + _head(study)
        + _section("", said.findings)
        + _section("IMPRESSION:", said.impression)
    )


def _with_addendum(study: Study, said: _Said) -> str:
    return _whole(study, said) + _section("ADDENDUM", "___ ___ at 9:15 AM: the side marker was checked.")


def _findings_alone(study: Study, said: _Said) -> str:
    return TITLE + _head(study) + _section("FINDINGS:", said.findings)


def _impression_alone(study: Study, said: _Said) -> str:
    return TITLE + _head(study) + _section("IMPRESSION:", said.impression)


FORMS: tuple[Callable[[Study, _Said], str], ...] = (
    _whole, _with_wet_read, _whole, _without_name, _whole, _in_one, _whole, _with_addendum, _whole, _findings_alone, _whole, _with_wet_read,
    _impression_alone,
)  # fmt: skip
"""By turns."""


def report(study: Study) -> Reported:
    """The report of a study and the cells of its row of labels."""
    said, form = _said(study), FORMS[study.number % len(FORMS)]
    labels = dict(said.labels)
    if form in (_in_one, _findings_alone):  # the table's labels are those of the findings, where there is no impression
        labels |= {"Pleural Effusion": ABSENT, "Pneumothorax": ABSENT}
        labels |= {"Cardiomegaly": PRESENT if study.chest.has_large_heart else ABSENT}
    if form is _findings_alone:
        labels.pop("Pneumonia", None)
    return Reported(text=form(study, said), labels=labels)
