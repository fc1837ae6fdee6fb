"""Several processes that train together: torchrun starts them, each does what lies in a pickled job; and what they made, compared."""

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medvl_lib.errors import HeavyStepFailed
from medvl_lib.ranks import ranks_here
from medvl_lib.tables import read_table
from medvl_lib.training.route import train
from medvl_lib.training.steps import TRAINING_STEPS, TrainingStep

LOSS_TOLERANCE = 1e-4  # of the loss of each step: sums in another order
WEIGHTS_TOLERANCE = 1e-2  # of the norm of all that was trained, after six steps: Adam divides by gradients that are near zero
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training, and what happens to it."""

    directory: Path
    arguments: dict[str, Any]
    """Of ``train``."""
    die_after: int = 0
    """The leader is killed after this step; 0: never."""
    ask_after: int = 0
    """The leader is asked to end after this step."""


def do(job: Job) -> None:
    """Train; a rank that does not lead writes nowhere."""

    def report(facts: dict[str, Any]) -> None:
        if facts["step"] == job.die_after:
            os.kill(os.getpid(), signal.SIGKILL)
        if facts["step"] == job.ask_after:
            os.kill(os.getpid(), signal.SIGTERM)

    with tempfile.TemporaryDirectory() as nowhere:
        directory = job.directory if ranks_here().leads else Path(nowhere)
        directory.mkdir(exist_ok=True)
        train(directory, **job.arguments, report=report)
        assert ranks_here().leads or not list(Path(nowhere).iterdir())


def together(folder: Path, name: str, job: Job, size: int = 2) -> int:
    """Do a job by torchrun; returns its exit status."""
    path = folder / f"{name}.job"
    path.write_bytes(pickle.dumps(job))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(size)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # the job is unpickled with functions of these tests
    return subprocess.run([*command, "--virtual-local-rank", __file__, str(path)], timeout=900, check=False, env=environment).returncode


def steps(directory: Path) -> list[TrainingStep]:
    """The steps that were recorded."""
    return list(read_table(directory / TRAINING_STEPS, TrainingStep))


def losses(directory: Path) -> list[float]:
    """Their losses."""
    return [row.loss for row in steps(directory)]


def distance(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float:
    """How far tensors lie from each other, by the norm of the first."""
    assert one.keys() == other.keys()
    norm = torch.cat([tensor.flatten() for tensor in one.values()]).norm()
    return (torch.cat([(one[name] - other[name]).flatten() for name in one]).norm() / norm).item()


if __name__ == "__main__":
    try:
        do(pickle.loads(Path(sys.argv[1]).read_bytes()))  # noqa: S301 (the test wrote it)
    except HeavyStepFailed as error:
        (Path(sys.argv[1]).with_suffix(f".{ranks_here().rank}.said")).write_text(str(error))
        sys.exit(3)
