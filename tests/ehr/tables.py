"""Invented ``hosp`` tables in MIMIC-IV's layout, for tests: every column that the publisher ships, the ones that matter filled in.

In: rows by table. Out: a folder. All patients, times, results and codes are made up; a few dictionary titles are those of the ICD.
"""

import csv
import gzip
from collections.abc import Iterable, Mapping
from pathlib import Path

HEADERS: Mapping[str, str] = {
    "patients": "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod",
    "admissions": "subject_id,hadm_id,admittime,dischtime,deathtime,admission_type,admit_provider_id,admission_location,discharge_location,"
    "insurance,language,marital_status,race,edregtime,edouttime,hospital_expire_flag",
    "services": "subject_id,hadm_id,transfertime,prev_service,curr_service",
    "labevents": "labevent_id,subject_id,hadm_id,specimen_id,itemid,order_provider_id,charttime,storetime,value,valuenum,valueuom,"
    "ref_range_lower,ref_range_upper,flag,priority,comments",
    "d_labitems": "itemid,label,fluid,category",
    "prescriptions": "subject_id,hadm_id,pharmacy_id,poe_id,poe_seq,order_provider_id,starttime,stoptime,drug_type,drug,formulary_drug_cd,"
    "gsn,ndc,prod_strength,form_rx,dose_val_rx,dose_unit_rx,form_val_disp,form_unit_disp,doses_per_24_hrs,route",
    "diagnoses_icd": "subject_id,hadm_id,seq_num,icd_code,icd_version",
    "d_icd_diagnoses": "icd_code,icd_version,long_title",
}
Rows = Iterable[Mapping[str, object]]


def write_hosp(folder: Path, *, unnamed: str = "", suffix: str = ".csv.gz", **tables: Rows) -> Path:
    """The eight tables; a cell that a row does not name holds ``unnamed``, a table that is not given holds no row."""
    folder.mkdir(parents=True, exist_ok=True)
    for table, header in HEADERS.items():
        path = folder / f"{table}{suffix}"
        with (gzip.open if suffix.endswith(".gz") else open)(path, "wt", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, header.split(","), restval=unnamed, lineterminator="\n")
            writer.writeheader()
            writer.writerows(tables.get(table, ()))
    return folder


PATIENT = {"subject_id": "10000001", "gender": "F", "anchor_age": 60, "anchor_year": 2180}
STAY = {
    "subject_id": "10000001", "hadm_id": "20000001", "admittime": "2183-05-01 08:00:00", "dischtime": "2183-05-09 12:00:00",
    "admission_type": "EW EMER.", "admission_location": "EMERGENCY ROOM", "deathtime": "2183-05-09 12:00:00", "hospital_expire_flag": 1,
}  # fmt: skip
EARLIER_STAY = {
    **STAY, "hadm_id": "20000000", "admittime": "2182-02-01 10:00:00", "dischtime": "2182-02-03 10:00:00", "admission_type": "ELECTIVE",
}  # fmt: skip
LACTATE = {"itemid": "50813", "label": "Lactate", "fluid": "Blood", "category": "Blood Gas"}
RESULT = {
    "labevent_id": "1", "subject_id": "10000001", "itemid": "50813", "charttime": "2183-05-03 20:00:00",
    "storetime": "2183-05-03 20:40:00", "value": "4.1", "valuenum": "4.1", "valueuom": "mmol/L", "ref_range_lower": "0.5",
    "ref_range_upper": "2.0", "flag": "abnormal",
}  # fmt: skip
PRESCRIPTION = {
    "subject_id": "10000001", "hadm_id": "20000001", "starttime": "2183-05-02 09:00:00", "stoptime": "2183-05-02 08:00:00",
    "drug_type": "MAIN", "drug": "Furosemide", "dose_val_rx": "40", "dose_unit_rx": "mg", "route": "IV", "ndc": "0",
}  # fmt: skip
SEPTICEMIA = {"icd_code": "0389", "icd_version": "9", "long_title": "Unspecified septicemia"}
EARLIER_DIAGNOSIS = {"subject_id": "10000001", "hadm_id": "20000000", "seq_num": "1", "icd_code": "0389", "icd_version": "9"}
HYPERTENSION = {"icd_code": "I10", "icd_version": "10", "long_title": "Essential (primary) hypertension"}
DIAGNOSIS = {"subject_id": "10000001", "hadm_id": "20000001", "seq_num": "1", "icd_code": "I10", "icd_version": "10"}
SERVICE = {"subject_id": "10000001", "hadm_id": "20000001", "transfertime": "2183-05-01 08:05:00", "curr_service": "CMED"}
WHOLE: Mapping[str, Rows] = {
    "patients": [PATIENT], "admissions": [EARLIER_STAY, STAY], "services": [SERVICE], "labevents": [RESULT], "d_labitems": [LACTATE],
    "prescriptions": [PRESCRIPTION], "diagnoses_icd": [EARLIER_DIAGNOSIS, DIAGNOSIS], "d_icd_diagnoses": [SEPTICEMIA, HYPERTENSION],
}  # fmt: skip
"""One patient with one row of everything."""
