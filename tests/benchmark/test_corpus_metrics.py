"""BLEU through scores, rows, store and gate. If these passed wrongly, a BLEU over English words and Chinese characters would stand in the
leaderboard, its interval would be that of another number, or the gate would decide by a mean of sentence BLEUs.
"""

import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sacrebleu

from medvl_lib.benchmark import rows
from medvl_lib.benchmark.gate import Candidate, Gate, Guardrail
from medvl_lib.benchmark.promotion import read_decisions
from medvl_lib.benchmark.publish import ask, publish
from medvl_lib.benchmark.rows import write_benchmark
from medvl_lib.benchmark.slices import slices_of
from medvl_lib.benchmark.tables import BenchmarkRow
from medvl_lib.errors import InputRefused
from medvl_lib.evaluation import scores
from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.evaluation.predictions import PREDICTIONS, REFERENCES, Prediction, Reference
from medvl_lib.evaluation.scores import EvaluatedPair
from medvl_lib.provenance import require_verdicts
from medvl_lib.tables import read_table, write_table
from tests.benchmark.evaluated import COUNTS, Evaluated, run
from tests.benchmark.written_reports import odd, write_reports

NOTES = Gate(primary_metric="bleu_4", datasets=("notes",), candidates=(Candidate(variant="adapter"),))


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    found = run(tmp_path_factory.mktemp("reports"), 60, also=lambda folder: write_reports(folder, odd), gate=NOTES)
    publish(found.workspace)
    return found


@pytest.fixture(scope="module")
def found(evaluated: Evaluated) -> dict[tuple[str, str, str, str], BenchmarkRow]:
    table = read_table(evaluated.benchmark.directory / "benchmark_rows.parquet", BenchmarkRow)
    return {(row.variant, row.dataset, row.slice, row.metric): row for row in table if row.condition == "as_is"}


def texts(evaluated: Evaluated, variant: str, dataset: str, language: str) -> tuple[list[str], list[str]]:
    """What a variant said, as it counts, and what was wanted."""
    wanted = {row.pair_id: row for row in read_table(evaluated.predictions.directory / REFERENCES, Reference)}
    answers = [
        row for row in read_table(evaluated.predictions.directory / PREDICTIONS, Prediction)
        if (row.variant, row.condition) == (variant, "as_is") and wanted[row.pair_id].dataset == dataset
        and wanted[row.pair_id].language == language
    ]  # fmt: skip
    wrong = {"bilingual/001", "bilingual/002"} if variant == "adapter" else set()
    clean = ["" if row.pair_id in wrong else row.answer.replace("___", "").replace("XXXX", "") for row in answers]
    return clean, [wanted[row.pair_id].response for row in answers]


@pytest.mark.parametrize("variant", ["base", "adapter", "floor_random"])
@pytest.mark.parametrize(
    ("dataset", "language", "name", "tokenizer"),
    [("notes", "en", "all", "13a"), ("bilingual", "en", "language=en", "13a"), ("bilingual", "zh", "language=zh", "zh")],
)
def test_a_row_holds_the_corpus_bleu_of_sacrebleu(evaluated, found, variant: str, dataset: str, language: str, name: str, tokenizer: str):
    said, wanted = texts(evaluated, variant, dataset, language)
    expected = sacrebleu.corpus_bleu(said, [wanted], lowercase=True, tokenize=tokenizer)
    row = found[variant, dataset, name, "bleu_4"]
    assert row.mean == pytest.approx(expected.score, abs=1e-9)
    assert row.ci_low < row.mean < row.ci_high
    assert (row.highest, row.is_higher_better, row.num_pairs) == (100, True, len(said))
    assert row.signature == f"nrefs:1|case:lc|eff:no|tok:{tokenizer}|smooth:exp|version:{sacrebleu.__version__}"


def test_two_languages_have_no_row_over_both(found):
    slices = {name for _, dataset, name, metric in found if (dataset, metric) == ("bilingual", "bleu_4")}
    assert slices == {"language=en", "language=zh"}
    assert {name for _, dataset, name, metric in found if (dataset, metric) == ("bilingual", "rouge_l")} == slices
    assert {name for _, dataset, name, metric in found if (dataset, metric) == ("notes", "bleu_4")} == {"all", "language=en"}


def test_a_pair_is_counted_once_in_the_slice_of_its_language(found):
    """Conversations carry their language among the labels, and a set of two languages has slices of them anyway."""
    row = found["base", "bilingual", "language=zh", "rouge_l"]
    assert (row.num_pairs, row.num_clusters) == (30, 30)
    pair = EvaluatedPair(pair_id="p", group_id="d", dataset="x", split="test", language="zh", slices={"language": "zh", "organ": "lung"})
    other = dataclasses.replace(pair, pair_id="q", language="en", slices={})
    assert slices_of([pair, other]) == {"p": ["all", "language=zh", "organ=lung"], "q": ["all", "language=en"]}


def test_failures_of_the_model_are_counted_apart(found):
    english, chinese = (found["adapter", "bilingual", f"language={name}", "bleu_4"] for name in ("en", "zh"))
    assert (english.num_wrong_language, chinese.num_wrong_language) == (1, 1)
    assert (english.num_masked, chinese.num_masked, found["adapter", "notes", "all", "rouge_l"].num_masked) == (0, 1, 2)
    assert found["base", "bilingual", "language=en", "bleu_4"].num_wrong_language == 0


def test_every_score_is_counted_in_a_row_of_its_language(evaluated):
    assert [rule.name for rule in rows.RULES if not rule.holds(evaluated.benchmark.directory).passed] == []


def damaged(evaluated: Evaluated, folder: Path, change) -> list[str]:
    folder.mkdir()
    write_benchmark(
        folder, line="documents", scores_directory=evaluated.scores.directory, predictions_directory=evaluated.predictions.directory,
        adapter_directory=evaluated.adapter.directory, dataset_counts=COUNTS,
    )  # fmt: skip
    path = folder / "benchmark_rows.parquet"
    table = [row for row in map(change, pq.read_table(path).to_pylist()) if row is not None]
    pq.write_table(pa.Table.from_pylist(table, schema=pq.read_schema(path)), path)
    return [rule.name for rule in rows.RULES if not rule.holds(folder).passed]


def is_chinese_bleu(row: dict) -> bool:
    return (row["metric"], row["slice"]) == ("bleu_4", "language=zh")


@pytest.mark.parametrize(
    ("broken", "change"),
    [
        ("no_orphan_scores", lambda row: None if is_chinese_bleu(row) else row),
        ("no_orphan_scores", lambda row: {**row, "num_pairs": 31} if is_chinese_bleu(row) else row),
        ("no_orphan_scores", lambda row: None if (row["dataset"], row["slice"], row["metric"]) == ("notes", "all", "bleu_4") else row),
        ("every_row_has_an_interval", lambda row: {**row, "mean": 100.5} if is_chinese_bleu(row) else row),
        ("every_row_has_an_interval", lambda row: {**row, "highest": 1000.0} if is_chinese_bleu(row) else row),
        ("every_row_has_an_interval", lambda row: {**row, "mean": 2.0} if row["metric"] == "rouge_l" else row),
    ],
)
def test_a_damaged_row_of_a_corpus_metric_fails_exactly_one_rule(evaluated, tmp_path: Path, broken: str, change):
    assert damaged(evaluated, tmp_path / "benchmark", change) == [broken]


def test_a_dataset_whose_texts_of_one_language_are_cut_in_two_ways_has_a_row_of_each_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As those of two sets of classes are."""
    by_number = lambda one: ("even", "odd")[int(one.pair_id[-1]) % 2]  # noqa: E731 (no language tells these apart)
    monkeypatch.setitem(METRICS, "rouge_l", dataclasses.replace(METRICS["rouge_l"], signature=by_number))
    evaluated = run(tmp_path, 60, also=lambda folder: write_reports(folder, datasets=("notes",)))
    publish(evaluated.workspace)
    assert [rule.name for rule in rows.RULES if not rule.holds(evaluated.benchmark.directory).passed] == []
    shown = ask(evaluated.workspace, """
        select slice, n from leaderboard
        where metric = 'rouge_l' and dataset = 'notes' and variant = 'adapter' and condition = 'as_is' order by all
    """).rows  # fmt: skip
    assert shown == [("way=even", 30), ("way=odd", 30)]
    assert damaged(evaluated, tmp_path / "again", lambda row: None if row["slice"] == "way=odd" else row) == ["no_orphan_scores"]


def test_the_leaderboard_shows_each_language_and_the_signature(evaluated):
    shown = ask(evaluated.workspace, """
        select dataset, slice, n, highest, signature from leaderboard
        where metric = 'bleu_4' and variant = 'adapter' and condition = 'as_is' order by all
    """).rows  # fmt: skip
    start = "nrefs:1|case:lc|eff:no|tok"
    end = f"smooth:exp|version:{sacrebleu.__version__}"
    assert shown == [
        ("bilingual", "language=en", 30, 100.0, f"{start}:13a|{end}"),
        ("bilingual", "language=zh", 30, 100.0, f"{start}:zh|{end}"),
        ("notes", "all", 60, 100.0, f"{start}:13a|{end}"),
    ]


def test_changes_are_said_in_hundredths_of_the_range(evaluated, found):
    [(points, percent)] = ask(evaluated.workspace, """
        select score_change_points, score_change_percent from quantization_cost
        where dataset = 'notes' and metric = 'bleu_4' and variant = 'adapter'
    """).rows  # fmt: skip
    base, adapter = (found[variant, "notes", "all", "bleu_4"].mean for variant in ("base", "adapter"))
    assert points == pytest.approx(adapter - base)
    assert percent == pytest.approx(100 * (adapter / base - 1))


def test_each_language_has_one_line_in_every_view(evaluated):
    for view in ("quantization_cost", "did_finetuning_help"):
        name = "variant = 'adapter' and" if view == "quantization_cost" else ""
        shown = ask(evaluated.workspace, f"select slice from {view} where {name} dataset = 'bilingual' and metric = 'bleu_4'").rows  # noqa: S608
        assert sorted(shown) == [("language=en",), ("language=zh",)]


def test_the_gate_decides_by_corpus_bleu(evaluated, found):
    [decision] = read_decisions(evaluated.promotion.directory)
    base, adapter = (found[variant, "notes", "all", "bleu_4"].mean for variant in ("base", "adapter"))
    assert decision.verdict == "promote"
    assert decision.difference == pytest.approx(adapter - base)
    assert 0 < decision.ci_low < decision.difference < decision.ci_high
    assert 0 < decision.minimum_detectable_difference < decision.difference
    assert (decision.num_pairs, decision.num_clusters) == (60, 30)
    assert decision.image_difference == pytest.approx(adapter - blind(evaluated))


def blind(evaluated: Evaluated) -> float:
    [row] = [
        row for row in read_table(evaluated.benchmark.directory / "benchmark_rows.parquet", BenchmarkRow)
        if (row.variant, row.condition, row.dataset, row.slice, row.metric) == ("adapter", "blank_image", "notes", "all", "bleu_4")
    ]  # fmt: skip
    return row.mean


def decided(tmp_path: Path, gate: Gate):
    [decision] = read_decisions(run(tmp_path, 60, also=lambda folder: write_reports(folder, odd), gate=gate).promotion.directory)
    return decision


def test_a_gate_over_two_ways_to_cut_compares_nothing(tmp_path: Path):
    decision = decided(tmp_path, dataclasses.replace(NOTES, datasets=("bilingual",)))
    assert (decision.verdict, decision.difference) == ("inconclusive", None)
    assert "texts of adapter were cut in 2 ways, which make no one number: nrefs:1|case:lc|eff:no|tok:13a" in decision.reasons[0]


def test_a_guardrail_holds_each_language_to_its_own_bleu(tmp_path: Path):
    rails = tuple(Guardrail(metric="bleu_4", margin=3.0, slice=name) for name in ("language=*", "all"))
    decision = decided(tmp_path, dataclasses.replace(NOTES, primary_metric="pair_accuracy", datasets=(), guardrails=rails))
    said = {reason.split(" (margin")[0]: reason for reason in decision.reasons if reason.startswith("guardrail")}
    assert said.keys() == {
        "guardrail bleu_4 in language=en", "guardrail bleu_4 in language=zh",  # also where all of it is named: no number is over both
    }  # fmt: skip
    assert "bleu_4 in language=zh: adapter minus base is +" in said["guardrail bleu_4 in language=zh"]
    assert "30 pairs, 30 clusters" in said["guardrail bleu_4 in language=zh"]


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if not metric.is_gateable])
def test_no_gate_decides_by_a_metric_that_can_be_gamed(name: str):
    with pytest.raises(ValueError, match=f"'{name}' is won by an answer that says everything, or nothing"):
        Gate(primary_metric=name)
    with pytest.raises(ValueError, match="name one of pair_accuracy, token_f1, closed_accuracy, open_exact, bleu_4, rouge_l"):
        Gate(further_primaries=(name,))
    assert Guardrail(metric=name, margin=0.1)  # as a guardrail it may stand beside what decides


def test_a_margin_is_in_the_metrics_own_range():
    assert Guardrail(metric="bleu_4", margin=2.5).margin == 2.5
    with pytest.raises(ValueError, match=r"margin = 20.5 of bleu_4 must be 0 or more and at most 20"):
        Guardrail(metric="bleu_4", margin=20.5)
    with pytest.raises(ValueError, match=r"margin = 2.5 of rouge_l must be 0 or more and at most 0.2"):
        Guardrail(metric="rouge_l", margin=2.5)


def unscorable(number: int):
    """The first ``number`` notes want nothing that a scorer could hold an answer against."""

    def change(folder: Path) -> None:
        write_reports(folder, datasets=("notes",))
        table = [
            dataclasses.replace(row, response="___.") if row.dataset == "notes" and int(row.pair_id[-3:]) < number else row
            for row in read_table(folder / REFERENCES, Reference)
        ]
        write_table(folder / REFERENCES, Reference, table)

    return change


def test_more_than_one_percent_without_a_score_stops_everything_that_compares(tmp_path: Path):
    """Two of 60 reports: the rule blocks the scores, so nothing reads them; and a gate that is given them anyway compares nothing."""
    evaluated = run(tmp_path, 60, also=unscorable(2), gate=NOTES)
    missing = next(rule for rule in scores.RULES if rule.name == "few_scores_are_missing").holds(evaluated.scores.directory)
    assert (missing.passed, missing.offenders[0]) == (False, "adapter as_is notes bleu_4")
    with pytest.raises(InputRefused, match="few_scores_are_missing"):
        require_verdicts(evaluated.scores, scores.RULES)
    assert not evaluated.workspace.current("scores", "documents").is_file()
    [decision] = read_decisions(evaluated.promotion.directory)
    assert (decision.verdict, decision.difference) == ("inconclusive", None)
    assert "not comparable: 2 of 60 answers of adapter could not be scored" in decision.reasons


def test_a_guardrail_with_missing_scores_is_not_kept_by_the_others(tmp_path: Path):
    gate = Gate(guardrails=(Guardrail(metric="bleu_4", margin=20.0),), candidates=(Candidate(variant="adapter"),))
    [decision] = read_decisions(run(tmp_path, 60, also=unscorable(2), gate=gate).promotion.directory)
    assert decision.verdict == "inconclusive"
    assert decision.reasons[0] == "guardrail bleu_4: not comparable: 2 of 60 answers of base could not be scored"
