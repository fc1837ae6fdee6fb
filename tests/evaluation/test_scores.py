"""If these passed wrongly, a variant could skip the hard pairs, or a broken scorer could pass for a bad model."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medvl_lib.errors import InputRefused
from medvl_lib.evaluation import scores
from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.evaluation.predictions import PREDICTIONS, REFERENCES, Prediction, Reference
from medvl_lib.evaluation.scores import EVALUATED_PAIRS, RULES, SCORES, EvaluatedPair, Score, evaluation_id, measure, write_scores
from medvl_lib.files import write_json
from medvl_lib.pairs import Triple
from medvl_lib.tables import read_table, write_table

POTASSIUM = (Triple(term="Potassium", value="4.1", unit="mmol/L"),)


def reference(pair_id: str, *, split: str = "test", expected: tuple[Triple, ...] = POTASSIUM, response: str = "") -> Reference:
    return Reference(
        pair_id=pair_id, dataset="forms", split=split, group_id=f"doc-{pair_id}", language="en", licence="CC0-1.0",
        request="?", response=response,
        expected=expected,
        slices={"document_type": "lab"}, glyph_height_pixels=None,
    )  # fmt: skip


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
        ("p2", "term_recall"): 1.0, ("p2", "value_recall"): 0.0, ("p2", "pair_accuracy"): 0.0, ("p2", "hallucinated_pair_rate"): 1.0,
    }  # fmt: skip
    assert [pair.pair_id for pair in read_table(directory / EVALUATED_PAIRS, EvaluatedPair)] == ["p1", "p2"]
    assert failures(directory) == []


def test_a_pair_without_triples_is_scored_as_text(tmp_path: Path):
    directory = scored(tmp_path, [reference("p1", expected=(), response="left lung clear")], [prediction("p1", "left lung")])
    [row] = read_table(directory / SCORES, Score)
    assert (row.metric, row.value) == ("token_f1", pytest.approx(0.8))


def test_the_models_failure_is_zero_and_counted_apart(tmp_path: Path):
    directory = scored(
        tmp_path, [reference("p1"), reference("p2")], [prediction("p1", " \n"), prediction("p2", "Potassium: 4.1", is_cut=True)]
    )
    found = {(row.pair_id, row.answer_state, row.value) for row in read_table(directory / SCORES, Score) if row.metric == "pair_accuracy"}
    assert found == {("p1", "empty", 0.0), ("p2", "cut", 1.0)}
    assert failures(directory) == []


def test_the_scorers_failure_has_no_value_but_a_reason(tmp_path: Path):
    dash = (Triple(term="Potassium", value="—", unit=""),)
    directory = scored(tmp_path, [reference("p1", expected=dash)], [prediction("p1", "Potassium: 4.1")])
    rows = list(read_table(directory / SCORES, Score))
    assert {row.value for row in rows} == {None}
    assert {row.reason for row in rows} == {"expected triple 0 has no letter or digit in its value"}
    assert failures(directory) == ["few_scores_are_missing"]
    assert measure(METRICS["token_f1"], "", reference("p1", response="")) == (None, "the wanted answer has no word")


def test_an_answer_to_an_unknown_pair_is_refused(tmp_path: Path):
    with pytest.raises(InputRefused, match="first 'p9'"):
        scored(tmp_path, [reference("p1")], [prediction("p1", ""), prediction("p9", "")])


@pytest.mark.parametrize(
    ("broken", "change"),
    [
        ("every_test_pair_is_predicted", lambda row: None if row["pair_id"] == "p2" else row),
        ("scores_are_in_range", lambda row: {**row, "value": 100 * row["value"]}),
        ("scores_are_in_range", lambda row: {**row, "value": float("nan")}),
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


def test_the_bound_on_missing_scores_bears_identity():
    assert [rule.literals for rule in RULES if rule.name == "few_scores_are_missing"] == [(scores.MAX_UNSCORED_SHARE,)]
