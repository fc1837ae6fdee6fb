"""A Ray cluster of two nodes on this machine, one of which dies (``make soak``). If these passed wrongly, a node that is lost in the night
would take predictions along, or give a line others than one machine would.

Ray is an optional extra: ``pip install -c constraints/linux-x86_64.txt -e '.[dev,ray]'``.
"""

import datetime as dt
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from medvl_lib.configured import lines_of
from medvl_lib.evaluation.prediction_rules import RULES
from medvl_lib.evaluation.predictions import PREDICTIONS, Prediction
from medvl_lib.files import HOST, read_json
from medvl_lib.hardware import PROFILES
from medvl_lib.launcher import Launcher
from medvl_lib.provenance import PROVENANCE, judge, newest
from medvl_lib.route.line import line_steps
from medvl_lib.settings import read_settings
from medvl_lib.step import run_step
from medvl_lib.tables import read_table
from medvl_lib.workspace import Workspace
from tests import demo_runs

ray = pytest.importorskip("ray", reason="Ray is an optional extra and not installed: pip install -e '.[ray]'")
pytestmark = pytest.mark.soak

NUM_SHARDS = 4
ONE_BY_ONE = replace(PROFILES["cpu"], prediction_batch=1)
DASHBOARD = 18265
LAUNCHER = f"""
[profiles.cpu]
prediction_batch = 1
[profiles.cpu.launcher]
kind = "ray"
address = "{{address}}"
num_shards = {NUM_SHARDS}
resources = {{{{ place = 1 }}}}
"""
# What Ray waits for, from half a minute to a minute each, on two cores that others use too.
PATIENT = {
    "RAY_gcs_server_port_wait_time_s": "300", "RAY_raylet_start_wait_time_s": "300", "RAY_agent_register_timeout_ms": "300000",
    "RAY_worker_register_timeout_seconds": "600", "RAY_health_check_timeout_ms": "60000", "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "300",
    "RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT": "300",
    "RAY_enable_worker_prestart": "0", "RAY_prestart_worker_first_driver": "0", "RAY_USAGE_STATS_ENABLED": "0",
}  # fmt: skip
HELPERS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")


def _told_ports(session: Path, first: int) -> dict[str, Any]:
    """How a node is called, and where its helpers will listen, as arguments of a node: written down before it is started.

    Ray waits for these files for 15 seconds, a constant, and gives up where a busy machine takes longer to start the helpers.
    """
    node, ports = secrets.token_hex(28), {name: first + place for place, name in enumerate(HELPERS)}
    for name, port in ports.items():
        (session / f"{name}_{node}").write_text(str(port))
    return {"env_vars": {"RAY_OVERRIDE_NODE_ID_FOR_TESTING": node}, **ports}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head with room for a driver and one part; its processes find this Python and this checkout.

    It has the address that this machine has for others: Ray's helpers turn 127.0.0.1 into that one, and would call for ever who listens on
    the loopback interface alone.
    """
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name, value in PATIENT.items():
        monkeypatch.setenv(name, value)
    folder = Path("/tmp") / f"medvl-{os.getpid()}" / "ray"  # noqa: S108 (the paths of its sockets have to be short)
    name = f"session_{dt.datetime.now(dt.UTC):%Y-%m-%d_%H-%M-%S_%f}_{os.getpid()}"
    (folder / name).mkdir(parents=True)
    monkeypatch.setenv("RAY_TMPDIR", str(folder.parent))
    made = Cluster(initialize_head=True, head_node_args={
        "include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": DASHBOARD, "num_cpus": 4, "resources": {"place": 2},
        "temp_dir": str(folder), "session_name": name, **_told_ports(folder / name, 18301),
    })  # fmt: skip
    made.second = lambda: made.add_node(wait=False, num_cpus=2, resources={"place": 1}, **_told_ports(folder / name, 18311))
    yield made
    made.shutdown()
    shutil.rmtree(folder.parent, ignore_errors=True)


def _answers(workspace: Workspace) -> dict[tuple[str, str, str], str]:
    rows = read_table(newest(workspace, "predictions", "documents").directory / PREDICTIONS, Prediction)
    return {(row.variant, row.condition, row.pair_id): row.answer for row in rows}


def _parts_under_way(workspace: Workspace, below: int) -> list[str]:
    """The parts that processes of a node are doing now: each writes under a name with its process number."""
    found: list[str] = []
    for path in workspace.root.glob(f"checkpoints/predictions/documents/*/parts/.*.{HOST}-*.tmp"):
        pid = int(path.name.split(f".{HOST}-")[1].split("-")[0])
        if psutil.pid_exists(pid) and below in {parent.pid for parent in psutil.Process(pid).parents()}:
            found.append(path.name[1:].split(f".{HOST}")[0])
    return found


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A project with all that predictions read, and what one process answers."""
    path = demo_runs.project(tmp_path)
    demo_runs.prepare(path, "predictions")
    workspace, [line] = Workspace(root=tmp_path / "data"), lines_of(read_settings(path))
    [step] = [step for step in line_steps(line, ONE_BY_ONE) if step.name == "predictions"]
    judge(workspace, run_step(workspace, step), step.rules)
    return path


def test_a_node_that_dies_in_the_middle_of_predictions_takes_none_along(prepared: Path, cluster: Any):
    path, workspace = prepared, Workspace(root=prepared.parent / "data")
    alone = _answers(workspace)
    shutil.rmtree(workspace.step("predictions", "documents"))

    path.write_text(path.read_text() + LAUNCHER.format(address=f"http://127.0.0.1:{DASHBOARD}"))
    started = time.monotonic()
    run = demo_runs.materialize(path, "documents/predictions")

    def under_way_on(node: Any) -> list[str]:
        """The parts that a node does, as soon as it does one."""
        raylet = node.all_processes["raylet"][0].process.pid
        demo_runs.wait_for(lambda: _parts_under_way(workspace, raylet) or run.poll() is not None, 900)
        return _parts_under_way(workspace, raylet)

    assert under_way_on(cluster.head_node)
    second = cluster.second()  # the driver is on the other one
    lost = under_way_on(second)
    cluster.remove_node(second, allow_graceful=False)
    assert run.wait(900) == 0
    sys.stdout.write(f"lost with its node: {lost}; {time.monotonic() - started:.0f} s in all\n")

    written = newest(workspace, "predictions", "documents")
    assert len(lost) == 1
    assert read_json(written.directory / PROVENANCE)["facts"]["num_shards"] == NUM_SHARDS
    assert [rule.name for rule in RULES if not rule.holds(written.directory).passed and rule.is_blocking] == []
    assert _answers(workspace) == alone
    assert not list(workspace.root.glob("checkpoints/predictions/documents/*"))  # nothing is left behind
    assert Launcher() == ONE_BY_ONE.launcher  # and where it ran is no part of the name that both have
