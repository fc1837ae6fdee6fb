"""If these passed wrongly, one missing picture could stop 600,000 records, or a cut download pass for the whole set."""

import json
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from medvl_lib import sample_data
from medvl_lib.datasets import pubmedvision as dataset
from medvl_lib.datasets.raw_folder import INVENTED_LICENCE
from medvl_lib.errors import InputMissing, InputRefused
from medvl_lib.images import ImageStore
from medvl_lib.pairs import Draft, Pair, Reading, Rejection, store

FILE = "PubMedVision_Alignment_VQA.json"


def record(**changes: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": "What do these pictures show?"}, {"from": "gpt", "value": "An axial section."}]
    return {
        "id": "Alignment_VQA_0", "image": ["images/pmc_1_0.jpg", "images/pmc_1_1.jpg"], "conversations": turns, "modality": "CT",
        "body_part": "Chest", **changes,
    }  # fmt: skip


def read(root: Path, *records: Any, name: str = FILE) -> list[Reading]:
    (root / name).write_text(json.dumps(list(records)))
    return list(dataset.read(root))


def drafts(readings: list[Reading]) -> list[Draft]:
    return [reading for reading in readings if isinstance(reading, Draft)]


def rejections(readings: list[Reading]) -> list[Rejection]:
    return [reading for reading in readings if isinstance(reading, Rejection)]


def test_a_record_becomes_the_pair_that_the_docstring_shows(tmp_path: Path):
    (draft,) = drafts(read(tmp_path, record()))
    pair = draft.pair
    assert (pair.pair_id, pair.source) == ("pubmedvision/Alignment_VQA/0000000", f"{FILE} record 0")
    assert (pair.request, pair.response) == ("What do these pictures show?", "An axial section.")
    assert (pair.document_id, pair.publisher_split) == ("pubmedvision/pmc_1", None)
    assert pair.metadata == {"id": "Alignment_VQA_0", "modality": "CT", "body_part": "Chest"}
    assert [image.name for image in draft.images] == ["images/pmc_1_0.jpg", "images/pmc_1_1.jpg"]


def test_both_lists_keep_a_figure_together(tmp_path: Path):
    read(tmp_path, record())
    readings = read(tmp_path, record(image=["images/pmc_1_7.jpg"]), name="PubMedVision_InstructionTuning_VQA.json")
    assert {draft.pair.document_id for draft in drafts(readings)} == {"pubmedvision/pmc_1"}
    assert [draft.pair.pair_id.split("/")[1] for draft in drafts(readings)] == ["Alignment_VQA", "InstructionTuning_VQA"]


def test_pictures_lie_where_the_record_says_or_in_the_flat_folder_of_the_publishers_command(tmp_path: Path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "pmc_1_0.jpg").write_bytes(b"flat")
    (draft,) = drafts(read(tmp_path, record(image=["images_3/pmc_1_0.jpg"])))
    assert draft.images[0].data() == b"flat"


def test_a_picture_that_no_archive_holds_is_one_rejection(tmp_path: Path):
    store_ = ImageStore(tmp_path / "store")
    stored = [store(draft, store_) for draft in drafts(read(tmp_path, record()))]
    assert [(row.reason, row.detail) for row in stored if isinstance(row, Rejection)] == [
        ("image_missing", "images/pmc_1_0.jpg: No such file or directory")
    ]


def test_a_conversation_of_several_turns_is_a_pair_per_turn(tmp_path: Path):
    turns = [{"from": who, "value": f"{who} {turn}"} for turn in (1, 2) for who in ("human", "gpt")]
    found = drafts(read(tmp_path, record(conversations=turns)))
    assert [(draft.pair.pair_id[-3:], draft.pair.request, draft.pair.response) for draft in found] == [
        ("/t1", "human 1", "gpt 1"), ("/t2", "human 2", "gpt 2"),
    ]  # fmt: skip


def test_the_sign_for_a_picture_is_taken_out(tmp_path: Path):
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "Lung"}]
    (draft,) = drafts(read(tmp_path, record(conversations=turns)))
    assert draft.pair.request == "What is it?"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (record(image=[]), "field_malformed"),
        (record(image="images/pmc_1_0.jpg"), "field_malformed"),
        ({"id": "x", "image": ["a.jpg"]}, "field_missing"),
        ("a text", "field_malformed"),
        (record(conversations=[{"from": "gpt", "value": "a"}, {"from": "human", "value": "b"}]), "conversation_malformed"),
        (record(conversations=[{"from": "human", "value": "a"}] * 3), "conversation_malformed"),
        (record(image=["../../etc/passwd"]), "image_outside_folder"),
    ],
)
def test_a_bad_record_is_rejected_and_the_next_is_read(bad: Any, reason: str, tmp_path: Path):
    readings = read(tmp_path, bad, record())
    assert [found.reason for found in rejections(readings)] == [reason]
    assert [draft.pair.pair_id for draft in drafts(readings)] == ["pubmedvision/Alignment_VQA/0000001"]


def test_a_linked_folder_of_pictures_is_followed(tmp_path: Path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "pmc_1_0.jpg").write_bytes(b"there")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "images").symlink_to(tmp_path / "disk")
    (draft,) = drafts(read(tmp_path / "raw", record(image=["images/pmc_1_0.jpg"])))
    assert draft.images[0].data() == b"there"


def test_captions_beside_the_lists_are_not_read_and_a_list_twice_is_refused(tmp_path: Path):
    (tmp_path / "PubMedVision_Original_Caption.json").write_text('[{"id": "1", "image": "a.jpg"}]')
    assert len(read(tmp_path, record())) == 1
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / FILE).write_text("[]")
    with pytest.raises(InputRefused, match="twice"):
        list(dataset.read(tmp_path))


def test_a_list_that_breaks_off_is_refused_with_how_far_it_went(tmp_path: Path):
    whole = json.dumps([record(), record(), record()])
    (tmp_path / FILE).write_text(whole[:-40])
    with pytest.raises(InputRefused) as refused:
        list(dataset.read(tmp_path))
    assert "behind 2 records" in refused.value.found
    assert "download" in refused.value.do


def test_no_file_and_no_list_are_told_apart(tmp_path: Path):
    with pytest.raises(InputMissing):
        list(dataset.read(tmp_path))
    (tmp_path / FILE).write_text('{"data": []}')
    with pytest.raises(InputRefused, match="no list"):
        list(dataset.read(tmp_path))


def test_a_long_list_is_read_as_a_stream(tmp_path: Path):
    (tmp_path / FILE).write_text(json.dumps([record(id=str(number)) for number in range(20_000)]))
    tracemalloc.start()
    try:
        count = sum(1 for _ in dataset.read(tmp_path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 20_000
    assert peak < (tmp_path / FILE).stat().st_size / 4


def test_the_invented_set_holds_what_it_says(tmp_path: Path):
    sample_data.write("pubmedvision", tmp_path / "raw")
    readings = list(dataset.read(tmp_path / "raw"))
    assert Counter(found.reason for found in rejections(readings)) == {"conversation_malformed": 1, "field_malformed": 1}
    images = ImageStore(tmp_path / "store")
    stored = [store(draft, images) for draft in drafts(readings)]
    assert [row.reason for row in stored if isinstance(row, Rejection)] == ["image_missing"]
    pairs = [row for row in stored if isinstance(row, Pair)]
    assert Counter(len(pair.image_ids) for pair in pairs) == {1: 48, 2: 12}
    assert all("<image>" not in pair.request for pair in pairs)
    assert {pair.licence for pair in pairs} == {INVENTED_LICENCE}
