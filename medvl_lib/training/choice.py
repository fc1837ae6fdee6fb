"""Which pairs a stage takes, and how often each comes in an epoch. No torch here.

In: the conversations (or captioned pictures) of a split, and a recipe or a stage. Out: some of them, in their order; with mixture weights,
some of them several times. The same seed takes the same ones, and one pair more moves hardly any other. ``every_stage_has_pairs`` says
before any training where a stage would be left without one: batches are cut from what was taken, so none of them is ever empty.
"""

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from medvl_lib.chat import Conversation, conversations_path, read_conversations
from medvl_lib.errors import InputRefused, MedVLError
from medvl_lib.evaluation.predictions import REFERENCES, Reference
from medvl_lib.pairs import Split
from medvl_lib.provenance import Outcome, Rule, digest
from medvl_lib.rules import stream
from medvl_lib.tables import require_schema
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


class Known(Protocol):
    """What is known of a pair beside its conversation."""

    @property
    def group_id(self) -> str:
        """Its patient or document."""
        ...

    @property
    def slices(self) -> Mapping[str, str]:
        """The labels that it is chosen by."""
        ...


class _Beside(NamedTuple):
    """The same, of a pair whose texts are left on the disk."""

    group_id: str
    slices: Mapping[str, str]


References = Mapping[str, Known]
Walk = Callable[[], Iterable[Conversation]]
"""Begins to read conversations from the first one: there may be a million, and they are read as often as it takes, never all kept."""


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
    shown, own = _learned_from(chat, stage, recipe)
    pairs = list(_walked(own, recipe, recipe.max_training_pairs, is_training=True))
    epoch = mixed(pairs, recipe)
    num_line_pairs = _num_in_epoch(shown, recipe) if stage.pairs else len(epoch)
    return Taken(pairs=pairs, epoch=epoch, num_line_pairs=num_line_pairs)


def held_out(chat: Path, stage: Stage, recipe: Recipe) -> list[Conversation]:
    """What the held-out loss of a stage is measured on: its own pairs of the validation split."""
    return list(_held_out(chat, stage, recipe))


def _learned_from(chat: Path, stage: Stage, recipe: Recipe) -> tuple[Walk, Walk]:
    """What of the training split is within the limits of pictures, and what of that has the labels of the stage."""
    known, path = _known(chat, "train", stage, recipe), conversations_path(chat, "train")
    images = _images_within(read_conversations(path), recipe, known)

    def shown() -> Iterator[Conversation]:
        return (item for item in read_conversations(path) if images is None or item.image_ids in images)

    return shown, lambda: _own(shown(), stage, known)


def _held_out(chat: Path, stage: Stage, recipe: Recipe) -> Iterator[Conversation]:
    known = _known(chat, "validation", stage, recipe)
    return _walked(
        lambda: _own(read_conversations(conversations_path(chat, "validation")), stage, known), recipe, recipe.max_validation_pairs,
        is_training=False,
    )  # fmt: skip


def _known(chat: Path, split: Split, stage: Stage, recipe: Recipe) -> References:
    """What is known of a split's pairs, where the stage or its recipe asks for it; nothing is read where neither does."""
    if not (stage.pairs or recipe.max_training_images or recipe.max_images_per_group):
        return {}
    references = chat / REFERENCES
    require_schema(references, Reference)
    question = "select pair_id, group_id, slices from read_parquet($references) where split = $split"
    return {
        pair_id: _Beside(group_id, {label: slices[label] for label in stage.pairs if label in slices})
        for pair_id, group_id, slices in stream(question, references=references, split=split)
    }  # fmt: skip


def _own(items: Iterable[Conversation], stage: Stage, known: References) -> Iterator[Conversation]:
    """The pairs that have every label of the stage."""
    return (item for item in items if not stage.pairs or stage.pairs.items() <= known[item.pair_id].slices.items())


def within_image_limits(items: Sequence[Conversation], recipe: Recipe, known: References) -> list[Conversation]:
    """The pairs whose pictures are within the recipe's limits, in their order: for the whole training, and for each patient.

    Pictures that are shown together stay together. They are taken by a seeded hash of themselves, as long as they fit: whoever is left out
    in one stage is so in every other one with these limits, and one study more moves only those at the border.
    """
    images = _images_within(items, recipe, known)
    return [item for item in items if images is None or item.image_ids in images]


def _images_within(items: Iterable[Conversation], recipe: Recipe, known: References) -> set[tuple[str, ...]] | None:
    """The pictures that are within the recipe's limits, as they are shown together; None where it has no limits."""
    if not (recipe.max_training_images or recipe.max_images_per_group):
        return None
    groups = {item.image_ids: known[item.pair_id].group_id for item in items if _is_named(item, recipe)}
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
    return kept


def _fits(seen: set[str], images: Sequence[str], most: int) -> bool:
    return not most or len(seen.union(images)) <= most


def _is_named(item: Teachable, recipe: Recipe | MatchRecipe) -> bool:
    """Whether a pair is of a dataset that is trained on."""
    return not recipe.pairs_per_dataset or item.dataset in recipe.pairs_per_dataset


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
        _, own = _learned_from(directory, stage, recipe)
        num_pairs, num_held_out = _num_in_epoch(own, recipe), sum(1 for _ in _held_out(directory, stage, recipe))
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
    is_chosen = _choice(everything, recipe, most, is_training=is_training)
    return [item for item in everything if is_chosen(item)]


def _walked(walk: Walk, recipe: Recipe, most: int, *, is_training: bool) -> Iterator[Conversation]:
    """The same of conversations that are read anew, and not kept."""
    is_chosen = _choice(walk(), recipe, most, is_training=is_training)
    return (item for item in walk() if is_chosen(item))


def _choice(items: Iterable[Teachable], recipe: Recipe | MatchRecipe, most: int, *, is_training: bool) -> Callable[[Teachable], bool]:
    """Who is taken, told after one look at each: of no dataset are more remembered than may be taken of it."""
    shares: Mapping[str, int] = recipe.pairs_per_dataset if is_training else {}
    bounds = {name: min(filter(None, (share, most)), default=0) for name, share in shares.items()}
    first: dict[str, list[tuple[int, str]]] = defaultdict(list)  # those of the smallest hashes, the largest of them on top
    for item in items if most or any(bounds.values()) else ():
        if (bound := bounds.get(item.dataset, most)) and _is_named(item, recipe):
            heap, mine = first[item.dataset], (-int(digest([recipe.seed, item.pair_id]), 16), item.pair_id)
            (heapq.heappush if len(heap) < bound else heapq.heappushpop)(heap, mine)
    found = [mine for heap in first.values() for mine in heap]
    kept = {pair_id for _, pair_id in (heapq.nlargest(most, found) if most else found)}
    return lambda item: _is_named(item, recipe) and (not bounds.get(item.dataset, most) or item.pair_id in kept)


def mixed(pairs: Iterable[Conversation], recipe: Recipe) -> list[Conversation]:
    """The pairs of one epoch: each as often as the weight of its dataset says.

    Of a weight of 2.5 every pair comes twice, and half of them, by a seeded hash of their ids, a third time.
    """
    return [pair for pair in pairs for _ in range(_num_copies(pair, recipe))]


def _num_in_epoch(walk: Walk, recipe: Recipe) -> int:
    """How many pairs an epoch has of these."""
    return sum(_num_copies(item, recipe) for item in _walked(walk, recipe, recipe.max_training_pairs, is_training=True))


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
