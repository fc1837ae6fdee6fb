"""PAD-UFES-20. If these passed wrongly, one patient's lesions would be in two splits, or a row without a picture would vanish uncounted."""

from collections import Counter
from pathlib import Path

import pytest

from medvl_lib import sample_data
from medvl_lib.datasets import pad_ufes_20 as dataset
from medvl_lib.errors import InputMissing, InputRefused
from medvl_lib.images import ImageStore, facts
from medvl_lib.pairs import Draft, Pair, store
from tests.datasets.readings import pairs, rejections, stored_reasons

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "PAD-UFES-20"
HEADER = ",".join(dataset.COLUMNS)
WHOLE = (
    "PAT_46,881,False,False,POMERANIA,BRASIL,55,False,FEMALE,True,True,True,True,3.0,NECK,6.0,5.0,BCC,True,UNK,False,True,True,True,"
    "PAT_46_881_939.png,True"
)
UNASKED = "PAT_1516,1765,,,,,8,,,,,,,,ARM,,,NEV,False,False,False,False,False,False,PAT_1516_1765_530.png,False"


def folder(root: Path, *rows: str, pictures: tuple[str, ...] = (), newline: str = "\n") -> Path:
    (root / "metadata.csv").write_text(newline.join([HEADER, *rows, ""]), encoding="utf-8", newline="")
    for place in pictures:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(place.encode())
    return root


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_row_becomes_the_pair_that_the_docstring_shows(newline: str, tmp_path: Path):
    [first, second] = pairs(dataset.read(folder(tmp_path, WHOLE, UNASKED, newline=newline)))
    assert (first.pair_id, first.subject_id, first.document_id) == ("pad_ufes_20/PAT_46_881_939", "PAT_46", "pad_ufes_20/PAT_46/881")
    assert first.response == (
        "Clinical photograph of a skin lesion on the neck, 6 x 5 mm, elevated, skin type 3: basal cell carcinoma (BCC)."
    )
    assert (first.source, first.licence, first.publisher_split) == ("metadata.csv line 2", "CC-BY-4.0", None)
    assert first.metadata["category"] == first.metadata["diagnostic"] == "BCC"
    assert first.metadata["answer_labels"].split("|")[1] == "BCC=basal cell carcinoma"
    assert second.response == "Clinical photograph of a skin lesion on the arm, not elevated: nevus (NEV)."


def test_unk_is_not_empty_and_official_spellings_stay(tmp_path: Path):
    [first, second] = pairs(dataset.read(folder(tmp_path, WHOLE, UNASKED)))
    assert (first.metadata["grew"], first.metadata["background_mother"], first.metadata["fitspatrick"]) == ("UNK", "BRASIL", "3.0")
    assert not {"gender", "smoke", "diameter_1"} & set(second.metadata)
    assert second.metadata["grew"] == "False"


def test_a_diameter_of_nothing_is_no_measure(tmp_path: Path):
    [pair] = pairs(dataset.read(folder(tmp_path, WHOLE.replace(",6.0,5.0,", ",0.0,5.0,"))))
    assert "mm" not in pair.response
    assert pair.metadata["diameter_1"] == "0.0"


def test_a_lesion_is_a_patient_and_a_number(tmp_path: Path):
    other = WHOLE.replace("PAT_46", "PAT_47")
    found = pairs(dataset.read(folder(tmp_path, WHOLE, other)))
    assert [pair.group_id for pair in found] == ["subject:PAT_46", "subject:PAT_47"]
    assert len({pair.document_id for pair in found}) == 2


def test_bowens_disease_is_a_squamous_cell_carcinoma_and_stays_bowens_in_the_labels(tmp_path: Path):
    [pair] = pairs(dataset.read(folder(tmp_path, WHOLE.replace(",BCC,", ",BOW,"))))
    assert (pair.metadata["category"], pair.metadata["diagnostic"]) == ("SCC", "BOW")
    assert pair.response.endswith("squamous cell carcinoma (SCC).")


@pytest.mark.parametrize("place", ["imgs_part_2", "imgs_part_3/imgs_part_3", "images", "."])
def test_a_picture_is_found_wherever_it_lies(place: str, tmp_path: Path):
    [draft] = list(dataset.read(folder(tmp_path, WHOLE, pictures=(f"{place}/PAT_46_881_939.png",))))
    assert isinstance(draft, Draft)
    assert draft.images[0].data() == f"{place}/PAT_46_881_939.png".encode()


def test_a_missing_picture_is_rejected_by_name_and_the_others_are_read(tmp_path: Path):
    readings = dataset.read(folder(tmp_path, WHOLE, UNASKED, pictures=("imgs_part_1/PAT_1516_1765_530.png",)))
    rows = [store(reading, ImageStore(tmp_path / "store")) for reading in readings if isinstance(reading, Draft)]
    assert isinstance(rows[1], Pair)
    assert not isinstance(rows[0], Pair)
    assert (rows[0].reason, rows[0].detail) == ("image_missing", "PAT_46_881_939.png: No such file or directory")


def test_two_files_of_one_name_are_one_if_they_are_the_same(tmp_path: Path):
    folder(tmp_path, WHOLE, pictures=("a/PAT_46_881_939.png", "b/PAT_46_881_939.png"))
    assert [rejected.reason for rejected in rejections(dataset.read(tmp_path))] == ["image_ambiguous"]
    (tmp_path / "b" / "PAT_46_881_939.png").write_bytes((tmp_path / "a" / "PAT_46_881_939.png").read_bytes())
    assert len(pairs(dataset.read(tmp_path))) == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (WHOLE.replace(",BCC,", ",XYZ,"), "diagnosis_unknown"),
        (WHOLE.replace("False,True,True,True,PAT", "False,yes,True,True,PAT"), "field_malformed"),
        (WHOLE.replace(",3.0,", ",three,"), "field_malformed"), (WHOLE.replace(",6.0,", ",inf,"), "field_malformed"),
        (WHOLE.replace("PAT_46,", "PAT_4,"), "ids_contradict"), (WHOLE.replace("_939.png", "_../939.png"), "ids_contradict"),
        (WHOLE[:-20], "record_cut"), (f"{WHOLE},x", "record_too_long"),
    ],
)  # fmt: skip
def test_a_broken_row_says_why_and_the_others_are_read(row: str, reason: str, tmp_path: Path):
    readings = list(dataset.read(folder(tmp_path, row, UNASKED)))
    assert [rejected.reason for rejected in rejections(readings)] == [reason]
    assert [pair.pair_id for pair in pairs(readings)] == ["pad_ufes_20/PAT_1516_1765_530"]


def test_a_repeated_row_and_a_picture_without_a_row_are_rejected(tmp_path: Path):
    readings = list(dataset.read(folder(tmp_path, WHOLE, WHOLE, pictures=("imgs/PAT_46_881_939.png", "imgs/PAT_1_1_1.png"))))
    assert [(rejected.pair_id, rejected.reason) for rejected in rejections(readings)] == [
        ("pad_ufes_20/PAT_46_881_939/again/3", "duplicate_record"), ("pad_ufes_20/file/imgs/PAT_1_1_1.png", "row_missing"),
    ]  # fmt: skip


def test_no_table_another_one_and_two_are_told_apart(tmp_path: Path):
    with pytest.raises(InputMissing, match=r"metadata\.csv"):
        list(dataset.read(tmp_path))
    (tmp_path / "metadata.csv").write_text("patient_id,img_id\n", encoding="utf-8")
    with pytest.raises(InputRefused, match="no column 'lesion_id'"):
        list(dataset.read(tmp_path))
    folder(tmp_path, WHOLE)
    (tmp_path / "copy").mkdir()
    folder(tmp_path / "copy", WHOLE)
    with pytest.raises(InputRefused, match=r"2 files named metadata\.csv"):
        list(dataset.read(tmp_path))


def test_the_invented_set_has_the_quirks_of_the_real_one(tmp_path: Path):
    sample_data.write("pad_ufes_20", tmp_path / "raw")
    readings = list(dataset.read(tmp_path / "raw"))
    found = pairs(readings)
    assert stored_reasons(readings, tmp_path / "images") == {
        "": 55, "image_missing": 1, "diagnosis_unknown": 1, "record_cut": 1, "row_missing": 1,
    }  # fmt: skip
    assert {pair.metadata["lesion_id"] for pair in found if pair.subject_id == "PAT_0"} == {"100"}
    assert {pair.metadata["lesion_id"] for pair in found if pair.subject_id == "PAT_1"} == {"100"}
    assert {"UNK"} <= {pair.metadata["grew"] for pair in found}
    assert {"BRASIL", "BRAZIL"} <= {pair.metadata.get("background_father") for pair in found}
    assert {pair.metadata["diameter_1"] for pair in found if pair.subject_id == "PAT_1"} == {"0.0"}
    modes = Counter(facts(path.read_bytes()).mode for path in (tmp_path / "images").glob("*/*"))
    assert modes["RGBA"] > 10 < modes["RGB"]


@pytest.mark.real_data
def test_twenty_six_of_1360_real_rows_have_their_picture(tmp_path: Path):
    if not REAL.is_dir():
        pytest.skip(f"PAD-UFES-20 is not at {REAL}")
    readings = list(dataset.read(REAL))
    assert stored_reasons(readings, tmp_path) == {"": 26, "image_missing": 1334}
    found = pairs(readings)
    assert Counter(pair.metadata["category"] for pair in found) == {"BCC": 509, "ACK": 432, "NEV": 136, "SEK": 127, "SCC": 125, "MEL": 31}
    assert (len({pair.subject_id for pair in found}), len({pair.document_id for pair in found})) == (811, 1105)
    assert Counter(pair.metadata.get("grew") for pair in found)["UNK"] == 240
    assert sum("gender" not in pair.metadata for pair in found) == 460
    assert sum("background_father" in pair.metadata and pair.metadata["background_father"] == "BRASIL" for pair in found) == 2
