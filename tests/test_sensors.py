"""Sensors and clocks, asked as the daemon asks them. If these passed wrongly, one upload would start two runs or none, a bad batch would be
tried for ever, or what a notice says would tell a stranger what a patient has.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import duckdb
import pytest

from medvl_assets import telling
from medvl_assets.definitions import definitions
from medvl_lib.benchmark.publish import SCHEMA
from medvl_lib.notifications import Notice, Told, in_words
from medvl_lib.sample_data import write
from medvl_lib.settings import Settings, read_settings
from medvl_lib.workspace import Workspace

NAME = "clinical_documents"
SENSOR = f"raw_records_arrived__{NAME}"
MARKER = "Zxqv7marker"
TOML = f'data_root = "data"\nscale = "tiny"\nprofile = "cpu"\n[datasets.{NAME}]\n'


@dataclass
class Graph:
    """Real definitions on an instance, and the sensor's cursor from look to look."""

    settings: Settings
    instance: dg.DagsterInstance
    cursor: str | None = None

    @property
    def defs(self) -> dg.Definitions:
        return definitions(self.settings)

    @property
    def folder(self) -> Path:
        return self.settings.raw_folder(NAME)

    @property
    def pages(self) -> list[Path]:
        return sorted((self.folder / "train" / "images").glob("*.png"))

    def look(self) -> dg.SensorResult:
        """One tick."""
        sensor = self.defs.get_sensor_def(SENSOR)
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, repository_def=self.defs.get_repository_def(),
            resources={"workspace": Workspace(root=self.settings.data_root)},
        ) as context:  # fmt: skip
            result = sensor(context)
        self.cursor = result.cursor
        return result

    def keys(self, number: int = 3) -> list[str]:
        """Run keys of so many looks."""
        return [request.run_key for _ in range(number) for request in self.look().run_requests or ()]

    def run(self) -> dg.ExecuteInProcessResult:
        """What the sensor asks for."""
        return self.defs.resolve_job_def(f"data_{NAME}").execute_in_process(instance=self.instance, raise_on_error=False)


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    (tmp_path / "dagster_project.toml").write_text(TOML, encoding="utf-8")
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as instance:
        yield Graph(read_settings(tmp_path / "dagster_project.toml"), instance)


def _upload(graph: Graph) -> None:
    write(NAME, graph.folder, counts={"train": 4, "validation": 1, "test": 1, "benchmark": 0})


def test_a_dataset_without_files_says_so(graph: Graph):
    assert graph.look().skip_reason.skip_message == f"{NAME}: no files there"


def test_an_upload_starts_the_job_of_its_dataset_once_and_trains_nothing(graph: Graph):
    _upload(graph)
    [key] = graph.keys()
    assert key.startswith(f"{NAME}:")
    result = graph.run()
    assert result.success
    assert {event.asset_key.path[0] for event in result.get_asset_materialization_events()} == {NAME}
    assert graph.keys() == []
    assert graph.look().skip_reason.skip_message.startswith(f"{NAME}: nothing changed: ")


def test_a_broken_batch_stops_at_its_check_says_why_and_is_tried_again_only_when_files_come(graph: Graph):
    _upload(graph)
    first = graph.keys()
    assert graph.run().success
    workspace = Workspace(root=graph.settings.data_root)
    workspace.served("documents").parent.mkdir()
    workspace.served("documents").write_text("{}")
    guarded = (workspace.current("validated_pairs", NAME), workspace.served("documents"))
    good, before = {page: page.read_bytes() for page in graph.pages}, [path.read_bytes() for path in guarded]
    for page in graph.pages[: len(graph.pages) // 3]:
        page.write_bytes(b"no picture")
    assert len(graph.keys()) == 1
    failed = graph.run()
    assert not failed.success
    [check] = [found for found in failed.get_asset_check_evaluations() if not found.passed]
    assert (check.asset_key.path[-1], check.check_name) == ("validated_pairs", "rejected_share_is_within_budget")
    assert "of all rows were rejected, at most 0.1 may be: " in check.description
    assert [path.read_bytes() for path in guarded] == before
    assert graph.keys(5) == []  # the files are as they were
    for page, data in good.items():
        page.write_bytes(data)  # an earlier state comes back
    third = graph.keys()
    assert len(third) == 1
    assert third != first
    assert graph.run().success
    assert [path.read_bytes() for path in guarded] == before


def test_a_run_that_failed_is_tried_again_when_its_files_are_put_there_again(graph: Graph):
    _upload(graph)
    for page in graph.pages:
        page.write_bytes(b"no picture")
    before = graph.keys()
    assert not graph.run().success
    graph.pages[0].touch()
    after = graph.keys()
    assert (len(before), len(after)) == (1, 1)
    assert before != after


def test_files_that_failed_are_tried_again_after_the_cursor_was_reset_and_so_are_others(graph: Graph, monkeypatch: pytest.MonkeyPatch):
    _upload(graph)
    before = graph.keys()
    for clock in (time.time() + 60, 1.0):  # later, as it should be, and one that was turned back
        monkeypatch.setattr("medvl_lib.arrivals.time", SimpleNamespace(time=lambda clock=clock: clock))
        graph.cursor = None
        graph.pages[0].touch()
        after = graph.keys()
        assert len(after) == 1
        assert after[0] not in before  # Dagster starts no run of a key that it knows
        before += after
    graph.cursor = None
    monkeypatch.setattr("medvl_lib.arrivals.time", SimpleNamespace(time=lambda: 120.0))
    assert graph.keys()[0] not in before  # the very same files


def test_a_clock_brings_only_what_changed_and_says_why_it_does_not(graph: Graph, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("medvl_lib.arrivals.SETTLED_SECONDS", 0.0)
    clock = graph.defs.get_schedule_def("data_of_documents")

    def due() -> dg.RunRequest | dg.SkipReason:
        workspace = Workspace(root=graph.settings.data_root)
        return clock(dg.build_schedule_context(instance=graph.instance, resources={"workspace": workspace}))

    assert due().skip_message == f"{NAME}: no files there"
    _upload(graph)
    request = due()
    assert {key.to_user_string() for key in request.asset_selection} == {
        f"{NAME}/{step}" for step in ("raw_records", "pairs", "validated_pairs")
    }
    assert graph.run().success
    assert due().skip_message.startswith(f"{NAME}: nothing changed: ")


# -- who is told -------------------------------------------------------------------------------------------------------
@pytest.fixture
def notices(monkeypatch: pytest.MonkeyPatch) -> list[Notice]:
    """What would be sent; that it is sent as it is, ``test_notifications`` shows."""
    found: list[Notice] = []
    monkeypatch.setattr(telling.notifications, "send", lambda notice, *_: found.append(notice) or Told(("webhook",), ()))
    return found


def test_a_failed_run_is_told_by_names_and_what_may_not_be_shown_stands_nowhere(graph: Graph, notices: list[Notice]):
    path = graph.settings.path
    path.write_text(TOML + "[datasets.mtsamples]\n", encoding="utf-8")  # its data card allows nothing to be shown
    folder = Workspace(root=graph.settings.data_root).raw("mtsamples")
    write("mtsamples", folder, counts={"csv": 20, "hub_train": 0, "hub_test": 0})
    [table] = folder.glob("*.csv")
    text = table.read_text(encoding="utf-8").replace(" reports ", f" {MARKER} reports ").replace("SUBJECTIVE:", f"SUBJECTIVE: {MARKER}")
    table.write_text("\n".join([*text.splitlines(), f"x{MARKER},{MARKER}", f'"{MARKER}'] * 2), encoding="utf-8")
    defs = definitions(read_settings(path))
    failed = defs.resolve_job_def("data_mtsamples").execute_in_process(instance=graph.instance, raise_on_error=False)
    assert not failed.success
    [event] = [found for found in failed.all_events if found.event_type == dg.DagsterEventType.RUN_FAILURE]
    run = graph.instance.get_run_by_id(failed.run_id)
    sensor = defs.get_sensor_def("run_failed")
    sensor(dg.build_run_status_sensor_context("run_failed", event, graph.instance, run).for_run_failure())
    [notice] = notices
    assert (notice.job, notice.run_id) == ("data_mtsamples", failed.run_id)
    assert notice.checks == ("mtsamples/validated_pairs: rejected_share_is_within_budget",)
    assert notice.steps == ("mtsamples__validated_pairs__rules",)
    assert MARKER not in in_words(notice)
    written = [path for path in Path(graph.instance.root_directory).rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in written)
    assert not [path for path in written if MARKER.encode() in path.read_bytes()]


def test_a_run_that_failed_in_another_code_location_is_told_too(graph: Graph, notices: list[Notice]):
    sensor, cursor = graph.defs.get_sensor_def("run_failed"), None

    def look() -> str | None:
        with dg.build_sensor_context(
            instance=graph.instance, cursor=cursor, repository_name="of_this_machine", repository_def=graph.defs.get_repository_def()
        ) as context:
            return sensor.evaluate_tick(context).cursor

    @dg.op
    def refuse() -> None:
        raise ValueError

    @dg.job
    def of_the_other_machine() -> None:
        refuse()

    cursor = look()  # from now on
    failed = of_the_other_machine.execute_in_process(instance=graph.instance, raise_on_error=False)
    cursor = look()
    look()
    assert [(notice.job, notice.run_id) for notice in notices] == [("of_the_other_machine", failed.run_id)]


def test_a_regression_is_told_once(graph: Graph, notices: list[Notice], monkeypatch: pytest.MonkeyPatch):
    workspace = Workspace(root=graph.settings.data_root)
    sensor = graph.defs.get_sensor_def("model_regressed")
    cursor = None

    def look() -> str:
        nonlocal cursor
        with dg.build_sensor_context(instance=graph.instance, cursor=cursor, resources={"workspace": workspace}) as context:
            result = sensor(context)
        if isinstance(result, dg.SkipReason):
            return str(result.skip_message)
        cursor = result.cursor
        assert not result.run_requests
        return result.skip_reason.skip_message

    assert look() == "no benchmark was published yet"
    workspace.store.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(workspace.store)) as store:
        store.execute(SCHEMA.read_text(encoding="utf-8"))
    assert look() == "nothing got worse"
    rows = [("documents", "adapter", NAME, "pair_accuracy", "e2", -0.25)]
    monkeypatch.setattr(telling, "ask", lambda *_: type("Answer", (), {"rows": rows}))
    assert look() == "1 new regressions"
    assert look() == "1 regressions, all of them told"
    assert [notice.what for notice in notices] == [
        f"documents got worse than in the evaluation before by more than its intervals: adapter, {NAME}, pair_accuracy: -0.25"
    ]


def test_a_channel_that_is_down_is_said_and_what_was_told_is_not_told_again(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(telling.notifications, "send", lambda *_: Told(("webhook",), ("the mail server took no notice",)))
    rows = [("documents", "adapter", NAME, "pair_accuracy", "e2", -0.25)]
    monkeypatch.setattr(telling, "ask", lambda *_: type("Answer", (), {"rows": rows}))
    workspace = Workspace(root=graph.settings.data_root)
    with dg.build_sensor_context(instance=graph.instance, resources={"workspace": workspace}) as context:
        result = graph.defs.get_sensor_def("model_regressed")(context)
    assert "the mail server took no notice" in capsys.readouterr().err
    assert "pair_accuracy" in result.cursor
