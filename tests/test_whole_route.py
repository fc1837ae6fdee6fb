"""The README's picture, run: from raw files to a leaderboard by real processes. If these passed wrongly, the main job would not be done."""

import csv
import importlib.util
import os
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path

import dagster as dg
import pytest

from medvl_assets.instance import instance_home
from medvl_lib.benchmark.publish import ask
from medvl_lib.workspace import Workspace
from tests import demo_runs
from tests.ui import shown

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "mtsamples"
REAL_QUESTIONS = REAL.parent / "vqa-rad" / "hf"


@pytest.mark.slow
def test_a_second_demo_imports_no_torch_and_writes_nothing_but_the_report_of_what_is_served_since(tmp_path: Path) -> None:
    settings = demo_runs.project(tmp_path, more='further_variants = ["int8", "merged"]\n')
    status, said = demo_runs.run(settings)
    assert status == 0, said
    assert "1 processes imported torch" not in said
    for variant in ("base", "nf4", "int8", "adapter", "floor_empty", "floor_constant", "floor_random", "floor_majority"):
        assert variant in said
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").glob("*/*/*/provenance.json")}

    status, said = demo_runs.run(settings)
    assert status == 0, said
    assert "0 processes imported torch" in said
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").glob("*/*/*/provenance.json")}
    assert {path: after[path] for path in before} == before
    assert {path.parents[2].name for path in after.keys() - before.keys()} <= {"report"}  # written before the pointer was judged
    _the_graph_shows_what_the_store_holds(Workspace(root=tmp_path / "data"))


def _the_graph_shows_what_the_store_holds(workspace: Workspace) -> None:
    """What the run left in Dagster's own storage, asked as the UI asks."""
    with dg.DagsterInstance.from_config(instance_home(workspace)) as instance:
        found = {name: shown(instance, "documents", name) for name in ("adapter", "scores", "benchmark", "promotion", "report")}
    stored = ask(workspace, "select dataset, metric, condition, variant, mean, ci_low, ci_high, n from leaderboard").rows
    in_graph = [
        tuple(row[name] for name in ("dataset", "metric", "condition", "variant", "mean", "ci_low", "ci_high", "num_pairs"))
        for row in found["benchmark"]["leaderboard"]
    ]
    assert sorted(in_graph, key=str) == sorted(stored, key=str)
    [(num_scores,)] = ask(workspace, "select count(*) from scores").rows
    assert sum(row["num_answers"] for row in found["scores"]["answers"]) == num_scores
    decided = ask(workspace, "select challenger, verdict, difference from promotion_decisions").rows
    in_graph = [(row["challenger"], row["verdict"], row["difference"]) for row in found["promotion"]["decision"]]
    assert sorted(in_graph, key=str) == sorted(decided, key=str)
    assert decided
    assert found["promotion"]["reasons"][0]["number"] == 1
    assert all("](data:image/svg+xml;base64," in text for text in (found["adapter"]["loss"], found["benchmark"]["intervals"]))
    assert Path(found["report"]["page"]).is_file()


@pytest.mark.soak
@pytest.mark.skipif(importlib.util.find_spec("mlx_vlm") is None, reason="mlx is not installed: the extra mlx of pyproject.toml")
def test_the_same_graph_computes_by_mlx(tmp_path: Path) -> None:
    more = '[profiles.cpu]\nengine = "mlx"\nquantization = "mlx-affine4"\n'
    status, said = demo_runs.run(demo_runs.project(tmp_path, more=more))
    assert status == 0, said
    workspace = Workspace(root=tmp_path / "data")
    stored = ask(workspace, "select variant, precision from evaluations where precision is not null").rows
    assert dict(stored) == {"base": "float32", "affine4": "mlx-affine4+float32", "adapter": "mlx-affine4+float32"}
    assert "nf4" not in said.replace("nf4_model", "")
    assert workspace.step("affine4_model", "documents").is_dir()
    assert not workspace.step("nf4_model", "documents").exists()


@pytest.mark.slow
def test_a_misspelt_setting_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    settings = demo_runs.project(tmp_path, more="learning_rat = 1e-4\n".replace("learning_rat", "max_answer_token"))
    status, said = demo_runs.run(settings)
    assert status == 2
    assert "unknown key 'max_answer_token'" in said
    assert "did you mean 'max_answer_tokens'?" in said
    assert f"{settings}, [lines.documents.evaluation]" in said


@pytest.mark.slow
def test_a_missing_raw_folder_is_named_with_its_setting(tmp_path: Path) -> None:
    settings = demo_runs.project(tmp_path, raw='raw_path = "nowhere"')
    status, said = demo_runs.run(settings)
    assert status == 2
    assert "found: no such folder" in said
    assert str(tmp_path / "nowhere") in said
    assert "[datasets.clinical_documents] raw_path" in said


@pytest.mark.soak
def test_a_corrupt_picture_in_the_store_is_named(tmp_path: Path) -> None:
    settings = demo_runs.project(tmp_path)
    assert demo_runs.run(settings)[0] == 0
    workspace = Workspace(root=tmp_path / "data")
    [validated] = workspace.step("validated_pairs", "clinical_documents").glob("*/pairs.parquet")
    validated.write_bytes(validated.read_bytes()[:1000])  # what a failing disk leaves
    status, said = demo_runs.run(settings)
    assert status == 0, said  # noticed by its hash, moved aside, written again
    assert len(list(workspace.step("validated_pairs", "clinical_documents").glob(".*.damaged-0"))) == 1


@pytest.mark.soak
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    settings = demo_runs.project(tmp_path)
    code = "import runpy; runpy.run_module('medvl_assets.demo', run_name='__main__')"

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8 * 2**20, 8 * 2**20))  # the base model's 12 MB do not fit

    said = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "MEDVL_SETTINGS": str(settings)}, preexec_fn=little_room,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert said.returncode == 1, said
    assert "found: " in said.stdout
    assert "File too large" in said.stdout
    assert "do:    free space" in said.stdout
    left = [path for path in (tmp_path / "data" / "base_model" / "documents").iterdir() if path.is_dir()]
    assert left == []

    status, words = demo_runs.run(settings)
    assert status == 0, words


@pytest.mark.real_data
@pytest.mark.slow
def test_the_same_graph_runs_on_real_transcriptions_and_questions(tmp_path: Path) -> None:
    if not (REAL.is_dir() and REAL_QUESTIONS.is_dir()):
        pytest.skip(f"the real MTSamples rows are not at {REAL}, or VQA-RAD is not at {REAL_QUESTIONS}")
    more = f"""
[datasets.mtsamples]
raw_path = "{REAL}"

[datasets.pathvqa]
raw_path = "{REAL_QUESTIONS}"

[lines.documents.gate]
primary_metric = "rouge_l"
"""
    settings = demo_runs.project(tmp_path, more=more)
    status, said = demo_runs.run(settings)
    assert status == 0, said
    workspace = Workspace(root=tmp_path / "data")
    funnel = ask(workspace, "select outcome, reason, num_pairs from dataset_counts where dataset = 'mtsamples'").rows
    counts = {(outcome, reason): count for outcome, reason, count in funnel}
    with (REAL / "mtsamples.csv").open(encoding="utf-8", newline="") as file:
        texts = [row["transcription"].strip() for row in csv.DictReader(file)]
    assert counts["rejected", "empty_text"] == Counter(texts)[""] == 2
    assert counts["read", None] == counts["accepted", None] + sum(count for (outcome, _), count in counts.items() if outcome == "rejected")
    assert counts["accepted", None] > len(texts) * 4  # pages
    [(scored,)] = ask(
        workspace, "select count(*) from scores where dataset = 'mtsamples' and variant = 'adapter' and metric = 'rouge_l'"
    ).rows
    assert scored > 0
    asked = ask(workspace, "select distinct metric from scores where dataset = 'pathvqa' and variant = 'adapter'").rows
    assert {metric for (metric,) in asked} & {"closed_accuracy", "open_exact"}
    assert {metric for (metric,) in asked} <= {"closed_accuracy", "closed_unparsable", "open_exact", "open_recall", "token_f1"}
