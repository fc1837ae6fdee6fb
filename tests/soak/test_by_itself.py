"""The graph that runs itself, with the real daemon (``make soak``): files come, and it ends in a gate's verdict; bad ones come, and nothing
moves.

If this passed wrongly, what is switched on in the UI would train on half an upload, on bad data, twice after a restart, or not at all.

The scale is the smallest at which every step runs: eight steps of training and four answers decide nothing. That what learned is promoted
and what did not is rejected, ``make demo`` shows on the same gate.
"""

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import psutil
import pytest

from medvl_assets.instance import instance_home
from medvl_lib.files import read_json
from medvl_lib.sample_data import write
from medvl_lib.workspace import Workspace
from tests import demo_runs

pytestmark = pytest.mark.soak

ROOT = Path(__file__).parents[2]
LOOK_SECONDS = 5
MORE = f"\n[datasets.mtsamples]\nrejected_share_budget = 0.2\n[automation]\nlook_seconds = {LOOK_SECONDS}\n"
SENSORS = ("raw_records_arrived__mtsamples", "documents_retrains", "benchmark_store_follows")


class Project:
    """A project of its own, and its daemon."""

    def __init__(self, root: Path) -> None:
        self.settings = demo_runs.project(root, more=MORE)
        self.workspace = Workspace(root=root / "data")
        write("mtsamples", self.workspace.raw("mtsamples"), counts={"csv": 40, "hub_train": 0, "hub_test": 0})
        self.table = next(self.workspace.raw("mtsamples").glob("*.csv"))
        self.home = instance_home(self.workspace)
        self.environment = {**os.environ, "MEDVL_SETTINGS": str(self.settings), "DAGSTER_HOME": self.home, "PYTHONPATH": str(ROOT)}

    def command(self, *arguments: str) -> None:
        subprocess.run([sys.executable, "-m", *arguments], check=True, env=self.environment, cwd=ROOT, timeout=900)

    @contextmanager
    def daemon(self) -> Iterator[None]:
        log = (self.workspace.root / "daemon.log").open("ab")
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster._daemon", "run", "-w", "workspace.yaml"], env=self.environment, cwd=ROOT, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
                process.kill()

    def runs(self, **tags: str) -> list[dg.DagsterRun]:
        """Newest first."""
        with dg.DagsterInstance.from_config(self.home) as instance:
            return list(instance.get_runs(dg.RunsFilter(tags=tags)))

    def wait_for_run(self, number: int, *, seconds: float = 900, **tags: str) -> dg.DagsterRun:
        """The newest run with these tags, once there are so many and it has ended."""
        demo_runs.wait_for(lambda: len(found := self.runs(**tags)) >= number and found[0].is_finished, seconds)
        found = self.runs(**tags)
        assert len(found) == number
        return found[0]

    def num_ticks(self, sensor: str) -> int:
        with dg.DagsterInstance.from_config(self.home) as instance:
            [state] = [state for state in instance.all_instigator_state() if state.name == sensor]
            return len(instance.get_ticks(state.instigator_origin_id, state.selector_id))

    def current(self, step: str, name: str) -> str:
        return str(read_json(self.workspace.current(step, name))["fingerprint"])

    def written(self, step: str) -> int:
        return len(self.workspace.written(step))


def _rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _write(table: Path, rows: list[dict[str, str]]) -> None:
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_files_come_and_it_ends_in_a_verdict_and_bad_ones_move_nothing(tmp_path: Path) -> None:
    project = Project(tmp_path)
    status, said = demo_runs.run(project.settings)
    assert status == 0, said  # one click: everything is made once
    data, line = {"medvl/dataset": "mtsamples"}, {"medvl/line": "documents"}
    good = project.table.read_bytes()
    with project.daemon():
        for sensor in SENSORS:
            project.command("dagster", "sensor", "start", sensor, "-w", "workspace.yaml")
        demo_runs.wait_for(lambda: project.num_ticks(SENSORS[0]) >= 3)
        assert project.runs(**data) == []  # what lies there is in use already

        more = [
            {**row, "transcription": f"{row['transcription']} Seen again after {number} weeks."}
            for number, row in enumerate(_rows(project.table))
            if row["transcription"]
        ]
        before = project.num_ticks(SENSORS[0])
        _write(project.table, [*_rows(project.table), *more[:10]])
        demo_runs.wait_for(lambda: project.runs(**data), 300)
        assert project.num_ticks(SENSORS[0]) - before <= 3
        assert project.wait_for_run(1, **data).status == dg.DagsterRunStatus.SUCCESS
        decisions = project.written("promotion")
        assert project.wait_for_run(1, **line).status == dg.DagsterRunStatus.SUCCESS  # conversations, audited
        assert project.wait_for_run(2, **line).status == dg.DagsterRunStatus.SUCCESS  # trained, asked, judged
        assert (project.written("adapter"), project.written("promotion")) == (2, decisions + 1)

    with project.daemon():  # started again: nothing fires twice
        before = project.num_ticks(SENSORS[0])
        demo_runs.wait_for(lambda: project.num_ticks(SENSORS[0]) >= before + 4)
        assert (len(project.runs(**data)), len(project.runs(**line))) == (1, 2)

        served = [path.read_bytes() for path in project.workspace.served("documents").parent.glob("*.json")]
        validated, upload = project.current("validated_pairs", "mtsamples"), project.table.read_bytes()
        _write(project.table, [{**row, "transcription": ""} if number % 3 == 0 else row for number, row in enumerate(_rows(project.table))])
        assert project.wait_for_run(2, **data).status == dg.DagsterRunStatus.FAILURE
        assert project.current("validated_pairs", "mtsamples") == validated
        assert [path.read_bytes() for path in project.workspace.served("documents").parent.glob("*.json")] == served

        project.table.write_bytes(upload)  # tried again after the failure, with what came before it
        assert project.wait_for_run(3, **data).status == dg.DagsterRunStatus.SUCCESS
        project.table.write_bytes(good)  # and back to the first upload: its conversations are those of the first adapter
        assert project.wait_for_run(4, **data).status == dg.DagsterRunStatus.SUCCESS
        assert project.wait_for_run(4, **line).status == dg.DagsterRunStatus.SUCCESS
        assert project.written("adapter") == 2  # reused: it stands there whole
