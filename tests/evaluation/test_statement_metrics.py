"""What a reasoned answer states, and what of an impression is compared word by word. If these passed wrongly, a list of labels or codes
would earn BLEU, or an answer that contradicts the report would recall its facts.
"""

import numpy as np
import pytest

from medvl_lib.benchmark.goals import StretchGoal, goal_rows
from medvl_lib.evaluation.floors import floors_of
from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.evaluation.metrics.statements import overlap, recall, statements, unsupported
from medvl_lib.evaluation.metrics.tokens import UnscorableError
from medvl_lib.evaluation.predictions import FLOORS, Reference

IMPRESSION = "Impression: Mild pulmonary edema. No pleural effusion.\nCheXpert labels: Edema present, Pleural Effusion absent"
REASONING = (
    "Findings: Mild pulmonary edema. No pleural effusion. Possible pneumonia.\n\nDiagnoses:\n- ICD-10 I509: Heart failure, unspecified"
)


def reference(stage: str, response: str, number: int = 0) -> Reference:
    return Reference(
        pair_id=f"cxr/{number}/{stage}", dataset="cxr", split="test", group_id=f"subject:{number}", language="en", licence="CC0-1.0",
        request="?", response=response, expected=(), slices={"stage": stage, "language": "en"}, glyph_height_pixels=None,
    )  # fmt: skip


def score(metric: str, answer: str, stage: str = "impression", response: str = IMPRESSION) -> float:
    wanted = reference(stage, response)
    assert METRICS[metric].applies_to(wanted)
    return METRICS[metric].score(answer, wanted)


# -- statements --------------------------------------------------------------------------------------------------------
def test_statements_are_observations_with_their_states_in_the_findings_alone():
    assert statements(REASONING) == {("Edema", "present"), ("Pleural Effusion", "absent"), ("Pneumonia", "uncertain")}
    assert statements("Diagnoses:\n- ICD-10 J189: Pneumonia, unspecified organism") == frozenset()
    for nothing in ("", "...", "Findings: ___", "Findings: The tube was changed."):
        assert statements(nothing) in (frozenset(), {("Support Devices", "present")})


@pytest.mark.parametrize(
    ("answer", "recalled", "wrong"),
    [
        (REASONING, 1.0, 0.0), ("", 0.0, 0.0), ("Findings: Mild pulmonary edema.", 1 / 3, 0.0),
        ("Findings: No pulmonary edema. Pleural effusion.", 0.0, 1.0),  # the same observations, the other way round
        ("Pulmonary edema. No pleural effusion. Rib fracture.", 2 / 3, 1 / 3),
        ("Findings: Clear.\n\nDiagnoses:\n- ICD-10 I509: Edema", 0.0, 0.0),  # a diagnosis states nothing of the picture
    ],
)  # fmt: skip
def test_recall_and_unsupported_statements_are_counted_by_hand(answer: str, recalled: float, wrong: float):
    assert score("fact_recall", answer, "reasoning", REASONING) == pytest.approx(recalled)
    assert score("unsupported_statement_rate", answer, "reasoning", REASONING) == pytest.approx(wrong)


def test_pairs_are_added_up_before_they_are_divided():
    sums = np.sum([overlap("Edema.", REASONING), overlap("Findings: No edema. Fracture.", "Findings: Edema.")], axis=0)
    assert sums.tolist() == [4, 3, 1]
    assert (float(recall(sums)), float(unsupported(sums))) == (pytest.approx(1 / 4), pytest.approx(2 / 3))


def test_findings_that_speak_of_nothing_are_not_scored():
    with pytest.raises(UnscorableError, match="speak of no observation"):
        overlap("Edema.", "Findings: As above.")
    assert not METRICS["fact_recall"].applies_to(reference("reasoning", "Findings: As above."))


# -- what is compared word by word -------------------------------------------------------------------------------------
@pytest.mark.parametrize("metric", ["bleu_4", "rouge_l"])
def test_of_an_impression_its_text_alone_is_compared(metric: str):
    best = METRICS[metric].highest
    text = "Mild pulmonary edema. No pleural effusion."
    assert score(metric, f"Impression: {text}") == pytest.approx(best)
    assert score(metric, f"Impression: {text}\nCheXpert labels: Fracture present, Pneumonia absent") == pytest.approx(best)
    labels_alone = "CheXpert labels: Edema present, Pleural Effusion absent"
    for unreadable in ("", text, labels_alone, f"Impression:\n{labels_alone}", f"Findings: {text}"):
        assert score(metric, unreadable) == 0
        assert score("impression_unparsable", unreadable) == 1
    assert score("impression_unparsable", IMPRESSION) == 0


def test_an_answer_without_the_heading_loses_no_finding_by_it():
    assert score("chexpert_rule_f1_micro", "Mild pulmonary edema. No pleural effusion.") == 1


def test_a_reasoned_answer_is_not_compared_word_by_word_nor_an_impression_by_its_statements():
    impression, reasoning = reference("impression", IMPRESSION), reference("reasoning", REASONING)
    of_impression = {name for name, metric in METRICS.items() if metric.applies_to(impression)}
    of_reasoning = {name for name, metric in METRICS.items() if metric.applies_to(reasoning)}
    assert not of_impression & of_reasoning
    assert {"bleu_4", "rouge_l", "chexpert_rule_f1_micro", "impression_unparsable"} <= of_impression
    assert {"fact_recall", "unsupported_statement_rate", "icd_exact_f1"} <= of_reasoning


def test_a_floor_answers_as_the_pairs_stage_does():
    training = [
        reference(stage, response, number)
        for number in range(6)
        for stage, response in (("impression", IMPRESSION), ("reasoning", REASONING))
    ]
    floors = floors_of(training, seed=42)
    for name in set(FLOORS) - {"floor_empty"}:
        assert floors[name](reference("impression", IMPRESSION, 9)) == IMPRESSION
        assert floors[name](reference("reasoning", REASONING, 9)) == REASONING


# -- stretch goals -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "wrong",
    [
        {"metric": "bleu_4"}, {"above": 1.0}, {"metric": "bleu_4", "stage": "a", "above": 1.0}, {"metric": "bleu", "above": 1.0},
        {"metric": "bleu_4", "above": 1.0, "below": 2.0},
    ],
)  # fmt: skip
def test_a_goal_of_nothing_is_refused(wrong: dict[str, object]):
    with pytest.raises(ValueError, match="the goal 'x'"):
        StretchGoal(wanted="x", **wrong)


def test_a_goal_that_nothing_was_measured_for_is_neither_met_nor_missed():
    goals = (StretchGoal(wanted="loss", stage="impression", below=2.0), StretchGoal(wanted="BLEU", metric="bleu_4", above=30.0))
    found = {row.wanted: (row.value, row.is_met) for row in goal_rows(goals, [], {"impression": 1.9}, evaluation_id="e", line="radiology")}
    assert found == {"loss": (1.9, True), "BLEU": (None, None)}
    [loss] = goal_rows(goals[:1], [], {"impression": 2.0}, evaluation_id="e", line="radiology")
    assert (loss.is_met, loss.bound) == (False, "< 2")
