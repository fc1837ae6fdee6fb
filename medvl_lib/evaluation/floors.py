"""Floors: answers that need no model and no picture. Whatever does not beat them has shown nothing. No torch here.

In: the references of the training split, and of the pairs to answer. Out: one answer per pair and floor. Scoring them is ``scores``'s.
A pair is answered from the training pairs of its own dataset, language and stage: a Chinese question is no easier for English answers, nor
one for an impression for findings with a list of codes.

Where reports are wanted, ``floor_constant`` is the most typical of all, which may well name a finding, and ``floor_majority`` the most
typical of those that name what most of them name: **the report that is always normal**, wherever normal ones are the commonest. What a
report names is the rule labeler's word; of texts in which it reads nothing, all name the same, and the two floors are one.
"""

import random
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from medvl_lib.chexpert import PATHOLOGIES, label_report
from medvl_lib.datasets.descriptions import STAGE
from medvl_lib.datasets.mimic_cxr_texts import read_findings, read_impression
from medvl_lib.evaluation.predictions import FLOORS, Prediction, Reference, Variant
from medvl_lib.pairs import Triple
from medvl_lib.provenance import digest

REVISION = 5  # of reports the majority is one of the commonest findings: always normal where most are
NUM_LABELLED = 2000  # reports of which the commonest findings are sought: a second
NUM_COMPARED = 200  # reports of which the most typical is sought: each is held against each, half a second
Floor = Callable[[Reference], str]
WORD = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+")


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
    alike: dict[tuple[str, ...], list[Reference]] = defaultdict(list)
    for reference in training:
        alike[_kind(reference)].append(reference)
    constant = {key: constant_answer(items) for key, items in alike.items()}
    majority = {key: Majority(items) for key, items in alike.items()}

    def random_answer(reference: Reference) -> str:
        others = alike[_kind(reference)]
        return random.Random(digest([seed, reference.pair_id])).choice(others).response if others else ""  # noqa: S311 (no secret)

    def majority_of(reference: Reference) -> str:
        found = majority.get(_kind(reference))
        return found.answer(reference) if found else ""

    return {
        "floor_empty": lambda _: "",
        "floor_constant": lambda reference: constant.get(_kind(reference), ""),
        "floor_random": random_answer,
        "floor_majority": majority_of,
    }


def _kind(reference: Reference) -> tuple[str, ...]:
    return reference.dataset, reference.language, reference.slices.get(STAGE, "")


def constant_answer(training: Sequence[Reference]) -> str:
    """The one answer that fits some pairs best: the commonest, or where reports are wanted the most typical one."""
    if not all(reference.is_report for reference in training):
        return _commonest(reference.response for reference in training)
    return most_typical([reference.response for reference in training])


def most_typical(texts: Sequence[str]) -> str:
    """The text that shares most words with the others: the largest mean of 2 x shared words / words of both.

    Hardly two reports are equal, so the commonest of them is any; and where some are, it is a short one. Of many texts 200 are looked at,
    the first by a hash of what they say.
    """
    chosen = _some(texts, NUM_COMPARED)
    counts = [Counter(WORD.findall(text.casefold())) for text in chosen]
    sizes = [count.total() for count in counts]

    def likeness(place: int) -> float:
        mine, size = counts[place], sizes[place]
        return sum((mine & other).total() / (size + total) for other, total in zip(counts, sizes, strict=True) if size + total)

    return min(((-likeness(place), text) for place, text in enumerate(chosen)), default=(0.0, ""))[1]


def of_commonest_findings(reports: Sequence[str]) -> list[str]:
    """The reports that name the very findings that most of them name; of equally common ones the fewest, and then the first by name.

    Of many reports 2,000 are read, the first by a hash of what they say. Uncertain ones count as named.
    """
    named: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for report in _some(reports, NUM_LABELLED):
        named[_findings(report)].append(report)
    commonest = min(named, key=lambda names: (-len(named[names]), len(names), names), default=())
    return named.get(commonest, [])


def _findings(report: str) -> tuple[str, ...]:
    """The observations that a report names, without the lists of labels and of diagnoses that may follow it."""
    states = label_report(read_findings(read_impression(report).impression))
    return tuple(name for name in PATHOLOGIES if states[name] in {"present", "uncertain"})


def _some(texts: Sequence[str], most: int) -> list[str]:
    """At most so many texts, the first by a hash of what they say."""
    return sorted(texts, key=lambda text: digest([text]))[:most]


def _commonest(values: Iterable[str]) -> str:
    """The most frequent text; of equally frequent ones the first in alphabetical order."""
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value)) if counts else ""


class Majority:
    """What can be said of a dataset's pairs without looking at the picture: what is said most often when that is asked."""

    def __init__(self, training: Sequence[Reference]) -> None:
        self._training = training
        self._answers: dict[int, str] = {}  # thousands of pairs may ask one question
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
        alike = self._by_question.get(question) or self._by_first_word.get(question.split(" ", 1)[0]) or self._training
        if id(alike) not in self._answers:
            self._answers[id(alike)] = majority_answer(alike)
        return self._answers[id(alike)]


def _question(reference: Reference) -> str:
    """The words that are asked, whatever their capitals and punctuation."""
    return " ".join(WORD.findall(reference.request.casefold()))


def majority_answer(training: Sequence[Reference]) -> str:
    """What can be said of some pairs without looking: their commonest terms, each with its commonest value.

    As many terms as a training answer states at the median; where reports are wanted, the most typical of the commonest findings; where
    no facts are known, the constant answer.
    """
    facts: dict[str, Counter[Triple]] = defaultdict(Counter)
    for reference in training:
        for triple in reference.expected:
            facts[triple.term][triple] += 1
    if not facts:
        is_of_reports = all(reference.is_report for reference in training)
        return most_typical(of_commonest_findings([one.response for one in training])) if is_of_reports else constant_answer(training)
    num_terms = round(statistics.median(len(reference.expected) for reference in training))
    terms = sorted(facts, key=lambda term: (-facts[term].total(), term))[:num_terms]
    best = [min(facts[term], key=lambda triple: (-facts[triple.term][triple], triple.value, triple.unit)) for term in terms]
    return "\n".join(f"{triple.term}: {triple.value} {triple.unit}".rstrip() for triple in best)
