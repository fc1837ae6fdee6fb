"""Ranks and recall, on matrices small enough to be done by hand. If these passed wrongly, a model that says the same of every picture would
be found to retrieve, or a recall would be praised that knowing the class alone reaches.
"""

import math

import numpy as np
import pytest

from medvl_lib.retrieval import chance_at, class_only_at, mean_similarities, ranks, recall_at, retrieval, right_candidates

SIMILARITY = np.array([[0.9, 0.1, 0.2], [0.8, 0.5, 0.05], [0.3, 0.2, 0.1]])


def test_the_rank_is_one_more_than_the_wrong_ones_that_are_more_similar():
    assert ranks(SIMILARITY, np.eye(3, dtype=bool)).tolist() == [1, 2, 3]
    assert ranks(SIMILARITY.T, np.eye(3, dtype=bool)).tolist() == [1, 1, 2]


def test_any_of_several_equal_captions_is_right_and_they_do_not_stand_in_each_other_s_way():
    is_right = right_candidates(["nevus", "melanoma", "nevus"])
    assert is_right.tolist() == [[True, False, True], [False, True, False], [True, False, True]]
    assert ranks(SIMILARITY, is_right).tolist() == [1, 2, 1]


def test_a_tie_counts_against_the_model():
    same = np.ones((4, 4))
    assert ranks(same, np.eye(4, dtype=bool)).tolist() == [4, 4, 4, 4]
    two, _ = retrieval(same, ["a", "a", "b", "c"])
    assert two.ranks.tolist() == [3, 3, 3, 3]  # of three different texts
    assert two.recalls[0] == 0.0


def test_what_is_no_number_never_helps():
    broken = np.array([[math.nan, 0.1], [math.nan, 0.5]])
    assert ranks(broken, np.eye(2, dtype=bool)).tolist() == [2, 2]
    half = np.array([[math.nan, 0.9, 0.1]])  # another right candidate is a number
    assert ranks(half, np.array([[True, True, False]])).tolist() == [1]


def test_a_query_without_a_right_candidate_is_refused():
    with pytest.raises(ValueError, match="query 1 has no right candidate"):
        ranks(SIMILARITY[:2], np.array([[True, False, False], [False, False, False]]))


@pytest.mark.parametrize(("cutoff", "share"), [(1, 0.25), (2, 0.5), (3, 0.5), (4, 1.0), (9, 1.0)])
def test_recall_is_the_share_of_ranks_up_to_the_cutoff(cutoff: int, share: float):
    assert recall_at(np.array([1, 2, 4, 4]), cutoff) == share


@pytest.mark.parametrize(
    ("num_right", "num_candidates", "cutoff", "chance"),
    [(1, 4, 1, 1 / 4), (1, 4, 2, 2 / 4), (2, 4, 1, 2 / 4), (2, 4, 2, 1 - 1 / 6), (1, 3, 5, 1.0), (3, 4, 2, 1.0), (0, 4, 2, 0.0)],
)
def test_chance_is_that_of_a_random_order(num_right: int, num_candidates: int, cutoff: int, chance: float):
    assert chance_at(num_right, num_candidates, cutoff) == pytest.approx(chance)


def test_both_directions_are_told_with_size_chance_and_median():
    forth, back = retrieval(SIMILARITY, ["a", "b", "c"])
    assert (forth.direction, back.direction) == ("image_to_text", "text_to_image")
    assert (forth.ranks.tolist(), back.ranks.tolist()) == ([1, 2, 3], [1, 1, 2])
    assert forth.recalls == pytest.approx((1 / 3, 1.0, 1.0))
    assert forth.chances == pytest.approx((1 / 3, 1.0, 1.0))
    assert (forth.gallery_size, forth.median_rank, back.median_rank) == (3, 2.0, 1.0)


def test_who_knows_the_class_alone_finds_one_of_its_members():
    texts, classes = ["a", "b", "c", "d", "e"], ["x", "x", "x", "y", "y"]
    assert class_only_at(texts, classes, 1) == pytest.approx((3 * (1 / 3) + 2 * (1 / 2)) / 5)  # the number of classes by that of pairs
    assert class_only_at(texts, classes, 2) == pytest.approx((3 * (2 / 3) + 2 * 1) / 5)
    assert class_only_at(texts, classes, 3) == 1.0
    assert class_only_at(["a", "a", "c", "d", "e"], classes, 1) == pytest.approx((3 * (1 / 2) + 2 * (1 / 2)) / 5)  # a is one candidate


def test_the_closed_form_is_what_drawing_lots_within_the_class_gives():
    texts, classes = [*"aabcdefg"], [*"xxxxyyyz"]
    chance = np.random.default_rng(7)
    kept = [0, 2, 3, 4, 5, 6, 7]  # a once
    is_class, is_right = right_candidates(classes)[:, kept], right_candidates(texts)[:, kept]
    drawn = [recall_at(ranks(is_class + chance.random((8, 7)) / 2, is_right), 2) for _ in range(4000)]
    assert np.mean(drawn) == pytest.approx(class_only_at(texts, classes, 2), abs=0.01)


def test_the_mean_similarity_of_right_and_of_wrong_pairs():
    matched, mismatched = mean_similarities(SIMILARITY, ["a", "b", "c"])
    assert (matched, mismatched) == (pytest.approx(0.5), pytest.approx((0.1 + 0.2 + 0.8 + 0.05 + 0.3 + 0.2) / 6))
    assert math.isnan(mean_similarities(np.ones((2, 2)), ["a", "a"])[1])


def test_every_caption_of_a_picture_is_right_and_none_of_them_counts_against_another():
    """Two pictures of two captions each, and an encoder that knows both: all is found, and chance is that of two right ones in four."""
    pictures, texts = ["p", "p", "q", "q"], ["a", "b", "c", "d"]
    knows = np.array([[1.0, 1.0, 0.0, 0.0]] * 2 + [[0.0, 0.0, 1.0, 1.0]] * 2)
    forth, back = retrieval(knows, texts, pictures)
    assert (forth.ranks.tolist(), back.ranks.tolist()) == ([1, 1], [1, 1, 1, 1])
    assert forth.chances[0] == back.chances[0] == pytest.approx(0.5)
    assert class_only_at(texts, ["x"] * 4, 1, pictures) == pytest.approx(0.5)
    assert mean_similarities(knows, texts, pictures) == (1.0, 0.0)
    assert retrieval(knows, texts)[0].ranks.tolist() == [2, 2, 2, 2]  # were they four pictures, ties would count against it


def test_a_caption_that_two_pictures_share_is_right_for_both_in_either_direction():
    """P has a and b, q has b: b finds both, a finds p alone."""
    is_right = right_candidates(["a", "b", "b"], ["p", "p", "q"])
    assert is_right.tolist() == [[True, True, True], [True, True, True], [False, True, True]]
    assert class_only_at(["a", "b", "b"], ["x"] * 3, 1, ["p", "p", "q"]) == pytest.approx((1 + 1 / 2) / 2)
    assert class_only_at(["a", "b", "b"], ["x"] * 3, 1, ["p", "p", "q"], "text_to_image") == pytest.approx((1 / 2 + 1 + 1) / 3)


def test_a_picture_asks_once_and_a_wrong_text_takes_one_place_however_often_it_stands():
    """Five pictures of a, one of b that is nearest to a: b is second among two texts, and not sixth among six rows."""
    pictures, texts = [*"pqrstu"], [*"aaaaab"]
    similarity = np.array([[1.0] * 5 + [0.5]] * 6)
    forth, back = retrieval(similarity, texts, pictures)
    assert (forth.gallery_size, forth.queries.tolist(), forth.ranks.tolist()) == (2, [0, 1, 2, 3, 4, 5], [1, 1, 1, 1, 1, 2])
    assert forth.recalls == pytest.approx((5 / 6, 1.0, 1.0))
    assert (back.gallery_size, len(back.ranks)) == (6, 6)
    of_three = retrieval(np.eye(4), ["a", "b", "c", "d"], ["p", "p", "p", "q"])[0]
    assert (of_three.queries.tolist(), of_three.gallery_size, of_three.ranks.tolist()) == ([0, 3], 4, [1, 1])
