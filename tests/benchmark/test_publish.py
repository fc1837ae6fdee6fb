"""If these passed wrongly, history would be lost when the store is rebuilt, or a reader would see half of it."""

import re
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import duckdb
import pytest
from filelock import FileLock, Timeout

from medvl_lib.benchmark import publish as publishing
from medvl_lib.benchmark.promotion import Decision, read_decisions, winner_of
from medvl_lib.benchmark.publish import SCHEMA, NoCopy, ask, publish
from medvl_lib.benchmark.rollback import Rollback
from medvl_lib.benchmark.rows import RULES, write_benchmark
from medvl_lib.benchmark.tables import TABLES, TrainingStepRow
from medvl_lib.errors import InputMissing, InputRefused, MedVLError
from medvl_lib.evaluation.scores import SCORES, Score
from medvl_lib.files import read_json, write_json
from medvl_lib.lines import DOCUMENTS
from medvl_lib.pointer import Served, move_pointer
from medvl_lib.provenance import Artifact, judge, write_step
from medvl_lib.reviews.tables import PUBLISHED
from medvl_lib.route.pointing import release, roll_back
from medvl_lib.tables import columns, read_table, write_table
from medvl_lib.workspace import Workspace
from tests.benchmark.evaluated import COUNTS, Evaluated, overrule

VIEWS = {
    "leaderboard", "quantization_cost", "did_finetuning_help", "training_curve", "data_loss_by_reason", "regressions", "expert_ratings",
    "encoder_recall",
}  # fmt: skip
DUCKDB_TYPES = {
    "string": "VARCHAR", "int64": "BIGINT", "double": "DOUBLE", "bool": "BOOLEAN", "map<string, string>": "MAP(VARCHAR, VARCHAR)",
    "list<element: string>": "VARCHAR[]", "list<element: double>": "DOUBLE[]",
}  # fmt: skip
HAVE_VARIANTS = """
    select table_name from information_schema.columns join information_schema.tables using (table_name)
    where column_name = 'variant' and table_type = 'BASE TABLE'
"""
ADDED_WHEN_PUBLISHED = {"is_holding", "is_current", "is_served", "decided_at", "fingerprint"}


def rows(workspace: Workspace, sql: str) -> list[tuple]:
    return ask(workspace, sql).rows


def test_the_leaderboard_of_one_evaluation(sixty):
    workspace = sixty.workspace
    found = rows(
        workspace,
        "select variant, n, mean, p50_seconds_per_answer, batch_size, memory_mb from leaderboard"
        " where metric = 'pair_accuracy' and condition = 'as_is'",
    )
    assert found[0] == ("adapter", 60, 0.75, 1.0, 8, 0.005)
    assert ("base", 60, 0.0, 4.0, 8, 0.016) in found
    assert ("floor_random", 60, 0.0, None, None, None) in found
    assert len(found) == 7


def test_what_quantization_costs_in_percent(evaluate):
    workspace = evaluate(8, base=lambda _: 1).workspace
    publish(workspace)
    assert rows(
        workspace,
        "select variant, memory_change_percent, seconds_per_answer_change_percent, mean, score_change_points, score_change_percent"
        " from quantization_cost where metric = 'pair_accuracy'",
    ) == [("base", 0, 0, 0.5, 0, 0), ("nf4", -75, -50, 0, -50, -100), ("adapter", -68.75, -75, 0.75, 25, 50)]


def test_whether_finetuning_helped_stands_beside_the_verdict(sixty):
    workspace = sixty.workspace
    found = rows(workspace, "select metric, adapter_mean, base_mean, verdict, paired_difference, image_difference from did_finetuning_help")
    assert ("pair_accuracy", 0.75, 0.0, "promote", 0.75, 0.75) in found
    assert ("value_recall", 0.75, 0.0, None, None, None) in found


@pytest.mark.parametrize("form", ["nf4", "affine4"])
def test_the_base_in_four_bits_stands_beside_it_whoever_packed_it(sixty, tmp_path: Path, form: str):
    copy = shutil.copy(sixty.workspace.store, tmp_path / "store.duckdb")
    asked = "select distinct four_bits_variant, four_bits_mean is not null from did_finetuning_help where metric = 'pair_accuracy'"
    with duckdb.connect(copy) as store:
        for (table,) in store.execute(HAVE_VARIANTS).fetchall():
            store.execute(f"update {table} set variant = '{form}' where variant = 'nf4'")  # noqa: S608
        assert store.execute(asked).fetchall() == [(form, True)]


def test_why_no_verdict_stands_beside_a_metric_is_said(sixty):
    found = dict(rows(sixty.workspace, "select metric, why_no_verdict from did_finetuning_help"))
    assert found["pair_accuracy"] is None
    assert found["term_recall"] == "the gate decided by pair_accuracy; what else it saw is among its reasons"
    assert [name for name, why in found.items() if why is None] == ["pair_accuracy"]


def test_an_evaluation_that_was_not_judged_says_so(evaluate):
    evaluated = evaluate(8)
    evaluated.promotion.directory.rename(evaluated.promotion.directory.with_name(".away"))
    publish(evaluated.workspace)
    said = rows(evaluated.workspace, "select distinct verdict, why_no_verdict from did_finetuning_help")
    assert said == [(None, "the gate has not judged this evaluation")]


DECIDED = "select decided_by, challenger, verdict, is_current, is_served from promotion_decisions order by decided_by, challenger"


def test_an_override_is_the_current_decision_beside_the_gates_until_another_one_takes_its_place(evaluate):
    evaluated = evaluate(8)  # too few: the gate is inconclusive on both candidates
    gate = [("gate", "adapter", "inconclusive", True, False), ("gate", "nf4", "inconclusive", True, False)]
    publish(evaluated.workspace)
    assert rows(evaluated.workspace, DECIDED) == gate
    overrule(evaluated, "adapter", "Dr. Adler")
    assert rows(evaluated.workspace, DECIDED) == [("Dr. Adler", "adapter", "promote", True, True), *gate]
    assert rows(evaluated.workspace, "select distinct verdict, overridden_by from did_finetuning_help where verdict is not null") == [
        ("inconclusive", "Dr. Adler for adapter: Dr. Adler read forty answers")
    ]
    overrule(evaluated, "base", "Dr. Bär")
    assert rows(evaluated.workspace, DECIDED) == [
        ("Dr. Adler", "adapter", "promote", False, False), ("Dr. Bär", "base", "promote", True, True), *gate
    ]  # fmt: skip


def test_what_the_gate_promoted_is_served_by_its_own_decision(evaluate):
    evaluated = evaluate(60)
    winner = winner_of(read_decisions(evaluated.promotion.directory))
    assert winner is not None
    move_pointer(evaluated.workspace, Served(
        line="documents", variant=winner.challenger, weights_step="base_model", weights_fingerprint="f", adapter_step="adapter",
        adapter_fingerprint="a", data_version="d", decision_step="promotion", decision=evaluated.promotion.fingerprint,
    ))  # fmt: skip
    publish(evaluated.workspace)
    assert rows(evaluated.workspace, "select challenger from promotion_decisions where is_served") == [(winner.challenger,)]
    assert rows(evaluated.workspace, "select distinct overridden_by from did_finetuning_help") == [(None,)]


def test_who_went_back_and_whether_the_pointer_is_held_is_shown(evaluate):
    evaluated = evaluate(60)
    workspace, asked = (
        evaluated.workspace,
        "select action, decided_by, reason, from_variant, to_variant, is_holding from rollbacks order by decided_at, action",
    )
    move_pointer(workspace, Served(
        line="documents", variant="adapter", weights_step="base_model", weights_fingerprint="f", adapter_step="adapter",
        adapter_fingerprint="a", data_version="d", decision_step="promotion", decision=evaluated.promotion.fingerprint,
    ))  # fmt: skip
    roll_back(workspace, DOCUMENTS, by="Dr. Adler", reason="complaints from the ward")
    publish(workspace)
    went_back = ("rollback", "Dr. Adler", "complaints from the ward", "adapter", "base")
    assert rows(workspace, asked) == [(*went_back, True)]
    assert rows(workspace, "select challenger from promotion_decisions where is_served") == []
    release(workspace, DOCUMENTS, by="Dr. Berg", reason="it was the scanner")
    publish(workspace)
    assert set(rows(workspace, asked)) == {(*went_back, False), ("release", "Dr. Berg", "it was the scanner", "base", "base", False)}


def test_training_and_data_loss_are_shown(sixty):
    workspace = sixty.workspace
    assert rows(workspace, "select step, loss from training_curve") == [(1, 2.0), (2, 1.0)]
    assert rows(workspace, "select dataset, reason, num_pairs, num_read, percent_of_read from data_loss_by_reason") == [
        ("forms", "image_missing", 1, 5, 20.0)
    ]


def test_history_is_kept_and_the_current_evaluation_leads(evaluate):
    first = evaluate(16)
    workspace = first.workspace
    second = evaluate(16, weights="w2", adapter=lambda _: 0)
    publish(workspace)
    adapter_mean = "select mean from leaderboard where variant = 'adapter' and metric = 'pair_accuracy' and condition = 'as_is'"
    assert rows(workspace, "select count(distinct evaluation_id) from evaluations") == [(2,)]
    assert rows(workspace, adapter_mean) == [(0.0,)]
    assert rows(
        workspace,
        "select variant, previous_mean, mean, are_intervals_apart from regressions where slice = 'all' and metric = 'pair_accuracy'",
    ) == [("adapter", 0.75, 0.0, True)]

    write_json(workspace.current("benchmark", "documents"), {"fingerprint": first.benchmark.fingerprint})  # back to the earlier data
    publish(workspace)
    assert rows(workspace, adapter_mean) == [(0.75,)]
    assert rows(workspace, "select evaluation_id from evaluations where not is_current limit 1") == [
        (second.benchmark.facts["evaluation_id"],)
    ]


def test_publishing_twice_changes_nothing(evaluate):
    workspace = evaluate(4).workspace
    tables = (*TABLES, "promotion_decisions", "rollbacks", *PUBLISHED, *VIEWS)
    first, before = publish(workspace), [rows(workspace, table) for table in tables]
    assert publish(workspace) == first
    assert [rows(workspace, table) for table in tables] == before
    assert [path.name for path in workspace.root.iterdir() if "duckdb" in path.name] == ["benchmark.duckdb"]


def test_what_is_damaged_or_has_not_passed_is_left_out_and_counted(evaluate):
    evaluated = [evaluate(4, weights=weights) for weights in ("w1", "w2", "w3", "w4")]
    (evaluated[0].benchmark.directory / "memory.parquet").write_bytes(b"cut off")
    verdicts = evaluated[1].benchmark.directory / "verdicts.json"
    said = read_json(verdicts)
    said["verdicts"][0]["outcome"]["passed"] = False
    write_json(verdicts, said)
    record = evaluated[2].benchmark.directory / "provenance.json"
    write_json(record, {**read_json(record), "facts": {**evaluated[2].benchmark.facts, "schema_version": 0}})
    counts = publish(evaluated[0].workspace)
    assert {name: counts[name] for name in ("num_evaluated", "num_damaged", "num_not_passed", "num_other_schema_version")} == {
        "num_evaluated": 1, "num_damaged": 1, "num_not_passed": 1, "num_other_schema_version": 1,
    }  # fmt: skip
    assert rows(evaluated[0].workspace, "select distinct evaluation_id from scores") == [(evaluated[3].benchmark.facts["evaluation_id"],)]


def measured_again(evaluated: Evaluated, scores_directory: Path) -> Artifact:
    """Another benchmark directory of the same evaluation: as after a new revision of the rows."""
    again = write_step(evaluated.workspace, "benchmark", "documents", "v2", [], lambda folder: write_benchmark(
        folder, line="documents", scores_directory=scores_directory, predictions_directory=evaluated.predictions.directory,
        adapter_directory=evaluated.adapter.directory, dataset_counts=COUNTS,
    ))  # fmt: skip
    judge(evaluated.workspace, again, RULES)
    return again


def test_how_every_stage_was_trained_is_told(evaluate, tmp_path: Path):
    evaluated: Evaluated = evaluate(4)
    write_benchmark(
        tmp_path, line="documents", scores_directory=evaluated.scores.directory, predictions_directory=evaluated.predictions.directory,
        adapter_directory=evaluated.adapter.directory, dataset_counts=COUNTS, stage="reasoning",
        earlier_adapters={"impression": evaluated.adapter.directory}, encoders={"encoder": evaluated.adapter.directory},
    )  # fmt: skip
    told = [(row.stage, row.objective, row.step) for row in read_table(tmp_path / "training_steps.parquet", TrainingStepRow)]
    stages = (("encoder", "match"), ("impression", "generate"), ("reasoning", "generate"))
    assert told == [(stage, objective, step) for stage, objective in stages for step in (1, 2)]


def test_the_curve_of_an_encoder_stands_beside_the_others_and_has_no_perplexity(evaluate):
    evaluated: Evaluated = evaluate(4)
    again = write_step(evaluated.workspace, "benchmark", "documents", "v2", [], lambda folder: write_benchmark(
        folder, line="documents", scores_directory=evaluated.scores.directory, predictions_directory=evaluated.predictions.directory,
        adapter_directory=evaluated.adapter.directory, dataset_counts=COUNTS, encoders={"encoder": evaluated.adapter.directory},
    ))  # fmt: skip
    judge(evaluated.workspace, again, RULES)
    publish(evaluated.workspace)
    curve = "select stage, step, loss, validation_loss, perplexity is null from training_curve"
    assert rows(evaluated.workspace, curve) == [
        ("adapter", 1, 2.0, None, False), ("adapter", 2, 1.0, 1.75, False), ("encoder", 1, 2.0, None, True),
        ("encoder", 2, 1.0, 1.75, True),
    ]  # fmt: skip


def test_what_was_hoped_for_stands_beside_what_was_measured(evaluate):
    evaluated: Evaluated = evaluate(8)
    publish(evaluated.workspace)
    found = rows(
        evaluated.workspace, "select wanted, stage, metric, dataset, value, ci_low < value, num_pairs, is_met from goals order by 1"
    )
    assert found == [
        ("loss < 1.5", "adapter", None, None, 1.75, None, None, False),
        ("pairs right > 0.4", None, "pair_accuracy", "forms", 0.75, True, 8, True),
    ]


def test_a_metric_of_several_stages_has_a_row_for_each_and_one_of_a_single_stage_names_it():
    """Rows as ``rows`` writes them: 4 pairs of two stages by one metric, 3 of one stage by another, and 3 of a line without stages."""
    measured = [
        ("a", "all", 4),
        ("a", "stage=first", 1),
        ("a", "stage=second", 3),
        ("b", "all", 3),
        ("b", "stage=second", 3),
        ("c", "all", 3),
    ]
    with duckdb.connect() as store:
        store.execute(SCHEMA.read_text(encoding="utf-8"))
        store.execute("insert into evaluations by name select 'e' as evaluation_id, 'l' as line, 'base' as variant, 'p' as"
                      " predictions_fingerprint, map() as metric_versions, '2026' as evaluated_at, true as is_current")  # fmt: skip
        for metric, slice_, num_pairs in measured:
            store.execute(
                "insert into benchmark_rows by name select 'e' as evaluation_id, 'l' as line, 'base' as variant, 'as_is' as condition,"
                " 'd' as dataset, 'test' as split, ? as slice, ? as metric, true as is_higher_better, 1 as highest, ? as num_pairs,"
                " 2 as num_clusters, 0 as num_unscored, 0 as num_empty, 0 as num_wrong_language, 0 as num_cut,"
                " 0 as num_masked, 0.5 as mean",
                [slice_, metric, num_pairs],
            )
        found = store.execute("select metric, slice, stage from leaderboard order by all").fetchall()
    assert found == [
        ("a", "all", None), ("a", "stage=first", "first"), ("a", "stage=second", "second"), ("b", "all", "second"), ("c", "all", None),
    ]  # fmt: skip


def test_an_evaluation_measured_again_is_shown_once(evaluate):
    evaluated = evaluate(4)
    again = measured_again(evaluated, evaluated.scores.directory)
    assert again.facts["evaluation_id"] == evaluated.benchmark.facts["evaluation_id"]
    counts = publish(evaluated.workspace)
    assert (counts["num_evaluated"], counts["num_superseded"]) == (1, 1)
    assert rows(evaluated.workspace, "select count(*) from scores") == [(4 * 9 * 5,)]


def test_two_sets_of_scores_under_one_evaluation_are_refused(evaluate, tmp_path: Path):
    """As when a metric was changed without a new version, and its scores were deleted and made again."""
    evaluated = evaluate(4)
    others = shutil.copytree(evaluated.scores.directory, tmp_path / "scores")
    table = [replace(row, value=0.5 if row.pair_id == "p001" else row.value) for row in read_table(others / SCORES, Score)]
    write_table(others / SCORES, Score, table)
    again = measured_again(evaluated, others)
    with pytest.raises(InputRefused) as refusal:
        publish(evaluated.workspace)
    assert f"evaluation {again.facts['evaluation_id']} stands there twice with different scores" in refusal.value.found
    assert str(again.directory) in refusal.value.where
    assert str(evaluated.benchmark.directory) in refusal.value.where


def test_nothing_to_publish_is_an_empty_store(tmp_path: Path):
    workspace = Workspace(root=tmp_path)
    assert publish(workspace)["num_evaluated"] == 0
    assert rows(workspace, "leaderboard") == []


def test_a_session_left_open_neither_blocks_nor_changes(evaluate):
    evaluated = evaluate(4)
    publish(evaluated.workspace)
    with duckdb.connect(str(evaluated.workspace.store), read_only=True) as session:
        evaluate(4, weights="w2")
        publish(evaluated.workspace)
        assert session.execute("select count(distinct evaluation_id) from evaluations").fetchall() == [(1,)]
    assert rows(evaluated.workspace, "select count(distinct evaluation_id) from evaluations") == [(2,)]


def test_a_process_that_holds_a_session_open_asks_the_newest_version_beside_it(evaluate):
    """As in a notebook. By its path DuckDB would give the version that is open, or refuse a second connection with other settings."""
    evaluated = evaluate(4)
    publish(evaluated.workspace)
    question = "select count(distinct evaluation_id) from evaluations"
    with duckdb.connect(str(evaluated.workspace.store), read_only=True) as session:
        assert rows(evaluated.workspace, question) == [(1,)]
        evaluate(4, weights="w2")
        publish(evaluated.workspace)
        assert rows(evaluated.workspace, question) == [(2,)]
        assert session.execute(question).fetchall() == [(1,)]


def test_what_a_killed_publisher_left_is_removed_by_the_next_one(evaluate):
    workspace = evaluate(4).workspace
    for name in (".benchmark.duckdb.4711.tmp", ".benchmark.duckdb.4711.tmp.wal"):
        (workspace.root / name).write_bytes(b"half a store")
    publish(workspace)
    assert [path.name for path in workspace.root.iterdir() if "duckdb" in path.name] == ["benchmark.duckdb"]


def publish_some_times(root: Path) -> int:
    return sum(int(publish(Workspace(root=root))["num_evaluated"]) for _ in range(2))


def test_two_publishers_and_a_reader_at_once(evaluate):
    workspace = evaluate(4).workspace
    publish(workspace)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        publishers = [pool.submit(publish_some_times, workspace.root) for _ in range(2)]
        num_reads = 0
        while not all(publisher.done() for publisher in publishers):
            assert rows(workspace, "select count(*) from benchmark_rows") == [(135,)]
            num_reads += 1
        assert [publisher.result() for publisher in publishers] == [2, 2]
    assert num_reads > 3


def test_the_file_is_one_that_duckdb_1_2_opens(sixty):
    """Its main header: a checksum of 8 bytes, ``DUCK``, and the version of the format, of which 1.2 knows none above 65.

    Whether it opens there, and answers alike, is tried by ``scripts/old_clients.py``.
    """
    workspace = sixty.workspace
    header = workspace.store.read_bytes()[:20]
    assert (header[8:12], int.from_bytes(header[12:20], "little")) == (b"DUCK", 65)
    [(tags,)] = rows(workspace, "select tags from duckdb_databases() where database_name = 'benchmark'")
    assert tags["storage_version"].startswith("v1.2")


@pytest.mark.parametrize(
    ("table", "model"), [*TABLES.items(), ("promotion_decisions", Decision), ("rollbacks", Rollback), *PUBLISHED.items()]
)
def test_every_column_is_declared_once_and_described(empty_store: Workspace, table: str, model: type):
    workspace = empty_store
    found = {
        name: (type_, is_nullable, comment)
        for name, type_, is_nullable, comment in rows(
            workspace,
            f"select column_name, data_type, is_nullable, comment from duckdb_columns() where table_name = '{table}'",  # noqa: S608 (our own names)
        )
    }
    declared = {
        column.name: (DUCKDB_TYPES[column.type], column.is_nullable, column.description + (f" [{column.unit}]" if column.unit else ""))
        for column in columns(model)
    }
    assert {name: found[name] for name in declared} == declared
    assert found.keys() - declared.keys() <= ADDED_WHEN_PUBLISHED
    assert all(comment for *_, comment in found.values())
    comments = dict(rows(workspace, "select table_name, comment from duckdb_tables()"))
    assert comments[table] == " ".join((model.__doc__ or "").split())


def test_every_view_says_which_question_it_answers(empty_store: Workspace):
    workspace = empty_store
    found = dict(rows(workspace, "select view_name, comment from duckdb_views() where not internal"))
    assert found.keys() == VIEWS
    assert all(re.search(r"\?", comment) for comment in found.values())


def test_a_bare_name_asks_for_all_of_it(sixty):
    workspace = sixty.workspace
    assert ask(workspace, " memory; ") == ask(workspace, "select * from memory")
    assert ask(workspace, "memory").columns[:3] == ("evaluation_id", "line", "variant")


def test_without_a_store_the_answer_says_what_to_do(tmp_path: Path):
    with pytest.raises(InputMissing, match="materialize the asset benchmark_store"):
        ask(Workspace(root=tmp_path), "leaderboard")


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("leaderbord", "leaderboard"),
        ("select from where", "syntax error"),
        ("delete from scores", "read-only"),
        ("", "0 statements"),
        ("select * from read_text('/etc/hostname')", "disabled by configuration"),
        ("attach '/tmp/other.duckdb'", "disabled by configuration"),
        ("select 1; select 2", "2 statements"),
    ],
)
def test_a_question_that_cannot_be_answered_is_told_in_three_parts(empty_store: Workspace, question: str, found: str):
    with pytest.raises(MedVLError) as refusal:
        ask(empty_store, question)
    assert found in refusal.value.found
    assert "benchmark.duckdb" in refusal.value.where
    assert "show tables" in refusal.value.do


# -- a copy elsewhere --------------------------------------------------------------------------------------------------
def test_a_copy_follows_every_publication(evaluate, tmp_path: Path):
    evaluated = evaluate(8)
    place = tmp_path / "place"
    for deed in (publishing.publish, lambda *said: (overrule(evaluated, "nf4", "Dr. Adler"), publish(*said))[1]):
        assert deed(evaluated.workspace, f"file://{place}")["sent_to"] == f"file://{place}/benchmark.duckdb"
        assert (place / "benchmark.duckdb").read_bytes() == evaluated.workspace.store.read_bytes()
    with duckdb.connect(place / "benchmark.duckdb", read_only=True) as copy:
        assert copy.execute("select decided_by from promotion_decisions where is_served").fetchall() == [("Dr. Adler",)]


def test_nobody_publishes_while_a_copy_is_on_its_way(evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    workspace = evaluate(8).workspace

    def send(*_: object) -> str:
        with pytest.raises(Timeout):
            FileLock(workspace.lock("benchmark")).acquire(timeout=0)
        return "sent"

    monkeypatch.setattr(publishing, "send", send)
    assert publish(workspace, "file://anywhere")["sent_to"] == "sent"


def test_a_copy_that_does_not_arrive_is_told_and_the_store_here_is_in_place(evaluate, tmp_path: Path):
    workspace = evaluate(8).workspace
    (tmp_path / "place").write_text("a file, where a folder should be")
    with pytest.raises(NoCopy, match="the benchmark is published here, and no copy of it arrived") as told:
        publish(workspace, f"file://{tmp_path}/place")
    assert "materialize benchmark_store" in told.value.do
    assert told.value.is_passing
    assert rows(workspace, "select count(*) > 0 from evaluations") == [(True,)]
