"""Killed in the middle, and started again. If these passed wrongly, a crash could leave an orphan on the device, a queue that never moves,
a half-written directory taken for whole, or weights that are not those of an undisturbed run.
"""

import os
import re
import signal
from pathlib import Path

import psutil
import pytest

from medvl_lib.files import sha256_of_file
from tests import demo_runs


def _adapter(settings: Path) -> str:
    [weights] = (settings.parent / "data" / "adapter" / "documents").glob("*/adapter_model.safetensors")
    return sha256_of_file(weights)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The adapter of a run that nobody disturbed."""
    settings = demo_runs.project(tmp_path_factory.mktemp("undisturbed"))
    status, said = demo_runs.run(settings)
    assert status == 0, said
    return _adapter(settings)


@pytest.mark.parametrize(
    "victims",
    [("training",), ("worker",), ("worker", "training")],
    ids="+".join,
)  # fmt: skip
@pytest.mark.soak
def test_a_killed_run_is_finished_by_itself_or_by_the_next_one_with_bit_identical_weights(
    victims: tuple[str, ...], undisturbed: str, tmp_path: Path
) -> None:
    settings = demo_runs.project(tmp_path)
    process = demo_runs.start(settings)
    demo_runs.wait_for(lambda: demo_runs.steps_done(settings) >= 4)
    [training] = demo_runs.heavy(process)
    worker = demo_runs.worker(process)
    for victim in victims:
        (worker if victim == "worker" else training).kill()
    said = demo_runs.finish(process)
    assert process.returncode == (0 if victims == ("training",) else 1), said  # a killed training is tried again, and resumes
    demo_runs.wait_for(lambda: not training.is_running() or training.status() == psutil.STATUS_ZOMBIE, seconds=20)  # no orphan
    if victims == ("training",):
        assert "killed by signal 9, probably because memory ran out" in (settings.parent / "data/dagster/demo.log").read_text()
        assert _adapter(settings) == undisturbed

    status, said = demo_runs.run(settings)
    assert status == 0, said
    assert _adapter(settings) == undisturbed


@pytest.mark.slow
def test_a_cancelled_run_stops_its_training_process(tmp_path: Path) -> None:
    settings = demo_runs.project(tmp_path)
    process = demo_runs.start(settings)
    demo_runs.wait_for(lambda: demo_runs.steps_done(settings) >= 1)
    [training] = demo_runs.heavy(process)
    os.kill(demo_runs.worker(process).pid, signal.SIGINT)  # what the UI's "terminate" sends
    demo_runs.finish(process, seconds=60)
    assert process.returncode == 1
    assert not training.is_running()
    said = (settings.parent / "data/dagster/demo.log").read_text()
    assert re.search(r"the training was stopped after step \d+; its newest checkpoint is of step \d+: \d+ steps are lost", said), said[
        -3000:
    ]
