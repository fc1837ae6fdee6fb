"""If these passed wrongly, the store would show means without error bars, or rows that no score stands behind."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medvl_lib.benchmark import rows
from medvl_lib.benchmark.rows import RULES
from medvl_lib.benchmark.tables import (
    SCHEMA_VERSION,
    TABLES,
    BenchmarkRow,
    DatasetCountRow,
    EnvironmentRow,
    EvaluationRow,
    LatencyRow,
    MemoryRow,
    TrainingStepRow,
)
from medvl_lib.evaluation import statistics
from medvl_lib.evaluation.predictions import PREDICTIONS, Prediction
from medvl_lib.evaluation.scores import EVALUATED_PAIRS, EvaluatedPair
from medvl_lib.tables import read_table, write_table
from tests.benchmark.evaluated import MEASURED, prediction


def rows_of(directory: Path, table: str, model: type) -> list:
    return list(read_table(directory / f"{table}.parquet", model))


def failures(directory: Path) -> list[str]:
    return [rule.name for rule in RULES if not rule.holds(directory).passed]


def damage(directory: Path, table: str, change) -> None:
    path = directory / f"{table}.parquet"
    rows = [row for row in map(change, pq.read_table(path).to_pylist()) if row is not None]
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)


def test_a_mean_stands_with_its_n_and_interval(sixty):
    directory = sixty.benchmark.directory
    found = {
        (row.variant, row.slice): row for row in rows_of(directory, "benchmark_rows", BenchmarkRow)
        if (row.metric, row.condition) == ("pair_accuracy", "as_is")
    }  # fmt: skip
    row = found["adapter", "all"]
    assert (row.mean, row.num_pairs, row.num_clusters, row.num_unscored, row.num_empty, row.run_id) == (0.75, 60, 60, 0, 0, None)
    assert 0.67 < row.ci_low < 0.72 < 0.78 < row.ci_high < 0.83
    assert found["adapter", "document_type=icu"].mean == 1.0
    assert found["adapter", "document_type=lab"].mean == 0.5
    assert (found["floor_empty", "all"].mean, found["floor_empty", "all"].num_empty) == (0.0, 60)
    assert failures(directory) == []


def test_what_is_made_up_is_a_share_of_all_stated_values_and_none_where_nothing_is_stated(evaluate):
    """Half of the pages are silent, half state one value: in a mean over pages the rate would halve."""
    evaluated = evaluate(60, adapter=lambda number: number % 2)
    found = {
        (row.variant, row.metric): row
        for row in read_table(evaluated.benchmark.directory / "benchmark_rows.parquet", BenchmarkRow)
        if row.condition == "as_is" and row.slice == "all"
    }
    made_up, silent = found["adapter", "hallucinated_pair_rate"], found["adapter", "silent_page_rate"]
    assert (made_up.mean, made_up.num_pairs, made_up.num_unscored, silent.mean) == (0.0, 60, 0, 0.5)
    nothing = found["floor_empty", "hallucinated_pair_rate"]
    assert (nothing.mean, nothing.ci_low, nothing.ci_high, nothing.num_pairs) == (None, None, None, 60)
    assert found["floor_empty", "silent_page_rate"].mean == 1.0
    assert [rule.name for rule in rows.RULES if not rule.holds(evaluated.benchmark.directory).passed] == []


def test_one_document_has_a_mean_but_no_interval(evaluate):
    directory = evaluate(1).benchmark.directory
    assert {(row.ci_low, row.ci_high) for row in rows_of(directory, "benchmark_rows", BenchmarkRow)} == {(None, None)}
    assert failures(directory) == []


def test_every_other_table_is_filled(sixty):
    directory = sixty.benchmark.directory
    assert {path.stem for path in directory.glob("*.parquet")} == set(TABLES)
    variants = {row.variant: row.precision for row in rows_of(directory, "evaluations", EvaluationRow)}
    assert variants["nf4"] == "nf4"
    assert variants["floor_empty"] is None
    latencies = rows_of(directory, "latencies", LatencyRow)
    assert {(row.variant, row.condition) for row in latencies} == {(name, "as_is") for name in MEASURED} | {
        (name, "blank_image") for name in ("adapter", "nf4")
    }
    assert {(row.num_answers, row.num_batches, row.batch_size) for row in latencies} == {(60, 8, 8)}
    memory = {row.variant: row.memory_after_load_bytes for row in rows_of(directory, "memory", MemoryRow)}
    assert memory == {"base": 16_000, "nf4": 4_000, "adapter": 5_000}
    steps = [(row.stage, row.step, row.loss) for row in rows_of(directory, "training_steps", TrainingStepRow)]
    assert steps == [("adapter", 1, 2.0), ("adapter", 2, 1.0)]
    assert rows_of(directory, "dataset_counts", DatasetCountRow)[1].reason == "image_missing"
    assert {"platform", "python"} <= {row.name for row in rows_of(directory, "environments", EnvironmentRow)}
    assert sixty.benchmark.facts["num_scores"] == 60 * 9 * 5  # pages, variants and two image controls, metrics


def test_seconds_per_answer_are_measured_by_batch(tmp_path: Path):
    """8 answers in 8 s and 2 answers in 20 s: 2.8 s per answer, and over batches the median is 5.5 s, not the 1 s of most answers."""
    said = [replace(prediction("base", number, 0, 10), latency_seconds=1.0 if number < 8 else 10.0) for number in range(10)]
    write_table(tmp_path / PREDICTIONS, Prediction, said)
    write_table(tmp_path / EVALUATED_PAIRS, EvaluatedPair, (
        EvaluatedPair(pair_id=row.pair_id, group_id="d", dataset="forms", split="test", language="en", slices={}) for row in said
    ))  # fmt: skip
    [row] = rows._latencies(tmp_path, tmp_path, {"evaluation_id": "e", "line": "documents"})
    assert (row.num_answers, row.num_batches, row.batch_size) == (10, 2, 8)
    assert (row.min_seconds_per_answer, row.p50_seconds_per_answer, row.max_seconds_per_answer) == (1.0, 5.5, 10.0)
    assert row.mean_seconds_per_answer == 2.8


def test_the_revisions_name_every_room_that_makes_the_numbers():
    assert rows.REVISIONS == (rows.REVISION, statistics.REVISION, SCHEMA_VERSION)


@pytest.mark.parametrize(
    ("broken", "table", "change"),
    [
        ("every_row_has_an_interval", "benchmark_rows", lambda row: {**row, "ci_low": None}),
        ("every_row_has_an_interval", "benchmark_rows", lambda row: {**row, "ci_high": 1.2}),
        ("every_row_has_an_interval", "benchmark_rows", lambda row: {**row, "mean": 75.0}),
        ("every_row_has_an_interval", "benchmark_rows", lambda row: {**row, "mean": None}),
        (
            "every_row_has_an_interval",
            "benchmark_rows",
            lambda row: {**row, "mean": None} if row["metric"] == "hallucinated_pair_rate" and row["ci_low"] is not None else row,
        ),
        ("no_orphan_scores", "scores", lambda row: {**row, "evaluation_id": "another"}),
        ("no_orphan_scores", "scores", lambda row: None if row["pair_id"] == "p001" else row),
        ("no_orphan_scores", "benchmark_rows", lambda row: None if row["variant"] == "nf4" else row),
        ("no_orphan_scores", "evaluations", lambda row: None if row["variant"] == "nf4" else row),
        ("every_read_row_is_accounted_for", "dataset_counts", lambda row: None if row["outcome"] == "rejected" else row),
        ("every_read_row_is_accounted_for", "dataset_counts", lambda row: None if row["outcome"] == "test" else row),
        (
            "every_read_row_is_accounted_for",
            "dataset_counts",
            lambda row: {**row, "num_pairs": 3} if row["outcome"] == "trained_on" else row,
        ),
    ],
)
def test_a_damaged_directory_fails_exactly_one_rule(benchmark_copy: Path, broken: str, table: str, change):
    damage(benchmark_copy, table, change)
    assert failures(benchmark_copy) == [broken]


def test_a_table_with_another_column_fails_exactly_one_rule(benchmark_copy: Path):
    path = benchmark_copy / "memory.parquet"
    table = pq.read_table(path)
    pq.write_table(table.rename_columns([name.replace("load_seconds", "load_ms") for name in table.column_names]), path)
    assert failures(benchmark_copy) == ["tables_are_as_declared"]


def noted(evaluate, num_documents: int) -> BenchmarkRow:
    directory = evaluate(num_documents).benchmark.directory
    assert failures(directory) == []
    return next(row for row in rows_of(directory, "benchmark_rows", BenchmarkRow) if (
        row.variant, row.condition, row.slice, row.metric
    ) == ("adapter", "as_is", "all", "pair_accuracy"))  # fmt: skip


def test_five_documents_have_no_interval_and_a_note_that_says_why(evaluate):
    row = noted(evaluate, 5)
    assert (row.ci_low, row.ci_high, row.num_clusters, row.interval_note) == (None, None, 5, "too few clusters (5) for an interval")


def test_six_documents_have_an_interval(evaluate):
    row = noted(evaluate, 6)
    assert 0 < row.ci_low < row.mean < row.ci_high
    assert row.interval_note is None


def test_an_interval_without_spread_is_noted(sixty):
    row = next(row for row in rows_of(sixty.benchmark.directory, "benchmark_rows", BenchmarkRow) if (
        row.variant, row.metric
    ) == ("floor_empty", "pair_accuracy"))  # fmt: skip
    assert (row.ci_low, row.ci_high, row.interval_note) == (row.mean, row.mean, "the clusters show no spread")


def test_an_interval_over_five_clusters_fails_its_rule(evaluate):
    evaluated = evaluate(5)
    damage(evaluated.benchmark.directory, "benchmark_rows", lambda row: {**row, "ci_low": row["mean"], "ci_high": row["mean"]})
    assert failures(evaluated.benchmark.directory) == ["every_row_has_an_interval"]
