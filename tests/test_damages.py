"""Every check, on what its step really wrote. If these passed wrongly, a rule could be true of anything or a new one stand untried, and
bad data would be read downstream with a green sign beside it.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from medvl_lib import sample_data
from medvl_lib.configured import DatasetRun, dataset_runs, lines_of
from medvl_lib.datasets import DATASETS
from medvl_lib.hardware import PROFILES
from medvl_lib.lines import DOCUMENTS, ENCODER, LINES, PAGES, tiny
from medvl_lib.provenance import Artifact, Rule, judge
from medvl_lib.route.data import dataset_steps
from medvl_lib.route.line import line_steps
from medvl_lib.settings import read_settings
from medvl_lib.step import Step, run_step
from medvl_lib.training import overfit
from medvl_lib.training.recipe import Handover, Stage
from medvl_lib.workspace import Workspace
from tests import demo_runs
from tests.damages import DAMAGES, read_whole, shown_to_work

CPU = PROFILES["cpu"]
MORE = 'further_variants = ["int8", "merged"]\n[lines.documents.gate]\nmin_pairs = 4\nmin_clusters = 4\n'
CASES = [(step, rule) for step, damages in DAMAGES.items() for rule in damages]


def small_route(root: Path) -> tuple[Step, ...]:
    """Every step of one dataset and one line, in order, with as few pairs and steps as show anything."""
    settings = read_settings(demo_runs.project(root, more=MORE))
    [run], [line] = dataset_runs(settings), lines_of(settings)
    asked = replace(line.evaluation, controls=(*line.evaluation.controls, "retrieved_cases"))
    [adapter] = line.stages
    handed_over = replace(adapter, pairs={"language": "en"}, handover=Handover(num_answers=2, max_answer_tokens=48))
    return (*dataset_steps(run), *line_steps(replace(line, stages=(small_encoder(), handed_over), evaluation=asked), CPU))


def records_of_patients(root: Path) -> tuple[Step, ...]:
    """Raw records, and what is on record about their patients, of the dataset that has it."""
    sample_data.write("mimic_cxr", root / "mimic_cxr", counts={"train": 4, "validate": 0, "test": 0})
    raw, records, *_ = dataset_steps(DatasetRun(dataset=DATASETS["mimic_cxr"], raw_folder=root / "mimic_cxr", limits=PAGES))
    return raw, records


def small_encoder() -> Stage:
    """A line's encoder with as few steps as show that its loss falls."""
    stage, *_ = tiny(replace(DOCUMENTS, stages=(ENCODER, *DOCUMENTS.stages))).stages
    return replace(stage, recipe=replace(stage.recipe, learning_rate=1e-3, max_steps=12, effective_batch=8))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Artifact, tuple[Rule, ...]]]:
    """What every step of a small route wrote, and its rules."""
    root = tmp_path_factory.mktemp("route")
    workspace = Workspace(root=root / "data")
    found: dict[str, tuple[Artifact, tuple[Rule, ...]]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overfit, "NUM_PAIRS", 8)  # a rehearsal of a rehearsal
        raw, records = records_of_patients(root)
        judge(workspace, run_step(workspace, raw), raw.rules)
        for step in (records, *small_route(root)):
            found[step.name] = run_step(workspace, step), step.rules
            judge(workspace, *found[step.name])
    shown_to_work(found["promotion"][0].directory)
    read_whole(found["encoder"][0].directory)
    return found


def failing(directory: Path, rules: tuple[Rule, ...]) -> dict[str, str]:
    outcomes = {rule.name: rule.holds(directory) for rule in rules}
    return {name: outcome.found for name, outcome in outcomes.items() if not outcome.passed}


def test_every_rule_of_every_step_has_its_damage(tmp_path: Path):
    runs = [DatasetRun(dataset=dataset, raw_folder=tmp_path, limits=PAGES) for dataset in DATASETS.values()]
    steps = [*(step for run in runs for step in dataset_steps(run)), *small_route(tmp_path)]
    steps += [step for line in LINES.values() for step in line_steps(line, CPU)]
    stages = {stage.name for line in LINES.values() for stage in line.answering}
    assert {("adapter" if step.name in stages else step.name, rule.name) for step in steps for rule in step.rules} == set(CASES)


@pytest.mark.slow
@pytest.mark.parametrize("step", DAMAGES)
def test_what_a_step_writes_passes_its_rules(written, step: str):
    artifact, rules = written[step]
    assert failing(artifact.directory, rules) == {}


@pytest.mark.slow
@pytest.mark.parametrize(("step", "rule"), CASES)
def test_damage_is_found_by_exactly_its_rule(written, tmp_path: Path, step: str, rule: str):
    artifact, rules = written[step]
    directory = shutil.copytree(artifact.directory, tmp_path / "damaged")
    DAMAGES[step][rule](directory)
    assert list(failing(directory, rules)) == [rule]
