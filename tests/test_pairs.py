"""Pairs. If these passed wrongly, a record could vanish without a reason, a full disk could pass for missing pictures, or two pairs could
answer to one id.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from medvl_lib.errors import WriteFailed
from medvl_lib.images import ImageStore
from medvl_lib.pairs import PAIRS, REJECTIONS, RULES, Draft, ImageSource, Pair, Reading, Rejection, Triple, write_pairs
from medvl_lib.tables import read_table, write_table
from tests.broken import offenders
from tests.small_disk import small_disk


def pair(number: int) -> Pair:
    return Pair(
        pair_id=f"slake/train/{number:06d}", dataset="slake", image_ids=(), request="Which organ?", response="Liver",
        expected=(Triple(term="organ", value="liver", unit=""),), subject_id=None, document_id=f"case-{number}", publisher_split="train",
        language="en", source=f"train.json, row {number}", licence="CC-BY-SA-4.0", metadata={"modality": "CT"},
    )  # fmt: skip


def picture(data: bytes, name: str = "1.png") -> ImageSource:
    return ImageSource(name=name, data=lambda: data)


def draft(number: int, *images: ImageSource) -> Draft:
    return Draft(pair=pair(number), images=images)


def no_record(number: int) -> Rejection:
    return Rejection(
        pair_id=f"slake/train/{number:06d}", dataset="slake", source=f"train.json, row {number}", stage="read", reason="field_missing",
        detail="question",
    )  # fmt: skip


def written(root: Path, readings: Iterable[Reading]) -> Path:
    directory = root / "pairs"
    directory.mkdir()
    write_pairs(directory, readings, ImageStore(root / "images"))
    return directory


def test_a_draft_becomes_a_pair_with_its_pictures_in_order(tmp_path: Path):
    directory = written(tmp_path, [draft(1, picture(b"second"), picture(b"first"))])
    [found] = read_table(directory / PAIRS, Pair)
    assert replace(found, image_ids=()) == pair(1)
    assert [ImageStore(tmp_path / "images").read(image_id) for image_id in found.image_ids] == [b"second", b"first"]


def test_a_picture_that_cannot_be_had_makes_a_rejection(tmp_path: Path):
    missing = ImageSource(name="2.png", data=(tmp_path / "2.png").read_bytes)
    directory = written(tmp_path, [draft(1, picture(b"here"), missing)])
    assert list(read_table(directory / PAIRS, Pair)) == []
    [rejection] = read_table(directory / REJECTIONS, Rejection)
    assert (rejection.pair_id, rejection.source, rejection.stage) == ("slake/train/000001", "train.json, row 1", "read")
    assert (rejection.reason, rejection.detail) == ("image_missing", "2.png: No such file or directory")


def test_every_reading_is_a_pair_or_a_rejection(tmp_path: Path):
    lost = ImageSource(name="3.png", data=(tmp_path / "3.png").read_bytes)
    readings = [draft(0, picture(b"0")), no_record(1), draft(2, picture(b"0")), draft(3, lost), no_record(4), draft(5)]
    (tmp_path / "pairs").mkdir()
    facts = write_pairs(tmp_path / "pairs", readings, ImageStore(tmp_path / "images"))
    assert facts == {"num_read": 6, "num_pairs": 3, "num_rejected": 3}
    assert [found.pair_id[-1] for found in read_table(tmp_path / "pairs" / PAIRS, Pair)] == ["0", "2", "5"]
    assert [found.pair_id[-1] for found in read_table(tmp_path / "pairs" / REJECTIONS, Rejection)] == ["1", "3", "4"]


def test_where_nothing_became_a_pair_the_reasons_are_counted(tmp_path: Path):
    missing = ImageSource(name="2.png", data=(tmp_path / "2.png").read_bytes)
    directory = written(tmp_path, [draft(1, missing), no_record(2), draft(3, missing)])
    [outcome] = [rule.holds(directory) for rule in RULES if rule.name == "pairs_were_read"]
    assert (outcome.passed, outcome.found) == (False, "0 pairs; rejected: 2 image_missing, 1 field_missing")


def test_a_full_disk_is_no_missing_picture(tmp_path: Path):
    (tmp_path / "pairs").mkdir()
    with small_disk(20_000), pytest.raises(WriteFailed):
        write_pairs(tmp_path / "pairs", [draft(1, picture(bytes(30_000)))], ImageStore(tmp_path / "images"))


def test_a_pair_belongs_to_its_patient_or_else_to_its_document():
    assert pair(7).group_id == "case-7"
    assert replace(pair(7), subject_id="p1").group_id == "subject:p1"


failing = partial(offenders, RULES)


def without_pairs(directory: Path):
    write_table(directory / PAIRS, Pair, [])


def with_an_id_twice(directory: Path):
    write_table(directory / PAIRS, Pair, [pair(1), pair(2), replace(pair(3), pair_id=pair(1).pair_id)])


def without_a_column(name: str) -> Callable[[Path], None]:
    return lambda directory: pq.write_table(pq.read_table(directory / name).drop_columns("source"), directory / name)


@pytest.mark.parametrize(
    ("damage", "breaks"),
    [
        (without_pairs, {"pairs_were_read": ()}),
        (with_an_id_twice, {"pair_ids_are_unique": ("slake/train/000001",)}),
        (without_a_column(PAIRS), {"columns_are_as_declared": (PAIRS,)}),
        (without_a_column(REJECTIONS), {"columns_are_as_declared": (REJECTIONS,)}),
    ],
)
def test_damage_breaks_exactly_its_rule(tmp_path: Path, damage: Callable[[Path], None], breaks: dict[str, tuple[str, ...]]):
    directory = written(tmp_path, [draft(1, picture(b"1")), draft(2, picture(b"2")), no_record(3)])
    assert failing(directory) == {}
    damage(directory)
    assert failing(directory) == breaks
