"""Two processes train one adapter, started by the graph (``make soak``). If this passed wrongly, a machine with two GPUs would train
another adapter than one with a single GPU, or one of its GPUs would do nothing.
"""

import shutil
from pathlib import Path

import pytest

from medvl_lib.provenance import newest
from medvl_lib.tables import read_table
from medvl_lib.training.steps import TRAINING_STEPS, TrainingStep
from medvl_lib.workspace import Workspace
from tests import demo_runs

pytestmark = pytest.mark.soak

LOSS_TOLERANCE = 1e-4  # of the loss of each step: sums in another order
RECIPE = "[lines.documents.recipe]\nlora_dropout = 0.0"  # each process draws its own masks
LAUNCHER = "\n[profiles.cpu]\ntraining_batch = 2\n[profiles.cpu.launcher]\nnum_processes = {}\n"


def _trained(settings: Path, num_processes: int) -> tuple[str, list[TrainingStep], int]:
    """Materialize the adapter: what it is called, its steps, and how many heavy processes there were at once."""
    settings.write_text(settings.read_text() + LAUNCHER.format(num_processes))
    run, seen = demo_runs.materialize(settings, "documents/adapter"), 0
    while run.poll() is None:
        seen = max(seen, len(demo_runs.heavy(run)))
    assert run.returncode == 0
    written = newest(Workspace(root=settings.parent / "data"), "adapter", "documents")
    return written.fingerprint, list(read_table(written.directory / TRAINING_STEPS, TrainingStep)), seen


def test_the_graph_trains_with_two_processes_what_it_trains_with_one(tmp_path: Path):
    settings = demo_runs.project(tmp_path / "one")
    settings.write_text(settings.read_text().replace("[lines.documents.recipe]", RECIPE))
    demo_runs.prepare(settings, "adapter")
    shutil.copytree(settings.parent, tmp_path / "two")
    name, alone, num_alone = _trained(settings, 1)
    same_name, together, num_together = _trained(tmp_path / "two" / settings.name, 2)
    assert (num_alone, num_together) == (1, 3)  # the agent, and a process for each GPU that there would be
    assert name == same_name  # where it ran is no part of what it is
    assert len(alone) == 8
    assert [step.loss for step in together] == pytest.approx([step.loss for step in alone], rel=LOSS_TOLERANCE)
