"""Floors: answers that need no model and no picture. Whatever does not beat them has shown nothing. No torch here.

In: the references of the training split, and of the pairs to answer. Out: one answer per pair and floor. Scoring them is ``scores``'s.
"""

import random
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from medvl_lib.evaluation.predictions import FLOORS, Prediction, Reference, Variant
from medvl_lib.pairs import Triple
from medvl_lib.provenance import digest

REVISION = 2  # the majority answer is that of the same question
Floor = Callable[[Reference], str]
WORD = re.compile(r"\w+")


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
    """The floors by name: nothing; the commonest training answer; another pair's answer; the commonest answer to the same question."""
    by_dataset: dict[str, list[Reference]] = defaultdict(list)
    for reference in training:
        by_dataset[reference.dataset].append(reference)
    constant = {name: _commonest(item.response for item in items) for name, items in by_dataset.items()}
    majority = {name: Majority(items) for name, items in by_dataset.items()}

    def random_answer(reference: Reference) -> str:
        others = by_dataset[reference.dataset]
        return random.Random(digest([seed, reference.pair_id])).choice(others).response if others else ""  # noqa: S311 (no secret)

    return {
        "floor_empty": lambda _: "",
        "floor_constant": lambda reference: constant.get(reference.dataset, ""),
        "floor_random": random_answer,
        "floor_majority": lambda reference: majority[reference.dataset].answer(reference) if reference.dataset in majority else "",
    }


def _commonest(values: Iterable[str]) -> str:
    """The most frequent text; of equally frequent ones the first in alphabetical order."""
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value)) if counts else ""


class Majority:
    """What can be said of a dataset's pairs without looking at the picture: what is said most often when that is asked."""

    def __init__(self, training: Sequence[Reference]) -> None:
        self._training = training
        self._answers: dict[str, str] = {}  # thousands of pairs may ask one question
        self._by_question: dict[str, list[Reference]] = defaultdict(list)
        self._by_first_word: dict[str, list[Reference]] = defaultdict(list)
        for reference in training:
            question = _question(reference)
            self._by_question[question].append(reference)
            self._by_first_word[question.split(" ", 1)[0]].append(reference)

    def answer(self, reference: Reference) -> str:
        """The majority's answer to the same question, whatever its capitals and punctuation.

        Where it was never asked, that to the questions with the same first word ("what" is hardly ever answered yes); else the dataset's.
        """
        question = _question(reference)
        if question not in self._answers:
            alike = self._by_question.get(question) or self._by_first_word.get(question.split(" ", 1)[0]) or self._training
            self._answers[question] = majority_answer(alike)
        return self._answers[question]


def _question(reference: Reference) -> str:
    """The words that are asked, whatever their capitals and punctuation."""
    return " ".join(WORD.findall(reference.request.casefold()))


def majority_answer(training: Sequence[Reference]) -> str:
    """What can be said of some pairs without looking: their commonest terms, each with its commonest value.

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
