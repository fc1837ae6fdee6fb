"""Reports of one's own. If these passed wrongly, a hospital's table would be read with the wrong column, in the wrong language or encoding,
or a DICOM file with a patient's name in it would be trained on.
"""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from medvl_lib import sample_data
from medvl_lib.datasets import custom_reports as dataset
from medvl_lib.datasets.report_tables import SIDECAR
from medvl_lib.dicom import IDENTIFYING
from medvl_lib.errors import InputMissing, InputRefused, MedVLError, SettingsError
from medvl_lib.images import ImageStore, UnreadableImage, facts
from medvl_lib.pairs import Draft, Pair, Rejection, store
from medvl_lib.sample_data.custom_reports import dicom
from tests.datasets.readings import pairs, rejections, stored_reasons

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
DICOM, DIALOGUE, COVID = SHARED / "dicom-samples", SHARED / "chinese-medical-dialogue", SHARED / "covid-chestxray-dataset"
HEADER = "image,text,language,subject,report_id\n"


def table(root: Path, text: str, name: str = "reports.csv", *, encoding: str = "utf-8", declared: str = "") -> Path:
    root.mkdir(exist_ok=True)
    (root / name).write_bytes(text.encode(encoding))
    if declared:
        (root / SIDECAR).write_text(declared, encoding="utf-8")
    return root


def test_a_row_becomes_the_pair_that_the_docstring_shows(tmp_path: Path):
    text = HEADER + 'ct/0007 (1).dcm,"右肺上叶见一结节影。",zh,P-12,R-7\nct/0007 (2).dcm,,zh,P-12,R-7\n'
    [draft] = list(dataset.read(table(tmp_path, text)))
    assert isinstance(draft, Draft)
    pair = draft.pair
    assert (pair.pair_id, pair.request, pair.response) == ("custom_reports/reports/000000", "请描述这张医学图像。", "右肺上叶见一结节影。")
    assert (pair.subject_id, pair.document_id, pair.language) == ("P-12", "custom_reports/R-7", "zh")
    assert (pair.source, pair.licence, pair.publisher_split, pair.metadata) == ("reports.csv line 2", "not stated", None, {})
    assert [image.name for image in draft.images] == ["ct/0007 (1).dcm", "ct/0007 (2).dcm"]


def test_several_pictures_of_a_report_may_stand_in_one_cell_or_in_a_list(tmp_path: Path):
    table(tmp_path, "image,text,language\na.png|b (2).png, Clear. ,EN\n")
    row = {"images": ["a.png", "b (2).png"], "report": "Clear.", "lang": "en-GB", "age": 61, "smoker": False, "note": None}
    table(tmp_path, json.dumps(row) + "\n\n", "more.jsonl")
    drafts = [reading for reading in dataset.read(tmp_path) if isinstance(reading, Draft)]
    assert [[image.name for image in draft.images] for draft in drafts] == [["a.png", "b (2).png"]] * 2
    assert [(draft.pair.response, draft.pair.language, draft.pair.metadata) for draft in drafts] == [
        ("Clear.", "en", {"age": "61", "smoker": "false"}), ("Clear.", "en", {}),
    ]  # fmt: skip
    assert drafts[0].pair.pair_id == "custom_reports/more/000000"


@pytest.mark.parametrize(
    "second", ["b.png,Other.,en,P-1,R-1", "b.png,Clear.,en,P-2,R-1", "b.png,Clear.,en,P-1,R-2", "b.png,Clear.,zh,P-1,R-1", "b.png,,en,P-1,"]
)
def test_rows_that_differ_are_reports_of_their_own(second: str, tmp_path: Path):
    found = pairs(dataset.read(table(tmp_path, f"{HEADER}a.png,Clear.,en,P-1,R-1\n{second}\n")))
    assert [pair.pair_id for pair in found] == ["custom_reports/reports/000000", "custom_reports/reports/000001"]


def test_the_columns_of_another_table_are_declared(tmp_path: Path):
    declared = """
        tables = ["export/2024.tsv"]
        images = "films"
        language = "zh"
        licence = "own data"
        [columns]
        image = ["影像"]
        text = ["检查所见", "诊断意见"]
        subject = ["病人"]
        split = ["划分"]
        category = ["诊断"]
        [dicom]
        pseudonyms = ["PatientID"]
    """
    (tmp_path / "export").mkdir()
    table(
        tmp_path,
        "检查号\t影像\t检查所见\t诊断意见\t病人\t划分\t诊断\n7\ta.dcm\t结节影。\t随访。\tP1\tval\t结节\n",
        "export/2024.tsv",
        declared=declared,
    )
    table(tmp_path, "not,a,table\n", "notes.csv")
    [draft] = list(dataset.read(tmp_path))
    assert isinstance(draft, Draft)
    pair = draft.pair
    assert pair.response == "检查所见: 结节影。\n诊断意见: 随访。"
    assert (pair.language, pair.licence, pair.subject_id, pair.publisher_split) == ("zh", "own data", "P1", "validation")
    assert pair.metadata == {"检查号": "7", "category": "结节", "publisher_split": "val"}
    assert draft.images[0].clearance.pseudonyms == {"PatientID"}
    with pytest.raises(FileNotFoundError, match=r"films/a\.dcm"):
        draft.images[0].data()


@pytest.mark.parametrize(
    ("declared", "found", "do"),
    [
        ('langage = "zh"', "unknown key 'langage'", "did you mean 'language'?"),
        ('[columns]\ntxt = ["a"]', "unknown key 'txt'", "did you mean 'text'?"),
        ('[columns]\ntext = "a"', "text = 'a'", "array"), ("[dicom]\nidentity_removed = 1", "identity_removed = 1", "true or false"),
        ('[dicom]\npseudonyms = ["PatientId"]', "pseudonyms = ['PatientId']", "none of the identifying tags"),
        ('[columns]\nsubject = ["a", "b"]', "subject = ['a', 'b']", "one column only"),
        ('encoding = "latin-1"', "encoding = 'latin-1'", "gb18030"),
        ("columns = 5", "columns = 5", "[columns]"), ("language = zh", "not TOML", "mend"),
        ('[columns]\nimage = ["filme"]', "unknown key 'filme'", "did you mean 'film'?"),
        ('tables = ["nowhere.csv"]', "no table 'nowhere.csv'", ".jsonl"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(declared: str, found: str, do: str, tmp_path: Path):
    with pytest.raises(MedVLError) as refused:
        list(dataset.read(table(tmp_path, "film,text\n", declared=declared)))
    assert found in refused.value.found
    assert do in refused.value.do
    assert isinstance(refused.value, SettingsError | InputRefused | InputMissing)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("image,finding\na.png,x\n", "no column of texts among: image, finding"),
        ("image,text,report,language\na.png,x,y,en\n", "text and report, both of which could hold the text"),
        ("image,text,text\n", "two columns named 'text'"),
        ("", "no column of texts"),
    ],
)
def test_a_table_without_one_column_of_texts_is_refused(text: str, found: str, tmp_path: Path):
    with pytest.raises(InputRefused) as refused:
        list(dataset.read(table(tmp_path, text)))
    assert found in refused.value.found
    assert SIDECAR in refused.value.do or "name of its own" in refused.value.do


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",Clear.,en,P,R", "image_absent"), ("../a.png,Clear.,en,P,R", "image_outside_folder"),
        ("C:\\a.png,Clear.,en,P,R", "image_outside_folder"),
        ("a.png,Clear.,,P,R", "language_missing"), ("a.png,Klar.,de,P,R", "request_missing"), ("a.png,Clear.,en", "record_cut"),
        ("a.png,Clear.,en,P,R,x", "record_too_long"),
    ],
)  # fmt: skip
def test_a_broken_row_says_why_and_the_others_are_read(row: str, reason: str, tmp_path: Path):
    readings = list(dataset.read(table(tmp_path, f"{HEADER}{row}\nfilms\\b.png,Clear.,en,P-2,R-2\n")))
    assert [(rejected.reason, rejected.pair_id) for rejected in rejections(readings)] == [(reason, "custom_reports/reports/000000")]
    assert [pair.pair_id for pair in pairs(readings)] == ["custom_reports/reports/000001"]


@pytest.mark.parametrize("line", ["{", "[1]", '{"image": {"a": 1}, "text": "x"}', '{"image": [1], "text": "x"}'])
def test_a_line_that_is_no_record_costs_itself_alone(line: str, tmp_path: Path):
    good = json.dumps({"image": "a.png", "text": "Clear.", "language": "en"})
    readings = list(dataset.read(table(tmp_path, f"{line}\n{good}\n", "r.jsonl")))
    assert [rejected.reason in {"record_malformed", "field_malformed"} for rejected in rejections(readings)] == [True]
    assert [pair.source for pair in pairs(readings)] == ["r.jsonl line 2"]


@pytest.mark.parametrize(("encoding", "kept"), [("utf-8", {}), ("utf-8-sig", {}), ("gbk", {"encoding": "gb18030"})])
def test_the_same_table_in_any_encoding_is_the_same(encoding: str, kept: dict[str, str], tmp_path: Path):
    text = HEADER + "影像/1.png,双肺纹理清晰，未见异常密度影。,zh,病人一,R-1\n" * 5
    found = pairs(dataset.read(table(tmp_path, text, "报告.csv", encoding=encoding)))
    assert {(pair.response, pair.subject_id) for pair in found} == {("双肺纹理清晰，未见异常密度影。", "病人一")}
    assert {tuple(pair.metadata.items()) for pair in found} == {tuple(kept.items())}


def test_a_byte_of_no_encoding_costs_its_row_where_the_encoding_is_declared(tmp_path: Path):
    whole = (HEADER + "1.png,未见异常。,zh,a,1\n2.png,XX,zh,b,2\n").encode("gbk").replace(b"XX", b"\xff\xff")
    table(tmp_path, "", declared='encoding = "gb18030"')
    (tmp_path / "reports.csv").write_bytes(whole)
    readings = list(dataset.read(tmp_path))
    assert [rejected.reason for rejected in rejections(readings)] == ["not_gb18030"]
    assert len(pairs(readings)) == 1
    (tmp_path / SIDECAR).unlink()
    with pytest.raises(InputRefused, match="encoding = "):
        list(dataset.read(tmp_path))


def test_a_split_is_kept_where_it_does_not_leak(tmp_path: Path):
    text = "image,text,language,subject,split\na.png,A,en,P-1,train\nb.png,B,en,P-1,test\nc.png,C,en,P-2,test\nd.png,D,en,P-3,dev\n"
    readings = list(dataset.read(table(tmp_path, text)))
    assert [(pair.subject_id, pair.publisher_split) for pair in pairs(readings)] == [("P-1", None), ("P-1", None), ("P-2", "test")]
    assert [rejected.reason for rejected in rejections(readings)] == ["split_unknown"]


def test_without_patient_and_report_the_picture_is_the_group(tmp_path: Path):
    for name in ("a.png", "copy of a.png"):
        (tmp_path / name).write_bytes(b"the same")
    text = "image,text,language,split,request\na.png,yes,en,train,Is it?\ncopy of a.png,no,en,test,Is it not?\n"
    found = pairs(dataset.read(table(tmp_path, text)))
    assert len({pair.document_id for pair in found}) == 1
    assert {pair.publisher_split for pair in found} == {None}
    assert [pair.request for pair in found] == ["Is it?", "Is it not?"]


def test_a_picture_that_no_row_names_is_rejected(tmp_path: Path):
    for name in ("a.png", "b.PNG", "._a.png", "notes.txt"):
        (tmp_path / name).write_bytes(name.encode())
    [rejected] = rejections(dataset.read(table(tmp_path, "image,text,language\na.png,A,en\n")))
    assert (rejected.reason, rejected.source) == ("row_missing", "b.PNG")


def test_no_table_is_missing(tmp_path: Path):
    with pytest.raises(InputMissing, match=r"\*\.csv"):
        list(dataset.read(tmp_path))


def test_a_dicom_file_is_taken_or_refused_as_the_folder_declares(tmp_path: Path):
    (tmp_path / "a.dcm").write_bytes(dicom(np.zeros((40, 40)), "1.2.3", PatientID="P-1", BurnedInAnnotation=""))
    table(tmp_path, "image,text,language\na.dcm,A,en\n")

    def row() -> Pair | Rejection:
        [draft] = list(dataset.read(tmp_path))
        assert isinstance(draft, Draft)
        return store(draft, ImageStore(tmp_path / "store"))

    refused = row()
    assert isinstance(refused, Rejection)
    assert refused.reason == "dicom_names_patient"
    assert refused.detail.startswith("a.dcm: PatientID: not empty; BurnedInAnnotation")
    (tmp_path / SIDECAR).write_text('[dicom]\npseudonyms = ["PatientID"]\npixels_reviewed = true\n')
    assert isinstance(row(), Pair)


def test_the_invented_set_has_every_form_and_its_defects(tmp_path: Path):
    sample_data.write("custom_reports", tmp_path / "raw")
    readings = list(dataset.read(tmp_path / "raw"))
    assert stored_reasons(readings, tmp_path / "images") == {
        "": 395, "image_absent": 1, "image_missing": 1, "record_malformed": 1, "row_missing": 1, "dicom_names_patient": 1,
        "dicom_may_show_patient": 1,
    }  # fmt: skip
    found = [reading for reading in readings if isinstance(reading, Draft)]
    assert Counter((draft.pair.language, len(draft.images)) for draft in found) == {
        ("en", 1): 30 + 3 + 16 - 1 + 300, ("en", 2): 10, ("zh", 1): 30, ("zh", 2): 10,
    }  # fmt: skip
    assert {draft.pair.metadata.get("encoding") for draft in found if draft.pair.language == "zh"} == {"gb18030"}
    kinds: Counter[str] = Counter()
    for path in (tmp_path / "images").glob("*/*"):
        try:
            kinds[facts(path.read_bytes()).mode] += 1
        except UnreadableImage:
            kinds["unreadable"] += 1
    assert kinds["MONOCHROME1 12 bit"] == kinds["MONOCHROME2 12 bit"] - 1 == 6  # and one of three frames
    assert kinds["unreadable"] == 1


# -- real files --------------------------------------------------------------------------------------------------------
def copied(root: Path, files: dict[str, Path]) -> Path:
    """A raw folder of copies: the samples themselves are never written beside, or through a link."""
    for name, source in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, root / name)
    return root


@pytest.mark.real_data
def test_real_chinese_text_in_gbk_is_read_and_has_no_pictures(tmp_path: Path):
    if not DIALOGUE.is_dir():
        pytest.skip(f"the Chinese dialogues are not at {DIALOGUE}")
    readings = list(dataset.read(DIALOGUE))
    assert Counter(rejected.reason for rejected in rejections(readings)) == {"image_absent": 400}
    assert pairs(readings) == []
    [source] = DIALOGUE.glob("*.csv")
    declared = 'language = "zh"\n[columns]\nimage = ["department"]\n'  # any column will do, to see the texts
    expected = source.read_bytes().decode("gbk")
    found = pairs(dataset.read(table(tmp_path, expected, encoding="gbk", declared=declared)))
    assert len(found) == 400
    assert all(pair.response in expected and pair.request in expected for pair in found)
    assert {pair.metadata["encoding"] for pair in found} == {"gb18030"}


@pytest.mark.real_data
def test_real_dicom_files_are_refused_as_they_are_and_read_once_they_are_cleared(tmp_path: Path):
    if not DICOM.is_dir():
        pytest.skip(f"the DICOM samples are not at {DICOM}")
    files = {path.name: path for path in sorted(DICOM.rglob("*.dcm"))}
    rows = "".join(f"{name},A picture.,en\n" for name in files)
    table(copied(tmp_path / "raw", files), f"image,text,language\n{rows}")
    assert stored_reasons(dataset.read(tmp_path / "raw"), tmp_path / "images") == {"dicom_names_patient": 14}
    assert not (tmp_path / "images").exists()
    vouched = f"[dicom]\npseudonyms = {json.dumps(list(IDENTIFYING))}\nidentity_removed = true\npixels_reviewed = true\n"
    (tmp_path / "raw" / SIDECAR).write_text(vouched, encoding="utf-8")
    assert stored_reasons(dataset.read(tmp_path / "raw"), tmp_path / "images") == {"": 14}


@pytest.mark.real_data
def test_a_real_file_whose_names_were_emptied_is_taken(tmp_path: Path):
    if not DICOM.is_dir():
        pytest.skip(f"the DICOM samples are not at {DICOM}")
    emptied = pydicom.dcmread(DICOM / "pydicom-data" / "emri_small.dcm")
    emptied.PatientBirthDate = ""
    emptied.save_as(tmp_path / "mr.dcm")
    table(tmp_path, "image,text,language\nmr.dcm,A picture.,en\n")
    assert stored_reasons(dataset.read(tmp_path), tmp_path / "images") == {"": 1}


@pytest.mark.real_data
def test_a_real_table_of_radiographs_is_read_by_declaring_its_columns(tmp_path: Path):
    if not COVID.is_dir():
        pytest.skip(f"the chest radiographs are not at {COVID}")
    pictures: dict[str, Path] = {f"images/{path.name}": path for path in sorted((COVID / "images").iterdir())}
    declared: dict[str, Any] = {
        "image": "filename",
        "text": "clinical_notes",
        "subject": "patientid",
        "licence": "license",
        "category": "finding",
    }
    columns = "".join(f"{what} = [{name!r}]\n" for what, name in declared.items())
    copied(tmp_path / "raw", {"metadata.csv": COVID / "metadata.csv", **pictures})
    (tmp_path / "raw" / SIDECAR).write_text(f"images = 'images'\nlanguage = 'en'\n[columns]\n{columns}", encoding="utf-8")
    readings = list(dataset.read(tmp_path / "raw"))
    assert stored_reasons(readings, tmp_path / "images") == {"": 56, "image_missing": 16}
    found = pairs(readings)
    assert Counter(pair.licence for pair in found) == {
        "CC BY": 2, "CC BY-SA": 1, "CC BY-NC-SA": 60, "CC BY-NC-SA 4.0": 9,
    }  # fmt: skip
    assert len({pair.subject_id for pair in found}) == 39
