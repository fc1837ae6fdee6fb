"""Two machines, one instance: two code locations here that share a data root and an instance. If these passed wrongly, the second machine
would show the first one's assets as its own, make data anew, or write where nobody looks.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from medvl_assets.instance import POSTGRES
from medvl_lib.data_root import marker_id
from medvl_lib.files import read_json
from medvl_lib.provenance import newest
from medvl_lib.workspace import Workspace
from tests import demo_runs
from tests.postgres import free_port, postgres

MACHINES = ("gb10", "m3_ultra")
DAGSTER_YAML = """
telemetry: {enabled: false}
run_coordinator: {module: dagster.core.run_coordinator, class: DefaultRunCoordinator}
"""
LAUNCH = """
mutation Launch($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
} }
"""
ASSETS = """
{ assetNodes { assetKey { path } repository { location { name } } isExecutable } }
"""


def _settings(root: Path, machine: str, data_root_id: str) -> Path:
    folder = root / machine
    folder.mkdir()
    has_datasets = str(machine == MACHINES[0]).lower()
    path = folder / "dagster_project.toml"
    path.write_text(
        f'data_root = "../data"\nscale = "tiny"\nprofile = "cpu"\n[datasets.clinical_documents]\n'
        f'[machine]\nname = "{machine}"\nhas_datasets = {has_datasets}\ndata_root_id = "{data_root_id}"\n'
    )
    return path


class Site:
    """Both machines' servers, and the instance that they share."""

    def __init__(self, root: Path, storage: str = "") -> None:
        demo_runs.project(root)
        self.workspace = Workspace(root=root / "data")
        self.home = root / "dagster"
        self.home.mkdir()
        (self.home / "dagster.yaml").write_text(DAGSTER_YAML + storage)
        self.settings = {machine: _settings(root, machine, marker_id(self.workspace.root)) for machine in MACHINES}
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            instance.all_instigator_state()  # two services on an empty instance would race
        ports = {machine: free_port() for machine in MACHINES}
        self.servers = [self._start(machine, port) for machine, port in ports.items()]
        self.yaml = root / "workspace.yaml"
        self.yaml.write_text(json.dumps({"load_from": [
            {"grpc_server": {"host": "127.0.0.1", "port": port, "location_name": machine}} for machine, port in ports.items()
        ]}))  # fmt: skip
        for port in ports.values():
            demo_runs.wait_for(lambda port=port: answers(port), 200)

    def _environment(self, machine: str) -> dict[str, str]:
        return {**os.environ, "DAGSTER_HOME": str(self.home), "MEDVL_SETTINGS": str(self.settings[machine])}

    def _start(self, machine: str, port: int) -> subprocess.Popen[bytes]:
        command = ["-m", "dagster", "api", "grpc", "-m", "medvl_assets.definitions", "-h", "127.0.0.1", "-p", str(port)]
        return subprocess.Popen([sys.executable, *command], env=self._environment(machine), cwd=self.home)

    def ask(self, question: str, variables: dict[str, Any] | None = None) -> Any:
        """What the webserver's interface says of the workspace of both."""
        body = "from dagster_graphql.cli import main; main()"
        command = [sys.executable, "-c", body, "-w", str(self.yaml), "-t", question, "-v", json.dumps(variables or {})]
        said = subprocess.run(
            command, env=self._environment(MACHINES[0]), cwd=self.home, capture_output=True, text=True, check=False, timeout=250
        )
        assert said.returncode == 0, said.stderr[-3000:]
        return json.loads(said.stdout[said.stdout.index("{") :])["data"]

    def materialize(self, machine: str, *keys: list[str]) -> dg.DagsterRun:
        """Materialize assets on a machine, as the UI does it; returns the run when it has ended."""
        selector = {
            "repositoryLocationName": machine, "repositoryName": "__repository__", "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": key} for key in keys],
        }  # fmt: skip
        said = self.ask(LAUNCH, {"params": {"selector": selector, "mode": "default"}})["launchPipelineExecution"]
        assert said["__typename"] == "LaunchRunSuccess", said
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            end = time.monotonic() + 250
            while True:
                run = instance.get_run_by_id(said["run"]["runId"])
                assert run is not None
                if run.is_finished or time.monotonic() > end:
                    return run
                time.sleep(0.5)

    def stop(self) -> None:
        """End both servers."""
        for server in self.servers:
            server.terminate()
        for server in self.servers:
            server.wait(30)


def answers(port: int) -> bool:
    with socket.socket() as found:
        return found.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.stop()


def _one_line_on_either_machine(site: Site) -> None:
    said = site.ask(ASSETS)
    places: dict[str, set[str]] = {}
    for node in said["assetNodes"]:
        if node["isExecutable"]:
            places.setdefault("/".join(node["assetKey"]["path"]), set()).add(node["repository"]["location"]["name"])
    assert all(len(locations) == 1 for locations in places.values())
    assert places["clinical_documents/pairs"] == {"gb10"}
    for machine in MACHINES:
        assert places[f"{machine}/documents/adapter"] == places[f"{machine}/benchmark_store"] == {machine}

    data = [["clinical_documents", name] for name in ("raw_records", "pairs", "validated_pairs")]
    assert site.materialize("gb10", *data).status == dg.DagsterRunStatus.SUCCESS
    assert site.materialize("m3_ultra", ["m3_ultra", "documents", "split"]).status == dg.DagsterRunStatus.SUCCESS
    written = newest(site.workspace, "split", "documents")
    assert site.materialize("gb10", ["gb10", "documents", "split"]).status == dg.DagsterRunStatus.SUCCESS
    with dg.DagsterInstance.from_config(str(site.home)) as instance:
        events = {machine: instance.get_latest_materialization_event(dg.AssetKey([machine, "documents", "split"])) for machine in MACHINES}
    reused = {machine: event.asset_materialization.metadata["reused"].value for machine, event in events.items()}
    assert reused == {"gb10": True, "m3_ultra": False}  # what one of them wrote, the other one finds, by its name and its hashes
    assert read_json(site.workspace.latest("split", "documents")) == {"fingerprint": written.fingerprint}


@pytest.mark.soak
def test_both_graphs_stand_in_one_workspace_and_either_machine_goes_on_with_what_the_other_wrote(site: Site):
    _one_line_on_either_machine(site)
    site.workspace.marker.rename(site.workspace.root / "elsewhere.json")  # as if nothing were mounted
    assert site.materialize("m3_ultra", ["m3_ultra", "documents", "split"]).status == dg.DagsterRunStatus.FAILURE


@pytest.mark.soak
def test_the_same_with_postgres(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("dagster_postgres", reason="dagster-postgres is not installed: pip install -e '.[postgres]'")
    with postgres() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        site = Site(tmp_path, POSTGRES)
        try:
            _one_line_on_either_machine(site)
        finally:
            site.stop()
        assert "split" in server.ask("select distinct asset_key from event_logs where asset_key like '%split%';")
    assert not list(site.home.rglob("*.db"))  # nothing went into SQLite
