"""The graph that runs itself, with the real daemon (``make soak``): files come, and each upload ends where it should, with nobody there.

If this passed wrongly, what is switched on in the UI would train on half an upload, on bad data, twice after a restart, or not at all; it
would serve what nobody judged, or tell a stranger what a patient has.

The scale is the smallest at which the gate, with all its rules as they are, can decide: fifty held-out forms of a kind that the small model
has never seen, and enough steps to learn it.
"""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import dagster as dg
import psutil
import pytest

from medvl_assets.instance import instance_home
from medvl_lib.benchmark.promotion import Decision, read_decisions
from medvl_lib.files import read_json
from medvl_lib.pointer import Served, read_pointer
from medvl_lib.provenance import newest
from medvl_lib.sample_data import write
from medvl_lib.workspace import Workspace
from tests import demo_runs, forms, ui
from tests.hosts import listening

pytestmark = pytest.mark.soak

ROOT = Path(__file__).parents[2]
LOOK_SECONDS = 5
PATIENCE_SECONDS = 3600  # whoever waits longer waits in vain, on however busy a machine
SETTINGS = """\
data_root = "data"
scale = "tiny"
profile = "cpu"

[datasets.clinical_documents]

[datasets.mtsamples]
rejected_share_budget = 0.2

[lines.documents.recipe]
max_steps = 0
num_epochs = 2
max_training_pairs = 0
max_validation_pairs = 8
pairs_per_dataset = {{ clinical_documents = 0, mtsamples = 8 }}

[lines.documents.evaluation]
datasets = ["clinical_documents"]
max_answer_tokens = 80

[automation]
look_seconds = {look_seconds}

[notifications]
webhook = "{webhook}"
"""
FEW = {"train": 24, "validation": 6, "test": 8}
ALL = {"train": 100, "validation": 8, "test": 54}
MIXED_UP = {"train": 60, "validation": 8, "test": 54}
SENSORS = ("raw_records_arrived__mtsamples", "raw_records_arrived__clinical_documents", "documents_retrains")
MARKER = "Zxqv7marker"  # in texts that their data card lets nobody show
FORMS, NOTES, LINE = {"medvl/dataset": "clinical_documents"}, {"medvl/dataset": "mtsamples"}, {"medvl/line": "documents"}
BUDGET = "rejected_share_is_within_budget"


def end(process: psutil.Popen) -> None:
    """Ask a process to end, and wait until it has."""
    with suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE_SECONDS)


class Ward(BaseHTTPRequestHandler):
    """Where notices go."""

    notices: list[bytes]

    def do_POST(self) -> None:
        self.notices.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Project:
    """A project of its own, its daemon and its server."""

    def __init__(self, root: Path, webhook: str) -> None:
        self.settings = root / "dagster_project.toml"
        self.settings.write_text(SETTINGS.format(look_seconds=LOOK_SECONDS, webhook=webhook), encoding="utf-8")
        self.workspace = Workspace(root=root / "data")
        self.forms, self.notes = (self.workspace.raw(name) for name in ("clinical_documents", "mtsamples"))
        forms.upload(self.forms, FEW)
        write("mtsamples", self.notes, counts={"csv": 24, "hub_train": 0, "hub_test": 0})
        self.home = instance_home(self.workspace)
        instance = Path(self.home, "dagster.yaml")  # a killed run is noticed in seconds here, not in a minute and a half
        quick = instance.read_text().replace("poll_interval_seconds: 30", "poll_interval_seconds: 5")
        instance.write_text(quick.replace("free_slots_after_run_end_seconds: 60", "free_slots_after_run_end_seconds: 5"))
        self.environment = {**os.environ, "MEDVL_SETTINGS": str(self.settings), "DAGSTER_HOME": self.home, "PYTHONPATH": str(ROOT)}

    # -- processes -----------------------------------------------------------------------------------------------------
    def dagster(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "dagster", *arguments, "-w", "workspace.yaml"]
        subprocess.run(command, check=True, env=self.environment, cwd=ROOT, timeout=300, capture_output=True)

    @contextmanager
    def _process(self, name: str, *command: str) -> Iterator[psutil.Popen]:
        with (self.workspace.root / f"{name}.log").open("ab") as log:
            process = psutil.Popen(
                [sys.executable, "-m", *command], env=self.environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        try:
            yield process
        finally:
            end(process)

    @contextmanager
    def daemon(self) -> Iterator[psutil.Popen]:
        """The daemon, until it is asked to end."""
        with self._process("daemon", "dagster._daemon", "run", "-w", "workspace.yaml") as process:
            yield process

    @contextmanager
    def server(self) -> Iterator[str]:
        """The line's server; gives its address."""
        with self._process("server", "medvl_lib.cli", "serve", "documents", "--port", "0"):
            log = self.workspace.root / "server.log"
            demo_runs.wait_for(lambda: "/health" in log.read_text())
            yield next(word for word in log.read_text().split() if word.startswith("http://") and not word.endswith("/health"))

    # -- what Dagster knows --------------------------------------------------------------------------------------------
    def runs(self, **tags: str) -> list[dg.DagsterRun]:
        """Newest first."""
        with dg.DagsterInstance.from_config(self.home) as instance:
            return list(instance.get_runs(dg.RunsFilter(tags=tags)))

    def wait_for_run(self, number: int, **tags: str) -> dg.DagsterRun:
        """The newest run with these tags, once there are so many and it has ended; fails where there are more."""
        demo_runs.wait_for(lambda: len(found := self.runs(**tags)) >= number and found[0].is_finished, PATIENCE_SECONDS)
        found = self.runs(**tags)
        assert len(found) == number, [(run.run_id, run.status, run.tags) for run in found]
        return found[0]

    def num_ticks(self, sensor: str) -> int:
        with dg.DagsterInstance.from_config(self.home) as instance:
            states = [state for state in instance.all_instigator_state() if state.name == sensor]
            return sum(len(instance.get_ticks(state.instigator_origin_id, state.selector_id)) for state in states)

    def wait_for_ticks(self, number: int) -> None:
        """Until each sensor has looked so often from now on."""
        before = {sensor: self.num_ticks(sensor) for sensor in SENSORS}
        demo_runs.wait_for(lambda: all(self.num_ticks(sensor) >= before[sensor] + number for sensor in SENSORS), PATIENCE_SECONDS)

    def why(self, asset: str, check: str) -> tuple[str, str]:
        """What the UI says of a check's last evaluation: its status, and a sentence."""
        with dg.DagsterInstance.from_config(self.home) as instance:
            return ui.judged(instance, check, *asset.split("/"))

    # -- what stands in the data root ----------------------------------------------------------------------------------
    def current(self, step: str, name: str) -> str:
        return str(read_json(self.workspace.current(step, name))["fingerprint"])

    def written(self, step: str) -> int:
        return len(self.workspace.written(step))

    def served(self) -> Served | None:
        return read_pointer(self.workspace, "documents")

    def verdict(self) -> Decision:
        """What the gate said of the adapter last."""
        adapter, *_ = read_decisions(newest(self.workspace, "promotion", "documents").directory)
        assert adapter.challenger == "adapter"
        return adapter

    def steps_done(self) -> int:
        return demo_runs.steps_done(self.settings)


@pytest.fixture
def notices() -> list[bytes]:
    """What the ward was told."""
    return []


@pytest.fixture
def project(tmp_path: Path, notices: list[bytes]) -> Iterator[Project]:
    with listening(Ward, ("ward",), notices=notices) as [webhook]:
        made = Project(tmp_path, webhook)
        yield made
        for process in psutil.process_iter():  # what a failed test leaves behind: everything that has this project's instance
            with suppress(psutil.Error):
                if process.environ().get("DAGSTER_HOME") == made.home and process.pid != os.getpid():
                    process.kill()


# -- the story ---------------------------------------------------------------------------------------------------------
def test_uploads_come_and_each_ends_where_it_should(project: Project, notices: list[bytes]) -> None:
    click = demo_runs.start(project.settings)
    said = demo_runs.finish(click, seconds=PATIENCE_SECONDS)
    assert click.returncode == 0, said  # one click: everything is made once
    with project.daemon() as daemon:
        project.dagster("sensor", "start", "--start-all")
        project.wait_for_ticks(3)
        assert project.runs(**NOTES) == project.runs(**FORMS) == []  # what lies there is in use already
        _notes_come_and_the_run_that_is_killed_is_tried_again(project, daemon, notices)
        with project.server() as address:
            _the_daemon_ends_while_the_forms_are_learned(project, daemon)
            with project.daemon():
                _what_was_learned_is_promoted_and_served(project, address)
                _mixed_up_forms_are_rejected(project, address)
                _a_broken_batch_stops_at_its_check(project, notices)
                _an_earlier_state_runs_again(project, address)
    _nothing_of_a_patient_stands_anywhere(project, notices)


def _notes_come_and_the_run_that_is_killed_is_tried_again(project: Project, daemon: psutil.Popen, notices: list[bytes]) -> None:
    """Within three looks a run starts; its training's own run is killed, tried again by the daemon, and ends in a verdict."""
    [table] = project.notes.glob("*.csv")
    before, decisions = project.num_ticks(SENSORS[0]), project.written("promotion")
    _more_notes(table)
    demo_runs.wait_for(lambda: project.runs(**NOTES), PATIENCE_SECONDS)
    assert project.num_ticks(SENSORS[0]) - before <= 3
    assert project.wait_for_run(1, **NOTES).status == dg.DagsterRunStatus.SUCCESS
    assert project.wait_for_run(1, **LINE).status == dg.DagsterRunStatus.SUCCESS  # conversations, audited
    demo_runs.wait_for(lambda: project.steps_done() >= 3, PATIENCE_SECONDS)
    demo_runs.worker(daemon).kill()
    again = project.wait_for_run(3, **LINE)  # trained, asked, judged
    assert again.status == dg.DagsterRunStatus.SUCCESS
    [killed] = [run for run in project.runs(**LINE) if run.run_id == again.parent_run_id]
    assert killed.status == dg.DagsterRunStatus.FAILURE
    assert (project.written("adapter"), project.written("promotion")) == (2, decisions + 1)
    assert project.verdict().verdict == "inconclusive"  # of eight forms nothing can be said
    assert project.served() is None
    demo_runs.wait_for(lambda: _told(notices, "run_failed"))
    assert [notice["run_id"] for notice in _told(notices, "run_failed")] == [killed.run_id]


def _more_notes(table: Path) -> None:
    with table.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    whole = [row for row in rows if row["transcription"]]
    more = [
        {**row, "transcription": f"{row['transcription']} {MARKER}: seen again after {number} weeks."} for number, row in enumerate(whole)
    ]
    whole_table = table.parents[2] / table.name  # no look sees half of it
    with whole_table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows([*rows, *more[:10]])
    whole_table.replace(table)


def _the_daemon_ends_while_the_forms_are_learned(project: Project, daemon: psutil.Popen) -> None:
    """The second upload has all forms; the daemon is asked to end in the middle of its training, which goes on."""
    forms.upload(project.forms, ALL)
    demo_runs.wait_for(lambda: project.steps_done() >= 10, PATIENCE_SECONDS)
    end(daemon)
    assert len(project.runs(**LINE)) == 5


def _what_was_learned_is_promoted_and_served(project: Project, address: str) -> None:
    """A real promote verdict moves the pointer, and the server that runs follows it; nothing was started twice."""
    assert project.wait_for_run(5, **LINE).status == dg.DagsterRunStatus.SUCCESS
    decided = project.verdict()
    assert (decided.verdict, decided.champion, decided.is_winner) == ("promote", "base", True), decided.reasons
    assert decided.num_pairs == ALL["test"]
    served = project.served()
    assert served is not None
    assert (served.variant, served.adapter_fingerprint) == ("adapter", project.current("adapter", "documents"))
    demo_runs.wait_for(lambda: _health(address)["data_version"] == served.data_version)
    project.wait_for_ticks(4)
    assert (len(project.runs(**NOTES)), len(project.runs(**FORMS)), len(project.runs(**LINE))) == (1, 1, 5)
    assert (project.written("adapter"), project.written("promotion")) == (3, 3)


def _mixed_up_forms_are_rejected(project: Project, address: str) -> None:
    """Forms with each other's texts pass every check of the data, are learned from, and a real reject verdict keeps what is served."""
    served = project.served()
    forms.upload(project.forms, MIXED_UP, are_mixed_up=True)
    assert project.wait_for_run(2, **FORMS).status == dg.DagsterRunStatus.SUCCESS
    assert project.wait_for_run(7, **LINE).status == dg.DagsterRunStatus.SUCCESS
    decided = project.verdict()
    assert (decided.verdict, decided.champion) == ("reject", "champion"), decided.reasons
    assert project.written("adapter") == 4
    assert project.served() == served
    assert served is not None
    assert _health(address)["data_version"] == served.data_version


def _a_broken_batch_stops_at_its_check(project: Project, notices: list[bytes]) -> None:
    """Three of ten pages cannot be read: nothing that is in use moves, and the UI says why in one sentence."""
    served, validated = project.served(), project.current("validated_pairs", "clinical_documents")
    forms.upload(project.forms, ALL, broken_share=0.3)
    failed = project.wait_for_run(3, **FORMS)
    assert failed.status == dg.DagsterRunStatus.FAILURE
    status, said = project.why("clinical_documents/validated_pairs", BUDGET)
    assert status == "FAILED", said
    assert said.startswith("0.2963 of all rows were rejected, at most 0.1 may be: 48 image_unreadable; ")
    assert project.current("validated_pairs", "clinical_documents") == validated
    assert project.served() == served
    demo_runs.wait_for(lambda: len(_told(notices, "run_failed")) == 2)
    told = _told(notices, "run_failed")[-1]
    assert (told["run_id"], told["checks"]) == (failed.run_id, [f"clinical_documents/validated_pairs: {BUDGET}"])


def _an_earlier_state_runs_again(project: Project, address: str) -> None:
    """The second upload comes back after the failure: it runs, and its adapter stands there whole."""
    served, trained = project.served(), project.written("adapter")
    forms.upload(project.forms, ALL)
    assert project.wait_for_run(4, **FORMS).status == dg.DagsterRunStatus.SUCCESS
    assert project.wait_for_run(9, **LINE).status == dg.DagsterRunStatus.SUCCESS
    project.wait_for_ticks(3)
    assert len(project.runs(**LINE)) == 9
    assert project.written("adapter") == trained
    assert served is not None
    assert project.served() is not None
    assert project.served().data_version == served.data_version
    assert _health(address)["data_version"] == served.data_version


def _nothing_of_a_patient_stands_anywhere(project: Project, notices: list[bytes]) -> None:
    """Event log, compute logs, logs of the services, reports and notices know nothing of a text that may not be shown."""
    assert any(MARKER in path.read_text(encoding="utf-8") for path in project.notes.glob("*.csv"))
    places = [Path(project.home), project.workspace.step("report", "documents"), *project.workspace.root.glob("*.log")]
    files = [path for place in places for path in (place.rglob("*") if place.is_dir() else [place]) if path.is_file()]
    assert {".db", ".html", ".log"} <= {path.suffix for path in files}
    assert [path for path in files if MARKER.encode() in path.read_bytes()] == []
    assert not any(MARKER.encode() in notice for notice in notices)
    assert _told(notices, "model_regressed")  # the mixed-up forms, beside those before them


def _told(notices: list[bytes], kind: str) -> list[dict[str, Any]]:
    return [told for told in map(json.loads, notices) if told["kind"] == kind]


def _health(address: str) -> dict[str, Any]:
    with suppress(OSError), urlopen(f"{address}/health", timeout=10) as answer:  # noqa: S310 (this machine's own)
        return json.loads(answer.read())
    return {"data_version": None}
