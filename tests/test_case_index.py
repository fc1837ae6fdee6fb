"""The index of cases and the search in it. If these passed wrongly, a patient's own case, or one of the test split, would be handed to who
is asked for its answer, or the most similar case would be the longest vector.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from medvl_lib.captions import CaptionedImage, captioned_images
from medvl_lib.case_index import COUNTS, INDEX, RULES, IndexedCase, nearest, write_index
from medvl_lib.files import read_json
from medvl_lib.pairs import PAIRS
from medvl_lib.tables import read_table, write_table
from tests.matching_fixtures import Gallery

VECTORS = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1], [-1, 0]], dtype=np.float32)


def case(number: int, group: str, text: str = "") -> CaptionedImage:
    return CaptionedImage(
        pair_id=f"invented/{number}", dataset="invented", group_id=f"invented/{group}", image_id=f"image {number}", split="train",
        text=text or f"Case {number}.", language="en", category=None, licence="CC0-1.0",
    )  # fmt: skip


CASES = [case(0, "anna"), case(1, "anna"), case(2, "bob"), case(3, "carl"), case(4, "dora")]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    facts = write_index(tmp_path, CASES, VECTORS)
    assert facts == {"num_cases": 5, "num_pictures": 5, "width": 2}
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
    write_index(tmp_path, [CASES[0], twice, CASES[2]], VECTORS[[0, 0, 2]])
    found = nearest(tmp_path, np.array([1, 0], dtype=np.float32), 2)
    assert [item.pair_id for item in found] == ["invented/0", "invented/2"]
    assert failing(tmp_path) == []


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
    write_index(tmp_path, cases, np.eye(len(cases), dtype=np.float32))
    assert failing(tmp_path) == []
    stored = {row.pair_id: row.split for row in read_table(tmp_path / INDEX, IndexedCase)}
    assert read_json(tmp_path / COUNTS)["num_captioned_pictures"] == len(stored) == 24
    placed = {row["pair_id"]: row["split"] for row in pq.read_table(gallery.chat / PAIRS, columns=["pair_id", "split"]).to_pylist()}
    assert stored == {pair_id: split for pair_id, split in placed.items() if split == "train"}
