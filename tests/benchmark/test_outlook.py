"""What the gate can expect. If these passed wrongly, a line whose test pairs cannot decide anything would be trained for a day first."""

from dataclasses import replace
from pathlib import Path

import pytest

from medvl_lib.benchmark.gate import Gate
from medvl_lib.benchmark.outlook import outlook
from medvl_lib.evaluation.predictions import REFERENCES, Reference
from medvl_lib.lines import DOCUMENTS
from medvl_lib.tables import write_table
from tests.benchmark.evaluated import reference

GATE = Gate(min_pairs=4, min_clusters=3)


def closed(number: int) -> Reference:
    return replace(reference(number), dataset="vqa", expected=(), slices={"answer_type": "closed"}, response="yes")


def form(number: int, group: str = "") -> Reference:
    return replace(reference(number), split="test", group_id=group or f"d{number}")


@pytest.mark.parametrize(
    ("references", "changes", "passed", "says"),
    [
        ([form(number) for number in range(4)], {}, True, "4 test pairs in 4 groups can be judged by pair_accuracy; the gate wants 4 in 3"),
        ([form(number) for number in range(3)], {}, False, "it will say inconclusive"),
        ([form(number, f"d{number % 2}") for number in range(9)], {}, False, "9 test pairs in 2 groups"),
        ([replace(form(number), split="train") for number in range(9)], {}, False, "0 test pairs"),
        ([closed(number) for number in range(9)], {}, False, "set primary_metric to one that these pairs have: closed_accuracy"),
        ([form(number) for number in range(9)], {"max_pairs_per_dataset": 3}, False, "3 test pairs in 3 groups"),
        ([form(number) for number in range(9)], {"datasets": ("vqa",)}, False, "0 test pairs"),
        # the cap chooses among all pairs of a dataset, and most of these have no known facts
        ([*(form(number) for number in range(5)), *(replace(form(number), expected=()) for number in range(5, 50))],
         {"max_pairs_per_dataset": 8}, False, "can be judged by pair_accuracy; the gate wants 4 in 3"),
    ],
)  # fmt: skip
def test_the_gate_says_beforehand_whether_it_can_decide(references, changes: dict[str, object], passed: bool, says: str, tmp_path: Path):
    write_table(tmp_path / REFERENCES, Reference, references)
    rule = outlook(GATE, replace(DOCUMENTS.evaluation, **{"max_pairs_per_dataset": 0, **changes}))
    outcome = rule.holds(tmp_path)
    assert (outcome.passed, rule.is_blocking) == (passed, False)
    assert says in outcome.found


def report(number: int, language: str) -> Reference:
    return replace(form(number), expected=(), slices={}, language=language, response="clear")


@pytest.mark.parametrize(("languages", "passed"), [(("en",), True), (("en", "fr"), True), (("en", "zh"), False)])
def test_texts_that_are_cut_in_two_ways_are_told_before_training(languages: tuple[str, ...], passed: bool, tmp_path: Path):
    """English and French words are words to BLEU; Chinese has characters, and no number is over both."""
    write_table(tmp_path / REFERENCES, Reference, [report(number, languages[number % len(languages)]) for number in range(9)])
    outcome = outlook(replace(GATE, primary_metric="bleu_4"), DOCUMENTS.evaluation).holds(tmp_path)
    assert outcome.passed is passed
    assert ("cut in 2 ways: let datasets of the gate be of one language: it will say inconclusive" in outcome.found) is not passed


def test_only_metrics_that_a_gate_may_decide_by_are_named(tmp_path: Path):
    write_table(tmp_path / REFERENCES, Reference, [closed(number) for number in range(9)])
    found = outlook(GATE, DOCUMENTS.evaluation).holds(tmp_path).found
    assert found.endswith("set primary_metric to one that these pairs have: closed_accuracy")
