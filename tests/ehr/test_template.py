"""The text of contexts and of target diagnoses. If these passed wrongly, a fact would be cut in the middle, or the codes that a model is
scored by would not be those that were written.
"""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medvl_lib.ehr.facts import Admission, Diagnosis, EhrContext, LabResult, LeftOut, Medication
from medvl_lib.ehr.template import parse_diagnoses, render_context, render_diagnoses, within_budget
from medvl_lib.errors import MedVLError

LAB = LabResult(
    labevent_id="1", itemid="50813", label="Lactate", specimen="Blood, Blood Gas", value="4.1", unit="mmol/L", level="high",
    charttime="2183-05-03T20:00:00", storetime="2183-05-03T20:40:00", trend="rising", previous_value="2.3", previous_labevent_id="2",
)  # fmt: skip
MEDICATION = Medication(drug="Furosemide", dose="40", dose_unit="mg", route="IV", starttime="2183-05-02T09:00:00")
DIAGNOSIS = Diagnosis(hadm_id="20000000", seq_num=1, icd_code="0389", icd_version="9", title="Unspecified septicemia")
STAY = Admission(
    hadm_id="20000001",
    admittime="2183-05-01T08:00:00",
    day=4,
    admission_type="EW EMER.",
    admission_location="EMERGENCY ROOM",
    service="MED",
)
CONTEXT = EhrContext(
    study_id="50000001", subject_id="10000001", study_time="2183-05-04T12:00:00", text="", sex="female", age_years=63, is_over_89=False,
    admission=STAY, labs=(LAB,), medications=(MEDICATION,), earlier_diagnoses=(DIAGNOSIS,), target_diagnoses=(), left_out=(),
)  # fmt: skip
HEAD = "Patient: 63 years old, female\nAdmission: EW EMER., from EMERGENCY ROOM, service MED, day 4 of the stay"
NUMBERED = replace(
    CONTEXT,
    labs=tuple(replace(LAB, label=f"L{number}", trend=None, previous_value=None) for number in range(3)),
    medications=tuple(replace(MEDICATION, drug=f"M{number}") for number in range(4)),
    earlier_diagnoses=tuple(replace(DIAGNOSIS, icd_code=f"D{number}") for number in range(4)),
)


def test_a_section_without_facts_is_not_there():
    assert render_context(replace(CONTEXT, labs=(), medications=(), earlier_diagnoses=())) == HEAD
    assert render_context(replace(CONTEXT, labs=(), earlier_diagnoses=())) == f"{HEAD}\nMedications begun:\n- Furosemide 40 mg IV"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "- Lactate (Blood, Blood Gas) 4.1 mmol/L, high, rising from 2.3"),
        ({"trend": "unchanged", "previous_value": "4.10"}, "- Lactate (Blood, Blood Gas) 4.1 mmol/L, high, unchanged from 4.10"),
        ({"specimen": None, "unit": None, "level": "abnormal", "trend": None}, "- Lactate 4.1, abnormal"),
    ],
)
def test_a_result_is_written_with_what_is_known_of_it(changes: dict[str, str | None], line: str):
    assert line in render_context(replace(CONTEXT, labs=(replace(LAB, **changes),))).splitlines()


def names(context: EhrContext) -> tuple[list[str], ...]:
    return (
        [lab.label for lab in context.labs],
        [medication.drug for medication in context.medications],
        [diagnosis.icd_code for diagnosis in context.earlier_diagnoses],
    )


def test_what_stands_furthest_back_goes_first_and_a_diagnosis_before_a_drug_before_a_result():
    order = [("D3", 4), ("M3", 4), ("D2", 3), ("M2", 3), ("L2", 3), ("D1", 2), ("M1", 2), ("L1", 2), ("D0", 1), ("M0", 1), ("L0", 1)]
    kept, seen = NUMBERED, []
    while any(names(kept)):
        shorter = within_budget(kept, len(render_context(kept)) - 1, len)
        seen += [gone for before, after in zip(names(kept), names(shorter), strict=True) for gone in before[len(after) :]]
        kept = replace(shorter, left_out=())
    assert seen == [name for name, _ in order]


def test_what_was_dropped_is_counted_and_what_fits_is_whole():
    context = replace(NUMBERED, left_out=(LeftOut(reason="labs_normal", number=9),))
    whole = render_context(context)
    assert within_budget(context, len(whole), len) == replace(context, text=whole)
    shorter = within_budget(context, len(whole) - 1, len)
    assert names(shorter) == (["L0", "L1", "L2"], ["M0", "M1", "M2", "M3"], ["D0", "D1", "D2"])
    assert [(row.reason, row.number) for row in shorter.left_out] == [("diagnoses_over_budget", 1), ("labs_normal", 9)]


@given(max_length=st.integers(min_value=len(HEAD), max_value=600))
def test_no_budget_cuts_a_fact(max_length: int):
    found = within_budget(NUMBERED, max_length, len)
    assert len(found.text) <= max_length
    assert set(found.text.splitlines()) <= set(render_context(NUMBERED).splitlines())
    kept = sum(map(len, names(found)))
    assert kept + sum(row.number for row in found.left_out) == 11


def test_the_budget_is_counted_by_the_counter_that_is_given():
    words = within_budget(NUMBERED, 40, lambda text: len(text.split()))
    assert len(words.text.split()) <= 40
    assert len(words.text) > 40


def test_a_budget_below_patient_and_admission_is_refused_by_study():
    assert within_budget(NUMBERED, len(HEAD), len).text == HEAD
    with pytest.raises(MedVLError, match=f"take {len(HEAD)}, the budget is {len(HEAD) - 1}") as refused:
        within_budget(NUMBERED, len(HEAD) - 1, len)
    assert refused.value.where == "study 50000001"


# -- the target ---------------------------------------------------------------------------------------------------------
TITLES = st.none() | st.text("aZ9é ,:;()[]-%<>/'", min_size=1).map(str.strip).filter(lambda title: title not in {"", "(no title)"})
CODES = st.text("0123489EIVZ", min_size=3, max_size=7)


@given(st.lists(st.tuples(CODES, st.sampled_from(["9", "10"]), TITLES)))
def test_diagnoses_are_read_back_as_they_were_written(coded: list[tuple[str, str, str | None]]):
    diagnoses = [replace(DIAGNOSIS, icd_code=code, icd_version=version, title=title) for code, version, title in coded]
    assert list(parse_diagnoses(f"The heart is large.\n{render_diagnoses(diagnoses)}")) == coded


def test_the_target_reads_as_the_template_shows():
    without = replace(DIAGNOSIS, icd_code="Z0000", icd_version="10", title=None)
    assert render_diagnoses([DIAGNOSIS, without]) == "Diagnoses:\n- ICD-9 0389: Unspecified septicemia\n- ICD-10 Z0000: (no title)"
    assert render_diagnoses([]) == ""


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("", []),
        ("- ICD-9 0389: Septicemia", []),  # no heading, no list
        ("Diagnoses:", []),
        ("Diagnoses:\n  - ICD-9 0389: Septicemia  \n- ICD-10 I10: X\nSigned.\n- ICD-10 J18: Y", ["0389", "I10"]),
        ("Diagnoses:\n- ICD-9 111: A\nDiagnoses:\n- ICD-9 222: B", ["222"]),
        ("Diagnoses of earlier admissions:\n- ICD-9 0389: Septicemia", []),  # the context is not the answer
        ("Diagnoses:\n- Septicemia", []),
    ],
)
def test_what_a_model_wrote_is_read_down_to_the_first_line_that_is_no_diagnosis(text: str, codes: list[str]):
    assert [coded.icd_code for coded in parse_diagnoses(text)] == codes
