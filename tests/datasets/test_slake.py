"""SLAKE. If these passed wrongly, a picture would be trained on in Chinese and tested with in English."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from medvl_lib import sample_data
from medvl_lib.chat import to_reference
from medvl_lib.datasets import slake as dataset
from medvl_lib.errors import InputMissing, InputRefused
from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.split import SplitRow
from tests.datasets.readings import pairs, rejections, stored_reasons

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "SLAKE"


def record(image: int = 1, language: str = "en", **changed: Any) -> dict[str, Any]:
    return {
        "img_id": image, "img_name": f"xmlab{image}/source.jpg", "question": "What modality is used?", "answer": "MRI", "q_lang": language,
        "location": "Abdomen", "modality": "MRI", "answer_type": "OPEN", "base_type": "vqa", "content_type": "Modality",
        "triple": ["vhead", "_", "_"], "qid": 0, **changed,
    }  # fmt: skip


def folder(root: Path, **parts: list[Any]) -> Path:
    for name, records in parts.items():
        (root / f"{name}.json").write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    return root


def picture(root: Path, image: int, data: bytes) -> None:
    (root / "imgs" / f"xmlab{image}").mkdir(parents=True)
    (root / "imgs" / f"xmlab{image}" / "source.jpg").write_bytes(data)


def test_a_record_becomes_the_pair_that_the_docstring_shows(tmp_path: Path):
    picture(tmp_path, 1, b"abdomen")
    [pair] = pairs(dataset.read(folder(tmp_path, train=[record()])))
    assert (pair.pair_id, pair.request, pair.response) == ("slake/train/en/000000", "What modality is used?", "MRI")
    assert (pair.source, pair.licence, pair.publisher_split, pair.subject_id) == ("train.json record 0", "CC-BY-4.0", "train", None)
    assert pair.metadata == {
        "modality": "MRI", "location": "Abdomen", "content_type": "Modality", "base_type": "vqa", "qid": "0", "answer_type": "open",
        "publisher_split": "train", "description": "MRI of the abdomen. What modality is used? MRI",
    }  # fmt: skip


def test_a_chinese_record_is_described_in_chinese(tmp_path: Path):
    asked = record(language="zh", question="肺部有异常吗？", answer="没有", location="Chest_lung", modality="X-Ray", answer_type="CLOSED")
    [pair] = pairs(dataset.read(folder(tmp_path, test=[asked])))
    assert (pair.pair_id, pair.language, pair.metadata["answer_type"]) == ("slake/test/zh/000000", "zh", "closed")
    assert pair.metadata["description"] == "胸部（肺）X光图像。肺部有异常吗？没有"


@pytest.mark.parametrize("name", ["validate", "validation"])
def test_both_names_of_the_validation_part_are_known(name: str, tmp_path: Path):
    [pair] = pairs(dataset.read(folder(tmp_path, **{name: [record()]})))
    assert (pair.publisher_split, pair.pair_id) == ("validation", "slake/validation/en/000000")


def test_a_picture_that_another_language_has_in_another_part_has_no_publishers_split(tmp_path: Path):
    folder(tmp_path, train=[record(1, "zh"), record(2, "zh"), record(2, "en")], test=[record(1, "en"), record(3, "en"), record(3, "zh")])
    found = {pair.pair_id: (pair.document_id, pair.publisher_split) for pair in pairs(dataset.read(tmp_path))}
    assert found == {
        "slake/train/zh/000000": ("slake/xmlab1", None), "slake/train/zh/000001": ("slake/xmlab2", "train"),
        "slake/train/en/000002": ("slake/xmlab2", "train"), "slake/test/en/000000": ("slake/xmlab1", None),
        "slake/test/en/000001": ("slake/xmlab3", "test"), "slake/test/zh/000002": ("slake/xmlab3", "test"),
    }  # fmt: skip


def test_a_closed_question_that_is_not_about_yes_and_no_has_its_labels(tmp_path: Path):
    closed = {"answer_type": "CLOSED", "content_type": "Modality"}
    folder(
        tmp_path,
        train=[record(1, **closed), record(2, answer="CT", **closed), record(3, answer="Yes.", **closed), record(4, answer="x")],
        test=[record(5, answer="ct", **closed), record(6, "zh", answer="是的", **closed), record(7, "zh", answer="磁共振", **closed)],
    )
    found = {pair.pair_id: pair.metadata.get("answer_labels") for pair in pairs(dataset.read(tmp_path))}
    assert found == {
        "slake/train/en/000000": "CT|MRI", "slake/train/en/000001": "CT|MRI", "slake/train/en/000002": None,
        "slake/train/en/000003": None, "slake/test/en/000000": "CT|MRI", "slake/test/zh/000001": None, "slake/test/zh/000002": "磁共振",
    }  # fmt: skip


def test_one_picture_in_two_folders_is_one(tmp_path: Path):
    for image in (1, 2):
        picture(tmp_path, image, b"the same")
    found = pairs(dataset.read(folder(tmp_path, train=[record(1)], test=[record(2)])))
    assert {pair.publisher_split for pair in found} == {None}
    assert len({pair.document_id for pair in found}) == 1


@pytest.mark.parametrize(
    ("raw", "reason", "pair_id"),
    [
        (record(img_name="../../secret.jpg"), "image_outside_folder", "slake/train/en/000000"),
        (record(answer_type="MAYBE"), "field_malformed", "slake/train/unknown/000000"),
        ({"qid": 3}, "field_missing", "slake/train/unknown/000000"), ("text", "field_malformed", "slake/train/unknown/000000"),
    ],
)  # fmt: skip
def test_a_broken_record_says_why_and_the_others_are_read(raw: Any, reason: str, pair_id: str, tmp_path: Path):
    readings = list(dataset.read(folder(tmp_path, train=[raw, record(2)])))
    assert [(rejected.reason, rejected.pair_id) for rejected in rejections(readings)] == [(reason, pair_id)]
    assert len(pairs(readings)) == 1


def test_no_list_two_of_one_part_and_one_cut_short_are_told_apart(tmp_path: Path):
    with pytest.raises(InputMissing, match=r"train\.json"):
        list(dataset.read(tmp_path))
    folder(tmp_path, validate=[record()], validation=[record()])
    with pytest.raises(InputRefused, match="a part that stands there twice"):
        list(dataset.read(tmp_path))
    (tmp_path / "validation.json").unlink()
    whole = (tmp_path / "validate.json").read_bytes()
    (tmp_path / "validate.json").write_bytes(whole[:-30])
    with pytest.raises(InputRefused, match="breaks off behind 0 records"):
        list(dataset.read(tmp_path))


def test_the_invented_set_leaks_between_its_languages_and_has_its_defects(tmp_path: Path):
    sample_data.write("slake", tmp_path / "raw")
    readings = list(dataset.read(tmp_path / "raw"))
    assert stored_reasons(readings, tmp_path / "images") == {"": 134, "image_missing": 1, "field_missing": 1}
    leaked = [pair for pair in pairs(readings) if pair.publisher_split is None]
    assert Counter((pair.language, pair.metadata["publisher_split"]) for pair in leaked) == {("zh", "train"): 6, ("en", "test"): 6}
    assert len({pair.document_id for pair in leaked}) == 2


@pytest.mark.real_data
def test_every_real_row_lacks_its_picture_and_splits_and_languages_are_known_all_the_same(tmp_path: Path):
    if not REAL.is_dir():
        pytest.skip(f"SLAKE is not at {REAL}")
    readings = list(dataset.read(REAL))
    assert stored_reasons(readings, tmp_path) == {"image_missing": 5042 + 1190 + 1162}
    found = pairs(readings)
    assert Counter((pair.metadata["publisher_split"], pair.language) for pair in found) == {
        ("train", "en"): 2534, ("train", "zh"): 2508, ("validation", "en"): 561, ("validation", "zh"): 629, ("test", "en"): 606,
        ("test", "zh"): 556,
    }  # fmt: skip
    closed = [pair for pair in found if pair.metadata["answer_type"] == "closed"]
    labelled = [pair for pair in closed if "answer_labels" in pair.metadata]
    assert (len(closed), len(labelled)) == (2893, 405)
    assert all(pair.response.casefold() in pair.metadata["answer_labels"].casefold().split("|") for pair in labelled)
    by_picture: dict[str, set[str]] = {}
    for pair in found:
        by_picture.setdefault(pair.document_id, set()).add(str(pair.publisher_split))
    assert len(by_picture) == 336
    assert all(len(splits) == 1 for splits in by_picture.values())  # one place for a picture, whatever the language
    tested = {pair.document_id for pair in found if pair.metadata["publisher_split"] == "test"}
    assert (len(tested), sum(by_picture[document] == {"None"} for document in tested)) == (97, 90)  # 78 are in train, 12 more in validation


@pytest.mark.real_data
def test_every_real_closed_question_can_be_scored():
    """Each of the 2,893 wanted answers is read as the label that it is."""
    if not REAL.is_dir():
        pytest.skip(f"SLAKE is not at {REAL}")
    closed = [pair for pair in pairs(dataset.read(REAL)) if pair.metadata["answer_type"] == "closed"]
    accuracy, read = METRICS["closed_accuracy"], Counter[str]()
    for pair in closed:
        wanted = to_reference(pair, SplitRow(pair_id=pair.pair_id, dataset="slake", group_id=pair.group_id, image_ids=(), split="test"))
        assert accuracy.score(pair.response, wanted) == 1
        read["choice" if wanted.labels else "yes or no"] += 1
    assert len(closed) == 2893
    assert read["choice"] > 350
