"""Floors: answers that need no model and no picture. Whatever does not beat them has shown nothing. No torch here.

In: the references of the training split, and of the pairs to answer. Out: one answer per pair and floor. Scoring them is ``scores``'s.
"""

import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from medvl_lib.evaluation.predictions import FLOORS, Prediction, Reference, Variant
from medvl_lib.pairs import Triple
from medvl_lib.provenance import digest

REVISION = 1  # first version
Floor = Callable[[Reference], str]


def floor_predictions(training: Sequence[Reference], held_out: Iterable[Reference], seed: int) -> Iterable[Prediction]:
    """Every floor's answer to every held-out pair."""
    floors = floors_of(training, seed)
    for reference in held_out:
        for variant in FLOORS:
            yield Prediction(
                pair_id=reference.pair_id, variant=variant, condition="as_is", answer=floors[variant](reference),
                num_prompt_tokens=0, num_answer_tokens=0, is_cut=False, batch_id=None, batch_size=0, latency_seconds=None,
            )  # fmt: skip


def floors_of(training: Sequence[Reference], seed: int) -> dict[Variant, Floor]:
    """The floors by name: nothing; the commonest training answer; another pair's answer; the commonest facts."""
    by_dataset: dict[str, list[Reference]] = defaultdict(list)
    for reference in training:
        by_dataset[reference.dataset].append(reference)
    constant = {name: _commonest(item.response for item in items) for name, items in by_dataset.items()}
    majority = {name: majority_answer(items) for name, items in by_dataset.items()}

    def random_answer(reference: Reference) -> str:
        others = by_dataset[reference.dataset]
        return random.Random(digest([seed, reference.pair_id])).choice(others).response if others else ""  # noqa: S311 (no secret)

    return {
        "floor_empty": lambda _: "",
        "floor_constant": lambda reference: constant.get(reference.dataset, ""),
        "floor_random": random_answer,
        "floor_majority": lambda reference: majority.get(reference.dataset, ""),
    }


def _commonest(values: Iterable[str]) -> str:
    """The most frequent text; of equally frequent ones the first in alphabetical order."""
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value)) if counts else ""


def majority_answer(training: Sequence[Reference]) -> str:
    """What can be said of a dataset's documents without looking: its commonest terms, each with its commonest value.

    As many terms as a training answer states at the median; where no facts are known, the commonest response.
    """
    facts: dict[str, Counter[Triple]] = defaultdict(Counter)
    for reference in training:
        for triple in reference.expected:
            facts[triple.term][triple] += 1
    if not facts:
        return _commonest(reference.response for reference in training)
    num_terms = round(statistics.median(len(reference.expected) for reference in training))
    terms = sorted(facts, key=lambda term: (-facts[term].total(), term))[:num_terms]
    best = [min(facts[term], key=lambda triple: (-facts[triple.term][triple], triple.value, triple.unit)) for term in terms]
    return "\n".join(f"{triple.term}: {triple.value} {triple.unit}".rstrip() for triple in best)
