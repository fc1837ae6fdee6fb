"""If these passed wrongly, a model that got worse, or was merely lucky, would be served; that is what MedVL exists to prevent."""

import dataclasses
import random
import tomllib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medvl_lib.benchmark import leaks, looks, promotion
from medvl_lib.benchmark.gate import Gate, Guardrail
from medvl_lib.benchmark.looks import Look
from medvl_lib.benchmark.promotion import (
    PROMOTION_DECISIONS,
    RULES,
    Decision,
    champion_of,
    decide,
    read_decision,
    write_promotion,
)
from medvl_lib.benchmark.tables import SCHEMA_VERSION
from medvl_lib.errors import InputRefused
from medvl_lib.evaluation import statistics
from medvl_lib.evaluation.predictions import FLOORS
from medvl_lib.evaluation.scores import SCORES, Score
from medvl_lib.settings import override
from medvl_lib.tables import write_table

Value = Callable[[int], float | None]


def score(variant: str, number: int, value: float | None, **changes: object) -> Score:
    row = {
        "evaluation_id": "e1", "pair_id": f"p{number}", "group_id": f"d{number}", "dataset": "forms", "split": "test", "variant": variant,
        "condition": "as_is", "metric": "pair_accuracy", "value": value, "reason": None if value is not None else "broken",
        "answer_state": "complete",
    }  # fmt: skip
    return Score(**{**row, **changes})


def scores(num_pairs: int, *, pairs_per_document: int = 1, blind: Value | None = lambda _: 0.0, **variants: Value) -> list[Score]:
    """Scores of the floors (0), of the variants given, and (``blind``) of the adapter on blank pictures."""
    said = {(variant, "as_is"): value for variant, value in {**dict.fromkeys(FLOORS, lambda _: 0.0), **variants}.items()}
    said |= {} if blind is None else {("adapter", "blank_image"): blind}
    return [
        score(variant, number, value(number), group_id=f"d{number // pairs_per_document}", condition=condition)
        for (variant, condition), value in said.items()
        for number in range(num_pairs)
    ]


def noise(seed: int, spread: float = 0.1) -> Value:
    return lambda number: 0.5 + random.Random(1000 * seed + number).uniform(-spread, spread)


def better(value: Value, by: float) -> Value:
    return lambda number: value(number) + by


def judged(found: list[Score], gate: Gate | None = None) -> Decision:
    return decide(found, gate or Gate(), champion_of(found), "documents")


def test_a_clear_win_is_promoted():
    decision = judged(scores(60, base=noise(1), adapter=better(noise(2), 0.2)))
    assert decision.verdict == "promote"
    assert decision.ci_low > 0.15
    assert decision.reasons[0].startswith("better than base: pair_accuracy: adapter minus base is +0.2")
    assert (decision.num_pairs, decision.num_clusters, decision.champion, decision.evaluation_id) == (60, 60, "base", "e1")


def test_a_clear_loss_is_rejected():
    decision = judged(scores(60, base=noise(1), adapter=better(noise(2), -0.2)))
    assert decision.verdict == "reject"
    assert decision.ci_high < 0
    assert decision.reasons[0].startswith("worse than base")


def test_no_difference_is_inconclusive_and_says_what_could_have_been_seen():
    decision = judged(scores(60, base=noise(1), adapter=noise(2)))
    assert decision.verdict == "inconclusive"
    assert f"differences from {decision.minimum_detectable_difference:.3f}" in decision.reasons[0]
    assert 0.01 < decision.minimum_detectable_difference < 0.05


def test_five_documents_decide_nothing():
    """The requirement documents: 83.5 % before fine-tuning, 73.7 % after, on five documents of 20 facts."""
    base, tuned = [0.90, 0.80, 0.85, 0.825, 0.80], [0.80, 0.70, 0.70, 0.735, 0.75]
    found = scores(100, pairs_per_document=20, base=lambda n: base[n // 20], adapter=lambda n: tuned[n // 20])
    decision = judged(found)
    assert decision.verdict == "inconclusive"
    assert decision.difference == pytest.approx(-0.098)
    assert decision.p_value == 0.0625
    assert decision.minimum_detectable_difference == pytest.approx(0.067, abs=0.001)
    assert "5 clusters cannot give p below 0.0625" in decision.reasons[0]


@pytest.mark.parametrize("num_documents", [6, 12, 20])
def test_all_equal_differences_of_few_documents_are_inconclusive(num_documents: int):
    found = scores(num_documents * 10, pairs_per_document=10, base=lambda _: 0.5, adapter=lambda _: 0.6)
    assert judged(found).verdict == "inconclusive"


def test_six_documents_cannot_reach_what_the_first_look_asks_for():
    found = scores(120, pairs_per_document=20, base=noise(1), adapter=better(noise(2), 0.3))
    decision = judged(found, Gate(min_clusters=6))
    assert decision.verdict == "inconclusive"
    assert "6 clusters cannot give p below 0.0312, and this look needs 0.03" in decision.reasons[0]


def test_few_pairs_decide_nothing_however_good():
    decision = judged(scores(49, base=lambda _: 0.0, adapter=noise(2)))
    assert decision.verdict == "inconclusive"
    assert decision.reasons[0].startswith("not decidable with 49 pairs in 49 clusters (needed: 50 in 7)")


def test_the_test_split_alone_decides():
    found = scores(60, base=noise(1), adapter=noise(2))
    more = [score(variant, 100 + n, value, split="benchmark") for n in range(60) for variant, value in (("base", 0.0), ("adapter", 1.0))]
    assert judged(found + more) == judged(found)


@pytest.mark.parametrize("floor", FLOORS)
def test_a_model_that_beats_base_but_not_a_floor_is_rejected(floor: str):
    decision = judged(scores(60, base=noise(1), adapter=better(noise(2), 0.2), **{floor: better(noise(3), 0.2)}))
    assert decision.verdict == "reject"
    assert decision.reasons[0].startswith(f"does not beat {floor}, which needs no model")


def test_models_that_are_all_as_good_as_silence_are_rejected():
    decision = judged(scores(60, base=lambda _: 0.0, adapter=lambda _: 0.0))
    assert decision.verdict == "reject"
    assert decision.minimum_detectable_difference is None


def test_the_champion_and_base_must_both_be_beaten():
    decision = judged(scores(60, base=better(noise(1), 0.2), champion=better(noise(3), -0.2), adapter=noise(2)))
    assert (decision.verdict, decision.champion) == ("reject", "champion")
    assert decision.difference > 0.1  # the numbers are against the champion, the reason is the base model
    assert decision.reasons[0].startswith("worse than base")


def test_before_the_first_promotion_four_bits_must_be_beaten_too():
    decision = judged(scores(60, base=noise(1), nf4=better(noise(3), 0.4), adapter=better(noise(2), 0.2)))
    assert (decision.verdict, decision.champion) == ("reject", "base")
    assert decision.reasons[0].startswith("worse than nf4: pair_accuracy: adapter minus nf4 is -0.")
    both = judged(scores(60, base=noise(1), nf4=noise(3), adapter=better(noise(2), 0.2)))
    assert both.verdict == "promote"
    assert [reason.split(":")[0] for reason in both.reasons[:2]] == ["better than base", "better than nf4"]


def test_after_the_first_promotion_four_bits_are_no_rival():
    found = scores(60, base=noise(1), nf4=better(noise(3), 0.4), champion=noise(4), adapter=better(noise(2), 0.2))
    decision = judged(found)
    assert (decision.verdict, decision.champion) == ("promote", "champion")
    assert not [reason for reason in decision.reasons if "nf4" in reason]


def test_four_bits_that_skipped_a_pair_cannot_be_compared():
    found = scores(60, base=noise(1), nf4=noise(3), adapter=better(noise(2), 0.2))
    decision = judged([row for row in found if (row.variant, row.pair_id) != ("nf4", "p7")])
    assert decision.reasons == ("not comparable: 1 pairs were answered by only one of adapter and nf4, first p7",)


def test_answers_that_are_as_good_on_blank_pictures_are_rejected():
    adapter = better(noise(2), 0.2)
    decision = judged(scores(60, base=noise(1), adapter=adapter, blind=adapter))
    assert decision.verdict == "reject"
    assert decision.reasons[0].startswith(
        "answers do not use the image, blank ones do as well: pair_accuracy: adapter minus adapter (blank_image) is +0.000"
    )
    assert (decision.image_difference, decision.image_ci_low, decision.image_ci_high) == (0, 0, 0)


def test_answers_that_are_better_on_blank_pictures_are_rejected():
    decision = judged(scores(60, base=noise(1), adapter=better(noise(2), 0.2), blind=better(noise(3), 0.4)))
    assert decision.verdict == "reject"
    assert decision.image_ci_high < 0


def test_an_effect_of_the_picture_within_the_noise_is_inconclusive():
    decision = judged(scores(60, base=noise(1), adapter=better(noise(2), 0.2), blind=better(noise(3), 0.2)))
    assert decision.verdict == "inconclusive"
    assert decision.reasons[0].startswith("that answers use the image was not shown")
    assert decision.image_ci_low < 0 < decision.image_ci_high


def test_the_effect_of_the_picture_stands_in_the_decision():
    decision = judged(scores(60, base=noise(1), adapter=better(noise(2), 0.2), blind=noise(3)))
    assert decision.verdict == "promote"
    assert 0.1 < decision.image_ci_low < decision.image_difference < decision.image_ci_high < 0.3
    assert any(reason.startswith("answers use the image: pair_accuracy") for reason in decision.reasons)


def test_without_the_control_nothing_is_promoted():
    decision = judged(scores(60, base=noise(1), adapter=better(noise(2), 0.2), blind=None))
    assert (decision.verdict, decision.image_difference) == ("inconclusive", None)
    assert decision.reasons[0] == "whether answers use the image is unknown: blank_image was not predicted for adapter"
    assert judged(scores(60, base=noise(1), adapter=better(noise(2), -0.2), blind=None)).verdict == "reject"


def test_a_control_that_skipped_a_pair_is_no_control():
    found = scores(60, base=noise(1), adapter=better(noise(2), 0.2))
    decision = judged([row for row in found if (row.condition, row.pair_id) != ("blank_image", "p7")])
    assert (decision.verdict, decision.image_difference) == ("inconclusive", None)
    assert decision.reasons[0].endswith("1 pairs were answered by only one of adapter and adapter (blank_image), first p7")


def test_the_control_is_read_on_the_test_split_alone():
    found = scores(60, base=noise(1), adapter=better(noise(2), 0.2), blind=None)
    found += [score("adapter", n, 0.0, condition="blank_image", split="benchmark") for n in range(60)]
    assert judged(found).verdict == "inconclusive"


@pytest.mark.parametrize("num_documents", [7, 12, 20])
def test_an_equal_effect_of_the_picture_in_few_documents_is_inconclusive(num_documents: int):
    found = scores(num_documents * 10, pairs_per_document=10, base=noise(1), adapter=better(noise(2), 0.4), blind=noise(2))
    decision = judged(found)
    assert (decision.verdict, decision.image_ci_low) == ("inconclusive", pytest.approx(0.4))
    assert decision.reasons[0].startswith("that answers use the image was not shown")


@pytest.mark.parametrize("variant", ["adapter", "base", "floor_random"])
def test_a_missing_pair_makes_the_comparison_invalid(variant: str):
    everything = scores(60, base=noise(1), adapter=better(noise(2), 0.2))
    found = [row for row in everything if (row.variant, row.condition, row.pair_id) != (variant, "as_is", "p7")]
    decision = judged(found)
    assert (decision.verdict, decision.num_pairs, decision.difference) == ("inconclusive", 0, None)
    assert any("first p7" in reason for reason in decision.reasons)


def test_a_broken_scorer_makes_the_comparison_invalid():
    decision = judged(scores(60, base=lambda n: None if n < 2 else 0.2, adapter=better(noise(2), 0.2)))
    assert decision.verdict == "inconclusive"
    assert decision.reasons == ("not comparable: 2 of 60 answers of base could not be scored",)


def test_one_unscored_pair_of_two_hundred_is_left_out():
    decision = judged(scores(200, base=lambda n: None if n == 5 else 0.2, adapter=noise(2)))
    assert (decision.verdict, decision.num_pairs) == ("promote", 199)


def test_without_the_primary_metric_nothing_is_decided():
    decision = judged(scores(60, base=noise(1), adapter=noise(2)), Gate(primary_metric="token_f1"))
    assert decision.reasons == ("not decidable: no test pair has token_f1 of adapter",)


def test_a_guardrail_keeps_a_better_model_back():
    found = scores(60, base=noise(1), adapter=better(noise(2), 0.2))
    found += [
        score(variant, n, value, metric="hallucinated_pair_rate") for n in range(60) for variant, value in (("base", 0.1), ("adapter", 0.4))
    ]
    gate = Gate(guardrails=(Guardrail(metric="hallucinated_pair_rate", margin=0.05),))
    decision = judged(found, gate)
    assert decision.verdict == "reject"
    assert decision.reasons[0].startswith("guardrail hallucinated_pair_rate (margin 0.05)")
    assert "(less is better: sign turned): adapter minus base is -0.300" in decision.reasons[0]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"primary_metric": "accuracy"}, "'accuracy' is no metric"),
        ({"confidence": 95.0}, "confidence = 95.0"),
        ({"min_clusters": 1}, "min_clusters = 1"),
        ({"worn_after": 0}, "worn_after = 0"),
        ({"max_unscored_share": 1.0}, "max_unscored_share = 1.0"),
        ({"min_pairs": 0}, "min_pairs = 0"),
        ({"floors": ()}, "floors = \\[\\] must name one or more of floor_empty"),
        ({"floors": ("base",)}, "floors = \\['base'\\]"),
    ],
)
def test_a_gate_that_cannot_be_meant_is_refused(wrong: dict[str, object], said: str):
    with pytest.raises(ValueError, match=said):
        Gate(**wrong)


@pytest.mark.parametrize(
    ("metric", "margin", "said"),
    [("token_f1", -0.1, "margin = -0.1 of token_f1"), ("token_f1", 1.0, "margin = 1.0 of token_f1"), ("bleu", 0.1, "'bleu' is no metric")],
)
def test_a_guardrail_that_cannot_be_meant_is_refused(metric: str, margin: float, said: str):
    with pytest.raises(ValueError, match=said):
        Guardrail(metric=metric, margin=margin)


def test_guardrails_can_be_written_in_the_settings_file():
    changes = tomllib.loads('guardrails = [{ metric = "hallucinated_pair_rate", margin = 0.05 }]')
    assert override(Gate(), changes, "there") == Gate(guardrails=(Guardrail(metric="hallucinated_pair_rate", margin=0.05),))


def test_only_the_adapter_can_be_promoted():
    """Serving serves the adapter: a gate that could name another challenger would promote what is never served."""
    assert "challenger" not in {field.name for field in dataclasses.fields(Gate)}
    assert judged(scores(60, base=noise(1), nf4=better(noise(2), 0.3), adapter=noise(3))).challenger == "adapter"


def test_the_revisions_name_every_room_that_makes_the_decision():
    assert promotion.REVISIONS == (promotion.REVISION, looks.REVISION, leaks.REVISION, statistics.REVISION, SCHEMA_VERSION)


def test_a_model_that_learned_from_the_test_set_is_not_compared():
    found = scores(60, base=noise(1), adapter=better(noise(2), 0.2))
    decision = decide(found, Gate(), "base", "documents", leaks=("not comparable: the champion ...",))
    assert (decision.verdict, decision.difference, decision.num_pairs) == ("inconclusive", None, 0)
    assert decision.reasons == ("not comparable: the champion ...",)


def test_a_later_look_asks_for_more():
    found = scores(60, base=noise(1), adapter=better(noise(2), 0.03))
    first, tenth = (decide(found, Gate(), "base", "documents", look=look) for look in (1, 10))
    assert (first.verdict, tenth.verdict) == ("promote", "inconclusive")
    assert first.difference == tenth.difference
    assert tenth.ci_low < first.ci_low < first.ci_high < tenth.ci_high
    assert tenth.minimum_detectable_difference == pytest.approx(1.5 * first.minimum_detectable_difference, rel=0.03)
    assert (first.look, tenth.look) == (1, 10)
    assert (first.alpha, tenth.alpha) == (pytest.approx(0.030396, abs=1e-6), pytest.approx(0.00030396, abs=1e-8))


def test_the_count_and_its_alpha_are_said_in_words():
    found = scores(60, base=noise(1), adapter=better(noise(2), 0.2))
    decision = decide(found, Gate(), "base", "documents", look=3)
    assert decision.reasons[-1] == "look 3 at this test set: 0.34% of the 5.00% of error for all looks together"
    assert "(99.66 % interval +0." in decision.reasons[0]


@pytest.mark.parametrize(("look", "is_worn"), [(10, False), (11, True)])
def test_a_worn_test_set_is_told_and_still_decides(look: int, is_worn: bool, tmp_path: Path):
    write_table(tmp_path / SCORES, Score, scores(60, base=noise(1), adapter=better(noise(2), 0.2)))
    write_promotion(tmp_path, tmp_path, Gate(), "documents", Look(number=look, challenger="a", pairs=()))
    decision = read_decision(tmp_path)
    assert (decision.verdict, decision.is_worn) == ("promote", is_worn)
    assert ("collect fresh test documents" in decision.reasons[-1]) is is_worn
    [rule] = [rule for rule in RULES if rule.name == "the_test_set_is_not_worn"]
    assert (rule.holds(tmp_path).passed, rule.is_blocking) == (not is_worn, False)


def test_a_look_whose_alpha_no_draw_can_reach_decides_nothing():
    """9,999 sign flips cannot give less than 0.0001, and the eighteenth look asks for 0.00009."""
    found = scores(60, base=noise(1), adapter=better(noise(2), 0.4))
    verdicts = {look: decide(found, Gate(), "base", "documents", look=look).verdict for look in (17, 18)}
    assert verdicts == {17: "promote", 18: "inconclusive"}


def test_scores_of_two_evaluations_are_refused():
    with pytest.raises(InputRefused, match="scores of 2 evaluations: e1, e2"):
        judged([score("base", 0, 1.0), score("base", 1, 1.0, evaluation_id="e2")])


def written(tmp_path: Path) -> Path:
    write_table(tmp_path / SCORES, Score, scores(60, base=noise(1), adapter=better(noise(2), 0.2)))
    write_promotion(tmp_path, tmp_path, Gate(), "documents", Look(number=1, challenger="a", pairs=()))
    return tmp_path


def test_what_was_decided_is_read_back(tmp_path: Path):
    decision = read_decision(written(tmp_path))
    assert decision == judged(scores(60, base=noise(1), adapter=better(noise(2), 0.2)))
    assert [rule.holds(tmp_path).passed for rule in RULES] == [True, True, True]


@pytest.mark.parametrize(
    ("broken", "change"),
    [
        ("one_decision_was_made", lambda row: [row, row]),
        ("one_decision_was_made", lambda row: [{**row, "reasons": []}]),
        ("the_verdict_follows_the_numbers", lambda row: [{**row, "ci_low": -0.1}]),
        ("the_verdict_follows_the_numbers", lambda row: [{**row, "ci_low": None}]),
        ("the_verdict_follows_the_numbers", lambda row: [{**row, "image_ci_low": 0.0}]),
        ("the_verdict_follows_the_numbers", lambda row: [{**row, "image_difference": None}]),
        ("the_verdict_follows_the_numbers", lambda row: [{**row, "verdict": "yes"}]),
        ("the_test_set_is_not_worn", lambda row: [{**row, "is_worn": True}]),
    ],
)
def test_a_damaged_decision_fails_exactly_one_rule(tmp_path: Path, broken: str, change):
    path = written(tmp_path) / PROMOTION_DECISIONS
    rows = change(pq.read_table(path).to_pylist()[0])
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)
    assert [rule.name for rule in RULES if not rule.holds(tmp_path).passed] == [broken]
