"""Twenty SIGKILLs of a training process, eight of them while a checkpoint is written (``make soak``).

If these passed wrongly, a power cut in the night would leave weights that no undisturbed run has, or a curve with steps that count twice.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from medvl_lib.configured import dataset_runs, lines_of
from medvl_lib.files import sha256_of_file
from medvl_lib.hardware import PROFILES
from medvl_lib.provenance import judge
from medvl_lib.request import Request, write_request
from medvl_lib.route.data import dataset_steps
from medvl_lib.route.line import line_steps
from medvl_lib.settings import read_settings
from medvl_lib.step import run_step
from medvl_lib.tables import read_table
from medvl_lib.training.checkpoints import COMPLETE
from medvl_lib.training.rules import ADAPTER
from medvl_lib.training.steps import TRAINING_STEPS, TrainingStep
from medvl_lib.workspace import Workspace
from tests import demo_runs

pytestmark = pytest.mark.soak

NUM_STEPS = 24
NUM_RANDOM, NUM_DURING_A_SAVE = 12, 8
SAVE_SECONDS = 0.06  # about what a save and its seal take
KILLS_PER_TRAINING = 2  # the second one hits a run that has resumed already
RECIPE = (
    f"\n[lines.documents.recipe]\nmax_steps = {NUM_STEPS}\nmax_training_pairs = 48\nmax_validation_pairs = 4\nvalidations_per_epoch = 3\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """A training that can be started, killed and started again."""

    workspace: Workspace
    request: Path

    @property
    def checkpoints(self) -> list[Path]:
        return list((self.workspace.root / "checkpoints").glob("adapter/documents/*/checkpoint-*"))

    @property
    def num_steps(self) -> int:
        files = (self.workspace.root / "checkpoints").glob("adapter/documents/*/steps.jsonl")
        return sum(len(path.read_text().splitlines()) for path in files)

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "medvl_lib.launch", str(self.request)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def finish(self) -> tuple[str, list[TrainingStep], float]:
        """The adapter's hash and its steps, and how long training took; the place is empty again afterwards."""
        started = time.monotonic()
        process = self.start()
        assert process.wait(300) == 0
        [weights] = (self.workspace.root / "adapter" / "documents").glob(f"*/{ADAPTER}")
        found = sha256_of_file(weights), list(read_table(weights.with_name(TRAINING_STEPS), TrainingStep))
        shutil.rmtree(self.workspace.root / "adapter")
        return *found, time.monotonic() - started


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """Everything that a training reads, written and judged."""
    root = tmp_path_factory.mktemp("soak")
    path = root / "dagster_project.toml"
    demo_runs.project(root)
    path.write_text('data_root = "data"\nscale = "tiny"\nprofile = "cpu"\n[datasets.clinical_documents]\n' + RECIPE)
    shutil.rmtree(root / "data")
    demo_runs.write("clinical_documents", root / "data" / "raw" / "clinical_documents", counts={"train": 4, "validation": 1, "test": 1})
    settings, workspace = read_settings(path), Workspace(root=root / "data")
    [line], profile = lines_of(settings), PROFILES["cpu"]
    steps = [*(step for run in dataset_runs(settings) for step in dataset_steps(run)), *line_steps(line, profile)]
    names = [step.name for step in steps]
    for step in steps[: names.index("overfit")]:
        judge(workspace, run_step(workspace, step), step.rules)
    request = root / "request.json"
    write_request(request, Request(steps=("adapter",), line=line, profile=profile, root=str(workspace.root), run_id=None))
    return Training(workspace=workspace, request=request)


def _kill_at_random(training: Training, moments: random.Random, seconds: float) -> str:
    """Kill somewhere between the start of the process and the end of training; returns where it was."""
    process = training.start()
    try:
        process.wait(moments.uniform(0.0, seconds))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return f"at random, after step {training.num_steps}"
    return "too late"


def _kill_during_a_save(training: Training, moments: random.Random) -> str:
    """Kill some milliseconds after a checkpoint has begun, while it does not count yet; returns how many files it had."""
    process = training.start()
    known = {path for path in training.checkpoints if (path / COMPLETE).is_file()}
    while process.poll() is None:
        for path in training.checkpoints:
            if path not in known and not (path / COMPLETE).is_file():
                time.sleep(moments.uniform(0.0, SAVE_SECONDS))
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                if path.is_dir() and not (path / COMPLETE).is_file():
                    return f"in the save of {path.name}, with {len(list(path.iterdir()))} of its files"
                return "too late"
        known = {path for path in training.checkpoints if (path / COMPLETE).is_file()}
    return "too late"


def _kinds() -> Iterator[bool]:
    """Whether to kill during a save: spread over the trainings, so that each sort of kill also hits resumed runs."""
    kinds = [True] * NUM_DURING_A_SAVE + [False] * NUM_RANDOM
    random.Random(1).shuffle(kinds)
    yield from kinds


def test_twenty_kills_leave_bit_identical_weights_and_every_step_once(training: Training, capsys: pytest.CaptureFixture[str]):
    undisturbed, steps, seconds = training.finish()
    assert [step.step for step in steps] == list(range(1, NUM_STEPS + 1))
    losses = [(step.loss, step.validation_loss) for step in steps]
    moments, said = random.Random(2), list[str]()
    kinds = list(_kinds())
    for first in range(0, len(kinds), KILLS_PER_TRAINING):
        for is_in_save in kinds[first : first + KILLS_PER_TRAINING]:
            where = "too late"
            while where == "too late":
                shutil.rmtree(training.workspace.root / "adapter", ignore_errors=True)
                where = _kill_during_a_save(training, moments) if is_in_save else _kill_at_random(training, moments, seconds)
            said.append(where)
        weights, rows, _ = training.finish()
        assert weights == undisturbed, said
        assert [(row.loss, row.validation_loss) for row in rows] == losses, said
        assert [row.step for row in rows] == list(range(1, NUM_STEPS + 1)), said
    in_saves = sum("save" in where for where in said)
    assert (len(said), in_saves) == (NUM_RANDOM + NUM_DURING_A_SAVE, NUM_DURING_A_SAVE)
    with capsys.disabled():
        today = time.strftime("%Y-%m-%d")
        sys.stdout.write(f"\n{today}: {len(said)} kills, {in_saves} of them during a save, weights {undisturbed[:16]} each time\n")
        sys.stdout.writelines(f"  {where}\n" for where in said)
