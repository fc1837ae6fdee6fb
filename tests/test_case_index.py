"""The index of cases and the search in it. If these passed wrongly, a patient's own case, or one of the test split, would be handed to who
is asked for its answer, or the most similar case would be the longest vector.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from medvl_lib.captions import CaptionedImage, captioned_images
from medvl_lib.case_index import (
    COUNTS,
    HELD_BACK,
    INDEX,
    RULES,
    Embedded,
    HeldBackPicture,
    IndexedCase,
    nearest,
    similarity_floor,
    write_index,
)
from medvl_lib.files import read_json, write_json
from medvl_lib.pairs import PAIRS
from medvl_lib.tables import read_table, write_table
from tests.matching_fixtures import Gallery

VECTORS = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1], [-1, 0]], dtype=np.float32)


def case(number: int, group: str, text: str = "") -> CaptionedImage:
    return CaptionedImage(
        pair_id=f"invented/{number}", dataset="invented", group_id=f"invented/{group}", image_id=f"image {number}", split="train",
        text=text or f"Case {number}.", language="en", category=None, licence="CC0-1.0",
    )  # fmt: skip


NOBODY = Embedded([], np.zeros((0, 2), dtype=np.float32))
CASES = [case(0, "anna"), case(1, "anna"), case(2, "bob"), case(3, "carl"), case(4, "dora")]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    facts = write_index(tmp_path, Embedded(CASES, VECTORS), NOBODY)
    assert facts == {"num_cases": 5, "num_pictures": 5, "width": 2, "num_held_back_pictures": 0, "similarity_floor": None}
    return tmp_path


def failing(directory: Path) -> list[str]:
    return [rule.name for rule in RULES if not rule.holds(directory).passed]


def rewrite(directory: Path, change) -> None:
    write_table(directory / INDEX, IndexedCase, change(list(read_table(directory / INDEX, IndexedCase))))


def test_the_nearest_are_those_of_the_largest_cosine_in_order(index: Path):
    found = nearest(index, np.array([1, 0], dtype=np.float32), 3)
    assert [(item.pair_id, round(item.similarity, 6)) for item in found] == [("invented/0", 1.0), ("invented/1", 0.8), ("invented/2", 0.6)]
    assert found[0].text == "Case 0."


def test_a_case_of_the_same_patient_or_of_the_same_picture_is_never_a_neighbour(index: Path):
    looked_for = np.array([1, 0], dtype=np.float32)
    others = nearest(index, looked_for, 9, not_of_groups=["invented/anna"])
    assert [item.pair_id for item in others] == ["invented/2", "invented/3", "invented/4"]
    assert [item.pair_id for item in nearest(index, looked_for, 2, not_of_images=["image 0"])] == ["invented/1", "invented/2"]


def test_a_picture_with_several_texts_is_one_neighbour(tmp_path: Path):
    twice = replace(CASES[0], pair_id="invented/9", text="The same picture, told otherwise.")
    write_index(tmp_path, Embedded([CASES[0], twice, CASES[2]], VECTORS[[0, 0, 2]]), NOBODY)
    found = nearest(tmp_path, np.array([1, 0], dtype=np.float32), 2)
    assert [item.pair_id for item in found] == ["invented/0", "invented/2"]
    assert failing(tmp_path) == []


def test_a_pair_of_several_pictures_is_one_neighbour_where_pairs_are_asked_for(tmp_path: Path):
    other_view = replace(CASES[1], pair_id="invented/0")
    write_index(tmp_path, Embedded([CASES[0], other_view, CASES[2]], VECTORS[[1, 0, 2]]), NOBODY)
    looked_for = np.array([1, 0], dtype=np.float32)
    assert [item.pair_id for item in nearest(tmp_path, looked_for, 2)] == ["invented/0", "invented/0"]
    found = nearest(tmp_path, looked_for, 2, each="pair")
    assert [(item.pair_id, item.image_id) for item in found] == [("invented/0", "image 1"), ("invented/2", "image 2")]


def held_back(degrees: list[int]) -> Embedded:
    """Pictures at these angles from that of case 0, the patients of which are called like the angles."""
    items = [replace(case(1000 + place, f"{angle}"), split="validation") for place, angle in enumerate(degrees)]
    return Embedded(items, np.array([[np.cos(np.deg2rad(a)), np.sin(np.deg2rad(a))] for a in degrees], dtype=np.float32))


def test_the_floor_is_what_nineteen_of_twenty_held_back_pictures_reach(tmp_path: Path):
    alone = Embedded(CASES[:1], VECTORS[:1])
    angles = list(range(1, 41))  # of forty pictures two may lie below: those at 40 and 39 degrees
    facts = write_index(tmp_path, alone, held_back(angles))
    assert facts["similarity_floor"] == similarity_floor(tmp_path) == pytest.approx(np.cos(np.deg2rad(39)), abs=1e-6)
    assert failing(tmp_path) == []
    write_json(tmp_path / COUNTS, {**read_json(tmp_path / COUNTS), "similarity_floor": 0.1})
    assert failing(tmp_path) == ["the_floor_is_that_of_validation"]


def test_the_floor_of_too_few_pictures_is_unknown(tmp_path: Path):
    assert write_index(tmp_path, Embedded(CASES[:1], VECTORS[:1]), held_back(list(range(19))))["similarity_floor"] is None
    assert write_index(tmp_path, Embedded(CASES[:1], VECTORS[:1]), held_back(list(range(20))))["similarity_floor"] is not None


def test_a_patients_own_case_and_the_picture_itself_say_nothing_of_the_floor(tmp_path: Path):
    of_anna, of_eve = replace(case(9, "anna"), image_id="elsewhere"), replace(CASES[2], group_id="invented/eve")
    own = [replace(item, split="validation") for item in (of_anna, of_eve)]
    write_index(tmp_path, Embedded(CASES, VECTORS), Embedded(own, VECTORS[[0, 2]]))
    found = {row.image_id: row.similarity for row in read_table(tmp_path / HELD_BACK, HeldBackPicture)}
    assert found == {"elsewhere": pytest.approx(0.6), "image 2": pytest.approx(0.96)}  # bob's, and anna's second


def test_embeddings_are_stored_in_32_bits(index: Path):
    assert str(pq.read_schema(index / INDEX).field("embedding").type) == "list<element: float>"
    assert [row.embedding for row in read_table(index / INDEX, IndexedCase)][1] == pytest.approx((0.8, 0.6))


def test_a_whole_index_passes_and_each_damage_is_named(index: Path, tmp_path: Path):
    assert failing(index) == []
    whole = (index / INDEX).read_bytes()
    for change, named in (
        (lambda rows: rows[:-1], "every_training_picture_has_its_place"),
        (lambda rows: [replace(rows[0], split="test"), *rows[1:]], "no_case_is_held_out"),
        (lambda rows: [replace(rows[0], embedding=(2.0, 0.0)), *rows[1:]], "every_vector_has_the_length_one"),
        (lambda rows: [replace(rows[0], embedding=(float("nan"), 0.0)), *rows[1:]], "every_vector_has_the_length_one"),
        (lambda rows: [replace(rows[0], embedding=(1.0,)), *rows[1:]], "every_vector_has_the_length_one"),
    ):
        rewrite(index, change)
        assert failing(index) == [named]
        (index / INDEX).write_bytes(whole)
    rewrite(index, lambda rows: [*rows[:-1], rows[0]])
    assert failing(index) == ["every_training_picture_has_its_place"]


def test_what_a_line_says_of_its_training_pictures_is_what_is_indexed(gallery: Gallery, tmp_path: Path):
    cases = list(captioned_images(gallery.chat, "train"))
    write_index(tmp_path, Embedded(cases, np.eye(len(cases), dtype=np.float32)), NOBODY)
    assert failing(tmp_path) == []
    stored = {row.pair_id: row.split for row in read_table(tmp_path / INDEX, IndexedCase)}
    assert read_json(tmp_path / COUNTS)["num_captioned_pictures"] == len(stored) == 24
    placed = {row["pair_id"]: row["split"] for row in pq.read_table(gallery.chat / PAIRS, columns=["pair_id", "split"]).to_pylist()}
    assert stored == {pair_id: split for pair_id, split in placed.items() if split == "train"}
