"""Knee radiographs. If these passed wrongly, a picture that two experts graded would be two pairs, in two splits, with two truths."""

from collections import Counter
from pathlib import Path

import pytest

from medvl_lib import sample_data
from medvl_lib.datasets import knee_xray as dataset
from medvl_lib.errors import InputMissing
from medvl_lib.labels import GRADE_LABELS
from tests.datasets.readings import pairs, rejections, stored_reasons

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "knee-KL224"
FIRST, SECOND = "Knee X-ray Images/MedicalExpert-I", "Knee X-ray Images/MedicalExpert-II"


def put(root: Path, place: str, data: bytes) -> None:
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).write_bytes(data)


def test_a_picture_that_two_experts_graded_is_one_pair_with_both_grades(tmp_path: Path):
    put(tmp_path, f"{FIRST}/1Doubtful/DoubtfulG1 (12).png", b"knee")
    put(tmp_path, f"{SECOND}/2Mild/MildG2 (40).png", b"knee")
    [pair] = pairs(dataset.read(tmp_path))
    assert pair.pair_id == pair.document_id == "knee_xray/69ef5a88b0273f58"  # the beginning of the content's SHA-256
    assert pair.source == f"{FIRST}/1Doubtful/DoubtfulG1 (12).png + {SECOND}/2Mild/MildG2 (40).png"
    assert pair.response == (
        "Radiograph of a knee, Kellgren-Lawrence grade 1 (doubtful): "
        "doubtful narrowing of the joint space and possible osteophytic lipping."
    )
    assert pair.metadata == {
        "category": "KL 1", "answer_labels": GRADE_LABELS, "kl_grade": "1", "grade_expert_1": "1", "grade_expert_2": "2",
        "agreement": "experts differ",
    }  # fmt: skip
    assert (pair.request, pair.language, pair.subject_id, pair.publisher_split) == ("Describe this medical image.", "en", None, None)


def test_agreement_is_told_for_every_picture(tmp_path: Path):
    put(tmp_path, f"{FIRST}/0Normal/NormalG0 (1).png", b"both")
    put(tmp_path, f"{SECOND}/0Normal/NormalG0 (7).png", b"both")
    put(tmp_path, f"{FIRST}/4Severe/SevereG4 (1).png", b"first alone")
    put(tmp_path, f"{SECOND}/4Severe/SevereG4 (2).png", b"second alone")
    found = [(pair.metadata["category"], pair.metadata["agreement"]) for pair in pairs(dataset.read(tmp_path))]
    assert found == [("KL 0", "experts agree"), ("KL 4", "one reading"), ("KL 4", "one reading")]


@pytest.mark.parametrize(
    ("folder", "grade"),
    [("0Normal", "0"), ("1Doubtful", "1"), ("2Mild", "2"), ("2 Minimal", "2"), ("3Moderate", "3"), ("4Severe", "4"), ("KL3", "3"),
     ("kl_4", "4"), ("Grade 2", "2"), ("1", "1")],
)  # fmt: skip
def test_a_grade_folder_is_known_by_what_it_is_called(folder: str, grade: str, tmp_path: Path):
    put(tmp_path, f"MedicalExpert-I/MedicalExpert-I/{folder}/picture [1].png", b"knee")
    [pair] = pairs(dataset.read(tmp_path))
    assert (pair.metadata["kl_grade"], pair.metadata["grade_expert_1"]) == (grade, grade)


@pytest.mark.parametrize("place", ["5/a.png", "3Severe/a.png", "Normal/a.png", "2Mild/MildG3 (1).png", "a.png"])
def test_a_file_that_is_in_no_grade_or_says_two_is_rejected_by_name(place: str, tmp_path: Path):
    put(tmp_path, place, b"knee")
    [rejected] = rejections(dataset.read(tmp_path))
    assert (rejected.reason, rejected.stage) == ("grade_unknown", "read")
    assert place in rejected.detail


def test_one_expert_with_two_grades_for_a_picture_has_none(tmp_path: Path):
    put(tmp_path, f"{FIRST}/1Doubtful/DoubtfulG1 (1).png", b"knee")
    put(tmp_path, f"{FIRST}/3Moderate/ModerateG3 (1).png", b"knee")
    [rejected] = rejections(dataset.read(tmp_path))
    assert rejected.reason == "labels_contradict"
    assert rejected.detail.startswith("one picture with 2 grades of expert 1: ")


def test_the_folders_train_val_and_test_name_the_patient_the_side_and_the_split(tmp_path: Path):
    put(tmp_path, "kneeKL224/train/2/9001695L.png", b"1")
    put(tmp_path, "kneeKL224/train/0/9001695R.png", b"2")
    put(tmp_path, "kneeKL224/val/3/9001696R.png", b"3")
    put(tmp_path, "kneeKL224/test/4/9001697L.png", b"4")
    put(tmp_path, "kneeKL224/auto_test/4/9001697L.png", b"5")
    found = {
        pair.source.partition("/")[2]: (pair.subject_id, pair.publisher_split, pair.metadata["side"])
        for pair in pairs(dataset.read(tmp_path))
    }
    assert found == {
        "auto_test/4/9001697L.png": ("9001697", "test", "left"), "test/4/9001697L.png": ("9001697", "test", "left"),
        "train/0/9001695R.png": ("9001695", "train", "right"), "train/2/9001695L.png": ("9001695", "train", "left"),
        "val/3/9001696R.png": ("9001696", "validation", "right"),
    }  # fmt: skip


def test_a_patient_in_two_parts_has_no_publishers_split(tmp_path: Path):
    put(tmp_path, "train/2/9001695L.png", b"1")
    put(tmp_path, "test/0/9001695R.png", b"2")
    put(tmp_path, "test/0/9001696R.png", b"3")
    found = {pair.subject_id: pair.publisher_split for pair in pairs(dataset.read(tmp_path))}
    assert found == {"9001695": None, "9001696": "test"}


def test_a_picture_in_two_parts_is_one_pair_without_a_publishers_split(tmp_path: Path):
    put(tmp_path, "train/2/a.png", b"same")
    put(tmp_path, "test/2/b.png", b"same")
    [pair] = pairs(dataset.read(tmp_path))
    assert pair.publisher_split is None


def test_a_folder_without_pictures_is_missing(tmp_path: Path):
    (tmp_path / "train" / "0").mkdir(parents=True)
    (tmp_path / "train" / "0" / "._9001695L.png").write_bytes(b"what a Mac leaves behind")
    with pytest.raises(InputMissing, match="MedicalExpert-I"):
        list(dataset.read(tmp_path))


def test_the_invented_set_has_two_layouts_and_its_defects(tmp_path: Path):
    sample_data.write("knee_xray", tmp_path / "raw", counts={"graded": 20, "split": 25})
    readings = list(dataset.read(tmp_path / "raw"))
    assert stored_reasons(readings, tmp_path / "images") == {"": 48, "labels_contradict": 1, "grade_unknown": 1}
    assert Counter(pair.metadata["agreement"] for pair in pairs(readings)) == {"experts agree": 18, "one reading": 28, "experts differ": 2}
    splits = Counter(pair.publisher_split for pair in pairs(readings) if pair.subject_id)
    assert splits == {"train": 14, "validation": 5, "test": 5, None: 2}  # one patient has a knee in train and one in test
    graded = Counter((pair.publisher_split, pair.metadata["category"]) for pair in pairs(readings) if pair.subject_id)
    assert all(graded[part, f"KL {grade}"] for part in ("train", "validation", "test") for grade in range(5))


@pytest.mark.real_data
def test_fifty_real_knees_keep_their_splits(tmp_path: Path):
    if not REAL.is_dir():
        pytest.skip(f"the real knees are not at {REAL}")
    readings = list(dataset.read(REAL))
    assert stored_reasons(readings, tmp_path) == {"": 50}
    found = pairs(readings)
    assert Counter(pair.metadata["category"] for pair in found) == {f"KL {grade}": 10 for grade in range(5)}
    assert Counter(pair.publisher_split for pair in found) == {"train": 25, "validation": 10, "test": 15}
    assert len({pair.subject_id for pair in found}) == 50
