"""What is written of a gallery. If these passed wrongly, a recall would be told without its interval, its chance, or what the class alone
reaches; or one that nobody ranked for.
"""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medvl_lib.captions import CaptionedImage
from medvl_lib.evaluation.galleries import (
    RANKS,
    RETRIEVAL,
    RULES,
    SPEEDS,
    EncoderSpeed,
    Rank,
    RetrievalRow,
    Vectors,
    read_rows,
    timed,
    write_retrieval,
)
from medvl_lib.tables import read_table, write_table

CLASSES = ("KL 0", "KL 0", "KL 1", "KL 1")


def item(number: int, category: str | None) -> CaptionedImage:
    return CaptionedImage(
        pair_id=f"knees/{number}", dataset="knees", group_id=f"knees/{number // 2}", image_id=f"image {number}", split="test",
        text=f"Knee {number}", language="en", category=category, licence="CC0-1.0",
    )  # fmt: skip


GALLERY = [item(number, category) for number, category in enumerate(CLASSES)]
TEXTS = [each.text for each in GALLERY]
SEES = Vectors(np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32))
SEES_HALF = Vectors(np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32)[[0, 1, 3, 2]])


@pytest.fixture
def written(tmp_path: Path) -> Path:
    facts = write_retrieval(tmp_path, GALLERY, TEXTS, {"base": SEES_HALF, "trained": SEES})
    assert facts["trained_image_to_text_recall_at_1"] == 1.0
    assert (facts["num_captioned_pictures"], facts["num_texts"]) == (4, 4)
    return tmp_path


def failing(directory: Path) -> list[str]:
    return [rule.name for rule in RULES if not rule.holds(directory).passed]


def test_each_recall_stands_beside_chance_class_and_interval(written: Path):
    rows = {(row.variant, row.direction, row.cutoff): row for row in read_rows(written)}
    assert len(rows) == 2 * 2 * 3
    half = rows["base", "text_to_image", 1]
    assert (half.recall, half.chance, half.class_only) == (0.5, 0.25, 0.5)  # classes of two: one of them by chance
    assert (half.ci_low, half.ci_high) == (None, None)
    assert half.interval_note == "too few clusters (2) for an interval"
    assert (half.num_groups, half.num_queries, half.gallery_size, half.median_rank) == (2, 4, 4, 2.5)
    best = rows["trained", "image_to_text", 1]
    assert (best.recall, best.median_rank, best.matched_similarity, best.mismatched_similarity) == (1.0, 1.0, 1.0, 0.0)


def test_six_groups_have_an_interval(tmp_path: Path):
    """Twelve pictures of six patients, each finding its own text or another one's: three and three."""
    captions = [replace(GALLERY[0], pair_id=f"p{n}", image_id=f"i{n}", group_id=f"g{n // 2}", text=f"Text {n}.") for n in range(12)]
    pictures = np.eye(12, dtype=np.float32)
    texts = pictures[[n if n < 6 else n ^ 1 for n in range(12)]]
    write_retrieval(tmp_path, captions, [item.text for item in captions], {"base": Vectors(pictures, texts)})
    [row] = [row for row in read_rows(tmp_path) if (row.direction, row.cutoff) == ("image_to_text", 1)]
    assert (row.recall, row.num_groups, row.interval_note) == (0.5, 6, None)
    assert row.ci_low is not None
    assert row.ci_high is not None
    assert 0 <= row.ci_low < 0.5 < row.ci_high <= 1


def test_speed_is_that_of_one_input_alone_and_of_all_in_batches(tmp_path: Path):
    asked: list[list[str]] = []

    def embed(inputs: list[str]) -> np.ndarray:
        asked.append(list(inputs))
        time.sleep(0.01)
        return np.array([[ord(item)] for item in inputs], dtype=np.float32)

    speed, vectors = timed("trained", "text", ["a", "b", "a"], embed, batch_size=32)
    assert vectors.tolist() == [[97], [98], [97]]
    assert asked == [["a"], ["a"], ["b"], ["a", "b"]]  # what fills caches is not timed; equal inputs are one
    assert (speed.num_timed, speed.batch_size) == (2, 2)
    assert 0.01 <= speed.p50_seconds <= speed.p95_seconds
    assert 0 < speed.inputs_per_second <= 200
    facts = write_retrieval(tmp_path, GALLERY, TEXTS, {"trained": SEES}, [speed])
    assert facts["trained_text_p50_seconds"] == speed.p50_seconds
    assert list(read_table(tmp_path / SPEEDS, EncoderSpeed)) == [speed]
    assert failing(tmp_path) == []


def test_a_picture_with_several_texts_asks_once_and_weighs_as_much_as_any_other(tmp_path: Path):
    """One picture of six texts that is not found, and six pictures of one text each that are: 6 of 7, and not 6 of 12."""
    captions = [replace(GALLERY[0], pair_id=f"p{n}", image_id=f"i{max(n, 5)}", group_id=f"g{max(n, 5)}", text=f"T {n}.") for n in range(12)]
    pictures = np.eye(12, dtype=np.float32)[[6] * 6 + list(range(6, 12))]
    write_retrieval(tmp_path, captions, [each.text for each in captions], {"base": Vectors(pictures, np.eye(12, dtype=np.float32))})
    rows = {row.direction: row for row in read_rows(tmp_path) if row.cutoff == 1}
    assert (rows["image_to_text"].num_queries, rows["image_to_text"].gallery_size) == (7, 12)
    assert (rows["text_to_image"].num_queries, rows["text_to_image"].gallery_size) == (12, 7)
    assert rows["image_to_text"].recall == pytest.approx(6 / 7)
    assert failing(tmp_path) == []


def test_a_gallery_without_classes_has_no_rank_by_class(tmp_path: Path):
    write_retrieval(tmp_path, [*GALLERY[:3], item(3, None)], TEXTS, {"trained": SEES})
    assert {row.class_only for row in read_rows(tmp_path)} == {None}
    assert failing(tmp_path) == []


def test_each_damage_is_named(written: Path):
    assert failing(written) == []
    ranks = list(read_table(written / RANKS, Rank))
    write_table(written / RANKS, Rank, [*ranks, ranks[0]][1:-1])
    assert "every_picture_and_text_was_ranked" in failing(written)
    write_table(written / RANKS, Rank, ranks)
    rows = list(read_table(written / RETRIEVAL, RetrievalRow))
    write_table(written / RETRIEVAL, RetrievalRow, [replace(rows[0], recall=0.99), *rows[1:]])
    assert failing(written) == ["every_recall_is_that_of_its_ranks"]
