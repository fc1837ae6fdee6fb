"""Invented chest radiograph studies one at a time, asked as the radiology line asks: what the small LLaVA-Med learns from.

In: a distribution, the name of a part and a number. Out: ``ChestStudy``: the pictures of a study of ``mimic_cxr``'s patients, a request and
the response of one of the two stages. Pictures, reports and records are drawn by the generators beside this one, and the words are those
that the reader of MIMIC-CXR makes of the written tree (a test holds them equal), without writing it: a lesson needs ten thousand studies.
The patients are of seeds that no tree of sample data can have. The same three give the same study for ever; parts share none.
Patients whose records are odd (no stay, stays that overlap, none in the tables) are left to the tree.
"""

import datetime as dt
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from medvl_lib.datasets import masks, mimic_cxr_texts, radiology_report
from medvl_lib.datasets.mimic_cxr_texts import OBSERVATIONS, Record, Stage, Wanted
from medvl_lib.ehr.contexts import LIMITS, SEXES, TRENDS, age_at
from medvl_lib.ehr.facts import Admission, Diagnosis, EhrContext, LabResult, Medication
from medvl_lib.ehr.template import render_diagnoses, within_budget
from medvl_lib.sample_data import draws
from medvl_lib.sample_data.chests import HEART_HALF_HEIGHT, HEART_X, HEART_Y, SIDE_PIXELS, Chest
from medvl_lib.sample_data.mimic_cxr import study_pictures
from medvl_lib.sample_data.mimic_iv import DRUGS, ITEMS, MOVED_EVERY, results
from medvl_lib.sample_data.mimic_patients import (
    DIAGNOSES,
    NO_STAY_EVERY,
    NOT_IN_TABLES_EVERY,
    OVERLAP_EVERY,
    Patient,
    Stay,
    Study,
    draw_patient,
)  # fmt: skip
from medvl_lib.sample_data.mimic_reports import report

REVISION = 1  # first version
NAME = "chest_studies"
FIRST_SEED = 1 << 40  # above every seed that somebody would give a tree
_ODD = (NO_STAY_EVERY, OVERLAP_EVERY, NOT_IN_TABLES_EVERY)
_CYCLE = NO_STAY_EVERY * OVERLAP_EVERY * NOT_IN_TABLES_EVERY
SIDE_CELLS = 8
NUM_CELLS, CELL_PIXELS = SIDE_CELLS**2, SIDE_PIXELS // SIDE_CELLS  # the small model's patches
TOUCHED = 0.7  # of an opacity's radius: a cell that it only grazes is not one of its
PLAIN = tuple(number for number in range(_CYCLE) if all(number % every != every - 1 for every in _ODD))
"""Numbers of patients whose records are not odd, of one cycle."""


@dataclass(frozen=True, kw_only=True)
class ChestStudy:
    """The pictures of one study and what is asked of them."""

    example_id: str
    stage: Stage
    wanted: Wanted
    study: Study
    num_pictures: int

    @property
    def request(self) -> str:
        """What is asked."""
        return self.wanted.request

    @property
    def response(self) -> str:
        """What can be answered."""
        return self.wanted.response

    @property
    def chest(self) -> Chest:
        """What the pictures show."""
        return self.study.chest

    @property
    def image_ids(self) -> tuple[str, ...]:
        """An id of its own for each picture, in the order of the tree's metadata."""
        return tuple(f"{self.example_id}/{number}" for number in range(self.num_pictures))

    @property
    def cell_texts(self) -> tuple[str | None, ...]:
        """What stands in each of 8 x 8 cells of the first picture, row by row, its last four cells telling the whole; nothing of others."""
        return (*_cells(self.chest), *[None] * (NUM_CELLS * (self.num_pictures - 1)))

    @cached_property
    def _pictures(self) -> tuple[bytes, ...]:
        return tuple(data for _, data in study_pictures(self.study))[: self.num_pictures]

    def read(self, image_id: str) -> bytes:
        """The file of a picture."""
        return self._pictures[self.image_ids.index(image_id)]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyDistribution:
    """What studies are drawn, and what is asked of them."""

    name: str
    """What a figure calls it."""
    reasoning_share: float
    """Share of the studies that are asked for findings and diagnoses, with the record (0-1)."""
    has_laterals: bool
    """Whether the second picture of a study is shown, where it has one."""

    def __post_init__(self) -> None:
        if not 0 <= self.reasoning_share <= 1:
            raise ValueError(f"reasoning_share = {self.reasoning_share}: a share is from 0 to 1")

    def draw(self, part: str, number: int) -> ChestStudy:
        """The study of these three."""
        example_id = f"{NAME}/{part}/{number:07d}"
        chance = draws.seeded(example_id)
        turn, place = divmod(number, len(PLAIN))
        seed = seed_of(part)
        patient = draw_patient(seed, part, turn * _CYCLE + PLAIN[place])
        study = draws.pick(chance, patient.studies)
        stage: Stage = "reasoning" if chance.random() < self.reasoning_share else "impression"
        wanted = texts(patient, study, seed)
        if stage not in wanted:  # some reports have findings or an impression alone
            [stage] = wanted
        num_pictures = len(study_pictures(study)) if self.has_laterals else 1
        return ChestStudy(example_id=example_id, stage=stage, wanted=wanted[stage], study=study, num_pictures=num_pictures)

    def at_step(self, step: int) -> "StudyDistribution":
        """What the studies of one step are drawn from: the same at every step."""
        del step
        return self

    def texts(self, part: str, number: int) -> tuple[str, str]:
        """Request and response of a study."""
        drawn = self.draw(part, number)
        return drawn.request, drawn.response


def _cells(chest: Chest) -> list[str]:
    """Words for the cells of a frontal picture, as the drawing of ``chests`` has them."""
    opacity = chest.opacity
    half = chest.heart_half_width
    found: list[str] = []
    for row, column in product(range(SIDE_CELLS), repeat=2):
        left, top = column * CELL_PIXELS, row * CELL_PIXELS
        x, y = left + CELL_PIXELS / 2, top + CELL_PIXELS / 2
        if opacity is not None and _distance(opacity.x, left) ** 2 + _distance(opacity.y, top) ** 2 < (TOUCHED * opacity.radius) ** 2:
            found.append("opacity")
        else:
            found.append("heart" if ((x - HEART_X) / half) ** 2 + ((y - HEART_Y) / HEART_HALF_HEIGHT) ** 2 < 1 else "clear")
    place = (chest.side, chest.zone, chest.size) if chest.side else ("clear",) * 3
    return [*found[: -len(place) - 1], *place, "enlarged" if chest.has_large_heart else "normal"]


def _distance(place: float, start: int) -> float:
    """From a place to the nearest of a cell, along one side."""
    return max(start - place, 0, place - start - CELL_PIXELS)


def seed_of(part: str) -> int:
    """The seed of a part's patients: none that a tree has."""
    return FIRST_SEED + int.from_bytes(hashlib.sha256(part.encode()).digest()[:4], "big")


def texts(patient: Patient, study: Study, seed: int) -> dict[Stage, Wanted]:
    """Request and response of each stage that a study's report allows."""
    reported = report(study)
    sections = radiology_report.sections(reported.text)
    found: dict[Stage, Wanted] = {}
    if (impression := radiology_report.impression(sections)) is not None:
        labels = {name: reported.labels[name] if name in reported.labels else "" for name in OBSERVATIONS}
        found["impression"] = mimic_cxr_texts.impression_texts(masks.unmasked(impression.text).text, labels)
    if (findings := radiology_report.findings(sections)) is not None:
        context = record(patient, study, seed)
        words = Record(context.text, render_diagnoses(context.target_diagnoses))
        found["reasoning"] = mimic_cxr_texts.reasoning_texts(masks.unmasked(findings.text).text, words)
    return found


def record(patient: Patient, study: Study, seed: int) -> EhrContext:
    """What was on record before a study, and the diagnoses of its stay; raises StopIteration for a patient that is not plain."""
    at = study.taken_at.replace(microsecond=0)
    stay = next(stay for stay in patient.stays if stay.study == study)
    age = age_at(patient.age, patient.studies[0].taken_at.year - 1, at.year)
    earlier = sorted((other for other in patient.stays if other.discharged_at < at), key=lambda other: other.discharged_at, reverse=True)
    before = {item.icd_code: item for other in reversed(earlier) for item in reversed(_diagnoses(patient, other))}
    distinct = list(dict.fromkeys(item.icd_code for other in earlier for item in _diagnoses(patient, other)))
    return within_budget(EhrContext(
        study_id=str(study.study_id), subject_id=str(patient.subject_id), study_time=at.isoformat(), text="", sex=SEXES[patient.sex],
        age_years=age.years, is_over_89=age.is_over_89,
        admission=Admission(
            hadm_id=str(stay.hadm_id), admittime=stay.admitted_at.isoformat(), day=(at - stay.admitted_at).days + 1,
            admission_type="EW EMER.", admission_location="EMERGENCY ROOM", service="MED" if patient.number % MOVED_EVERY else "CMED",
        ),
        labs=tuple(_labs(patient, stay, seed, at)), medications=tuple(_medications(patient, stay, at)),
        earlier_diagnoses=tuple(before[code] for code in distinct), target_diagnoses=tuple(_diagnoses(patient, stay)), left_out=(),
    ), LIMITS.max_length, len)  # fmt: skip


def _diagnoses(patient: Patient, stay: Stay) -> list[Diagnosis]:
    found: list[Diagnosis] = []
    for place, name in enumerate(stay.diagnoses, start=1):
        codes = DIAGNOSES[name]
        code, title = (codes.icd_10, codes.title_10) if patient.icd_version == 10 else (codes.icd_9, codes.title_9)
        found.append(Diagnosis(
            hadm_id=str(stay.hadm_id), seq_num=place, icd_code=code, icd_version=str(patient.icd_version), title=title
        ))  # fmt: skip
    return found


def _labs(patient: Patient, stay: Stay, seed: int, at: dt.datetime) -> list[LabResult]:
    """The last result of each item that is too high, the one furthest outside its range first."""
    rows = [row for row in results(patient, stay, seed) if row["storetime"] and str(row["storetime"]) < f"{at:%Y-%m-%d %H:%M:%S}"]
    found: list[tuple[float, LabResult]] = []
    for name in patient.condition.high:
        item = ITEMS[name]
        own = [row for row in rows if row["itemid"] == item.itemid and row["valuenum"]]
        previous, last = sorted(own, key=lambda row: str(row["charttime"]))[-2:]
        value, before = float(str(last["valuenum"])), float(str(previous["valuenum"]))
        found.append(((value - item.high) / (item.high - item.low), LabResult(
            labevent_id="", itemid=str(item.itemid), label=item.label, specimen=f"Blood, {item.category}", value=str(last["value"]),
            unit=item.unit, level="high", charttime=str(last["charttime"]), storetime=str(last["storetime"]),
            trend=TRENDS[(value > before) - (value < before)], previous_value=str(previous["value"]), previous_labevent_id=None,
        )))  # fmt: skip
    return [lab for _, lab in sorted(found, key=lambda pair: (-pair[0], pair[1].label))]


def _medications(patient: Patient, stay: Stay, at: dt.datetime) -> Iterator[Medication]:
    """What was begun before the study: the insulin of every second stay, then what the condition asks for."""
    began = [(12, name) for name in patient.condition.drugs] + ([(3, "insulin")] if stay.hadm_id % 2 else [])
    for hours, name in sorted(began, key=lambda pair: (pair[0], DRUGS[pair[1]].name)):
        drug = DRUGS[name]
        yield Medication(
            drug=drug.name, dose=drug.dose, dose_unit=drug.unit, route=drug.route,
            starttime=(at - dt.timedelta(hours=hours)).isoformat(),
        )  # fmt: skip


LEARNED = StudyDistribution(name="studies", reasoning_share=0.5, has_laterals=True)
"""What the small model is trained on: both stages of every study, with all pictures."""
FRONTAL = StudyDistribution(name="frontal pictures", reasoning_share=0.0, has_laterals=False)
"""A picture each, asked for the impression: where to look, learned first."""
