"""What is asked, and what is done to pictures. If these passed wrongly, a control would show the right picture, and a blind model would
pass for a reader; or a dataset that only helps in training would be judged.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from medvl_lib.chat import Conversation
from medvl_lib.evaluation.predict import parts, shuffled
from medvl_lib.evaluation.spec import EvaluationSpec
from tests.chats import write_conversations

ALL = EvaluationSpec(splits=("test",), max_pairs_per_dataset=0, max_answer_tokens=8, controls=(), seed=1, datasets=(), further_variants=())


def asked(name: str, *image_ids: str) -> Conversation:
    return Conversation(pair_id=name, image_ids=image_ids, messages=())


def test_each_pair_gets_the_pictures_of_the_next_one_with_as_many():
    groups = [[asked("a", "1"), asked("b", "2"), asked("c", "3", "4")], [asked("d", "5"), asked("e", "6", "7")]]
    found = {item.pair_id: item.image_ids for group in shuffled(groups) for item in group}
    assert found == {"a": ("2",), "b": ("5",), "d": ("1",), "c": ("6", "7"), "e": ("3", "4")}


def test_groups_and_their_order_stay():
    groups = [[asked("a", "1"), asked("b", "2")], [asked("c", "3")]]
    assert [[item.pair_id for item in group] for group in shuffled(groups)] == [["a", "b"], ["c"]]


def test_two_questions_about_one_picture_both_get_another():
    found = [item.image_ids for group in shuffled([[asked("a", "1"), asked("b", "1"), asked("c", "2")]]) for item in group]
    assert found == [("2",), ("2",), ("1",)]


def pictures(groups: list[list[Conversation]]) -> dict[str, tuple[str, ...]]:
    return {item.pair_id: item.image_ids for group in groups for item in group}


def test_where_no_other_pair_has_as_many_pictures_they_are_repeated_or_cut():
    found = pictures(shuffled([[asked("a", "1"), asked("b"), asked("c", "1")], [asked("d", "2", "3")]]))
    assert found == {"a": ("2",), "b": (), "c": ("2",), "d": ("1", "1")}


def test_the_same_pictures_in_another_order_are_no_other_ones():
    found = pictures(shuffled([[asked("a", "1", "2"), asked("b", "2", "1"), asked("c", "3", "4"), asked("d", "2", "5")]]))
    assert found == {"a": ("3", "4"), "b": ("3", "4"), "c": ("2", "5"), "d": ("3", "4")}
    assert pictures(shuffled([[asked("a", "1", "2"), asked("b", "2", "3")]])) == {"a": ("3", "3"), "b": ("1", "1")}  # none of its own


def test_pictures_of_another_patient_come_first():
    groups = [[asked("a", "1"), asked("b", "2"), asked("c", "3"), asked("d", "4", "5")]]
    found = pictures(shuffled(groups, {"a": "p1", "b": "p1", "c": "p2", "d": "p3"}))
    assert found == {"a": ("3",), "b": ("3",), "c": ("1",), "d": ("1", "1")}
    assert pictures(shuffled(groups, {"a": "p1", "b": "p1", "c": "p1", "d": "p3"}))["a"] == ("2",)  # as many before another patient


@pytest.mark.parametrize("groups", [[[asked("a", "1"), asked("b", "1")], []], [[asked("a", "1", "2"), asked("b", "2")], []]])
def test_where_a_pair_has_every_picture_nobody_is_asked_with_others(groups: list[list[Conversation]]):
    assert shuffled(groups) == [[], []]


@pytest.mark.parametrize(
    ("spec", "pairs"),
    [
        (ALL, {"forms/0", "forms/1", "forms/2", "notes/0"}),
        (replace(ALL, datasets=("forms",)), {"forms/0", "forms/1", "forms/2"}),
        (replace(ALL, datasets=("notes",), max_pairs_per_dataset=1), {"notes/0"}),
    ],
)
def test_the_pairs_of_the_evaluated_datasets_are_asked(spec: EvaluationSpec, pairs: set[str], tmp_path: Path):
    written = [asked(name, "1") for name in ("forms/0", "notes/0", "forms/1", "forms/2")]
    for split in ("train", "validation", "test", "benchmark"):
        items = written if split == "test" else [asked(f"forms/{split}", "1")]
        write_conversations(tmp_path, split, items)
    assert {item.pair_id for group in parts(tmp_path, spec) for item in group} == pairs
