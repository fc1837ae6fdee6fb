"""The split. If these passed wrongly, a patient could be trained on and tested with, or move when data is added, and every later number
would be worth nothing.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from medvl_lib import split as room
from medvl_lib.pairs import PAIRS, Pair
from medvl_lib.split import SPLIT, SplitRow, SplitSpec, split_of, write_split
from medvl_lib.tables import read_table, write_table
from tests.broken import offenders
from tests.damages import picture_of_another_in_its_split

GOLDEN = [
    "test", "train", "test", "train", "test", "train",
    "validation", "validation", "test", "validation", "train", "train",
]  # fmt: skip
SPEC = SplitSpec(seed=42, validation_share=0.2, test_share=0.3)


def pair(number: int, **changes: object) -> Pair:
    values = {
        "pair_id": f"pathvqa/{number:06d}", "dataset": "pathvqa", "image_ids": (f"{number:064d}",), "request": "What is it?",
        "response": "A cell", "expected": (), "subject_id": None, "document_id": f"case-{number}", "publisher_split": None,
        "language": "en", "source": f"row {number}", "licence": "MIT", "metadata": {},
    }  # fmt: skip
    return Pair(**{**values, **changes})


def written(root: Path, pairs: Iterable[Pair], spec: SplitSpec = SPEC) -> Path:
    validated: dict[str, Path] = {}
    pairs = list(pairs)
    for name in {item.dataset for item in pairs}:
        validated[name] = root / name
        validated[name].mkdir(parents=True)
        write_table(validated[name] / PAIRS, Pair, (item for item in pairs if item.dataset == name))
    (root / "split").mkdir()
    write_split(root / "split", validated, spec)
    return root / "split"


def rows(directory: Path) -> list[SplitRow]:
    return list(read_table(directory / SPLIT, SplitRow))


failing = partial(offenders, room.RULES)


def test_a_group_stays_where_it_has_always_been(tmp_path):
    found = [row.split for row in rows(written(tmp_path, [pair(number) for number in range(12)]))]
    assert found == GOLDEN


def test_of_a_publishers_split_that_is_kept_which_the_spec_names(tmp_path):
    given = ("train", "validation", "test", "benchmark", None)
    pairs = [pair(number, publisher_split=given[number % 5]) for number in range(60)]
    kept, partly = SPEC, replace(SPEC, kept_publisher_splits=("test", "benchmark"))
    assert [row.split for row in rows(written(tmp_path / "a", pairs, kept))] == [
        item.publisher_split or split_of(item.group_id, SPEC) for item in pairs
    ]  # fmt: skip
    found = [row.split for row in rows(written(tmp_path / "b", pairs, partly))]
    assert found == [
        item.publisher_split if item.publisher_split in ("test", "benchmark") else split_of(item.group_id, SPEC) for item in pairs
    ]  # fmt: skip
    assert found != [row.split for row in rows(written(tmp_path / "c", pairs, kept))]


def test_what_a_publisher_held_out_is_never_trained_on():
    with pytest.raises(ValueError, match="must name test and benchmark"):
        replace(SPEC, kept_publisher_splits=("train", "benchmark"))


def test_patients_keep_their_place_when_data_is_added_or_removed(tmp_path):
    few = {row.pair_id: row.split for row in rows(written(tmp_path / "few", [pair(number) for number in range(0, 60, 3)]))}
    many = {row.pair_id: row.split for row in rows(written(tmp_path / "many", [pair(number) for number in range(200)]))}
    assert few.items() <= many.items()


def test_all_pairs_of_a_patient_go_together_whatever_their_documents():
    places = {split_of(pair(number, subject_id="p7").group_id, SPEC) for number in range(50)}
    assert len(places) == 1


def test_shares_are_met_and_another_seed_gives_another_split():
    places = [split_of(f"case-{number}", SPEC) for number in range(5000)]
    assert abs(places.count("test") / 5000 - 0.3) < 0.02
    assert abs(places.count("validation") / 5000 - 0.2) < 0.02
    assert places != [split_of(f"case-{number}", replace(SPEC, seed=43)) for number in range(5000)]


def test_a_larger_validation_share_takes_groups_from_train_only():
    wider = replace(SPEC, validation_share=0.4)
    moved = {(split_of(f"case-{n}", SPEC), split_of(f"case-{n}", wider)) for n in range(500)}
    assert {(before, after) for before, after in moved if before != after} == {("train", "validation")}


def test_a_publishers_split_is_kept(tmp_path):
    found = rows(written(tmp_path, [pair(number, publisher_split="benchmark" if number % 2 else "train") for number in range(20)]))
    assert [row.split for row in found] == ["train", "benchmark"] * 10


def test_datasets_are_written_by_name_whatever_the_order_given(tmp_path):
    pairs = [pair(1, dataset="slake", pair_id="slake/1"), pair(2), pair(3, dataset="slake", pair_id="slake/3")]
    assert [row.pair_id for row in rows(written(tmp_path, pairs))] == ["pathvqa/000002", "slake/1", "slake/3"]


@pytest.mark.parametrize(("validation_share", "test_share"), [(0.1, 0.0), (-0.1, 0.1), (0.5, 0.5)])
def test_shares_that_leave_nothing_are_refused(validation_share, test_share):
    with pytest.raises(ValueError, match="test_share"):
        SplitSpec(seed=1, validation_share=validation_share, test_share=test_share)


def test_a_sound_split_passes_every_rule(tmp_path):
    assert failing(written(tmp_path, [pair(number) for number in range(40)])) == {}


def test_no_two_datasets_share_a_patient_by_having_the_same_number(tmp_path):
    here, there = pair(1, publisher_split="train", subject_id="1"), pair(2, publisher_split="test", subject_id="1", dataset="slake")
    assert failing(written(tmp_path, [here, there])) == {}


def test_a_leak_is_written_and_named_not_crashed_on(tmp_path):
    leaked = [pair(1, publisher_split="train", subject_id="p1"), pair(2, publisher_split="test", subject_id="p1")]
    assert failing(written(tmp_path, leaked)) == {"no_group_in_two_splits": ("pathvqa: subject:p1",)}


def drop_last(found: list[SplitRow]) -> list[SplitRow]:
    return found[:-1]


def unknown_split(found: list[SplitRow]) -> list[SplitRow]:
    return [*found[:-1], replace(found[-1], split="dev")]


def move_a_sibling(found: list[SplitRow]) -> list[SplitRow]:
    train, test = (next(row for row in found if row.split == name) for name in ("train", "test"))
    return [replace(row, group_id=train.group_id) if row is test else row for row in found]


def share_a_picture(found: list[SplitRow]) -> list[SplitRow]:
    train, test = (next(row for row in found if row.split == name) for name in ("train", "test"))
    return [replace(row, image_ids=train.image_ids) if row is test else row for row in found]


def all_to(name: str) -> Callable[[list[SplitRow]], list[SplitRow]]:
    return lambda found: [replace(row, split=name) for row in found]


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (drop_last, "every_pair_has_a_split"),
        (unknown_split, "every_pair_has_a_split"),
        (move_a_sibling, "no_group_in_two_splits"),
        (share_a_picture, "no_image_in_two_splits"),
        (picture_of_another_in_its_split, "no_image_of_two_groups"),
        (all_to("train"), "test_is_not_empty"),
        (all_to("test"), "train_is_not_empty"),
    ],
)
def test_damage_breaks_exactly_its_rule(tmp_path, damage, rule):
    directory = written(tmp_path, [pair(number) for number in range(40)])
    write_table(directory / SPLIT, SplitRow, damage(rows(directory)))
    assert list(failing(directory)) == [rule]


def test_a_foreign_column_breaks_exactly_its_rule(tmp_path):
    import pyarrow.parquet as pq

    directory = written(tmp_path, [pair(number) for number in range(40)])
    table = pq.read_table(directory / SPLIT)
    pq.write_table(table.append_column("note", table["pair_id"]), directory / SPLIT)
    assert failing(directory) == {"columns_are_as_declared": (SPLIT,)}


def test_pairs_are_counted_by_dataset_and_split(tmp_path):
    here, there = pair(1, publisher_split="train"), pair(2, publisher_split="test", dataset="slake")
    counts = room.num_pairs_by_dataset(written(tmp_path, [here, there, pair(3, publisher_split="train")]))
    assert counts == {("pathvqa", "train"): 2, ("slake", "test"): 1}
