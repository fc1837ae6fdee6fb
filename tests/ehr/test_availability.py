"""The rules over written contexts, each seen to fail by a damage of its own. If these passed wrongly, the sign "no future information"
could be green over anything.

Every later row that is smuggled in really stands in the tables, and the text is written anew from the damaged facts: only the time is
wrong.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from medvl_lib.ehr.availability import rules
from medvl_lib.ehr.contexts import CONTEXTS, contexts, write_contexts
from medvl_lib.ehr.facts import Admission, Diagnosis, EhrContext, Study
from medvl_lib.ehr.template import render_context
from medvl_lib.errors import InputRefused
from medvl_lib.rules import SHOWN_OFFENDERS
from medvl_lib.tables import write_table
from tests.broken import offenders
from tests.ehr.tables import (
    DIAGNOSIS,
    EARLIER_DIAGNOSIS,
    EARLIER_STAY,
    PATIENT,
    PRESCRIPTION,
    RESULT,
    SERVICE,
    STAY,
    WHOLE,
    write_hosp,
)

NOON = Study(subject_id="10000001", study_id="50000001", study_time="2183-05-04T12:00:00")


def result(number: str, value: str) -> dict[str, str]:
    return {**RESULT, "labevent_id": number, "value": value, "valuenum": value}


TABLES = {
    **WHOLE,
    "patients": [PATIENT, {**PATIENT, "subject_id": "10000002", "gender": "M", "anchor_age": 91}],
    "admissions": [
        EARLIER_STAY,
        STAY,
        {**STAY, "hadm_id": "20000005", "admittime": "2183-06-01 00:00:00", "dischtime": "2183-06-02 00:00:00"},
    ],
    "services": [SERVICE, {**SERVICE, "transfertime": "2183-05-04 12:00:00", "curr_service": "TSURG"}],
    "labevents": [
        RESULT,
        {**result("2", "2.3"), "charttime": "2183-05-02 20:00:00"},
        {**result("3", "3"), "charttime": "2183-05-04 06:00:00", "storetime": "2183-05-04 12:00:00"},
        {**result("4", "5"), "charttime": "2183-05-05 06:00:00", "storetime": "2183-05-05 08:00:00"},
        {**RESULT, "labevent_id": "5", "charttime": "2183-05-03 06:00:00", "storetime": ""},
        {**RESULT, "labevent_id": "6", "charttime": "2183-05-01 06:00:00", "value": "___", "valuenum": "9"},
        {**RESULT, "labevent_id": "7", "subject_id": "10000002"},
    ],
    "prescriptions": [PRESCRIPTION, {**PRESCRIPTION, "starttime": "2183-05-04 12:00:00", "drug": "Heparin"}],
    "diagnoses_icd": [EARLIER_DIAGNOSIS, DIAGNOSIS, {**DIAGNOSIS, "seq_num": "2", "icd_code": "0389", "icd_version": "9"}],
}  # fmt: skip
Damage = Callable[[EhrContext], EhrContext]


@pytest.fixture(scope="module")
def hosp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hosp(tmp_path_factory.mktemp("tables") / "hosp", **TABLES)


@pytest.fixture(scope="module")
def context(hosp: Path) -> EhrContext:
    [context] = contexts(hosp, [NOON])
    return context


def failing(directory: Path, hosp: Path) -> dict[str, tuple[str, ...]]:
    return offenders(rules(hosp), directory)


def rewritten(**changes: object) -> Damage:
    """Other facts, and the text that they have by the template."""

    def damage(context: EhrContext) -> EhrContext:
        changed = replace(context, **changes)
        return replace(changed, text=render_context(changed))

    return damage


def lab(**changes: object) -> Damage:
    return lambda context: rewritten(labs=(replace(context.labs[0], **changes),))(context)


def later_lab(number: str, **cells: str) -> Damage:
    without: dict[str, Any] = {"trend": None, "previous_value": None, "previous_labevent_id": None}
    return lab(labevent_id=number, **{**without, **cells})


def medication(**changes: object) -> Damage:
    return lambda context: rewritten(medications=(replace(context.medications[0], **changes),))(context)


def earlier(**changes: object) -> Damage:
    return lambda context: rewritten(earlier_diagnoses=(replace(context.earlier_diagnoses[0], **changes),))(context)


def admission(**changes: object) -> Damage:
    def damage(context: EhrContext) -> EhrContext:
        assert isinstance(context.admission, Admission)
        return rewritten(admission=replace(context.admission, **changes))(context)

    return damage


FUTURE: dict[str, tuple[Damage, str]] = {
    "a result stored in the very second of the study": (
        later_lab("3", value="3", charttime="2183-05-04T06:00:00", storetime="2183-05-04T12:00:00"), "lab 3",
    ),
    "a result of the next day": (
        later_lab("4", value="5", charttime="2183-05-05T06:00:00", storetime="2183-05-05T08:00:00"), "lab 4",
    ),
    "a later result with an earlier time written": (later_lab("4", value="5"), "lab 4"),
    "a result without a storetime": (later_lab("5", charttime="2183-05-03T06:00:00"), "lab 5"),
    "a result of somebody else": (later_lab("7"), "lab 7"),
    "a value that nobody measured": (lab(value="4.2"), "lab 1"),
    "a level that is not the value's": (lab(level="low"), "lab 1"),
    "another trend": (lab(trend="falling"), "lab 1"),
    "a trend from a later result": (lab(trend="falling", previous_value="5", previous_labevent_id="4"), "lab 1"),
    "a value before that was another": (lab(previous_value="2.4"), "lab 1"),
    "another item's name": (lab(label="Troponin"), "lab 1"),
    "a mask": (later_lab("6", value="___", charttime="2183-05-01T06:00:00"), "text"),
    "a drug that begins with the study": (
        medication(drug="Heparin", starttime="2183-05-04T12:00:00"), "medication begun 2183-05-04T12:00:00",
    ),
    "a later drug with an earlier time": (medication(drug="Heparin"), "medication begun 2183-05-02T09:00:00"),
    "another dose": (medication(dose="400"), "medication begun 2183-05-02T09:00:00"),
    "a diagnosis of the same admission": (
        earlier(hadm_id="20000001", icd_code="I10", icd_version="10", title="Essential (primary) hypertension"),
        "diagnosis 1 of 20000001",
    ),
    "a diagnosis that nobody made": (earlier(icd_code="I10", icd_version="10", title="Essential (primary) hypertension"),
                                     "diagnosis 1 of 20000000"),
    "a service that takes over with the study": (admission(service="TSURG"), "service 20000001"),
    "another type of admission": (admission(admission_type="ELECTIVE"), "admission 20000001"),
    "another day": (admission(day=9), "admission 20000001"),
    "another age": (rewritten(age_years=64), "patient"),
    "another sex": (rewritten(sex="male"), "patient"),
    "an age above 89": (rewritten(age_years=None, is_over_89=True), "patient"),
    "a target in the text": (lambda context: replace(context, text=f"{context.text}\n- ICD-10 I10: hypertension"), "text"),
    "a fact that is missing in the text": (lambda context: replace(context, text="\n".join(context.text.splitlines()[:-1])), "text"),
}  # fmt: skip


def test_what_was_written_passes_its_rules_and_has_what_the_damages_need(tmp_path: Path, hosp: Path, context: EhrContext):
    write_contexts(tmp_path, hosp, [NOON])
    assert failing(tmp_path, hosp) == {}
    assert [(found.labevent_id, found.trend) for found in context.labs] == [("1", "rising")]
    assert (len(context.medications), len(context.earlier_diagnoses), len(context.target_diagnoses)) == (1, 1, 2)


def test_every_piece_of_the_future_is_found_by_no_future_information_alone(tmp_path: Path, hosp: Path, context: EhrContext):
    damaged = [replace(damage(context), study_id=name) for name, (damage, _) in FUTURE.items()]
    assert len({row.text for row in damaged}) > len(damaged) // 2  # the damages are not one and the same
    write_table(tmp_path / CONTEXTS, EhrContext, [context, *damaged])
    assert set(failing(tmp_path, hosp)) == {"no_future_information"}
    expected = [f"{name}: {offender}" for name, (_, offender) in FUTURE.items()]
    for start in range(0, len(damaged), SHOWN_OFFENDERS):
        part = slice(start, start + SHOWN_OFFENDERS)
        write_table(tmp_path / CONTEXTS, EhrContext, damaged[part])
        assert sorted(rules(hosp)[0].holds(tmp_path).offenders) == sorted(expected[part])


def test_an_admission_that_does_not_contain_the_study_is_found(tmp_path: Path, hosp: Path, context: EhrContext):
    moved = admission(hadm_id="20000005", admittime="2183-06-01T00:00:00", day=1)(context)
    write_table(tmp_path / CONTEXTS, EhrContext, [replace(moved, target_diagnoses=())])
    assert "50000001: admission 20000005" in failing(tmp_path, hosp)["no_future_information"]


def test_a_template_that_says_more_than_the_facts_is_found(tmp_path: Path, hosp: Path, context: EhrContext, monkeypatch):
    def chatty(written: EhrContext) -> str:
        return "\n".join([render_context(written), *(str(target.title) for target in written.target_diagnoses)])

    monkeypatch.setattr("medvl_lib.ehr.template.render_context", chatty)
    monkeypatch.setattr("medvl_lib.ehr.availability.render_context", chatty)
    write_contexts(tmp_path, hosp, [NOON])
    assert failing(tmp_path, hosp) == {"no_future_information": ("50000001: text",)}


TARGETS: dict[str, Callable[[tuple[Diagnosis, ...]], tuple[Diagnosis, ...]]] = {
    "one fewer": lambda found: found[1:],
    "none": lambda found: (),
    "of another admission": lambda found: (*found, replace(found[1], hadm_id="20000000", seq_num=1)),
    "another place on the bill": lambda found: (replace(found[0], seq_num=7), *found[1:]),
}


@pytest.mark.parametrize("name", TARGETS)
def test_other_targets_are_found_by_their_own_rule(name: str, tmp_path: Path, hosp: Path, context: EhrContext):
    write_table(tmp_path / CONTEXTS, EhrContext, [replace(context, target_diagnoses=TARGETS[name](context.target_diagnoses))])
    assert failing(tmp_path, hosp) == {"targets_are_of_the_same_admission": ("50000001",)}


@pytest.mark.parametrize("title", [None, "Unspecified septicemia"])
def test_another_title_is_found_by_its_own_rule(title: str | None, tmp_path: Path, hosp: Path, context: EhrContext):
    first, *others = context.target_diagnoses
    write_table(tmp_path / CONTEXTS, EhrContext, [replace(context, target_diagnoses=(replace(first, title=title), *others))])
    assert failing(tmp_path, hosp) == {"every_diagnosis_has_its_title": ("50000001: diagnosis 1 of 20000001",)}


def test_another_column_is_found(tmp_path: Path, hosp: Path, context: EhrContext):
    write_table(tmp_path / CONTEXTS, EhrContext, [context])
    table = pq.read_table(tmp_path / CONTEXTS)
    pq.write_table(table.append_column("deathtime", table["study_time"]), tmp_path / CONTEXTS)
    assert rules(hosp)[-1].holds(tmp_path).found == "column 'deathtime' is string"


def test_all_rules_block(hosp: Path):
    assert [rule.name for rule in rules(hosp) if not rule.is_blocking] == []


def test_a_table_that_was_damaged_since_is_refused_without_its_text(tmp_path: Path, context: EhrContext):
    hosp = write_hosp(tmp_path / "hosp", suffix=".csv", **{**TABLES, "labevents": []})
    with (hosp / "labevents.csv").open("a", encoding="utf-8") as file:
        file.write("1,10000001,secret\n")
    write_table(tmp_path / CONTEXTS, EhrContext, [context])
    with pytest.raises(InputRefused) as refused:
        rules(hosp)[0].holds(tmp_path)
    assert "secret" not in str(refused.value)
