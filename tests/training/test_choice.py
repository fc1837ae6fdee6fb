"""Which pairs a recipe takes. If these passed wrongly, a mismatched recipe would train on the matched set, and say that it did not."""

from collections import Counter
from dataclasses import replace

import pytest

from medvl_lib.chat import Conversation
from medvl_lib.training.choice import chosen, mixed, num_by_dataset, takes_cases
from tests.torch_fixtures import RECIPE

PAIRS = [Conversation(pair_id=f"{name}/train/{number:03d}", image_ids=(), messages=()) for number in range(10) for name in ("b", "a")]


def taken(most: int = 0, **shares: int) -> list[str]:
    return [item.pair_id for item in chosen(PAIRS, replace(RECIPE, pairs_per_dataset=shares), most, is_training=True)]


@pytest.mark.parametrize(
    ("shares", "most", "expected"),
    [
        ({}, 0, {"a": 10, "b": 10}), ({"a": 0}, 0, {"a": 10}), ({"a": 0, "b": 3}, 0, {"a": 10, "b": 3}), ({"b": 99}, 0, {"b": 10}),
        ({"c": 0}, 0, {}), ({"a": 2, "b": 2}, 3, None), ({}, 7, None),
    ],
)  # fmt: skip
def test_a_recipe_takes_its_share_of_each_dataset(shares: dict[str, int], most: int, expected: dict[str, int] | None):
    found = taken(most, **shares)
    if expected is None:
        assert len(found) == most
    else:
        assert Counter(pair_id.split("/")[0] for pair_id in found) == expected


def test_the_pairs_keep_their_order_and_the_seed_chooses_them():
    found = taken(a=4, b=4)
    assert found == [item.pair_id for item in PAIRS if item.pair_id in found]
    others = [item.pair_id for item in chosen(PAIRS, replace(RECIPE, pairs_per_dataset={"a": 4, "b": 4}, seed=8), 0, is_training=True)]
    assert set(found) != set(others)


def test_the_held_out_loss_is_of_the_same_datasets_and_not_cut_by_their_shares():
    found = chosen(PAIRS, replace(RECIPE, pairs_per_dataset={"a": 2}), 6, is_training=False)
    assert [item.pair_id.split("/")[0] for item in found] == ["a"] * 6


def test_one_pair_more_moves_at_most_one_other():
    more = [*PAIRS, Conversation(pair_id="a/train/010", image_ids=(), messages=())]
    recipe = replace(RECIPE, pairs_per_dataset={"a": 4})
    before, after = ({item.pair_id for item in chosen(pairs, recipe, 0, is_training=True)} for pairs in (PAIRS, more))
    assert len(before - after) <= 1


@pytest.mark.parametrize(("weight", "least", "most"), [(1.0, 1000, 1000), (3.0, 3000, 3000), (2.5, 2440, 2560), (0.5, 440, 560)])
def test_a_mixture_weight_says_how_often_a_pair_comes_in_an_epoch(weight: float, least: int, most: int):
    pairs = [Conversation(pair_id=f"{name}/train/{number:03d}", image_ids=(), messages=()) for number in range(1000) for name in ("b", "a")]
    epoch = mixed(pairs, replace(RECIPE, mixture_weights={"a": weight}))
    counts = num_by_dataset(epoch)
    assert least <= counts["a"] <= most
    assert counts["b"] == 1000
    assert set(Counter(item.pair_id for item in epoch if item.dataset == "a").values()) <= {int(weight), int(-(-weight // 1))} - {0}


def test_a_weight_moves_no_pair_of_another_dataset_and_the_seed_chooses_who_comes_once_more():
    ids = [[item.pair_id for item in mixed(PAIRS, replace(RECIPE, mixture_weights={"a": 1.5}, seed=seed))] for seed in (7, 7, 8)]
    assert ids[0] == ids[1]
    assert Counter(ids[0]) != Counter(ids[2])


def test_half_of_the_pairs_come_with_cases_and_none_where_the_recipe_wants_none():
    ids = [f"a/train/{number:04d}" for number in range(1000)]
    wanting = replace(RECIPE, with_retrieved_cases=True)
    assert 450 < sum(takes_cases(pair_id, wanting) for pair_id in ids) < 550
    assert not any(takes_cases(pair_id, RECIPE) for pair_id in ids)
    assert [takes_cases(one, wanting) for one in ids] != [takes_cases(one, replace(wanting, seed=8)) for one in ids]
