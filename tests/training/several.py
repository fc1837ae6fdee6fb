"""One of several processes that train together, as torchrun starts it: what it does lies in a pickled job."""

import os
import pickle
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvl_lib.errors import HeavyStepFailed
from medvl_lib.ranks import ranks_here
from medvl_lib.training.route import train


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


if __name__ == "__main__":
    try:
        do(pickle.loads(Path(sys.argv[1]).read_bytes()))  # noqa: S301 (the test wrote it)
    except HeavyStepFailed as error:
        (Path(sys.argv[1]).with_suffix(f".{ranks_here().rank}.said")).write_text(str(error))
        sys.exit(3)
