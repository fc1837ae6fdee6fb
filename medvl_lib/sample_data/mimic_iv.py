"""Invented ``hosp`` tables in the layout of MIMIC-IV 3.1, for the patients of the invented MIMIC-CXR: what is on record about them.

In: patients, and a seed. Out: ``patients``, ``admissions``, ``services``, ``diagnoses_icd``, ``d_icd_diagnoses``, ``labevents``,
``d_labitems`` and ``prescriptions``, each ``.csv.gz`` with the publisher's columns. As in the real tables, on purpose: results that were
stored after the study though the specimen was taken before, results of a later time, without a store time, with ``___`` or words as value;
doses such as "325-650" and "5,000"; a prescription that ends before it begins and one that begins after the study; stays that overlap; a
study outside any stay; patients without any row; age 91 for all over 89; a code that begins with 0 and one that means two things; two items
of one name.
"""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from medvl_lib.sample_data import draws
from medvl_lib.sample_data.gzipped import write_csv
from medvl_lib.sample_data.mimic_patients import DIAGNOSES, Patient, Stay

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "patients": ("subject_id", "gender", "anchor_age", "anchor_year", "anchor_year_group", "dod"),
    "admissions": (
        "subject_id", "hadm_id", "admittime", "dischtime", "deathtime", "admission_type", "admit_provider_id", "admission_location",
        "discharge_location", "insurance", "language", "marital_status", "race", "edregtime", "edouttime", "hospital_expire_flag",
    ),
    "services": ("subject_id", "hadm_id", "transfertime", "prev_service", "curr_service"),
    "diagnoses_icd": ("subject_id", "hadm_id", "seq_num", "icd_code", "icd_version"),
    "d_icd_diagnoses": ("icd_code", "icd_version", "long_title"),
    "labevents": (
        "labevent_id", "subject_id", "hadm_id", "specimen_id", "itemid", "order_provider_id", "charttime", "storetime", "value", "valuenum",
        "valueuom", "ref_range_lower", "ref_range_upper", "flag", "priority", "comments",
    ),
    "d_labitems": ("itemid", "label", "fluid", "category"),
    "prescriptions": (
        "subject_id", "hadm_id", "pharmacy_id", "poe_id", "poe_seq", "order_provider_id", "starttime", "stoptime", "drug_type", "drug",
        "formulary_drug_cd", "gsn", "ndc", "prod_strength", "form_rx", "dose_val_rx", "dose_unit_rx", "form_val_disp", "form_unit_disp",
        "doses_per_24_hrs", "route",
    ),
}  # fmt: skip
"""The publisher's, in its order."""

Row = dict[str, object]


class Item(NamedTuple):
    """A laboratory item: its number is invented."""

    itemid: int
    label: str
    category: str
    unit: str
    low: float
    high: float
    normal: tuple[float, float]
    raised: tuple[float, float]
    decimals: int


ITEMS: Mapping[str, Item] = {
    "white_cells": Item(59001, "White Blood Cells", "Hematology", "K/uL", 4.0, 10.0, (4.6, 9.4), (13.0, 22.0), 1),
    "bnp": Item(59002, "NTproBNP", "Chemistry", "pg/mL", 0, 300, (20, 240), (1500, 9000), 0),
    "creatinine": Item(59003, "Creatinine", "Chemistry", "mg/dL", 0.5, 1.2, (0.6, 1.1), (2.2, 5.5), 1),
    "hemoglobin": Item(59004, "Hemoglobin", "Hematology", "g/dL", 12.0, 16.0, (12.4, 15.6), (17.0, 19.0), 1),
}
MOVED_EVERY = 3  # to another service, whatever the condition: it must not give the diagnosis away
SPARE_ITEM = (59005, "Creatinine", "Urine", "Chemistry")  # the label of another item
HELD = "HOLD.  DISCARD GREATER THAN 4 HOURS OLD."
REMARK = 'SPECIMEN "SLIGHTLY HEMOLYZED", FALSELY ELEVATED BY UP TO 10%.'


class Drug(NamedTuple):
    """A prescription as written."""

    name: str
    strength: str
    dose: str
    unit: str
    route: str


DRUGS: Mapping[str, Drug] = {
    "acetaminophen": Drug("Acetaminophen", "325mg Tablet", "325-650", "mg", "PO/NG"),
    "furosemide": Drug("Furosemide", "40mg/4mL Vial", "40", "mg", "IV"),
    "ceftriaxone": Drug("CefTRIAXone", "1g Frozen Bag", "1", "gm", "IV"),
    "heparin": Drug("Heparin", "5000 Units / mL- 1mL Vial", "5,000", "UNIT", "SC"),
    "insulin": Drug("Insulin", "100 Units / mL - 10 mL Vial", "0", "UNIT", "SC"),
}


def _written(time: dt.datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def _patients(patients: Sequence[Patient]) -> Iterator[Row]:
    for patient in patients:
        year = patient.studies[0].taken_at.year - 1  # ages are given for a year of reference
        group = draws.pick(draws.seeded(f"mimic/group/{patient.number}"), ("2008 - 2010", "2011 - 2013", "2014 - 2016"))
        died = _written(patient.studies[-1].taken_at + dt.timedelta(days=900))[:10] if patient.number % 7 == 6 else ""
        yield {
            "subject_id": patient.subject_id, "gender": patient.sex, "anchor_age": patient.age, "anchor_year": year,
            "anchor_year_group": group, "dod": died,
        }  # fmt: skip


def _admissions(patients: Sequence[Patient]) -> Iterator[Row]:
    for patient in patients:
        for stay in patient.stays:
            arrived = _written(stay.admitted_at - dt.timedelta(hours=4))
            yield {
                "subject_id": patient.subject_id, "hadm_id": stay.hadm_id, "admittime": _written(stay.admitted_at),
                "dischtime": _written(stay.discharged_at), "admission_type": "EW EMER." if stay.study else "URGENT",
                "admit_provider_id": "P00ZZZ", "admission_location": "EMERGENCY ROOM" if stay.study else "PHYSICIAN REFERRAL",
                "discharge_location": "HOME" if patient.number % 4 else "", "insurance": "Other", "language": "English",
                "marital_status": "SINGLE", "race": "UNKNOWN", "edregtime": arrived if stay.study else "",
                "edouttime": _written(stay.admitted_at) if stay.study else "", "hospital_expire_flag": 0,
            }  # fmt: skip


def _services(patients: Sequence[Patient]) -> Iterator[Row]:
    for patient in patients:
        for stay in patient.stays:
            moves = [(stay.admitted_at, "", "MED")]
            if patient.number % MOVED_EVERY == 0:
                moves.append((stay.admitted_at + dt.timedelta(hours=6), "MED", "CMED"))
            for time, before, after in moves:
                yield {
                    "subject_id": patient.subject_id, "hadm_id": stay.hadm_id, "transfertime": _written(time), "prev_service": before,
                    "curr_service": after,
                }  # fmt: skip


def _diagnoses(patients: Sequence[Patient]) -> Iterator[Row]:
    for patient in patients:
        for stay in patient.stays:
            for place, name in enumerate(stay.diagnoses, start=1):
                codes = DIAGNOSES[name]
                code = codes.icd_10 if patient.icd_version == 10 else codes.icd_9
                yield {
                    "subject_id": patient.subject_id, "hadm_id": stay.hadm_id, "seq_num": place, "icd_code": code,
                    "icd_version": patient.icd_version,
                }  # fmt: skip


def _titles() -> Iterator[Row]:
    for codes in DIAGNOSES.values():
        yield {"icd_code": codes.icd_9, "icd_version": 9, "long_title": codes.title_9}
        yield {"icd_code": codes.icd_10, "icd_version": 10, "long_title": codes.title_10}


def results(patient: Patient, stay: Stay, seed: int) -> Iterator[Row]:
    """Two results of each item before the study, one that was stored after it, one of a later time, and odd ones."""
    if stay.study is None:
        return
    chance = draws.seeded(f"mimic/{seed}/results/{stay.hadm_id}")
    at = stay.study.taken_at.replace(microsecond=0)
    for name, item in ITEMS.items():
        span = item.raised if name in patient.condition.high else item.normal
        drawn_before = (dt.timedelta(hours=20), dt.timedelta(hours=9))
        for before in drawn_before:
            yield _result(stay, item, draws.decimal(chance, *span, item.decimals), at - before, at - before + dt.timedelta(minutes=50))
        opposite = item.normal if name in patient.condition.high else item.raised  # what must not be known yet says the opposite
        late = draws.decimal(chance, *opposite, item.decimals)
        yield _result(stay, item, late, at - dt.timedelta(minutes=20), at + dt.timedelta(minutes=30))
        yield _result(stay, item, late, at + dt.timedelta(hours=5), at + dt.timedelta(hours=6))
        if stay.hadm_id % 3 == 0:
            yield _result(stay, item, late, at - dt.timedelta(hours=2), None)
    white = ITEMS["white_cells"]
    masked = _result(stay, white, "___", at - dt.timedelta(hours=30), at - dt.timedelta(hours=29))
    yield {**masked, "valuenum": "7.1", "flag": "", "comments": "___"}
    spare = {"itemid": SPARE_ITEM[0], "valueuom": "", "ref_range_lower": "", "ref_range_upper": "", "valuenum": "", "flag": ""}
    held = _result(stay, white, HELD, at - dt.timedelta(hours=12), at - dt.timedelta(hours=12))
    yield {**held, **spare, "comments": REMARK}
    yield {**held, **spare, "value": "", "comments": ""}


def _result(stay: Stay, item: Item, value: str, taken_at: dt.datetime, stored_at: dt.datetime | None) -> Row:
    is_number = value.replace(".", "", 1).isdigit()
    is_odd = is_number and not item.low <= float(value) <= item.high
    return {
        "hadm_id": stay.hadm_id, "itemid": item.itemid, "charttime": _written(taken_at),
        "storetime": _written(stored_at) if stored_at else "", "value": value, "valuenum": value if is_number else "",
        "valueuom": item.unit, "ref_range_lower": item.low, "ref_range_upper": item.high,
        "flag": "abnormal" if is_odd else "", "priority": "STAT", "comments": "",
    }  # fmt: skip


def _labevents(patients: Sequence[Patient], seed: int) -> Iterator[Row]:
    number = 0
    for patient in patients:
        for stay in patient.stays:
            for row in results(patient, stay, seed):
                number += 1
                hadm_id = "" if number % 4 == 0 else row["hadm_id"]  # empty in every fourth real row, too
                yield {"labevent_id": number, "subject_id": patient.subject_id, "specimen_id": 90000000 + number, **row, "hadm_id": hadm_id}


def _items() -> Iterator[Row]:
    for item in ITEMS.values():
        yield {"itemid": item.itemid, "label": item.label, "fluid": "Blood", "category": item.category}
    yield dict(zip(COLUMNS["d_labitems"], SPARE_ITEM, strict=True))


def _prescriptions(patients: Sequence[Patient]) -> Iterator[Row]:
    number = 0
    for patient in patients:
        for stay in patient.stays:
            if stay.study is None:
                continue
            at, hour = stay.study.taken_at.replace(microsecond=0), dt.timedelta(hours=1)
            began = [(DRUGS[name], at - 12 * hour, at + 30 * hour) for name in patient.condition.drugs]
            if stay.hadm_id % 2:
                began.append((DRUGS["insulin"], at - 3 * hour, at - 8 * hour))  # ends before it begins
            began.append((DRUGS["heparin"], at + 2 * hour, at + 40 * hour))  # begins after the study
            for drug, start, stop in began:
                number += 1
                yield {
                    "subject_id": patient.subject_id, "hadm_id": stay.hadm_id, "pharmacy_id": 80000000 + number,
                    "poe_id": f"{patient.subject_id}-{number}", "poe_seq": number, "order_provider_id": "P00ZZZ",
                    "starttime": _written(start), "stoptime": _written(stop), "drug_type": "MAIN", "drug": drug.name, "ndc": "0",
                    "prod_strength": drug.strength, "dose_val_rx": drug.dose, "dose_unit_rx": drug.unit,
                    "form_val_disp": "1", "form_unit_disp": "VIAL", "route": drug.route,
                }  # fmt: skip


def write_hosp(folder: Path, everybody: Sequence[Patient], seed: int) -> None:
    """Write the tables of the patients that are to be in them into a new folder."""
    folder.mkdir(parents=True)
    patients = [patient for patient in everybody if patient.is_in_tables]
    tables: Mapping[str, Iterator[Row]] = {
        "patients": _patients(patients), "admissions": _admissions(patients), "services": _services(patients),
        "diagnoses_icd": _diagnoses(patients), "d_icd_diagnoses": _titles(), "labevents": _labevents(patients, seed),
        "d_labitems": _items(), "prescriptions": _prescriptions(patients),
    }  # fmt: skip
    for name, rows in tables.items():
        write_csv(folder / f"{name}.csv.gz", COLUMNS[name], rows)
