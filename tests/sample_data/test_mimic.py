"""Invented MIMIC. If these passed wrongly, a model would learn labels that its reports deny, or the future would stand in the past."""

import csv
import datetime as dt
import gzip
import shutil
from collections import Counter
from dataclasses import replace
from operator import itemgetter
from pathlib import Path

import pytest

from medvl_lib import sample_data
from medvl_lib.datasets import mimic_cxr, mimic_cxr_records
from medvl_lib.datasets.mimic_cxr_tables import SUBJECT_ID, read_tables
from medvl_lib.datasets.mimic_cxr_texts import read_findings, read_impression
from medvl_lib.datasets.raw_folder import INVENTED_LICENCE
from medvl_lib.ehr.contexts import CONTEXTS
from medvl_lib.ehr.facts import EhrContext
from medvl_lib.errors import InputRefused, MedVLError
from medvl_lib.pairs import Pair
from medvl_lib.sample_data.mimic_iv import COLUMNS, ITEMS
from medvl_lib.sample_data.mimic_patients import DIAGNOSES, draw_patient
from medvl_lib.sample_data.mimic_reports import MASKED_EVERY
from medvl_lib.tables import read_table, write_table
from tests.datasets.readings import pairs, rejections, stored_reasons


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mimic") / "raw"
    sample_data.write("mimic_cxr", folder, counts={"train": 36, "validate": 6, "test": 20})
    return folder


def table(root: Path, name: str) -> list[dict[str, str]]:
    with gzip.open(root / "mimic-iv" / "hosp" / f"{name}.csv.gz", "rt", encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_invented_set_has_its_defects_and_no_others(root: Path, tmp_path: Path):
    readings = list(mimic_cxr.read(root))
    assert stored_reasons(readings, tmp_path) == {
        "": 156, "findings_absent": 7, "impression_absent": 5, "findings_masked": 1, "impression_masked": 1, "report_missing": 1,
        "image_missing": 2, "duplicate_record": 1, "record_cut": 1, "row_missing": 1,
    }  # fmt: skip
    assert {pair.licence for pair in pairs(readings)} == {INVENTED_LICENCE}
    without_labels = [pair.metadata["stage"] for pair in pairs(readings) if "chexpert" in pair.metadata]
    assert without_labels == ["impression", "reasoning"]


def test_every_part_has_pairs_of_both_stages_and_views_and_forms_of_every_kind(root: Path):
    found = pairs(mimic_cxr.read(root))
    assert {(pair.publisher_split, pair.metadata["stage"]) for pair in found} == {
        (split, stage) for split in ("train", "validation", "test") for stage in ("impression", "reasoning")
    }
    assert {pair.metadata["view_positions"] for pair in found} == {"PA|LATERAL", "AP", ""}
    assert {pair.metadata["section"] for pair in found} == {"findings", "impression", "findings_and_impression", "unnamed"}
    assert all(pair.metadata["study_time"][:2] == "21" for pair in found)
    times = [row["StudyTime"] for row in _metadata(root) if row["StudyTime"]]  # the last row is cut
    assert min(len(time.partition(".")[0]) for time in times) < 6


def _metadata(root: Path) -> list[dict[str, str]]:
    with gzip.open(root / "mimic-cxr-2.0.0-metadata.csv.gz", "rt", encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_what_the_reports_say_is_what_was_drawn_and_what_the_labels_say(root: Path):
    drawn = {str(study.study_id): study.chest for number in range(62) for study in draw_patient(sample_data.SEED, "", number).studies}
    checked = Counter[str]()
    for pair in pairs(mimic_cxr.read(root)):
        if (chest := drawn.get(pair.metadata["study_id"])) is None:
            continue
        checked[pair.metadata["stage"]] += 1
        if pair.metadata["stage"] == "reasoning":
            said = read_findings(pair.response).lower()
            assert ("the heart is enlarged" in said, "the heart is of normal size" in said) == (
                chest.has_large_heart,
                not chest.has_large_heart,
            )
            assert (f"in the {chest.side} {chest.zone} zone" in said) == bool(chest.side)
        else:
            answer = read_impression(pair.response)
            assert (answer.labels.get("Lung Opacity") == "present") == bool(chest.side)
            assert ("opacity in the" in answer.impression) == bool(chest.side)
            assert (answer.labels.get("Cardiomegaly") == "present") == chest.has_large_heart
            assert ("No Finding" in answer.labels) == (not chest.side and not chest.has_large_heart)
        assert "___" not in pair.request + pair.response
        assert "fracture" not in pair.response.lower(), "a wet read is no part of the final report"
    assert checked == {"impression": 78, "reasoning": 76}


def test_every_state_of_a_label_occurs(root: Path):
    cells = Counter(cell for study in read_tables(root).studies.values() for cell in study.cells or ())
    assert set(cells) == {"1.0", "0.0", "-1.0", ""}


def test_masks_are_there_before_they_are_taken_out(root: Path):
    assert MASKED_EVERY == 3
    counted = [pair for pair in pairs(mimic_cxr.read(root)) if pair.metadata.get("num_masked_sentences_removed") == "1"]
    assert len(counted) > 30


def test_the_records_have_the_publishers_columns_and_ids_of_their_own(root: Path):
    assert {path.name for path in (root / "mimic-iv" / "hosp").iterdir()} == {f"{name}.csv.gz" for name in COLUMNS}
    for name, columns in COLUMNS.items():
        rows = table(root, name)
        assert rows, name
        assert tuple(rows[0]) == columns
        assert all(SUBJECT_ID.fullmatch(row["subject_id"]) for row in rows if "subject_id" in row)
    in_tables = {row["subject_id"] for row in table(root, "patients")}
    studied = {study.subject_id for study in read_tables(root).studies.values()}
    assert in_tables < studied
    assert len(in_tables) == 59


def test_every_diagnosis_has_a_title_in_its_version_and_one_code_means_two_things(root: Path):
    titles = {(row["icd_code"], row["icd_version"]): row["long_title"] for row in table(root, "d_icd_diagnoses")}
    diagnosed = [(row["icd_code"], row["icd_version"]) for row in table(root, "diagnoses_icd")]
    assert all(titles[each] for each in diagnosed)
    assert any(code.startswith("0") for code, _ in diagnosed)
    assert titles["E8889", "9"] != titles["E8889", "10"]
    assert len(titles) == 2 * len(DIAGNOSES)


def test_picture_and_laboratory_together_give_the_diagnosis_and_neither_does_alone():
    seen: dict[tuple[bool, bool], set[tuple[str, ...]]] = {}
    measured: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    both: dict[tuple[object, ...], set[tuple[str, ...]]] = {}
    for number in range(8):
        condition = draw_patient(sample_data.SEED, "train", number).condition
        picture = (condition.has_opacity, condition.has_large_heart)
        seen.setdefault(picture, set()).add(condition.diagnoses)
        measured.setdefault(condition.high, set()).add(condition.diagnoses)
        both.setdefault((*picture, condition.high), set()).add(condition.diagnoses)
    assert all(len(diagnoses) == 1 for diagnoses in both.values())
    assert max(map(len, seen.values())) > 1
    assert max(map(len, measured.values())) > 1


def test_what_is_stored_before_the_study_agrees_with_the_condition_and_the_rest_contradicts_it(root: Path):
    patients = {str(patient.subject_id): patient for patient in (draw_patient(sample_data.SEED, "", number) for number in range(62))}
    early, late = Counter[bool](), Counter[bool]()
    item_names = {str(item.itemid): name for name, item in ITEMS.items()}
    for row in table(root, "labevents"):
        patient = patients[row["subject_id"]]
        if row["itemid"] not in item_names or not row["value"].replace(".", "").isdigit():
            continue
        agrees = (row["flag"] == "abnormal") == (item_names[row["itemid"]] in patient.condition.high)
        times = [study.taken_at for study in patient.studies]
        stored = dt.datetime.fromisoformat(row["storetime"]) if row["storetime"] else None
        nearest = min(times, key=lambda time: abs((time - dt.datetime.fromisoformat(row["charttime"])).total_seconds()))
        (early if stored is not None and stored < nearest else late)[agrees] += 1
    assert set(early) == {True}
    assert set(late) == {False}
    assert min(early[True], late[False]) > 500


def test_the_quirks_of_the_real_tables_are_there(root: Path):
    labs, drugs, stays = table(root, "labevents"), table(root, "prescriptions"), table(root, "admissions")
    assert {"___", ""} <= {row["value"] for row in labs}
    assert any(row["value"].startswith("HOLD.") for row in labs)
    assert any('"' in row["comments"] and "," in row["comments"] for row in labs)
    assert any(not row["storetime"] for row in labs)
    assert any(not row["hadm_id"] for row in labs)
    assert {"325-650", "5,000"} <= {row["dose_val_rx"] for row in drugs}
    assert any(row["stoptime"] < row["starttime"] for row in drugs)
    by_patient: dict[str, list[dict[str, str]]] = {}
    for stay in stays:
        by_patient.setdefault(stay["subject_id"], []).append(stay)
    overlapping = [
        subject for subject, theirs in by_patient.items()
        if any(a["admittime"] < b["admittime"] < a["dischtime"] for a in theirs for b in theirs)
    ]  # fmt: skip
    assert len(overlapping) >= 2
    studies = read_tables(root).studies.values()
    times = [(study.subject_id, study.taken_at.isoformat(" ", "seconds")) for study in studies if study.taken_at is not None]
    inside = [
        subject for subject, time in times
        if any(stay["admittime"] <= time <= stay["dischtime"] for stay in by_patient.get(subject, []))
    ]  # fmt: skip
    assert 0 < len(inside) < len(studies)
    assert len({row["label"] for row in table(root, "d_labitems")}) < len(table(root, "d_labitems"))
    assert "91" in {row["anchor_age"] for row in table(root, "patients")}
    assert rejections(mimic_cxr.read(root))


# -- with the EHR context ----------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def records(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    mimic_cxr_records.write(root, folder)
    return folder


def reasoning(root: Path, records: Path) -> dict[str, Pair]:
    found = (pair for pair in pairs(mimic_cxr.read(root, records)) if pair.metadata["stage"] == "reasoning")
    return {pair.metadata["study_id"]: pair for pair in found}


def test_a_reasoning_pair_shows_what_was_on_record_before_the_study_and_nothing_of_later(root: Path, records: Path):
    found, checked = reasoning(root, records), Counter[str]()
    labels = {name: item.label for name, item in ITEMS.items()}
    for patient in (draw_patient(sample_data.SEED, "", number) for number in range(62)):
        for study in patient.studies:
            if (pair := found.get(str(study.study_id))) is None:
                continue
            _, _, record = pair.request.partition("On record before the study:\n")
            assert record.startswith("Patient: ")
            is_known = patient.is_in_tables and any(stay.study == study for stay in patient.stays)
            high, drugs = (patient.condition.high, patient.condition.drugs) if is_known else ((), ())
            assert {name for name, label in labels.items() if label in record} == set(high)  # later results are the opposite
            assert ("Heparin" in record) == ("heparin" in drugs)  # everybody gets some after the study
            assert ("none at the time of the study" in record) == (not is_known)
            assert ("Diagnoses:" in pair.response) == is_known
            checked["known"] += is_known
            checked["not known"] += not is_known
            checked["abnormal"] += bool(high)
    assert checked == {"known": 66, "not known": 10, "abnormal": 42}


def test_the_diagnoses_that_are_wanted_are_those_of_the_admission_with_their_titles(root: Path, records: Path):
    patient = draw_patient(sample_data.SEED, "", 1)
    [study] = patient.studies
    assert (patient.condition.diagnoses, patient.icd_version) == (("heart_failure", "hypertension"), 9)
    pair = reasoning(root, records)[str(study.study_id)]
    assert pair.request.startswith("Describe the findings of this chest radiograph study, then name the ICD diagnoses of the admission.\n")
    assert pair.response == (
        "Findings: The lungs are clear. The heart is enlarged. No pleural effusion or pneumothorax.\n\n"
        "Diagnoses:\n- ICD-9 4280: Congestive heart failure, unspecified\n- ICD-9 4019: Unspecified essential hypertension"
    )


def test_no_pair_of_the_impression_sees_a_record(root: Path, records: Path):
    requests = {pair.request for pair in pairs(mimic_cxr.read(root, records)) if pair.metadata["stage"] == "impression"}
    assert requests == {"Write the impression of this chest radiograph study, then its CheXpert labels."}


def test_the_records_keep_their_rules_and_one_of_the_future_does_not(root: Path, records: Path, tmp_path: Path):
    rules = mimic_cxr_records.rules(root)
    assert [rule.name for rule in rules if not rule.holds(records).passed] == []
    contexts = list(read_table(records / CONTEXTS, EhrContext))
    texts = {context.study_id: context.text for context in contexts}
    assert all(pair.request.endswith(texts[study_id]) for study_id, pair in reasoning(root, records).items())
    place, context = next((place, context) for place, context in enumerate(contexts) if context.labs)
    [lab, *others] = context.labs
    later = max((row for row in table(root, "labevents") if row["subject_id"] == context.subject_id), key=itemgetter("charttime"))
    contexts[place] = replace(context, labs=(replace(lab, labevent_id=later["labevent_id"]), *others))
    write_table(tmp_path / CONTEXTS, EhrContext, contexts)
    assert [rule.name for rule in rules if not rule.holds(tmp_path).passed] == ["no_future_information"]


def test_without_mimic_iv_there_are_no_records_and_none_may_be_there(root: Path, records: Path, tmp_path: Path):
    alone = shutil.copytree(root, tmp_path / "raw", ignore=shutil.ignore_patterns("mimic-iv"))
    (tmp_path / "records").mkdir()
    assert mimic_cxr_records.write(alone, tmp_path / "records") == {"num_studies": 0}
    assert [rule.name for rule in mimic_cxr_records.rules(alone) if not rule.holds(tmp_path / "records").passed] == []
    assert {pair.request for pair in reasoning(alone, tmp_path / "records").values()} == {
        "Describe the findings of this chest radiograph study."
    }
    assert mimic_cxr_records.rules(alone)[0].holds(records).passed is False


def test_records_of_other_studies_are_refused(root: Path, records: Path, tmp_path: Path):
    write_table(tmp_path / CONTEXTS, EhrContext, list(read_table(records / CONTEXTS, EhrContext))[1:])
    with pytest.raises(MedVLError, match="study 59000000 beside the record of 59000001"):
        list(mimic_cxr.read(root, tmp_path))


def test_a_folder_hosp_twice_is_refused(root: Path, tmp_path: Path):
    twice = shutil.copytree(root, tmp_path / "raw")
    shutil.copytree(twice / "mimic-iv", twice / "mimic-iv-3.1")
    with pytest.raises(InputRefused, match="2 folders of MIMIC-IV"):
        list(mimic_cxr.read(twice))
