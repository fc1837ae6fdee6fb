"""What the gate can expect. If these passed wrongly, a line whose test pairs cannot decide anything would be trained for a day first."""

from dataclasses import replace
from pathlib import Path

import pytest

from medvl_lib.benchmark.gate import Gate, Guardrail
from medvl_lib.benchmark.outlook import never_judged, outlook
from medvl_lib.datasets import DATASETS
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


# -- guardrails --------------------------------------------------------------------------------------------------------
def in_language(number: int, language: str) -> Reference:
    return replace(form(number), slices={"language": language})


@pytest.mark.parametrize(
    ("rail", "says"),
    [
        ({"metric": "pair_accuracy", "slice": "language=*"}, ""),
        ({"metric": "pair_accuracy", "slice": "language=en"}, ""),
        ({"metric": "hallucinated_pair_rate"}, ""),
        ({"metric": "pair_accuracy", "slice": "language=zhh"},
         "guardrail pair_accuracy in language=zhh: no test pair can be judged by it (there are language=de, language=en, language=zh)"),
        ({"metric": "token_f1"}, "guardrail token_f1 in all: no test pair can be judged by it"),
        ({"metric": "pair_accuracy", "slice": "modality=*"}, "guardrail pair_accuracy in modality=*: no test pair can be judged by it"),
        ({"metric": "pair_accuracy", "slice": "language=de"}, "language=de has 1: more than 20 groups are needed"),
    ],
)  # fmt: skip
def test_a_guardrail_that_will_keep_everything_back_is_told_before_training(rail: dict[str, str], says: str, tmp_path: Path):
    languages = ["en"] * 21 + ["zh"] * 21 + (["de"] if says else [])
    write_table(tmp_path / REFERENCES, Reference, [in_language(number, language) for number, language in enumerate(languages)])
    gate = replace(GATE, guardrails=(Guardrail(margin=0.05, **rail),))
    outcome = outlook(gate, replace(DOCUMENTS.evaluation, max_pairs_per_dataset=0)).holds(tmp_path)
    assert outcome.passed is not bool(says)
    assert says in outcome.found


# -- before anything is read -------------------------------------------------------------------------------------------
def asked(gate: Gate, *names: str) -> list[tuple[str, str]]:
    return [(one.key, one.metric) for one in never_judged(gate, [DATASETS[name] for name in names])]


def test_what_no_pair_of_the_datasets_can_have_is_known_without_their_files():
    assert asked(Gate(), "clinical_documents", "mtsamples") == []
    assert asked(Gate(), "mtsamples", "pathvqa") == [("primary_metric", "pair_accuracy")]
    gate = Gate(
        primary_metric="rouge_l", further_primaries=("closed_accuracy",), guardrails=(Guardrail(metric="class_agreement", margin=0.1),)
    )
    assert asked(gate, "clinical_documents", "mtsamples") == [("further_primaries", "closed_accuracy"), ("guardrails", "class_agreement")]
    assert asked(gate, "slake", "knee_xray") == []
    assert asked(gate, "clinical_documents", "custom_reports") == []  # a user's own columns may say anything
    [one] = never_judged(Gate(), [DATASETS["pathvqa"]])
    assert one.others == ("token_f1", "closed_accuracy", "open_exact")


@pytest.mark.parametrize(("num_groups", "passed"), [(21, True), (20, False)])
def test_a_label_of_a_metric_is_guarded_over_every_pair_that_has_the_metric(num_groups: int, passed: bool, tmp_path: Path):
    """Every impression says something of every finding, were it by its silence."""
    impressions = [
        replace(form(number), expected=(), slices={"stage": "impression"}, response="No pneumothorax.") for number in range(num_groups)
    ]
    write_table(tmp_path / REFERENCES, Reference, impressions)
    rail = Guardrail(metric="chexpert_rule_f1_macro", margin=0.1, slice="label=*")
    gate = replace(GATE, primary_metric="chexpert_rule_f1_micro", guardrails=(rail,))
    outcome = outlook(gate, DOCUMENTS.evaluation).holds(tmp_path)
    assert outcome.passed is passed
    assert ("all has 20: more than 20 groups are needed" in outcome.found) is not passed
