"""The context of real patients: the open demo of MIMIC-IV, a study in the middle of each patient's last admission. If these passed wrongly,
the join would hold for invented tables only.
"""

import csv
import datetime as dt
import gzip
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from medvl_lib.ehr.availability import rules
from medvl_lib.ehr.contexts import CONTEXTS, Limits, contexts, write_contexts
from medvl_lib.ehr.facts import EhrContext, Study
from medvl_lib.ehr.template import parse_diagnoses, render_diagnoses
from medvl_lib.tables import read_table

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "mimic-iv-clinical-database-demo-2.2" / "hosp"
WHOLE = Limits(max_length=1_000_000)
COUNTS = {
    "num_studies": 60, "num_with_admission": 60, "num_labs": 1004, "num_medications": 1640, "num_earlier_diagnoses": 1017,
    "num_target_diagnoses": 946, "num_diagnoses_without_title": 0, "left_out_diagnoses_repeated": 405, "left_out_labs_masked": 2,
    "left_out_labs_normal": 2008, "left_out_labs_not_stored_before_the_study": 71, "left_out_labs_superseded": 8338,
    "left_out_labs_without_storetime": 96, "left_out_labs_without_value": 831, "left_out_medications_not_main": 943,
    "left_out_medications_repeated": 1517,
}  # fmt: skip
"""What stands in docs/log.md of these 60 studies, without a budget."""
pytestmark = pytest.mark.real_data


def rows(table: str) -> Iterator[dict[str, str]]:
    with gzip.open(REAL / f"{table}.csv.gz", "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def studies() -> list[Study]:
    """One study per patient: half way through the admission that began last, which is not known to be the one with most on record."""
    stays: dict[str, tuple[dt.datetime, dt.datetime]] = {}
    for row in rows("admissions"):
        began, ended = (dt.datetime.fromisoformat(row[name]) for name in ("admittime", "dischtime"))
        stays[row["subject_id"]] = max(stays.get(row["subject_id"], (began, ended)), (began, ended))
    return [
        Study(subject_id=subject, study_id=f"s{subject}", study_time=(began + (ended - began) / 2).isoformat(timespec="seconds"))
        for subject, (began, ended) in sorted(stays.items())
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    if not REAL.is_dir():
        pytest.skip(f"the open demo of MIMIC-IV is not at {REAL}")
    directory = tmp_path_factory.mktemp("contexts")
    return directory, dict(write_contexts(directory, REAL, studies(), WHOLE))


def test_sixty_patients_have_their_admission_and_every_diagnosis_has_a_title(written):
    counts = written[1]
    assert (counts["num_studies"], counts["num_with_admission"]) == (60, 60)
    assert counts["num_diagnoses_without_title"] == 0
    assert counts == COUNTS


def test_all_rules_hold_of_them(written):
    outcomes = {rule.name: rule.holds(written[0]) for rule in rules(REAL)}
    assert {name: outcome.found for name, outcome in outcomes.items() if not outcome.passed} == {}


def test_the_targets_are_counted_in_the_table_itself_and_read_back(written):
    wanted = 0
    for context in read_table(written[0] / CONTEXTS, EhrContext):
        assert context.admission is not None
        billed = [row for row in rows("diagnoses_icd") if row["hadm_id"] == context.admission.hadm_id]
        assert [code.icd_code for code in context.target_diagnoses] == [
            row["icd_code"] for row in sorted(billed, key=lambda row: int(row["seq_num"]))
        ]
        assert [coded.icd_code for coded in parse_diagnoses(render_diagnoses(context.target_diagnoses))] == [
            code.icd_code for code in context.target_diagnoses
        ]
        wanted += len(billed)
    assert wanted == written[1]["num_target_diagnoses"]


def number(text: str) -> float | None:
    return float(text) if text else None


def abnormal_labs(study: Study, events: list[dict[str, str]], labelled: set[str]) -> set[str]:
    """The items whose last result is abnormal, found row by row."""
    time = study.study_time.replace("T", " ")
    oldest = str(dt.datetime.fromisoformat(time) - dt.timedelta(days=WHOLE.lab_days))
    usable = [
        row for row in events
        if oldest <= row["charttime"] < time and "" < row["storetime"] < time and row["itemid"] in labelled
        and (row["value"] not in {"", "___"} or row["valuenum"])
    ]  # fmt: skip
    last = {row["itemid"]: row for row in sorted(usable, key=lambda row: (row["charttime"], row["storetime"], int(row["labevent_id"])))}
    found: set[str] = set()
    for row in last.values():
        value, low, high = (number(row[name]) for name in ("valuenum", "ref_range_lower", "ref_range_upper"))
        outside = value is not None and ((low is not None and value < low) or (high is not None and value > high))
        found |= {row["labevent_id"]} if outside or row["flag"] == "abnormal" else set()
    return found


def test_facts_are_those_that_plain_loops_over_the_rows_find(written):
    labelled = {row["itemid"] for row in rows("d_labitems") if row["label"]}
    events, drugs, billed, ended = defaultdict(list), defaultdict(list), defaultdict(list), defaultdict(list)
    for table, place in (("labevents", events), ("prescriptions", drugs), ("admissions", ended), ("diagnoses_icd", billed)):
        for row in rows(table):
            place[row["subject_id"]].append(row)
    for study, context in zip(studies(), read_table(written[0] / CONTEXTS, EhrContext), strict=True):
        subject, time = study.subject_id, study.study_time.replace("T", " ")
        assert {lab.labevent_id for lab in context.labs} == abnormal_labs(study, events[subject], labelled)
        since = str(dt.datetime.fromisoformat(time) - dt.timedelta(days=WHOLE.medication_days))
        given = [row["drug"] for row in drugs[subject] if row["drug_type"] == "MAIN" and since <= row["starttime"] < time]
        assert {medication.drug.lower() for medication in context.medications} == {" ".join(drug.lower().split()) for drug in given}
        past = {row["hadm_id"] for row in ended[subject] if row["dischtime"] < time}
        earlier = {(row["icd_code"], row["icd_version"]) for row in billed[subject] if row["hadm_id"] in past}
        assert {(code.icd_code, code.icd_version) for code in context.earlier_diagnoses} == earlier


def test_masks_and_written_doses_survive(written):
    found = list(read_table(written[0] / CONTEXTS, EhrContext))
    assert not [context.study_id for context in found if "___" in str(context)]
    doses = {medication.dose for context in found for medication in context.medications}
    assert {"1-2", "500-1000", "25,000"} <= doses


def test_the_default_budget_holds_and_drops_facts_only_whole(written):
    whole = list(read_table(written[0] / CONTEXTS, EhrContext))
    shortened = list(contexts(REAL, studies()))
    assert max(len(context.text) for context in shortened) <= Limits().max_length
    for short, full in zip(shortened, whole, strict=True):
        assert set(short.text.splitlines()) <= set(full.text.splitlines())
        assert short.target_diagnoses == full.target_diagnoses
