"""MIMIC-CXR. If these passed wrongly, a report would be taught with another study's picture, or a study be dated after what it saw."""

import datetime as dt
import gzip
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from medvl_lib.datasets import mimic_cxr as dataset
from medvl_lib.datasets.mimic_cxr_tables import read_tables, taken_at
from medvl_lib.datasets.mimic_cxr_texts import OBSERVATIONS, Record
from medvl_lib.errors import InputMissing, InputRefused
from tests.datasets.readings import pairs, rejections, stored_reasons

METADATA = (
    "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime,"
    "ProcedureCodeSequence_CodeMeaning"
)
REPORT = "                 FINAL REPORT\n INDICATION: ___.\n\n FINDINGS:  The lungs are\n clear.\n\n IMPRESSION:  No acute process.\n"


def dicom_id(number: int) -> str:
    return "-".join([f"{number:08x}"] * 5)


def picture(
    number: int, subject: int = 10000032, study: int = 50414267, view: str = "PA", date: str = "21800506", time: str = "213014.531"
) -> str:
    return f'{dicom_id(number)},{subject},{study},"CHEST (PA AND LAT)",{view},3056,2544,{date},{time},CHEST'


def write(
    root: Path, metadata: Sequence[str], *, split: Mapping[int, str] | None = None, labels: Sequence[str] = (), report: str | None = REPORT,
    packed: bool = True, version: str = "2.0.0",
) -> Path:  # fmt: skip
    """A tree with the tables, and every picture and report that the metadata name."""
    rows = [row.split(",") for row in metadata]
    split_rows = [f"{row[0]},{row[2]},{row[1]},{(split or {}).get(int(row[0][:8], 16), 'train')}" for row in rows if len(row) > 2]
    tables = {
        "metadata": [METADATA, *metadata],
        "split": ["dicom_id,study_id,subject_id,split", *split_rows],
        "chexpert": [",".join(["subject_id", "study_id", *OBSERVATIONS]), *labels],
    }
    root.mkdir(parents=True, exist_ok=True)
    for name, lines in tables.items():
        data = ("\n".join(lines) + "\n").encode()
        path = root / f"mimic-cxr-{version}-{name}.csv{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(data) if packed else data)
    for row in rows:
        if len(row) > 2:
            folder = root / "files" / f"p{row[1][:2]}" / f"p{row[1]}" / f"s{row[2]}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{row[0]}.jpg").write_bytes(row[0].encode())
            if report is not None:
                folder.with_suffix(".txt").write_text(report, encoding="utf-8")
    return root


def label_row(study: int = 50414267, subject: int = 10000032, **stated: str) -> str:
    cells = {name: stated.get(name.replace(" ", "_"), "") for name in OBSERVATIONS}
    return ",".join([str(subject), str(study), *cells.values()])


# -- pairs -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("packed", [True, False])
def test_a_study_of_two_pictures_is_a_pair_for_each_stage(packed: bool, tmp_path: Path):
    labels = [label_row(No_Finding="1.0", Edema="0.0", Pneumonia="-1.0")]
    write(tmp_path, [picture(1), picture(2, view="LATERAL")], labels=labels, packed=packed)
    readings = list(dataset.read(tmp_path))
    impression, reasoning = pairs(readings)
    assert (impression.pair_id, reasoning.pair_id) == ("mimic_cxr/s50414267/impression", "mimic_cxr/s50414267/reasoning")
    assert impression.response == "Impression: No acute process.\nCheXpert labels: Edema absent, No Finding present, Pneumonia uncertain"
    assert reasoning.response == "Findings: The lungs are clear."
    assert {pair.document_id for pair in (impression, reasoning)} == {"mimic_cxr/s50414267"}
    assert (impression.subject_id, impression.publisher_split, impression.language) == ("10000032", "train", "en")
    assert impression.licence == "PhysioNet Credentialed Health Data License 1.5.0"
    table = f"mimic-cxr-2.0.0-metadata.csv{'.gz' if packed else ''}"
    assert impression.source == f"{table} line 2 + files/p10/p10000032/s50414267.txt"
    assert impression.metadata == {
        "stage": "impression", "study_id": "50414267", "study_time": "2180-05-06T21:30:14", "view_positions": "PA|LATERAL",
        "procedures": "CHEST (PA AND LAT)", **dict.fromkeys(OBSERVATIONS, ""), "No Finding": "1.0", "Edema": "0.0", "Pneumonia": "-1.0",
        "publisher_split": "train", "section": "impression",
    }  # fmt: skip
    assert reasoning.metadata == impression.metadata | {"stage": "reasoning", "section": "findings"}
    folder = "files/p10/p10000032/s50414267"
    for draft in readings:
        assert [image.name for image in draft.images] == [f"{folder}/{dicom_id(1)}.jpg", f"{folder}/{dicom_id(2)}.jpg"]
        assert [image.data() for image in draft.images] == [dicom_id(1).encode(), dicom_id(2).encode()]


def test_an_empty_view_is_kept_as_one(tmp_path: Path):
    write(tmp_path, [picture(1, view=""), picture(2, view="AP AXIAL"), picture(3, view="")])
    assert {pair.metadata["view_positions"] for pair in pairs(dataset.read(tmp_path))} == {"|AP AXIAL|"}


def test_a_study_without_a_row_of_labels_says_so_and_is_no_error(tmp_path: Path):
    write(tmp_path, [picture(1)], labels=[label_row(study=50000001, subject=10000999, Edema="1.0")])
    impression, reasoning = pairs(dataset.read(tmp_path))
    assert impression.response == "Impression: No acute process."
    assert impression.metadata["chexpert"] == reasoning.metadata["chexpert"] == "the table has no row of this study"
    assert not set(OBSERVATIONS) & impression.metadata.keys()


def test_the_publishers_split_is_kept_by_patient(tmp_path: Path):
    rows = [picture(1, 10000001, 50000001), picture(2, 10000002, 50000002), picture(3, 10000003, 50000003), picture(4, 10000003, 50000004)]
    write(tmp_path, rows, split={2: "validate", 3: "test", 4: "train"})
    found = {
        pair.metadata["study_id"]: (pair.publisher_split, pair.metadata.get("publisher_split")) for pair in pairs(dataset.read(tmp_path))
    }
    assert found == {
        "50000001": ("train", "train"), "50000002": ("validation", "validation"), "50000003": (None, None), "50000004": (None, None),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("213014.531", (21, 30, 14, 531000)), ("82345.5", (8, 23, 45, 500000)), ("123.002", (0, 1, 23, 2000)), ("0", (0, 0, 0, 0)),
        ("5.0", (0, 0, 5, 0)), ("235959.9999999", (23, 59, 59, 999999)), (" 101500. ", (10, 15, 0, 0)),
    ],
)  # fmt: skip
def test_a_time_that_lost_its_leading_zeros_is_read(time: str, expected: tuple[int, int, int, int]):
    hour, minute, second, microsecond = expected
    assert taken_at("21800506", time) == dt.datetime(2180, 5, 6, hour, minute, second, microsecond)  # noqa: DTZ001 - it has no zone


@pytest.mark.parametrize(
    ("date", "time"), [("21801306", "1"), ("2180506", "1"), ("21800506", "240000"), ("21800506", ""), ("21800506", "1e5"), ("", "9")]
)
def test_a_time_that_is_none_is_none(date: str, time: str):
    assert taken_at(date, time) is None


def test_a_study_is_as_early_as_its_earliest_picture_and_never_dated_by_guess(tmp_path: Path):
    first = [picture(1, time="93000.9"), picture(2, time="92959.9"), picture(3, time="")]
    write(tmp_path, [*first, picture(4, study=50000009, date="", time="")])
    times = {pair.metadata["study_id"]: pair.metadata["study_time"] for pair in pairs(dataset.read(tmp_path))}
    assert times == {"50414267": "2180-05-06T09:29:59", "50000009": ""}


def test_what_is_on_record_about_a_patient_goes_into_the_reasoning_pair_of_its_study_alone(tmp_path: Path):
    write(tmp_path, [picture(1), picture(2, study=50000009)])
    record = Record("Patient: 63 years old, female", "Diagnoses:\n- ICD-10 I509: Heart failure, unspecified")
    tables = read_tables(tmp_path)
    records = {"50000009": record}
    readings = [
        each for study in tables.studies.values()
        for each in dataset.study_readings(study, tables, records.get(study.study_id), "CC0-1.0")
    ]  # fmt: skip
    found = {pair.pair_id: pair for pair in pairs(readings)}
    with_record = [name for name, pair in found.items() if "63 years" in pair.request or "I509" in pair.response]
    assert with_record == ["mimic_cxr/s50000009/reasoning"]
    assert found[with_record[0]].response == "Findings: The lungs are clear.\n\nDiagnoses:\n- ICD-10 I509: Heart failure, unspecified"


# -- masks and missing sections ----------------------------------------------------------------------------------------
def test_masks_are_taken_out_of_what_is_wanted_and_counted(tmp_path: Path):
    report = "FINDINGS: Compared to ___, the heart is large. Dr. ___ was told.\n IMPRESSION: Large heart since ___. Edema from ___ on."
    write(tmp_path, [picture(1)], report=report)
    impression, reasoning = pairs(dataset.read(tmp_path))
    assert (impression.response, reasoning.response) == ("Impression: Large heart.", "Findings: The heart is large.")
    counted = [
        (pair.metadata["num_masked_phrases_removed"], pair.metadata["num_masked_sentences_removed"]) for pair in (impression, reasoning)
    ]
    assert counted == [("1", "1"), ("1", "1")]


@pytest.mark.parametrize(
    ("report", "reasons"),
    [
        ("FINDINGS: Clear lungs.\n", {"impression_absent"}),
        ("INDICATION: Cough.\n IMPRESSION: Clear.\n", {"findings_absent"}),
        ("FINDINGS: ___.\n IMPRESSION: Clear.", {"findings_masked"}),
        ("FINDINGS: Clear.\n IMPRESSION: Discussed with Dr. ___.", {"impression_masked"}),
        ("INDICATION: Cough.", {"findings_absent", "impression_absent"}),
    ],
)
def test_a_stage_without_its_text_is_left_out_with_the_reason(report: str, reasons: set[str], tmp_path: Path):
    write(tmp_path, [picture(1)], report=report)
    readings = list(dataset.read(tmp_path))
    assert {rejected.reason for rejected in rejections(readings)} == reasons
    assert len(pairs(readings)) == 2 - len(reasons)


@pytest.mark.parametrize(("report", "reason"), [(None, "report_missing"), (" \n", "report_empty")])
def test_a_study_without_a_report_is_left_out_once(report: str | None, reason: str, tmp_path: Path):
    write(tmp_path, [picture(1), picture(2)], report=report)
    [rejected] = dataset.read(tmp_path)
    assert (rejected.pair_id, rejected.reason) == ("mimic_cxr/s50414267", reason)


def test_a_report_of_other_bytes_is_left_out(tmp_path: Path):
    write(tmp_path, [picture(1)])
    (tmp_path / "files/p10/p10000032/s50414267.txt").write_bytes(b"FINDINGS: J\xf6nk\xf6ping.")
    [rejected] = rejections(dataset.read(tmp_path))
    assert rejected.reason == "not_utf8"


def test_no_rejection_says_what_a_report_says(tmp_path: Path):
    write(tmp_path, [picture(1)], report="FINDINGS: Zebra ___.\n IMPRESSION: ___ zebra.")
    assert not [rejected for rejected in rejections(dataset.read(tmp_path)) if "zebra" in repr(rejected).lower()]


# -- what is broken ----------------------------------------------------------------------------------------------------
def test_a_study_of_which_a_picture_is_missing_is_left_out_by_name(tmp_path: Path):
    write(tmp_path / "raw", [picture(1), picture(2)])
    (tmp_path / f"raw/files/p10/p10000032/s50414267/{dicom_id(2)}.jpg").unlink()
    assert stored_reasons(dataset.read(tmp_path / "raw"), tmp_path / "images") == {"image_missing": 2}


def test_a_picture_without_a_row_is_named(tmp_path: Path):
    write(tmp_path, [picture(1)])
    (tmp_path / f"files/p10/p10000032/s50414267/{dicom_id(7)}.jpg").write_bytes(b"picture")
    [rejected] = rejections(dataset.read(tmp_path))
    assert (rejected.reason, rejected.source) == ("row_missing", f"files/p10/p10000032/s50414267/{dicom_id(7)}.jpg")


def test_spoilt_rows_cost_themselves_and_are_named(tmp_path: Path):
    rows = [
        picture(1), picture(1), picture(2, subject=10000033), picture(3).replace("50414267", "../../x"), "cut,short",
        picture(4, study=50000009),
    ]  # fmt: skip
    labels = [label_row(Edema="1.0"), label_row(Edema="0.0"), label_row(50000009, Edema="2.0")]
    write(tmp_path, rows, split={4: "training"}, labels=labels)
    readings = list(dataset.read(tmp_path))
    assert Counter(rejected.reason for rejected in rejections(readings)) == {
        "duplicate_record": 2, "ids_contradict": 1, "field_malformed": 3, "record_cut": 1, "split_unknown": 1, "row_missing": 2,
    }  # fmt: skip
    assert {pair.metadata["study_id"]: pair.metadata.get("Edema") for pair in pairs(readings)} == {"50414267": "1.0", "50000009": None}
    places = {rejected.source for rejected in rejections(readings) if rejected.reason == "duplicate_record"}
    assert places == {"mimic-cxr-2.0.0-metadata.csv.gz line 3", "mimic-cxr-2.0.0-chexpert.csv.gz line 3"}


def test_a_missing_table_or_folder_is_refused_with_the_way_out(tmp_path: Path):
    with pytest.raises(InputMissing, match="no such folder"):
        list(dataset.read(tmp_path / "nowhere"))
    write(tmp_path, [picture(1)])
    (tmp_path / "mimic-cxr-2.0.0-chexpert.csv.gz").unlink()
    with pytest.raises(InputMissing, match=r"mimic-cxr-2\.0\.0-chexpert"):
        list(dataset.read(tmp_path))


def test_a_table_twice_cut_or_without_a_column_is_refused_by_name(tmp_path: Path):
    twice = write(tmp_path / "twice", [picture(1)])
    write(twice, [picture(1)], version="2.1.0")
    with pytest.raises(InputRefused, match="2 tables metadata"):
        list(dataset.read(twice))
    cut = write(tmp_path / "cut", [picture(number) for number in range(1, 60)])
    table = cut / "mimic-cxr-2.0.0-metadata.csv.gz"
    table.write_bytes(table.read_bytes()[:-200])
    with pytest.raises(InputRefused, match="unpacked to its end"):
        list(dataset.read(cut))
    other = write(tmp_path / "other", [picture(1)], packed=False)
    (other / "mimic-cxr-2.0.0-split.csv").write_text("dicom_id,study_id,split\n", encoding="utf-8")
    with pytest.raises(InputRefused, match="no column 'subject_id'"):
        list(dataset.read(other))


def test_the_tree_is_found_below_the_raw_folder(tmp_path: Path):
    write(tmp_path / "physionet.org" / "files" / "mimic-cxr-jpg" / "2.0.0", [picture(1)])
    assert [pair.source for pair in pairs(dataset.read(tmp_path))] == [
        "physionet.org/files/mimic-cxr-jpg/2.0.0/mimic-cxr-2.0.0-metadata.csv.gz line 2 + files/p10/p10000032/s50414267.txt"
    ] * 2
