"""Invented patients of a hospital whose chest radiographs and records agree: what both halves of the invented MIMIC are written from.

In: a number and a seed. Out: a ``Patient`` with stays in hospital and studies. What the picture shows (an opacity, a large heart) and what
the laboratory finds (white cells, NT-proBNP, creatinine) **together** give the diagnosis, and neither does alone: an opacity with many
white cells is pneumonia, without them a nodule; many white cells and clear lungs are an infection of the urinary tract; a large heart with
a high NT-proBNP is heart failure, without it only a large heart. Nobody stands behind any of them.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from medvl_lib.sample_data import draws
from medvl_lib.sample_data.chests import SIDES, SIZES, ZONES, Chest, draw_chest

FIRST_SUBJECT, FIRST_STUDY, FIRST_STAY = 19990000, 59000000, 29000000
STAYS_PER_PATIENT = 10  # of numbers set aside; none has so many
SECOND_STUDY_EVERY, EARLIER_STAY_EVERY, NO_STAY_EVERY, OVERLAP_EVERY, NOT_IN_TABLES_EVERY = 3, 2, 11, 13, 17


class Codes(NamedTuple):
    """A diagnosis in both versions of the ICD, with their titles."""

    icd_10: str
    title_10: str
    icd_9: str
    title_9: str


DIAGNOSES: Mapping[str, Codes] = {
    "chest_pain": Codes("R0789", "Other chest pain", "78659", "Other chest pain"),
    "heart_failure": Codes("I509", "Heart failure, unspecified", "4280", "Congestive heart failure, unspecified"),
    "large_heart": Codes("I517", "Cardiomegaly", "4293", "Cardiomegaly"),
    "pneumonia": Codes("J189", "Pneumonia, unspecified organism", "486", "Pneumonia, organism unspecified"),
    "nodule": Codes("R911", "Solitary pulmonary nodule", "79311", "Solitary pulmonary nodule"),
    "urinary": Codes("N390", "Urinary tract infection, site not specified", "5990", "Urinary tract infection, site not specified"),
    "kidney": Codes("N179", "Acute kidney failure, unspecified", "5849", "Acute kidney failure, unspecified"),
    "sepsis": Codes("A419", "Sepsis, unspecified organism", "0389", "Unspecified septicemia"),
    "hypertension": Codes("I10", "Essential (primary) hypertension", "4019", "Unspecified essential hypertension"),
    "other": Codes("E8889", "Other specified metabolic disorders", "E8889", "Unspecified fall"),
}
"""The last one's code is in both versions, with two meanings; the septicemia's begins with 0 in ICD-9."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What is the matter with a patient."""

    has_opacity: bool = False
    has_large_heart: bool = False
    high: tuple[str, ...] = ()
    """Laboratory items that are too high."""
    diagnoses: tuple[str, ...] = ()
    drugs: tuple[str, ...] = ()


CONDITIONS: tuple[Condition, ...] = (
    Condition(diagnoses=("chest_pain",), drugs=("acetaminophen",)),
    Condition(has_large_heart=True, high=("bnp",), diagnoses=("heart_failure", "hypertension"), drugs=("furosemide",)),
    Condition(has_opacity=True, high=("white_cells",), diagnoses=("pneumonia",), drugs=("ceftriaxone",)),
    Condition(has_opacity=True, diagnoses=("nodule",), drugs=("acetaminophen",)),
    Condition(high=("white_cells",), diagnoses=("urinary", "sepsis"), drugs=("ceftriaxone",)),
    Condition(high=("bnp", "creatinine"), diagnoses=("kidney", "hypertension"), drugs=("heparin",)),
    Condition(has_large_heart=True, diagnoses=("large_heart", "hypertension"), drugs=("acetaminophen",)),
    Condition(has_opacity=True, has_large_heart=True, high=("white_cells", "bnp"), diagnoses=("pneumonia", "heart_failure"),
              drugs=("ceftriaxone", "furosemide")),
)  # fmt: skip
"""Dealt out by turns, so that each is equally frequent in every part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """An examination of a patient."""

    study_id: int
    number: int
    """Among all studies: decides its report's form and its views."""
    taken_at: dt.datetime
    chest: Chest


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """An admission."""

    hadm_id: int
    admitted_at: dt.datetime
    discharged_at: dt.datetime
    diagnoses: tuple[str, ...]
    study: Study | None
    """That which was taken during the stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """Somebody who does not exist."""

    subject_id: int
    number: int
    part: str
    sex: str
    age: int
    icd_version: int
    condition: Condition
    studies: tuple[Study, ...]
    stays: tuple[Stay, ...]

    @property
    def is_in_tables(self) -> bool:
        """Whether MIMIC-IV has rows of the patient; of some it has none."""
        return self.number % NOT_IN_TABLES_EVERY != NOT_IN_TABLES_EVERY - 1


def _chest(name: str, condition: Condition) -> Chest:
    chance = draws.seeded(name)
    drawn = draw_chest(chance)
    side, zone, size = (draws.pick(chance, tuple(words)) if condition.has_opacity else "" for words in (SIDES, ZONES, SIZES))
    return replace(drawn, side=side, zone=zone, size=size, has_large_heart=condition.has_large_heart)


def draw_patient(seed: int, part: str, number: int) -> Patient:
    """The patient with a number; ``number`` counts through all parts."""
    chance = draws.seeded(f"mimic/{seed}/patient/{number}")
    condition = CONDITIONS[number % len(CONDITIONS)]
    first_day = dt.datetime(draws.whole(chance, 2110, 2185), draws.whole(chance, 1, 12), draws.whole(chance, 1, 28))  # noqa: DTZ001 - shifted
    stays, studies = list[Stay](), list[Study]()
    first_stay = FIRST_STAY + STAYS_PER_PATIENT * number
    if number % EARLIER_STAY_EVERY == 0:
        before = first_day - dt.timedelta(days=400)
        stays.append(_stay(first_stay + 9, before, dt.timedelta(days=3), ("hypertension", "other"), None))
    for visit in range(2 if number % SECOND_STUDY_EVERY == 0 else 1):
        admitted = first_day + dt.timedelta(days=60 * visit, minutes=draws.whole(chance, 0, 24 * 60 - 1))
        after = dt.timedelta(hours=30, seconds=draws.whole(chance, 0, 60 * 60 * 20), milliseconds=draws.whole(chance, 0, 999))
        study = Study(
            study_id=FIRST_STUDY + 2 * number + visit, number=2 * number + visit, taken_at=admitted + after,
            chest=_chest(f"mimic/{seed}/chest/{number}/{visit}", condition),
        )  # fmt: skip
        studies.append(study)
        if number % NO_STAY_EVERY != NO_STAY_EVERY - 1:
            stays.append(_stay(first_stay + visit, admitted, dt.timedelta(days=4), condition.diagnoses, study))
    if number % OVERLAP_EVERY == OVERLAP_EVERY - 1 and studies and stays:  # a second stay begins before the last one ends,
        began = studies[-1].taken_at - dt.timedelta(hours=1) if number % 2 else stays[-1].discharged_at - dt.timedelta(hours=5)
        stays.append(_stay(first_stay + 8, began, dt.timedelta(days=5), ("hypertension",), None))  # and of some, before the study
    return Patient(
        subject_id=FIRST_SUBJECT + number, number=number, part=part, sex=draws.pick(chance, ("F", "M")),
        age=91 if number % 29 == 28 else draws.whole(chance, 20, 88), icd_version=draws.pick(chance, (9, 10)), condition=condition,
        studies=tuple(studies), stays=tuple(stays),
    )  # fmt: skip


def _stay(hadm_id: int, admitted_at: dt.datetime, length: dt.timedelta, diagnoses: tuple[str, ...], study: Study | None) -> Stay:
    admitted = admitted_at.replace(second=0, microsecond=0)
    return Stay(hadm_id=hadm_id, admitted_at=admitted, discharged_at=admitted + length, diagnoses=diagnoses, study=study)
