"""The typed rows of an EHR context: studies in, and what was on record about the patient before each of them.

In: nothing. Out: ``Study``, ``EhrContext`` and the facts that it holds. How facts are found stands in ``contexts``, how they read as text
in ``template``. All times are ISO 8601 without a zone, to the second, in the patient's own shifted calendar (the years 2100 to 2200).
"""

import datetime as dt
from dataclasses import dataclass
from typing import Annotated, Literal

from medvl_lib.errors import InputRefused
from medvl_lib.tables import Column

Sex = Literal["female", "male"]
Level = Literal["high", "low", "abnormal"]
Trend = Literal["rising", "falling", "unchanged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """An imaging study of a patient, at a time."""

    subject_id: str
    """The patient, as MIMIC-IV numbers them; MIMIC-CXR uses the same numbers."""
    study_id: str
    study_time: str
    """ISO 8601 to the second: "2180-05-06T21:30:14". A fraction of a second is cut off, not rounded: later is never earlier."""

    def __post_init__(self) -> None:
        """Refuse a time that is not one, or that names a zone."""
        try:
            is_time = dt.datetime.fromisoformat(self.study_time).isoformat(timespec="seconds") == self.study_time
        except ValueError:
            is_time = False
        if not is_time:
            found, where = f"study_time {self.study_time!r}", f"study {self.study_id}"
            raise InputRefused(found=found, where=where, do="write ISO 8601 to the second, without a zone: 2180-05-06T21:30:14")


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The stay in hospital during which the study was taken. When it ended is not part of it: that was not known yet."""

    hadm_id: Annotated[str, Column("the admission")]
    admittime: Annotated[str, Column("when it began, ISO 8601")]
    day: Annotated[int, Column("day of the stay on which the study was taken, from 1", unit="days")]
    admission_type: Annotated[str | None, Column("type and urgency, as recorded: EW EMER.")]
    admission_location: Annotated[str | None, Column("where the patient came from, as recorded: EMERGENCY ROOM")]
    service: Annotated[str | None, Column("the last service that took over the patient before the study, as recorded: CMED")]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabResult:
    """The last result of one laboratory item before the study, where it is abnormal."""

    labevent_id: Annotated[str, Column("row of labevents")]
    itemid: Annotated[str, Column("the laboratory item")]
    label: Annotated[str, Column("its name: Lactate")]
    specimen: Annotated[str | None, Column("fluid and category: Blood, Blood Gas")]
    value: Annotated[str, Column("the value as recorded; the number column where the text is masked or empty")]
    unit: Annotated[str | None, Column("its unit, as recorded")]
    level: Annotated[Level, Column("where it lies to its own reference range; abnormal where no range says")]
    charttime: Annotated[str, Column("when the specimen was taken, ISO 8601")]
    storetime: Annotated[str, Column("when the result could be read, ISO 8601")]
    trend: Annotated[Trend | None, Column("direction from the item's previous result; null without two numbers of one unit")]
    previous_value: Annotated[str | None, Column("the previous result's value; null without a trend")]
    previous_labevent_id: Annotated[str | None, Column("row of the previous result; null without a trend")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Medication:
    """A drug whose prescription began before the study. When it was stopped is not part of it."""

    drug: Annotated[str, Column("the drug, as prescribed")]
    dose: Annotated[str | None, Column("dose as written, a number or a range: 1-2")]
    dose_unit: Annotated[str | None, Column("unit of the dose, as written")]
    route: Annotated[str | None, Column("how it is given, as written: IV")]
    starttime: Annotated[str, Column("when the prescription began, ISO 8601; the last one of the drug")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """A billed diagnosis of one admission."""

    hadm_id: Annotated[str, Column("the admission it was billed for")]
    seq_num: Annotated[int, Column("its place among the admission's diagnoses, the most important first, from 1")]
    icd_code: Annotated[str, Column("ICD code as text, without a dot: 0389 is not 389")]
    icd_version: Annotated[str, Column("version of the ICD, 9 or 10: many codes are in both, with other meanings")]
    title: Annotated[str | None, Column("long title of the code in that version; null where the dictionary has none")]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """How many rows did not become facts, for one reason."""

    reason: Annotated[str, Column("snake_case reason; the first where several apply")]
    number: Annotated[int, Column("rows of the tables, or facts where the budget is the reason")]


@dataclass(frozen=True, slots=True, kw_only=True)
class EhrContext:
    """What was on record about a patient before one study, and the diagnoses of the same admission as the target."""

    study_id: Annotated[str, Column("the study")]
    subject_id: Annotated[str, Column("the patient")]
    study_time: Annotated[str, Column("when the study was taken, ISO 8601 in the patient's shifted calendar")]
    text: Annotated[str, Column("the facts as a model reads them")]
    sex: Annotated[Sex | None, Column("sex; null where it is not recorded")]
    age_years: Annotated[int | None, Column("age in the year of the study, up to 89; null over 89 and where it is not known", unit="years")]
    is_over_89: Annotated[bool, Column("whether the patient was older than 89: the publisher gives no age then")]
    admission: Annotated[Admission | None, Column("the admission that contains the study; null where none does")]
    labs: Annotated[tuple[LabResult, ...], Column("abnormal last results, the latest first, of one time the most abnormal")]
    medications: Annotated[tuple[Medication, ...], Column("drugs begun before the study, the latest first")]
    earlier_diagnoses: Annotated[tuple[Diagnosis, ...], Column("of admissions that had ended before the study, the latest first")]
    target_diagnoses: Annotated[tuple[Diagnosis, ...], Column("of the admission that contains the study; never part of the text")]
    left_out: Annotated[tuple[LeftOut, ...], Column("what did not become a fact, by reason; sorted by reason")]
