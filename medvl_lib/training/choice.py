"""Which pairs a stage takes, and how often each comes in an epoch. No torch here.

In: the conversations (or captioned pictures) of a split, and a recipe or a stage. Out: some of them, in their order; with mixture weights,
some of them several times. The same seed takes the same ones, and one pair more moves hardly any other. ``every_stage_has_pairs`` says
before any training where a stage would be left without one: batches are cut from what was taken, so none of them is ever empty.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from medvl_lib.chat import Conversation, conversations_path, read_conversations
from medvl_lib.errors import InputRefused, MedVLError
from medvl_lib.evaluation.predictions import REFERENCES, Reference
from medvl_lib.pairs import Split
from medvl_lib.provenance import Outcome, Rule, digest
from medvl_lib.tables import read_table
from medvl_lib.training.recipe import MatchRecipe, Recipe, Stage

HASH_DIGITS = 13  # 52 bits: what a float holds exactly
CHOOSING = (
    "seed", "pairs_per_dataset", "mixture_weights", "max_training_pairs", "max_validation_pairs", "validations_per_epoch",
    "max_training_images", "max_images_per_group",
)  # fmt: skip
"""The fields of a recipe that say which pairs there are."""


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
References = Mapping[str, Reference]
"""Pair -> what is known of it: its group, and the labels that it is chosen by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a stage learns from."""

    pairs: Sequence[Conversation]
    """Each once, in the order of the split."""
    epoch: Sequence[Conversation]
    """Each as often as it comes in an epoch."""
    num_line_pairs: int
    """Pairs of an epoch that every label would have: what the steps of the line's stages are shares of."""


def taken(chat: Path, stage: Stage, recipe: Recipe) -> Taken:
    """What a stage takes of the training split: within the limits of pictures, its own pairs alone, and of these what the recipe says."""
    everything, known = list(read_conversations(conversations_path(chat, "train"))), _known(chat, "train", stage, recipe)
    shown = within_image_limits(everything, recipe, known)
    pairs = chosen(_own(shown, stage, known), recipe, recipe.max_training_pairs, is_training=True)
    whole = pairs if not stage.pairs else chosen(shown, recipe, recipe.max_training_pairs, is_training=True)
    return Taken(pairs=pairs, epoch=mixed(pairs, recipe), num_line_pairs=len(mixed(whole, recipe)))


def held_out(chat: Path, stage: Stage, recipe: Recipe) -> list[Conversation]:
    """What the held-out loss of a stage is measured on: its own pairs of the validation split."""
    everything = read_conversations(conversations_path(chat, "validation"))
    own = _own(everything, stage, _known(chat, "validation", stage, recipe))
    return chosen(own, recipe, recipe.max_validation_pairs, is_training=False)


def _known(chat: Path, split: Split, stage: Stage, recipe: Recipe) -> References:
    """What is known of a split's pairs, where the stage or its recipe asks for it; nothing is read where neither does."""
    if not (stage.pairs or recipe.max_training_images or recipe.max_images_per_group):
        return {}
    return {reference.pair_id: reference for reference in read_table(chat / REFERENCES, Reference) if reference.split == split}


def _own(items: Iterable[Conversation], stage: Stage, known: References) -> list[Conversation]:
    """The pairs that have every label of the stage."""
    if not stage.pairs:
        return list(items)
    return [item for item in items if stage.pairs.items() <= known[item.pair_id].slices.items()]


def within_image_limits(items: Sequence[Conversation], recipe: Recipe, known: References) -> list[Conversation]:
    """The pairs whose pictures are within the recipe's limits, in their order: for the whole training, and for each patient.

    Pictures that are shown together stay together. They are taken by a seeded hash of themselves, as long as they fit: whoever is left out
    in one stage is so in every other one with these limits, and one study more moves only those at the border.
    """
    if not (recipe.max_training_images or recipe.max_images_per_group):
        return list(items)
    groups = {item.image_ids: known[item.pair_id].group_id for item in items if not recipe.pairs_per_dataset or _is_named(item, recipe)}
    seen: set[str] = set()
    of_group: dict[str, set[str]] = defaultdict(set)
    kept: set[tuple[str, ...]] = set()
    for images in sorted(groups, key=lambda images: digest(["images", recipe.seed, list(images)])):
        own = of_group[groups[images]]
        fits = _fits(seen, images, recipe.max_training_images) and _fits(own, images, recipe.max_images_per_group)
        if fits:
            seen.update(images)
            own.update(images)
            kept.add(images)
    return [item for item in items if item.image_ids in kept]


def _fits(seen: set[str], images: Sequence[str], most: int) -> bool:
    return not most or len(seen.union(images)) <= most


def _is_named(item: Conversation, recipe: Recipe) -> bool:
    return item.dataset in recipe.pairs_per_dataset


def every_stage_has_pairs(stages: Sequence[Stage]) -> Rule:
    """The rule for a line with these stages: each that answers finds pairs to learn from, and such as it is to be measured on."""
    learning = tuple((stage, stage.recipe) for stage in stages if isinstance(stage.recipe, Recipe))
    return Rule(
        name="every_stage_has_pairs",
        sentence="Every stage that answers finds pairs of its own to learn from, and where a held-out loss is measured, for that.",
        holds=partial(_every_stage_has_pairs, learning),
        literals=tuple((stage.name, stage.pairs, *(getattr(recipe, name) for name in CHOOSING)) for stage, recipe in learning),
    )


def _every_stage_has_pairs(learning: Sequence[tuple[Stage, Recipe]], directory: Path) -> Outcome:
    try:
        return _found(learning, directory)
    except InputRefused as refusal:
        return Outcome(passed=True, found=f"not asked: {refusal.found}")  # another rule says so, and blocks


def _found(learning: Sequence[tuple[Stage, Recipe]], directory: Path) -> Outcome:
    said: list[str] = []
    empty: list[str] = []
    for stage, recipe in learning:
        num_pairs, num_held_out = len(taken(directory, stage, recipe).epoch), len(held_out(directory, stage, recipe))
        said.append(f"{stage.name}: {num_pairs} pairs to learn from, {num_held_out} held out")
        if not num_pairs or (recipe.validations_per_epoch and not num_held_out and (stage.pairs or stage.handover)):
            empty.append(stage.name)
    cure = "; look for pairs with the labels that the stage takes (its `pairs`), at its recipe, and at what validation rejected"
    return Outcome(passed=not empty, found="; ".join(said) + (cure if empty else ""), offenders=tuple(empty))


def require_pairs(found: Taken, chat: Path, stage: Stage, recipe: Recipe) -> None:
    """Refuse a stage that would learn from nothing; raises MedVLError."""
    if found.epoch:
        return
    labels = "".join(f", with {label} = {value}" for label, value in stage.pairs.items())
    raise MedVLError(
        found=f"no training pair of {', '.join(recipe.pairs_per_dataset) or 'any dataset'}{labels}"
        + (f", {len(found.pairs)} before mixture_weights = {dict(recipe.mixture_weights)}" if found.pairs else ""),
        where=str(conversations_path(chat, "train")),
        do="name datasets of this line in recipe.pairs_per_dataset, raise its mixture_weights or its limits of pictures, or check what "
        "validation rejected",
    )


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
