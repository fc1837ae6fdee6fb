"""What is done to pictures. If these passed wrongly, a control would show the right picture, and a blind model would pass for a reader."""

from medvl_lib.chat import Conversation
from medvl_lib.evaluation.predict import shuffled


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


def test_a_pair_without_another_picture_is_left_out():
    assert shuffled([[asked("a", "1"), asked("b"), asked("c", "1")], [asked("d", "2", "3")]]) == [[], []]
