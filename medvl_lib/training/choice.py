"""Which pairs a recipe takes, and how often each comes in an epoch. No torch here.

In: the conversations (or captioned pictures) of a split and a recipe. Out: some of them, in their order; with mixture weights, some of them
several times. The same seed takes the same ones, and one pair more moves hardly any other.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

from medvl_lib.chat import Conversation
from medvl_lib.provenance import digest
from medvl_lib.training.recipe import MatchRecipe, Recipe

HASH_DIGITS = 13  # 52 bits: what a float holds exactly


class Teachable(Protocol):
    """What can be trained on: of a pair, with a dataset."""

    @property
    def pair_id(self) -> str:
        """The pair that it is made of."""
        ...

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        ...


Item = TypeVar("Item", bound=Teachable)


def chosen(items: Iterable[Item], recipe: Recipe | MatchRecipe, most: int, *, is_training: bool) -> list[Item]:
    """What a recipe takes of some items, in their order: its datasets, in training its share of each, at most ``most`` (0: all).

    Where there are too many, the first by a seeded hash of their pairs' ids are taken.
    """
    everything = list(items)
    by_dataset: dict[str, list[Item]] = defaultdict(list)
    for item in everything:
        by_dataset[item.dataset].append(item)
    named = [own for name, own in by_dataset.items() if not recipe.pairs_per_dataset or name in recipe.pairs_per_dataset]
    shares: Mapping[str, int] = recipe.pairs_per_dataset if is_training else {}
    taken = [item for own in named for item in _first(own, shares.get(own[0].dataset, 0), recipe.seed)]
    kept = {item.pair_id for item in _first(taken, most, recipe.seed)}
    return [item for item in everything if item.pair_id in kept]


def mixed(pairs: Iterable[Conversation], recipe: Recipe) -> list[Conversation]:
    """The pairs of one epoch: each as often as the weight of its dataset says.

    Of a weight of 2.5 every pair comes twice, and half of them, by a seeded hash of their ids, a third time.
    """
    return [pair for pair in pairs for _ in range(_num_copies(pair, recipe))]


def takes_cases(pair_id: str, recipe: Recipe) -> bool:
    """Whether a pair is among the half that is asked with similar cases before the question, where the recipe wants any."""
    return recipe.with_retrieved_cases and _place("cases", pair_id, recipe) < 0.5


def num_by_dataset(pairs: Iterable[Teachable]) -> dict[str, int]:
    """How many of the pairs belong to each dataset, by name."""
    return dict(sorted(Counter(pair.dataset for pair in pairs).items()))


def _num_copies(pair: Conversation, recipe: Recipe) -> int:
    weight = recipe.mixture_weights.get(pair.dataset, 1.0)
    return math.floor(weight) + (_place("mixture", pair.pair_id, recipe) < weight % 1)


def _place(what: str, pair_id: str, recipe: Recipe) -> float:
    """A place from 0 to 1 that a pair has for one purpose, by the recipe's seed."""
    return int(digest([what, recipe.seed, pair_id])[:HASH_DIGITS], 16) / 16**HASH_DIGITS


def _first(items: list[Item], most: int, seed: int) -> list[Item]:
    if not most or len(items) <= most:
        return items
    kept = set(sorted((item.pair_id for item in items), key=lambda pair_id: digest([seed, pair_id]))[:most])
    return [item for item in items if item.pair_id in kept]
