"""If these passed wrongly, a variant could skip the hard pairs, or a broken scorer could pass for a bad model."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medvl_lib.errors import InputRefused
from medvl_lib.evaluation import scores
from medvl_lib.evaluation.metrics import METRICS, SIMILARITY
from medvl_lib.evaluation.predictions import PREDICTIONS, REFERENCES, Prediction, Reference
from medvl_lib.evaluation.scores import EVALUATED_PAIRS, RULES, SCORES, EvaluatedPair, Score, evaluation_id, measure, write_scores
from medvl_lib.files import write_json
from medvl_lib.pairs import Triple
from medvl_lib.tables import read_table, write_table

POTASSIUM = (Triple(term="Potassium", value="4.1", unit="mmol/L"),)


def reference(
    pair_id: str, *, split: str = "test", expected: tuple[Triple, ...] = POTASSIUM, response: str = "", **changes: object
) -> Reference:  # fmt: skip
    row = {
        "pair_id": pair_id, "dataset": "forms", "split": split, "group_id": f"doc-{pair_id}", "language": "en", "licence": "CC0-1.0",
        "request": "?", "response": response, "expected": expected, "slices": {"document_type": "lab"}, "glyph_height_pixels": None,
    }  # fmt: skip
    return Reference(**{**row, **changes})


def prediction(pair_id: str, answer: str, *, variant: str = "base", is_cut: bool = False) -> Prediction:
    return Prediction(
        pair_id=pair_id, variant=variant, condition="as_is", answer=answer, num_prompt_tokens=9, num_answer_tokens=5, is_cut=is_cut,
        batch_id=0, batch_size=1, latency_seconds=1.0,
    )  # fmt: skip


def predicted(tmp_path: Path, references: list[Reference], predictions: list[Prediction], **identity: str) -> Path:
    directory = tmp_path / "predictions"
    directory.mkdir(exist_ok=True)
    write_table(directory / REFERENCES, Reference, references)
    write_table(directory / PREDICTIONS, Prediction, predictions)
    write_json(directory / "provenance.json", {"fingerprint": "f", "data_version": "d", **identity})
    return directory


def scored(tmp_path: Path, references: list[Reference], predictions: list[Prediction]) -> Path:
    directory = tmp_path / "scores"
    directory.mkdir(exist_ok=True)
    write_scores(directory, predicted(tmp_path, references, predictions))
    return directory


def two_pairs(tmp_path: Path) -> Path:
    said = [prediction("p1", "Potassium: 4.1 mmol/L"), prediction("p2", "Potassium: 4.4 mmol/L")]
    return scored(tmp_path, [reference("p1"), reference("p2"), reference("p3", split="train")], said)


def failures(directory: Path) -> list[str]:
    return [rule.name for rule in RULES if not rule.holds(directory).passed]


def replace_scores(directory: Path, change) -> None:
    rows = [change(row) for row in pq.read_table(directory / SCORES).to_pylist()]
    pq.write_table(pa.Table.from_pylist([row for row in rows if row], schema=pq.read_schema(directory / SCORES)), directory / SCORES)


def test_each_answer_has_a_score_of_each_metric_that_applies(tmp_path: Path):
    directory = two_pairs(tmp_path)
    values = {(row.pair_id, row.metric): row.value for row in read_table(directory / SCORES, Score)}
    assert values == {
        ("p1", "term_recall"): 1.0, ("p1", "value_recall"): 1.0, ("p1", "pair_accuracy"): 1.0, ("p1", "hallucinated_pair_rate"): 0.0,
        ("p1", "silent_page_rate"): 0.0, ("p2", "silent_page_rate"): 0.0,
        ("p2", "term_recall"): 1.0, ("p2", "value_recall"): 0.0, ("p2", "pair_accuracy"): 0.0, ("p2", "hallucinated_pair_rate"): 1.0,
    }  # fmt: skip
    assert [pair.pair_id for pair in read_table(directory / EVALUATED_PAIRS, EvaluatedPair)] == ["p1", "p2"]
    assert failures(directory) == []


def test_a_pair_without_triples_is_scored_as_text(tmp_path: Path):
    directory = scored(tmp_path, [reference("p1", expected=(), response="left lung clear")], [prediction("p1", "left lung")])
    values = {row.metric: row.value for row in read_table(directory / SCORES, Score)}
    assert values == {"rouge_l": pytest.approx(0.8), "bleu_4": pytest.approx(60.65, abs=0.01)}


def test_a_corpus_metric_leaves_what_is_summed_and_how_it_was_cut(tmp_path: Path):
    report = reference("p1", expected=(), response="The left lung is clear .")
    chinese = reference("p2", expected=(), response="左肺清晰", language="zh")
    directory = scored(tmp_path, [report, chinese], [prediction("p1", "The left lung"), prediction("p2", "左肺清")])
    found = {(row.pair_id, row.metric): row for row in read_table(directory / SCORES, Score)}
    assert found["p1", "bleu_4"].statistics == (3, 6, 3, 2, 1, 0, 3, 2, 1, 0)
    assert found["p2", "bleu_4"].statistics == (3, 4, 3, 2, 1, 0, 3, 2, 1, 0)
    assert "tok:13a" in found["p1", "bleu_4"].signature
    assert "tok:zh" in found["p2", "bleu_4"].signature
    assert {row.statistics for row in found.values() if row.metric == "rouge_l"} == {()}
    assert failures(directory) == []


def test_masks_are_counted_and_earn_nothing(tmp_path: Path):
    report = reference("p1", expected=(), response="___ year old, seen on ___: clear")
    directory = scored(tmp_path, [report], [prediction("p1", "___ ___ ___")])
    found = {row.metric: (row.value, row.num_masks) for row in read_table(directory / SCORES, Score)}
    assert found == {"bleu_4": (0.0, 3), "rouge_l": (0.0, 3)}
    facts = write_scores(directory, predicted(tmp_path, [report], [prediction("p1", "clear")]))
    assert facts["num_masks_in_references"] == 2


def test_an_answer_in_another_script_scores_nothing_and_is_counted_apart(tmp_path: Path):
    """Chinese questions: of the value that the answer shares with the reference nothing counts, and only what is better lower is left."""
    chinese = {"language": "zh", "request": "有钾吗?"}
    pairs = [
        reference("p1", response="Potassium: 4.1 mmol/L", **chinese),  # the reference is English, so the answer may be
        reference("p2", expected=(Triple(term="钾", value="4.1", unit=""),), response="钾：4.1", **chinese),
        reference("p3", expected=(), response="左肺清晰", **chinese),
        reference("p4", expected=(), response="是的", slices={"answer_type": "closed"}, **chinese),
    ]
    said = ["Potassium: 4.1 mmol/L", "The value of 钾: 4.1", "left lung clear", "Yes"]
    directory = scored(tmp_path, pairs, [prediction(pair.pair_id, answer) for pair, answer in zip(pairs, said, strict=True)])
    rows = {(row.pair_id, row.metric): row for row in read_table(directory / SCORES, Score)}
    assert {pair_id: row.answer_state for (pair_id, _), row in rows.items()} == {
        "p1": "complete", "p2": "wrong_language", "p3": "wrong_language", "p4": "wrong_language",
    }  # fmt: skip
    assert rows["p1", "pair_accuracy"].value == 1
    assert [rows["p2", name].value for name in ("term_recall", "value_recall", "pair_accuracy")] == [0, 0, 0]
    assert (rows["p3", "bleu_4"].value, rows["p3", "bleu_4"].statistics) == (0, (0, 4, *[0] * 8))
    assert (rows["p4", "closed_accuracy"].value, rows["p4", "closed_unparsable"].value) == (0, 0)
    assert failures(directory) == []


TAKES_A_MODEL = {SIMILARITY}  # silence and it: test_similarities


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.is_higher_better and name not in TAKES_A_MODEL])
def test_silence_scores_nothing_where_more_is_better(name: str):
    """What an answer in the wrong language is scored as."""
    kinds = [
        reference("p"),
        reference("p", expected=(), response="left lung clear"),
        reference("p", expected=(), response="no", slices={"answer_type": "closed"}),
        reference("p", expected=(), response="lung", slices={"answer_type": "open"}),
        reference("p", expected=(), response="Grade 1.", slices={"category": "KL 1"}, labels=("KL 0=grade 0", "KL 1=grade 1")),
        reference("p", expected=(), response="Impression: Edema.", slices={"stage": "impression"}),
        reference("p", expected=(), response="Impression: No acute process.", slices={"stage": "impression"}),
        reference("p", expected=(), response="Diagnoses:\n- ICD-10 I10: Hypertension", slices={"stage": "reasoning"}),
        reference("p", expected=(), response="Findings: No effusion.", slices={"stage": "reasoning"}),
    ]
    scores_of_silence = [METRICS[name].score("", kind) for kind in kinds if METRICS[name].applies_to(kind)]
    assert scores_of_silence
    assert set(scores_of_silence) == {0.0}


def test_the_models_failure_is_zero_and_counted_apart(tmp_path: Path):
    directory = scored(
        tmp_path, [reference("p1"), reference("p2")], [prediction("p1", " \n"), prediction("p2", "Potassium: 4.1", is_cut=True)]
    )
    found = {(row.pair_id, row.answer_state, row.value) for row in read_table(directory / SCORES, Score) if row.metric == "pair_accuracy"}
    assert found == {("p1", "empty", 0.0), ("p2", "cut", 1.0)}
    assert failures(directory) == []


def test_a_page_about_which_nothing_is_stated_has_no_share_of_its_own_and_is_scored(tmp_path: Path):
    directory = scored(tmp_path, [reference("p1"), reference("p2")], [prediction("p1", ""), prediction("p2", "Potassium: 4.4")])
    rows = {row.pair_id: row for row in read_table(directory / SCORES, Score) if row.metric == "hallucinated_pair_rate"}
    assert [(row.value, row.statistics, row.is_scored) for row in (rows["p1"], rows["p2"])] == [(None, (0, 0), True), (1, (1, 1), True)]
    assert rows["p1"].reason == scores.NOTHING_COUNTED
    assert failures(directory) == []


def test_the_scorers_failure_has_no_value_but_a_reason(tmp_path: Path):
    dash = (Triple(term="Potassium", value="—", unit=""),)
    directory = scored(tmp_path, [reference("p1", expected=dash)], [prediction("p1", "Potassium: 4.1")])
    rows = list(read_table(directory / SCORES, Score))
    assert {row.value for row in rows} == {None}
    assert {row.reason for row in rows} == {"expected triple 0 has no letter or digit in its value"}
    assert failures(directory) == ["few_scores_are_missing"]
    assert measure(METRICS["token_f1"], "", reference("p1", response="")) == (None, "the wanted answer has no word", ())


def test_an_answer_to_an_unknown_pair_is_refused(tmp_path: Path):
    with pytest.raises(InputRefused, match="first 'p9'"):
        scored(tmp_path, [reference("p1")], [prediction("p1", ""), prediction("p9", "")])


@pytest.mark.parametrize(
    ("broken", "change"),
    [
        ("every_test_pair_is_predicted", lambda row: None if row["pair_id"] == "p2" else row),
        ("scores_are_in_range", lambda row: {**row, "value": 100 * row["value"]}),
        ("scores_are_in_range", lambda row: {**row, "value": float("nan")}),
        ("scores_are_in_range", lambda row: {**row, "metric": "bleu"} if row["metric"] == "pair_accuracy" else row),
        ("few_scores_are_missing", lambda row: {**row, "value": None, "reason": "broken"} if row["pair_id"] == "p1" else row),
        ("no_answer_is_scored_twice", lambda row: {**row, "metric": "term_recall"} if row["metric"] == "value_recall" else row),
    ],
)
def test_a_damaged_directory_fails_exactly_one_rule(tmp_path: Path, broken: str, change):
    directory = two_pairs(tmp_path)
    replace_scores(directory, change)
    assert failures(directory) == [broken]


def test_without_a_test_pair_nothing_was_evaluated(tmp_path: Path):
    directory = scored(tmp_path, [reference("p1", split="benchmark")], [prediction("p1", "")])
    assert failures(directory) == ["every_test_pair_is_predicted"]


def test_a_variant_that_skips_a_pair_is_named(tmp_path: Path):
    said = [prediction("p1", ""), prediction("p2", ""), prediction("p1", "", variant="adapter")]
    outcome = RULES[0].holds(scored(tmp_path, [reference("p1"), reference("p2")], said))
    assert outcome.offenders == ("adapter as_is p2",)


def test_an_evaluation_is_known_by_its_answers_and_by_how_they_were_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def identity(**changes: str) -> str:
        return evaluation_id(predicted(tmp_path, [reference("p1")], [prediction("p1", "")], **changes))

    ids = {identity(), identity(fingerprint="f2"), identity(data_version="d2")}
    monkeypatch.setattr(scores, "REVISIONS", (*scores.REVISIONS, 7))
    ids.add(identity())
    monkeypatch.setitem(METRICS, "token_f1", replace(METRICS["token_f1"], version=99))
    ids.add(identity())
    assert len(ids) == 5
    assert identity() == identity()


def test_every_metric_has_its_own_range(tmp_path: Path):
    directory = scored(tmp_path, [reference("p1", expected=(), response="left lung clear")], [prediction("p1", "left lung clear")])
    assert {row.metric: row.value for row in read_table(directory / SCORES, Score)} == {"rouge_l": 1, "bleu_4": 100}
    assert failures(directory) == []
    replace_scores(directory, lambda row: {**row, "value": 1.5})
    outside = RULES[2].holds(directory)
    assert (outside.passed, outside.offenders) == (False, ("p1 base rouge_l",))


def test_a_dataset_with_missing_scores_is_not_hidden_by_a_larger_one(tmp_path: Path):
    """Two of 40 are 5 % of theirs, and less than 1 % of all 300."""
    dash = (Triple(term="Potassium", value="—", unit=""),)
    pairs = [reference(f"p{n}", dataset="small", **({"expected": dash} if n < 2 else {})) for n in range(40)]
    pairs += [reference(f"q{n}", dataset="large") for n in range(260)]
    directory = scored(tmp_path, pairs, [prediction(pair.pair_id, "Potassium: 4.1") for pair in pairs])
    outcome = RULES[3].holds(directory)
    assert not outcome.passed
    assert "base as_is small pair_accuracy" in outcome.offenders
    assert not [offender for offender in outcome.offenders if "large" in offender]


def test_one_missing_score_of_two_hundred_is_borne(tmp_path: Path):
    dash = (Triple(term="Potassium", value="—", unit=""),)
    pairs = [reference(f"p{n}", **({"expected": dash} if n == 7 else {})) for n in range(200)]
    directory = scored(tmp_path, pairs, [prediction(pair.pair_id, "Potassium: 4.1") for pair in pairs])
    assert failures(directory) == []
    assert RULES[3].holds(directory).found == "5 scores are missing"


def test_the_bound_on_missing_scores_bears_identity():
    assert [rule.literals for rule in RULES if rule.name == "few_scores_are_missing"] == [(scores.MAX_UNSCORED_SHARE,)]
