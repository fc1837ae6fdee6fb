"""The radiology line from raw files to its report. If this passed wrongly, a stage would learn from the other one's pairs, or start from
one that learned nothing.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from medvl_lib import sample_data
from medvl_lib.benchmark.tables import BenchmarkRow, DatasetCountRow, TrainingStepRow
from medvl_lib.configured import dataset_runs, lines_of
from medvl_lib.errors import MedVLError
from medvl_lib.evaluation.handover import HANDOVER_ANSWERS, HandoverAnswer
from medvl_lib.evaluation.predictions import FLOORS, PREDICTIONS, Prediction
from medvl_lib.files import read_json
from medvl_lib.hardware import PROFILES
from medvl_lib.provenance import Artifact, Fact, judge
from medvl_lib.route.data import dataset_steps
from medvl_lib.route.line import line_steps
from medvl_lib.settings import read_settings
from medvl_lib.step import Call, Step, run_step
from medvl_lib.tables import read_table
from medvl_lib.training import overfit
from medvl_lib.training.rules import SUMMARY
from medvl_lib.training.steps import START_LOSS
from medvl_lib.workspace import Workspace
from tests.damages import DAMAGES

COUNTS = {"train": 14, "validate": 4, "test": 4}
SETTINGS = """
data_root = "data"
scale = "tiny"
profile = "cpu"
[datasets.mimic_cxr]
[lines.radiology.split]
validation_share = 0.25
[lines.radiology.recipe]
max_steps = 20
learning_rate = 0.0005
max_validation_pairs = 4
[lines.radiology.evaluation]
max_pairs_per_dataset = 8
max_answer_tokens = 24
controls = ["blank_image"]
[lines.radiology.gate]
min_pairs = 2
min_clusters = 2
"""
MAY_FAIL = {  # of so few invented pairs, or of so few steps; none of them stops the route
    "no_text_stands_nearly_twice", "no_picture_stands_nearly_twice", "the_gate_can_decide", "beats_the_floors", "answers_use_the_image",
    "served_answers_are_the_evaluated_answers", "outputs_are_not_degenerate",
}  # fmt: skip


class Killed(Exception):
    """What ends a stage in the middle."""


def judged(workspace: Workspace, step: Step) -> Artifact:
    """A step's artifact, with the verdicts on it."""
    written = run_step(workspace, step)
    failed = {verdict.rule: verdict.outcome.found for verdict in judge(workspace, written, step.rules) if not verdict.outcome.passed}
    assert failed.keys() <= MAY_FAIL, (step.name, failed)
    return written


@pytest.mark.soak  # the demo runs this line, too
def test_the_whole_line_runs_and_its_second_stage_waits_for_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(overfit, "NUM_PAIRS", 8)
    (tmp_path / "dagster_project.toml").write_text(SETTINGS)
    settings = read_settings(tmp_path / "dagster_project.toml")
    sample_data.write("mimic_cxr", settings.raw_folder("mimic_cxr"), counts=COUNTS)
    workspace, [line] = Workspace(root=settings.data_root), lines_of(settings)
    steps = {
        step.name: step
        for step in (*(one for run in dataset_runs(settings) for one in dataset_steps(run)), *line_steps(line, PROFILES["cpu"]))
    }
    first, second = steps["impression"], steps["reasoning"]
    before = list(steps)[: list(steps).index("impression")]
    written = {name: judged(workspace, steps[name]) for name in before if name != "overfit"}

    _nothing_starts_from_a_stage_that_did_not_learn(workspace, first, second)
    written["impression"] = judged(workspace, first)
    _a_crash_of_the_second_stage_does_not_repeat_the_first(workspace, first, second)
    for name in list(steps)[len(before) + 1 :]:
        written[name] = judged(workspace, steps[name])
    _each_stage_learned_from_its_own(written)
    _each_stage_is_measured_by_its_own(written)


def _nothing_starts_from_a_stage_that_did_not_learn(workspace: Workspace, first: Step, second: Step) -> None:
    """A first stage that ended and failed one check of its handover: the second refuses to begin, and names the check."""

    def badly(call: Call) -> Mapping[str, Fact]:
        facts = first.write(call)
        DAMAGES["adapter"]["held_out_loss_fell"](call.directory)
        return facts

    bad = replace(first, write=badly, version=f"{first.version}-bad")
    failed = [verdict.rule for verdict in judge(workspace, run_step(workspace, bad), first.rules) if not verdict.outcome.passed]
    assert failed == ["held_out_loss_fell"]
    with pytest.raises(MedVLError, match="impression"):
        run_step(workspace, second)
    assert not list(workspace.step("reasoning", "radiology").glob("[!.]*/provenance.json"))


def _a_crash_of_the_second_stage_does_not_repeat_the_first(workspace: Workspace, first: Step, second: Step) -> None:
    """Killed in its middle, the second stage goes on from its own checkpoint; the first is reused, not done again."""

    def kill(facts: Mapping[str, Fact]) -> None:
        if facts.get("step") == 6:
            raise Killed

    with pytest.raises(Killed):
        run_step(workspace, second, kill)
    again = run_step(workspace, first)
    assert again.reused
    steps: list[Fact] = []
    written = run_step(workspace, second, lambda facts: steps.extend([facts["step"]] if "step" in facts else []))
    assert steps[0] > 1  # resumed
    assert steps[-1] == 13
    assert written.inputs["impression/radiology"] == again.fingerprint


def _each_stage_learned_from_its_own(written: Mapping[str, Artifact]) -> None:
    """7 and 13 of 20 steps, each over its own pairs; the first one's answers before it handed over."""
    first, second = written["impression"], written["reasoning"]
    assert [stage.facts["num_steps"] for stage in (first, second)] == [7, 13]
    assert first.facts["num_line_pairs_per_epoch"] == first.facts["num_pairs_per_epoch"] + second.facts["num_pairs_per_epoch"]
    summary = read_json(first.directory / SUMMARY)
    assert first.facts[START_LOSS] == summary[START_LOSS]
    assert len(list(read_table(first.directory / HANDOVER_ANSWERS, HandoverAnswer))) == min(
        4, int(first.facts["num_validation_pairs"] or 0)
    )
    counts = list(read_table(written["benchmark"].directory / "dataset_counts.parquet", DatasetCountRow))
    [trained_on] = [row.num_pairs for row in counts if row.outcome == "trained_on"]
    assert trained_on == first.facts["num_training_pairs"] + second.facts["num_training_pairs"]


def _each_stage_is_measured_by_its_own(written: Mapping[str, Artifact]) -> None:
    """Impressions by what is said in them, reasoned answers by statements and codes; the floors answer as their stage does."""
    steps = read_table(written["benchmark"].directory / "training_steps.parquet", TrainingStepRow)
    assert {step.stage for step in steps} == {"impression", "reasoning"}
    rows = list(read_table(written["benchmark"].directory / "benchmark_rows.parquet", BenchmarkRow))
    by_stage = {
        value: {row.metric for row in rows if row.slice == f"stage={value}"} for value in ("impression", "reasoning")
    }  # fmt: skip
    assert {"bleu_4", "rouge_l", "chexpert_rule_f1_micro", "chexpert_rule_f1_micro_14", "impression_unparsable"} <= by_stage["impression"]
    assert {"fact_recall", "unsupported_statement_rate", "icd_exact_f1", "icd_category_f1", "icd_top5_recall"} <= by_stage["reasoning"]
    assert not by_stage["impression"] & by_stage["reasoning"]
    said = list(read_table(written["predictions"].directory / PREDICTIONS, Prediction))
    for row in said:
        if row.variant in FLOORS and row.answer:
            assert row.answer.startswith("Impression:") == row.pair_id.endswith("/impression"), (row.variant, row.pair_id)
    assert Counter(row.condition for row in said if row.variant == "adapter").keys() == {"as_is", "blank_image"}
