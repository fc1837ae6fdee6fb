"""If these passed wrongly, a line that is retrained every week would one day serve a model that was merely lucky."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.gate_errors import num_promoted_in_looks
from medvl_lib.benchmark.gate import Candidate, Gate
from medvl_lib.benchmark.looks import JUDGED_PAIRS, JudgedPair, Look, alpha_of, judged_pairs, next_look, way_of
from medvl_lib.benchmark.promotion import read_decisions
from medvl_lib.configured import lines_of
from medvl_lib.evaluation.predictions import REFERENCES, Reference
from medvl_lib.lines import DOCUMENTS
from medvl_lib.settings import read_settings
from medvl_lib.tables import read_table, write_table
from tests.benchmark.evaluated import Evaluate, Evaluated, reference

ROOT = Path(__file__).parents[2]


def look_of(evaluated: Evaluated) -> int:
    return read_decisions(evaluated.promotion.directory)[0].look


@pytest.mark.parametrize(
    ("look", "alpha"),
    [(1, 0.0303964), (2, 0.0075991), (3, 0.0033774), (10, 0.000303964), (52, 0.0000112413)],  # 0.3 / pi^2 / look^2
)
def test_the_alpha_of_a_look_is_the_one_computed_by_hand(look: int, alpha: float):
    assert alpha_of(look, Gate()) == pytest.approx(alpha, rel=1e-5)
    assert alpha_of(look, Gate(confidence=0.9)) == pytest.approx(2 * alpha, rel=1e-5)


def test_all_looks_together_spend_what_the_gate_allows():
    spent = [alpha_of(look, Gate()) for look in range(1, 100_000)]
    assert 0.04999 < sum(spent) < 0.05
    assert spent == sorted(spent, reverse=True)


def test_a_year_of_weekly_looks_promotes_a_useless_model_with_less_than_its_share():
    chances = {"each of its own": 1 - 0.975**52, "of a budget": 1 - math.prod(1 - alpha_of(look, Gate()) / 2 for look in range(1, 53))}
    assert chances["each of its own"] == pytest.approx(0.73, abs=0.005)
    assert 0.02 < chances["of a budget"] < 0.025


def test_ten_looks_without_a_true_difference_promote_in_no_more_than_the_promised_share():
    """Thirty test sets, ten useless challengers each: 0.75 sets expected at most; without a budget one in six."""
    lucky = {has_budget: sum(num_promoted_in_looks(seed, has_budget=has_budget) > 0 for seed in range(30)) for has_budget in (True, False)}
    assert lucky[True] <= 2
    assert lucky[False] >= 3


def test_each_challenger_is_a_look_and_the_same_one_again_is_none(evaluate: Evaluate):
    assert [look_of(evaluate(60, weights=weights)) for weights in ("w1", "w2", "w3", "w1", "w2")] == [1, 2, 3, 1, 2]


def test_judging_again_writes_nothing_new(evaluate: Evaluate):
    first, _, again = evaluate(60, weights="w1"), evaluate(60, weights="w2"), evaluate(60, weights="w1")
    assert again.promotion.reused
    assert again.promotion.directory == first.promotion.directory


def test_data_that_grow_make_no_fresh_test_set_and_other_data_do(evaluate: Evaluate):
    looks = [look_of(evaluate(number, weights=weights)) for number, weights in ((60, "w1"), (66, "w2"), (120, "w3"), (250, "w4"))]
    assert looks == [1, 2, 3, 1]  # of 250 pages only 120 had ever been looked at


def test_the_same_challenger_on_grown_data_is_a_look(evaluate: Evaluate):
    same = [evaluate(number, weights=f"of {number}", challenger="w") for number in (60, 66, 60, 66)]
    assert [look_of(evaluated) for evaluated in same] == [1, 2, 1, 2]


def test_another_way_to_ask_or_to_judge_is_a_look_and_what_decides_nothing_is_none(evaluate: Evaluate):
    gates = [Gate(), Gate(candidates=(Candidate(variant="adapter"),)), Gate(confidence=0.9), Gate(), Gate(worn_after=3)]
    assert [look_of(evaluate(60, gate=gate)) for gate in gates] == [1, 2, 3, 1, 1]
    asked = DOCUMENTS.evaluation
    ways = [way_of(Gate(), asked), way_of(Gate(), replace(asked, max_answer_tokens=9)), way_of(Gate(primary_metric="rouge_l"), asked)]
    assert len(set(ways)) == 3


def test_each_line_of_the_demo_has_a_budget_of_its_own(evaluate: Evaluate):
    evaluated = evaluate(60)
    pairs = judged_pairs(evaluated.predictions.directory / REFERENCES, Gate())
    names = [line.name for line in lines_of(read_settings(ROOT / "dagster_project.toml"))]
    looks = {name: next_look(evaluated.workspace, name, "another", "way", pairs).number for name in names}
    assert looks == {"documents": 2, "imaging": 1, "radiology": 1, "documents_mismatched": 1, "documents_five": 1}


def test_what_was_left_by_a_run_that_died_is_no_look(evaluate: Evaluate):
    evaluated = evaluate(60)
    pairs = judged_pairs(evaluated.predictions.directory / REFERENCES, Gate())
    (evaluated.promotion.directory / JUDGED_PAIRS).unlink()
    (evaluated.promotion.directory.parent / ".unfinished").mkdir()
    assert next_look(evaluated.workspace, "documents", "another", "way", pairs).number == 1


def test_a_test_set_is_the_pairs_that_decide_and_their_texts(tmp_path: Path):
    page = reference(1)
    others = [replace(reference(2), split="train"), replace(reference(3), expected=()), replace(reference(4), dataset="mtsamples")]

    def identity(*references: Reference) -> str:
        write_table(tmp_path / REFERENCES, Reference, references)
        pairs = judged_pairs(tmp_path / REFERENCES, Gate(datasets=("forms",)))
        return Look(number=1, challenger="a", way="w", pairs=pairs).test_set

    same = {identity(page), identity(page, *others), identity(*others, replace(page, group_id="another"))}
    changed = {identity(replace(page, request="Which?")), identity(replace(page, pair_id="p9")), identity(page, reference(6))}
    assert len(same) == 1
    assert len(changed) == 3
    assert not same & changed


def test_the_pairs_of_every_primary_metric_are_looked_at(tmp_path: Path):
    """Of two metrics on different pairs a model may have learned from the second one's, and wear them out."""
    page, question = reference(1), replace(reference(2), expected=(), slices={"answer_type": "closed"}, response="yes")
    write_table(tmp_path / REFERENCES, Reference, [question, page, replace(question, pair_id="p3", slices={"answer_type": "open"})])
    both = Gate(primary_metric="pair_accuracy", further_primaries=("closed_accuracy",))
    assert [pair.pair_id for pair in judged_pairs(tmp_path / REFERENCES, both)] == ["p001", "p002"]
    assert [pair.pair_id for pair in judged_pairs(tmp_path / REFERENCES, Gate())] == ["p001"]


def test_the_judged_pairs_stand_beside_the_decision(evaluate: Evaluate):
    promotion = evaluate(60).promotion
    assert (promotion.facts["look"], promotion.facts["challenger_data_version"], promotion.facts["is_compared"]) == (1, "w1-adapter", True)
    assert [pair.pair_id for pair in read_table(promotion.directory / JUDGED_PAIRS, JudgedPair)] == [
        f"p{number:03}" for number in range(60)
    ]
