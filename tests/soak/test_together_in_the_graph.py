"""Two processes train one adapter, started by the graph (``make soak``). If this passed wrongly, a machine with two GPUs would train
another adapter than one with a single GPU, or one of its GPUs would do nothing.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
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


def _ranks(run: psutil.Popen) -> Iterator[str]:
    """The ranks of the processes that train now."""
    with suppress(psutil.Error):  # one has ended meanwhile
        for child in run.children(recursive=True):
            with suppress(psutil.Error, KeyError):
                yield child.environ()["RANK"]


def _trained(settings: Path, num_processes: int) -> tuple[str, list[TrainingStep], set[str]]:
    """Materialize the adapter: what it is called, its steps, and the ranks that were seen at it."""
    settings.write_text(settings.read_text() + LAUNCHER.format(num_processes))
    run, seen = demo_runs.materialize(settings, "documents/adapter"), set[str]()
    while run.poll() is None:
        seen.update(_ranks(run))
        time.sleep(0.2)
    assert run.returncode == 0
    written = newest(Workspace(root=settings.parent / "data"), "adapter", "documents")
    return written.fingerprint, list(read_table(written.directory / TRAINING_STEPS, TrainingStep)), seen


def test_the_graph_trains_with_two_processes_what_it_trains_with_one(tmp_path: Path):
    settings = demo_runs.project(tmp_path / "one")
    settings.write_text(settings.read_text().replace("[lines.documents.recipe]", RECIPE))
    demo_runs.prepare(settings, "adapter")
    shutil.copytree(settings.parent, tmp_path / "two")
    name, alone, ranks_alone = _trained(settings, 1)
    same_name, together, ranks_together = _trained(tmp_path / "two" / settings.name, 2)
    assert (ranks_alone, ranks_together) == (set(), {"0", "1"})
    assert name == same_name  # where it ran is no part of what it is
    assert len(alone) == 8
    assert [step.loss for step in together] == pytest.approx([step.loss for step in alone], rel=LOSS_TOLERANCE)
