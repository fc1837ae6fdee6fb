"""The radiology line from raw files to its report. If this passed wrongly, a stage would learn from the other one's pairs, or start from one
that learned nothing.
"""

from pathlib import Path

import pytest

from medvl_lib import sample_data
from medvl_lib.hardware import PROFILES
from medvl_lib.lines import dataset_runs, lines_of
from medvl_lib.provenance import Artifact, judge
from medvl_lib.route.data import dataset_steps
from medvl_lib.route.line import line_steps
from medvl_lib.settings import read_settings
from medvl_lib.step import Step, run_step
from medvl_lib.training import overfit
from medvl_lib.workspace import Workspace

COUNTS = {"train": 14, "validate": 4, "test": 4}
SETTINGS = """
data_root = "data"
scale = "tiny"
profile = "cpu"
[datasets.mimic_cxr]
[lines.radiology.recipe]
max_steps = 20
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


@pytest.mark.slow
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
