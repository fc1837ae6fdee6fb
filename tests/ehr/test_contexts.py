"""The join of MIMIC-IV's tables with studies, on rows whose answer is worked out by hand. If these passed wrongly, a model would learn from
what nobody knew when the picture was taken, or a code without its zero would be another disease.
"""

import csv
import gzip
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from medvl_lib.ehr import REVISION
from medvl_lib.ehr.contexts import CONTEXTS, Limits, age_at, contexts, write_contexts
from medvl_lib.ehr.facts import EhrContext, Study
from medvl_lib.ehr.hosp import ALLOWED_COLUMNS
from medvl_lib.errors import InputMissing, InputRefused
from medvl_lib.tables import columns, read_table
from tests.ehr.tables import (
    DIAGNOSIS,
    EARLIER_DIAGNOSIS,
    EARLIER_STAY,
    HEADERS,
    HYPERTENSION,
    LACTATE,
    PATIENT,
    PRESCRIPTION,
    RESULT,
    SEPTICEMIA,
    SERVICE,
    STAY,
    WHOLE,
    Rows,
    write_hosp,
)

NOON = Study(subject_id="10000001", study_id="50000001", study_time="2183-05-04T12:00:00")


def one(folder: Path, study: Study = NOON, **changes: Rows) -> EhrContext:
    """The context of one study, some tables changed."""
    [context] = contexts(write_hosp(folder / "hosp", **{**WHOLE, **changes}), [study])
    return context


def each(folder: Path, table: str, *cases: list[dict[str, object]], **tables: Rows) -> list[EhrContext]:
    """The contexts of as many patients as there are cases, read at once: what each of them has in one table, the study at noon."""
    patients = [f"19{number:06}" for number in range(len(cases))]
    rows = [{**row, "subject_id": patient} for patient, case in zip(patients, cases, strict=True) for row in case]
    studies = [replace(NOON, subject_id=patient, study_id=patient) for patient in patients]
    return list(contexts(write_hosp(folder / "hosp", **{**WHOLE, **tables, table: rows}), studies))


def left_out(context: EhrContext) -> Mapping[str, int]:
    return {row.reason: row.number for row in context.left_out}


def at(time: str) -> Study:
    return replace(NOON, study_time=time)


def test_one_row_of_everything_becomes_the_text_that_the_template_shows(tmp_path: Path):
    """Another text: raise REVISION, and say why."""
    context = one(tmp_path)
    assert REVISION == 1
    assert context.text.splitlines() == [
        "Patient: 63 years old, female",
        "Admission: EW EMER., from EMERGENCY ROOM, service CMED, day 4 of the stay",
        "Abnormal laboratory results:",
        "- Lactate (Blood, Blood Gas) 4.1 mmol/L, high",
        "Medications begun:",
        "- Furosemide 40 mg IV",
        "Diagnoses of earlier admissions:",
        "- ICD-9 0389: Unspecified septicemia",
    ]
    assert [(code.icd_code, code.icd_version, code.title) for code in context.target_diagnoses] == [
        ("I10", "10", "Essential (primary) hypertension")
    ]
    assert context.left_out == ()


def test_every_column_of_a_context_is_described():
    assert [column.name for column in columns(EhrContext)][:4] == ["study_id", "subject_id", "study_time", "text"]


# -- the admission ------------------------------------------------------------------------------------------------------
def test_an_admission_contains_a_study_from_its_first_second_to_its_last(tmp_path: Path):
    expected = {
        "2183-05-01T07:59:59": None,
        "2183-05-01T08:00:00": ("20000001", 1),  # both ends belong to it
        "2183-05-02T07:59:59": ("20000001", 1),
        "2183-05-02T08:00:00": ("20000001", 2),
        "2183-05-09T12:00:00": ("20000001", 9),
        "2183-05-09T12:00:01": None,
    }
    found = contexts(write_hosp(tmp_path / "hosp", **WHOLE), [replace(at(time), study_id=time) for time in expected])
    assert {context.study_time: context.admission and (context.admission.hadm_id, context.admission.day) for context in found} == expected


def test_where_one_admission_ends_as_the_next_begins_the_study_is_in_the_next(tmp_path: Path):
    before = {**STAY, "hadm_id": "20000009", "admittime": "2183-04-30 08:00:00", "dischtime": "2183-05-01 08:00:00"}
    billed = {**EARLIER_DIAGNOSIS, "hadm_id": "20000009"}
    context = one(tmp_path, at("2183-05-01T08:00:00"), admissions=[STAY, before], diagnoses_icd=[billed, DIAGNOSIS])
    assert context.admission is not None
    assert context.admission.hadm_id == "20000001"
    assert left_out(context)["admissions_overlapping"] == 1
    assert context.earlier_diagnoses == ()  # not ended before the study, and not its own either
    assert [code.icd_code for code in context.target_diagnoses] == ["I10"]


def test_of_admissions_that_overlap_one_is_chosen_by_rule(tmp_path: Path):
    cases = [
        ({"admittime": "2183-05-02 08:00:00", "dischtime": "2183-05-30 08:00:00"}, "20000009"),  # began last
        ({"admittime": "2183-05-01 08:00:00", "dischtime": "2183-05-08 08:00:00"}, "20000009"),  # ended first
        ({"admittime": "2183-05-01 08:00:00", "dischtime": "2183-05-09 12:00:00"}, "20000001"),  # the smaller number
    ]
    found = each(tmp_path, "admissions", *([{**STAY, "hadm_id": "20000009", **other}, STAY] for other, _ in cases))
    assert [context.admission and context.admission.hadm_id for context in found] == [chosen for _, chosen in cases]
    assert [left_out(context)["admissions_overlapping"] for context in found] == [1, 1, 1]


def test_an_admission_without_usable_times_is_none_and_counted(tmp_path: Path):
    cases = ({"dischtime": ""}, {"admittime": ""}, {"dischtime": "2183-04-01 08:00:00"}, {"dischtime": "2183-05-09"})
    for context in each(tmp_path, "admissions", *([{**STAY, **times}] for times in cases)):
        assert context.admission is None
        assert (context.target_diagnoses, context.earlier_diagnoses) == ((), ())
        assert left_out(context)["admissions_without_times"] == 1


def test_the_service_is_the_last_that_took_over_before_the_study(tmp_path: Path):
    later = {**SERVICE, "transfertime": "2183-05-04 11:59:59", "curr_service": "TSURG"}
    tied = {**SERVICE, "transfertime": "2183-05-04 12:00:00", "curr_service": "PSYCH"}
    elsewhere = {**SERVICE, "hadm_id": "20000000", "transfertime": "2183-05-04 11:59:59", "curr_service": "GYN"}
    admission = one(tmp_path, services=[tied, later, SERVICE, elsewhere]).admission
    assert admission is not None
    assert admission.service == "TSURG"


def test_information_not_available_is_no_place_to_come_from(tmp_path: Path):
    text = one(
        tmp_path, admissions=[{**STAY, "admission_location": "INFORMATION NOT AVAILABLE", "admission_type": "___"}], services=[]
    ).text
    assert text.splitlines()[1] == "Admission: day 4 of the stay"


# -- age and sex --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("anchor_age", "anchor_year", "year", "age"),
    [
        (60, 2180, 2183, (63, False)),
        (60, 2180, 2178, (58, False)),  # a study before the anchor year
        (89, 2180, 2180, (89, False)),
        (89, 2180, 2181, (None, True)),
        (91, 2180, 2180, (None, True)),  # 91 stands for "over 89", it is no number
        (91, 2180, 2185, (None, True)),
        (91, 2180, 2179, (None, False)),  # 89 or 103 then: nobody knows
        (None, 2180, 2183, (None, False)),
        (60, None, 2183, (None, False)),
    ],
)
def test_the_age_is_the_anchors_arithmetic(anchor_age: int | None, anchor_year: int | None, year: int, age: tuple[int | None, bool]):
    assert age_at(anchor_age, anchor_year, year) == age


def test_a_patient_over_89_and_one_that_is_not_in_the_tables_are_said_so(tmp_path: Path):
    old = one(tmp_path, patients=[{**PATIENT, "gender": "M", "anchor_age": 91}])
    assert old.text.splitlines()[0] == "Patient: older than 89, male"
    stranger = one(tmp_path, replace(NOON, subject_id="19999999"))
    assert stranger.text.splitlines() == ["Patient: age not known, sex not known", "Admission: none at the time of the study"]


# -- laboratory results -------------------------------------------------------------------------------------------------
def result(number: int, **cells: str) -> dict[str, str]:
    return {**RESULT, "labevent_id": str(number), **cells}


def test_a_result_that_was_not_there_or_cannot_be_read_is_left_out(tmp_path: Path):
    cases = [
        ({"storetime": ""}, "labs_without_storetime"),
        ({"storetime": "2183-05-04 12:00:00"}, "labs_not_stored_before_the_study"),  # the very second
        ({"storetime": "2183-05-04 12:00:01"}, "labs_not_stored_before_the_study"),
        ({"storetime": "2183-05-04"}, "labs_without_storetime"),  # a day is no time
        ({"charttime": ""}, "labs_without_charttime"),
        ({"value": "___", "valuenum": ""}, "labs_masked"),
        ({"value": "", "valuenum": ""}, "labs_without_value"),
        ({"itemid": "59999"}, "labs_without_label"),
        ({"value": "1.1", "valuenum": "1.1", "flag": ""}, "labs_normal"),
        ({"charttime": "2183-05-04 12:00:00", "storetime": "2183-05-04 11:00:00"}, None),  # dated after the study: never looked at
        ({"charttime": "2183-04-27 11:59:59"}, None),  # a second too old
    ]
    found = each(tmp_path, "labevents", *([{**RESULT, **cells}] for cells, _ in cases))
    assert [context.labs for context in found] == [()] * len(cases)
    assert [left_out(context) for context in found] == [{reason: 1} if reason else {} for _, reason in cases]


def test_an_abnormal_result_that_was_stored_before_is_a_fact(tmp_path: Path):
    cases = [
        ({"storetime": "2183-05-04 11:59:59"}, "4.1 mmol/L, high"),
        ({"charttime": "2183-04-27 12:00:00"}, "4.1 mmol/L, high"),  # seven days to the second
        ({"value": "___"}, "4.1 mmol/L, high"),  # the number column was not masked
        ({"value": ""}, "4.1 mmol/L, high"),
        ({"value": "0.3", "valuenum": "0.3"}, "0.3 mmol/L, low"),
        ({"flag": ""}, "4.1 mmol/L, high"),  # outside its own range, though nobody flagged it
        ({"value": ">300", "valuenum": "", "ref_range_lower": "", "ref_range_upper": ""}, ">300 mmol/L, abnormal"),
        ({"value": "HOLD.  DISCARD, \nOLD.", "valuenum": "", "valueuom": ""}, "HOLD. DISCARD, OLD., abnormal"),
    ]
    found = each(tmp_path, "labevents", *([{**RESULT, **cells}] for cells, _ in cases))
    assert [context.text.splitlines()[3] for context in found] == [f"- Lactate (Blood, Blood Gas) {text}" for _, text in cases]
    assert [left_out(context) for context in found] == [{}] * len(cases)


EARLIER_RESULT = {"charttime": "2183-05-02 20:00:00", "storetime": "2183-05-02 20:40:00", "value": "2.3", "valuenum": "2.3"}


def test_the_trend_is_the_direction_from_the_previous_result(tmp_path: Path):
    cases = [
        ({}, "rising"),
        ({"value": "6", "valuenum": "6"}, "falling"),
        ({"value": "4.10", "valuenum": "4.10"}, "unchanged"),
        ({"valueuom": "mg/dL"}, None),  # other units cannot be compared
        ({"value": "MANY", "valuenum": ""}, None),
        ({"charttime": "2183-05-03 20:00:00", "storetime": "2183-05-03 20:39:59"}, None),  # of the same moment: nothing came before
        ({"storetime": "2183-05-04 12:00:00"}, None),  # taken before, but nobody could read it yet
        ({"value": "___", "valuenum": ""}, None),
    ]
    found = each(tmp_path, "labevents", *([result(1), result(2, **{**EARLIER_RESULT, **previous})] for previous, _ in cases))
    assert [(lab.labevent_id, lab.value, lab.trend, lab.previous_labevent_id) for context in found for lab in context.labs] == [
        ("1", "4.1", trend, "2" if trend else None) for _, trend in cases
    ]


def test_a_late_report_of_an_older_specimen_is_not_the_last_result(tmp_path: Path):
    late = result(2, charttime="2183-05-02 06:00:00", storetime="2183-05-04 11:00:00", value="9", valuenum="9")
    context = one(tmp_path, labevents=[late, result(1)])
    assert [lab.value for lab in context.labs] == ["4.1"]
    assert left_out(context) == {"labs_superseded": 1}


def test_a_last_result_that_is_normal_again_is_no_fact(tmp_path: Path):
    context = one(tmp_path, labevents=[result(1, value="1.0", valuenum="1.0", flag=""), result(2, **EARLIER_RESULT)])
    assert context.labs == ()
    assert left_out(context) == {"labs_normal": 1, "labs_superseded": 1}


def test_of_results_taken_together_the_furthest_outside_its_range_comes_first(tmp_path: Path):
    items = [{"itemid": str(number), "label": label} for number, label in enumerate(["Albumin", "Bands", "Cells", "Dimer", "Eosin"])]
    ranges = {"0": ("3.0", "3.5", "5.5"), "1": ("1.0", "2.0", "4.0"), "2": ("30", "4", "10"), "4": ("9", "0", "1")}
    rows = [
        result(int(item), itemid=item, value=value, valuenum=value, ref_range_lower=low, ref_range_upper=high)
        for item, (value, low, high) in ranges.items()
    ]
    rows[3] |= {"charttime": "2183-05-03 19:59:59"}  # taken before the others
    flagged = result(3, itemid="3", value="POS", valuenum="")
    context = one(tmp_path, labevents=[flagged, *rows], d_labitems=items)
    assert [lab.label for lab in context.labs] == ["Cells", "Bands", "Albumin", "Dimer", "Eosin"]  # 3.3, 0.5 and 0.25 widths, no number


def test_items_with_one_label_are_told_apart(tmp_path: Path):
    items = [LACTATE, {"itemid": "52442", "label": "Lactate", "fluid": "Other Body Fluid", "category": "Chemistry"}]
    context = one(tmp_path, labevents=[result(1), result(2, itemid="52442", value="5", valuenum="5")], d_labitems=items)
    assert [(lab.label, lab.specimen, lab.value) for lab in context.labs] == [
        ("Lactate", "Other Body Fluid, Chemistry", "5"),
        ("Lactate", "Blood, Blood Gas", "4.1"),
    ]


# -- medications --------------------------------------------------------------------------------------------------------
def test_a_prescription_that_had_not_begun_or_cannot_be_read_is_left_out(tmp_path: Path):
    cases = [
        ({"starttime": ""}, "medications_without_starttime"),
        ({"drug_type": "BASE"}, "medications_not_main"),
        ({"drug": ""}, "medications_without_name"),
        ({"drug": "___"}, "medications_masked"),
        ({"dose_val_rx": "___"}, "medications_masked"),
        ({"starttime": "2183-05-04 12:00:00"}, None),  # the very second
        ({"starttime": "2183-04-04 11:59:59"}, None),  # a second too old
    ]
    found = each(tmp_path, "prescriptions", *([{**PRESCRIPTION, **cells}] for cells, _ in cases))
    assert [context.medications for context in found] == [()] * len(cases)
    assert [left_out(context) for context in found] == [{reason: 1} if reason else {} for _, reason in cases]


def test_a_dose_is_the_text_that_was_written(tmp_path: Path):
    doses = ["1-2", "500-1000", "1,000", "0.5"]
    found = each(tmp_path, "prescriptions", *([{**PRESCRIPTION, "dose_val_rx": dose}] for dose in doses))
    assert [context.text.splitlines()[3] for context in found] == [f"- Furosemide {dose} mg IV" for dose in doses]


def test_a_drug_is_named_once_as_it_was_prescribed_last(tmp_path: Path):
    again = {**PRESCRIPTION, "starttime": "2183-05-04 11:59:59", "drug": "FUROSEMIDE", "dose_val_rx": "80", "route": ""}
    other = {**PRESCRIPTION, "starttime": "2183-04-04 12:00:00", "drug": "Aspirin"}
    context = one(tmp_path, prescriptions=[other, PRESCRIPTION, again])
    assert context.text.splitlines()[5:7] == ["- FUROSEMIDE 80 mg", "- Aspirin 40 mg IV"]
    assert left_out(context) == {"medications_repeated": 1}


# -- diagnoses ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("ended", "is_earlier"), [("2183-05-04 11:59:59", True), ("2183-05-04 12:00:00", False)])
def test_diagnoses_come_from_admissions_that_had_ended(ended: str, is_earlier: bool, tmp_path: Path):
    context = one(tmp_path, admissions=[{**EARLIER_STAY, "dischtime": ended}, STAY])
    assert [code.icd_code for code in context.earlier_diagnoses] == (["0389"] if is_earlier else [])


def test_a_code_is_text_and_has_another_title_in_each_version(tmp_path: Path):
    codes = [("0389", "9"), ("389", "9"), ("E8889", "9"), ("E8889", "10"), ("Z99", "10")]
    titles = [("0389", "9"), ("389", "9"), ("E8889", "9"), ("E8889", "10")]
    context = one(
        tmp_path,
        diagnoses_icd=[
            {**EARLIER_DIAGNOSIS, "seq_num": number, "icd_code": code, "icd_version": version}
            for number, (code, version) in enumerate(codes, 1)
        ],
        d_icd_diagnoses=[{"icd_code": code, "icd_version": version, "long_title": f"{code} of {version}"} for code, version in titles],
    )
    assert context.text.splitlines()[-5:] == [
        "- ICD-9 0389: 0389 of 9",
        "- ICD-9 389: 389 of 9",
        "- ICD-9 E8889: E8889 of 9",
        "- ICD-10 E8889: E8889 of 10",
        "- ICD-10 Z99: (no title)",
    ]


def test_an_earlier_code_is_named_once_as_of_the_latest_admission(tmp_path: Path):
    oldest = {**EARLIER_STAY, "hadm_id": "20000005", "admittime": "2181-01-01 00:00:00", "dischtime": "2181-01-02 00:00:00"}
    rows = [
        {**EARLIER_DIAGNOSIS, "hadm_id": "20000005", "icd_code": "4019"},
        {**EARLIER_DIAGNOSIS, "hadm_id": "20000005", "seq_num": "2"},
        {**EARLIER_DIAGNOSIS, "seq_num": "2", "icd_code": "42731"},
        {**EARLIER_DIAGNOSIS, "seq_num": "10"},
        {**EARLIER_DIAGNOSIS, "seq_num": "3", "icd_code": ""},
    ]
    context = one(tmp_path, admissions=[oldest, EARLIER_STAY, STAY], diagnoses_icd=rows)
    assert [(code.icd_code, code.hadm_id, code.seq_num) for code in context.earlier_diagnoses] == [
        ("42731", "20000000", 2), ("0389", "20000000", 10), ("4019", "20000005", 1),
    ]  # fmt: skip
    assert left_out(context) == {"diagnoses_repeated": 1, "diagnoses_without_code": 1}


def test_the_target_is_in_the_order_of_the_bill_and_never_in_the_text(tmp_path: Path):
    rows = [{**DIAGNOSIS, "seq_num": "10", "icd_code": "0389", "icd_version": "9"}, {**DIAGNOSIS, "seq_num": "2"}]
    context = one(tmp_path, diagnoses_icd=rows)
    assert [code.icd_code for code in context.target_diagnoses] == ["I10", "0389"]
    assert HYPERTENSION["long_title"] not in context.text
    assert SEPTICEMIA["long_title"] not in context.text


# -- the tables as files ------------------------------------------------------------------------------------------------
def test_studies_come_back_in_their_order_whatever_it_was(tmp_path: Path):
    hosp = write_hosp(tmp_path / "hosp", **WHOLE)
    days = [f"2183-05-{day:02}T12:00:00" for day in (9, 1, 5, 20, 2)]
    studies = [replace(NOON, study_id=f"5000000{number}", study_time=time) for number, time in enumerate(days)]
    assert [(context.study_id, context.study_time) for context in contexts(hosp, iter(studies))] == [
        (study.study_id, study.study_time) for study in studies
    ]


def test_who_stops_early_leaves_nothing_on_the_disk(tmp_path: Path, monkeypatch):
    hosp = write_hosp(tmp_path / "hosp", **WHOLE)
    (tmp_path / "overflow").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "overflow"))
    found = contexts(hosp, [NOON, replace(NOON, study_id="50000002")])
    next(found)
    assert list((tmp_path / "overflow").iterdir())
    found.close()
    assert not list((tmp_path / "overflow").iterdir())


def test_no_studies_are_no_contexts(tmp_path: Path):
    assert list(contexts(write_hosp(tmp_path / "hosp", **WHOLE), [])) == []


def test_two_studies_with_one_id_are_refused(tmp_path: Path):
    with pytest.raises(InputRefused, match="study 50000001"):
        list(contexts(write_hosp(tmp_path / "hosp", **WHOLE), [NOON, at("2183-05-04T13:00:00")]))


@pytest.mark.parametrize("time", ["2183-05-04", "2183-05-04 12:00:00", "2183-05-04T12:00:00Z", "21830504 120000", "2183-05-04T12:00:00.5"])
def test_a_study_time_is_iso_to_the_second(time: str):
    with pytest.raises(InputRefused, match="ISO 8601 to the second"):
        at(time)


def test_files_may_be_unpacked_and_their_columns_in_another_order(tmp_path: Path):
    packed = one(tmp_path)
    hosp = write_hosp(tmp_path / "unpacked", suffix=".csv", **WHOLE)
    lines = list(csv.reader((hosp / "labevents.csv").open(encoding="utf-8", newline="")))
    with (hosp / "labevents.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(line[::-1] for line in lines)  # with CRLF
    assert list(contexts(hosp, [NOON])) == [packed]


def test_comments_with_quotes_commas_and_lines_cost_nothing(tmp_path: Path):
    assert one(tmp_path, labevents=[{**RESULT, "comments": 'HE SAID "NO",\nTWICE.'}]).labs == one(tmp_path / "plain").labs


def test_contexts_are_the_same_where_every_other_column_is_gone(tmp_path: Path):
    whole = write_hosp(tmp_path / "whole", unnamed="LEAK", **WHOLE)
    bare = tmp_path / "bare"
    bare.mkdir()
    for table, allowed in ALLOWED_COLUMNS.items():
        with gzip.open(whole / f"{table}.csv.gz", "rt", newline="") as file, (bare / f"{table}.csv").open("w", newline="") as out:
            writer = csv.DictWriter(out, allowed, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(csv.DictReader(file))
    assert list(contexts(whole, [NOON])) == list(contexts(bare, [NOON]))


def test_what_is_allowed_is_a_column_of_the_publisher():
    assert not {(table, name) for table, allowed in ALLOWED_COLUMNS.items() for name in allowed if name not in HEADERS[table].split(",")}


def test_a_missing_table_and_a_missing_column_are_named(tmp_path: Path):
    hosp = write_hosp(tmp_path / "hosp", **WHOLE)
    (hosp / "labevents.csv.gz").unlink()
    with pytest.raises(InputMissing, match=r"no labevents\.csv\.gz"):
        list(contexts(hosp, [NOON]))
    (hosp / "labevents.csv").write_text("labevent_id,subject_id\n", encoding="utf-8")
    with pytest.raises(InputRefused, match="no column 'itemid'"):
        list(contexts(hosp, [NOON]))


def test_a_damaged_row_is_named_by_its_line_and_never_quoted(tmp_path: Path):
    hosp = write_hosp(tmp_path / "hosp", **{**WHOLE, "labevents": []}, suffix=".csv")
    with (hosp / "labevents.csv").open("a", encoding="utf-8") as file:
        file.write("1,10000001,secret\n")
    with pytest.raises(InputRefused, match=r"a damaged row in line 2") as refused:
        list(contexts(hosp, [NOON]))
    assert "labevents.csv" in refused.value.where
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_table_that_was_cut_off_is_refused(tmp_path: Path):
    rows = [result(number, comments=f"{number * 7919}") for number in range(2000)]
    hosp = write_hosp(tmp_path / "hosp", **{**WHOLE, "labevents": rows})
    data = (hosp / "labevents.csv.gz").read_bytes()
    (hosp / "labevents.csv.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputRefused, match="cannot be read to its end"):
        list(contexts(hosp, [NOON]))


def test_the_table_holds_the_contexts_and_their_counts(tmp_path: Path):
    hosp = write_hosp(tmp_path / "hosp", **{**WHOLE, "labevents": [RESULT, result(2, storetime="")]})
    counts = write_contexts(tmp_path, hosp, [NOON, replace(NOON, study_id="50000002", study_time="2190-01-01T00:00:00")])
    first, second = read_table(tmp_path / CONTEXTS, EhrContext)
    assert [first] == list(contexts(hosp, [NOON]))
    assert second.admission is None
    assert counts == {
        "num_studies": 2, "num_with_admission": 1, "num_labs": 1, "num_medications": 1, "num_earlier_diagnoses": 2 + 1,
        "num_target_diagnoses": 1, "num_diagnoses_without_title": 0, "left_out_labs_without_storetime": 1,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["lab_days", "medication_days", "max_length"])
def test_limits_that_hold_nothing_are_refused(name: str):
    with pytest.raises(ValueError, match=f"{name} = 0"):
        Limits(**{name: 0})
