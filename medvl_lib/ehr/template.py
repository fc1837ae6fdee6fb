"""The text of an EHR context, and the text of its target diagnoses: two templates, the second one readable back.

In: facts. Out: text, and diagnoses out of text. A fact is one line, written whole or not at all; a section without facts is not there, so
that the text never says "none" of what was left out. The words are the tables' own.

    Patient: 63 years old, female
    Admission: EW EMER., from EMERGENCY ROOM, service CMED, day 3 of the stay
    Abnormal laboratory results:
    - Lactate (Blood, Blood Gas) 4.1 mmol/L, high, rising from 2.3
    Medications begun:
    - Furosemide 40 mg IV
    Diagnoses of earlier admissions:
    - ICD-9 0389: Unspecified septicemia

and of the target

    Diagnoses:
    - ICD-10 I10: Essential (primary) hypertension
    - ICD-10 Z0000: (no title)
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

from medvl_lib.ehr.facts import Admission, Diagnosis, EhrContext, LabResult, LeftOut, Medication
from medvl_lib.errors import MedVLError

DIAGNOSES_HEADING = "Diagnoses:"
NO_TITLE = "(no title)"
DIAGNOSIS_LINE = re.compile(r"^-\s*ICD-(9|10)\s+([A-Z0-9.]+)\s*(?::\s*(.*))?$", re.IGNORECASE)
HEADINGS = {
    "labs": "Abnormal laboratory results:",
    "medications": "Medications begun:",
    "earlier_diagnoses": "Diagnoses of earlier admissions:",
}
DROP_ORDER = ("earlier_diagnoses", "medications", "labs")
"""Of facts that stand equally far back in their sections, the one of the first section named here is dropped first."""
OVER_BUDGET = {"earlier_diagnoses": "diagnoses_over_budget", "medications": "medications_over_budget", "labs": "labs_over_budget"}


class Coded(NamedTuple):
    """A diagnosis as a text states it."""

    icd_code: str
    icd_version: str
    title: str | None


def render_context(context: EhrContext) -> str:
    """The text of a context's facts; the target diagnoses and what was left out are not among them."""
    return _text(_head(context), _listed(context))


def _head(context: EhrContext) -> str:
    return f"Patient: {_patient(context)}\nAdmission: {_admission(context.admission)}"


def _listed(context: EhrContext) -> dict[str, list[str]]:
    """The facts that may be dropped, a line for each, by section."""
    return {
        "labs": [_lab(lab) for lab in context.labs],
        "medications": [_medication(medication) for medication in context.medications],
        "earlier_diagnoses": [_diagnosis(diagnosis) for diagnosis in context.earlier_diagnoses],
    }


def _text(head: str, listed: Mapping[str, list[str]]) -> str:
    sections = ((HEADINGS[name], *(f"- {line}" for line in lines)) for name, lines in listed.items() if lines)
    return "\n".join([head, *chain.from_iterable(sections)])


def _patient(context: EhrContext) -> str:
    age = f"{context.age_years} years old" if context.age_years is not None else "older than 89" if context.is_over_89 else "age not known"
    return f"{age}, {context.sex or 'sex not known'}"


def _admission(admission: Admission | None) -> str:
    if admission is None:
        return "none at the time of the study"
    origin = f"from {admission.admission_location}" if admission.admission_location else None
    service = f"service {admission.service}" if admission.service else None
    return ", ".join(filter(None, [admission.admission_type, origin, service, f"day {admission.day} of the stay"]))


def _lab(lab: LabResult) -> str:
    name = f"{lab.label} ({lab.specimen})" if lab.specimen else lab.label
    value = f"{lab.value} {lab.unit}" if lab.unit else lab.value
    change = "" if lab.trend is None else f", unchanged from {lab.previous_value}"
    if lab.trend in {"rising", "falling"}:
        change = f", {lab.trend} from {lab.previous_value}"
    return f"{name} {value}, {lab.level}{change}"


def _medication(medication: Medication) -> str:
    return " ".join(filter(None, [medication.drug, medication.dose, medication.dose_unit, medication.route]))


def _diagnosis(diagnosis: Diagnosis) -> str:
    return f"ICD-{diagnosis.icd_version} {diagnosis.icd_code}: {diagnosis.title or NO_TITLE}"


def render_diagnoses(diagnoses: Sequence[Diagnosis]) -> str:
    """The target diagnoses as text, one a line in their given order; empty where there are none."""
    return "\n".join([DIAGNOSES_HEADING, *(f"- {_diagnosis(diagnosis)}" for diagnosis in diagnoses)]) if diagnoses else ""


def parse_diagnoses(text: str) -> tuple[Coded, ...]:
    """The diagnoses below the last heading ``Diagnoses:`` of a text, in order, as ``render_diagnoses`` or a model like it wrote them.

    White space, capitals and a missing title count for nothing; a code stays as it is spelt there. The first line that is no diagnosis ends
    the list; without the heading there is none.
    """
    lines = [line.strip() for line in text.splitlines()]
    start = max((place for place, line in enumerate(lines, 1) if line.lower() == DIAGNOSES_HEADING.lower()), default=len(lines))
    found: list[Coded] = []
    for line in lines[start:]:
        if (match := DIAGNOSIS_LINE.match(line)) is None:
            break
        version, code, title = match.groups()
        found.append(Coded(code, version, None if title in {None, "", NO_TITLE} else title))
    return tuple(found)


def within_budget(context: EhrContext, max_length: int, length: Callable[[str], int]) -> EhrContext:
    """The context with its text, and with as many facts as fit into ``max_length`` as ``length`` counts it.

    What goes first: the fact that stands furthest back in its section, so that the sections shrink evenly and the latest facts stay; of
    two at the same place, in ``DROP_ORDER``. Patient and admission are never dropped. What was dropped is counted in ``left_out``.

    Raises:
        MedVLError: where not even the lines on patient and admission fit.
    """
    head, kept = _head(context), _listed(context)
    while (needed := length(text := _text(head, kept))) > max_length:
        name = max(DROP_ORDER, key=lambda name: len(kept[name]))  # the first of those that are equally long
        if not kept[name]:
            found = f"the lines on patient and admission take {needed}, the budget is {max_length}"
            raise MedVLError(found=found, where=f"study {context.study_id}", do="give the EHR context a larger budget")
        kept[name].pop()
    facts = {name: getattr(context, name)[: len(lines)] for name, lines in kept.items()}
    dropped = {OVER_BUDGET[name]: len(getattr(context, name)) - len(lines) for name, lines in kept.items()}
    left_out = [*context.left_out, *(LeftOut(reason=reason, number=number) for reason, number in dropped.items() if number)]
    return replace(context, **facts, text=text, left_out=tuple(sorted(left_out, key=lambda one: one.reason)))
