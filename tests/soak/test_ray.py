"""A Ray cluster of two nodes on this machine, one of which dies (``make soak``). If these passed wrongly, a node that is lost in the night
would take predictions along, or give a line others than one machine would.

Ray is an optional extra: ``pip install -c constraints/linux-x86_64.txt -e '.[dev,ray]'``.
"""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from medvl_lib.configured import dataset_runs, lines_of
from medvl_lib.evaluation.prediction_rules import RULES
from medvl_lib.evaluation.predictions import PREDICTIONS, Prediction
from medvl_lib.files import HOST, read_json
from medvl_lib.hardware import PROFILES
from medvl_lib.launcher import Launcher
from medvl_lib.provenance import PROVENANCE, judge, newest
from medvl_lib.route.data import dataset_steps
from medvl_lib.route.line import line_steps
from medvl_lib.settings import read_settings
from medvl_lib.step import run_step
from medvl_lib.tables import read_table
from medvl_lib.workspace import Workspace
from tests import demo_runs
from tests.test_two_machines import answers

ray = pytest.importorskip("ray", reason="Ray is an optional extra and not installed: pip install -e '.[ray]'")
pytestmark = pytest.mark.soak

NUM_SHARDS = 4
LAUNCHER = f"""
[profiles.cpu]
prediction_batch = 1
[profiles.cpu.launcher]
kind = "ray"
address = "{{address}}"
num_shards = {NUM_SHARDS}
resources = {{{{ place = 1 }}}}
"""
MATERIALIZE = """
import dagster as dg
from medvl_assets.definitions import definitions
from medvl_lib.settings import read_settings
job = definitions(read_settings()).resolve_implicit_global_asset_job_def()
done = job.execute_in_process(asset_selection=[dg.AssetKey(["documents", "predictions"])], raise_on_error=False)
raise SystemExit(not done.success)
"""


def _ports(first: int) -> dict[str, int]:
    """Of the helpers of a node: fixed, so that they are known before the helpers have started."""
    names = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    return {name: first + place for place, name in enumerate(names)}


def _tell_ports(folder: Path, ports: dict[str, int], known: set[str]) -> None:
    """Write down where a node's helpers will listen as soon as the node has a name.

    Ray waits for that file for 15 seconds, a constant, and gives up where a busy machine takes longer to start them.
    """
    while True:
        for log in folder.glob("session_*/logs/raylet*.out"):
            for name in set(re.findall(r"node_id=([0-9a-f]{40,})", log.read_text(errors="replace"))) - known:
                known.add(name)
                for what, port in ports.items():
                    (log.parents[1] / f"{what}_{name}").write_text(str(port))
                return
        time.sleep(0.1)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head with room for a driver and one part; its processes find this Python and this checkout."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "300")  # a busy machine takes longer than the minute that Ray waits
    folder = Path("/tmp") / f"medvl-{os.getpid()}" / "ray"  # noqa: S108 (the paths of its sockets have to be short)
    folder.mkdir(parents=True)
    monkeypatch.setenv("RAY_TMPDIR", str(folder.parent))
    known: set[str] = set()

    def telling(first: int) -> dict[str, int]:
        threading.Thread(target=_tell_ports, args=(folder, _ports(first), known), daemon=True).start()
        return _ports(first)

    made = Cluster(initialize_head=True, head_node_args={
        "node_ip_address": "127.0.0.1", "include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": 18265, "num_cpus": 4,
        "resources": {"place": 2}, "temp_dir": str(folder), **telling(18301),
    })  # fmt: skip
    made.telling = telling
    demo_runs.wait_for(lambda: answers(_ports(18301)["dashboard_agent_listen_port"]))  # who takes jobs
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


def test_a_node_that_dies_in_the_middle_of_predictions_takes_none_along(cluster: Any, tmp_path: Path):
    path = demo_runs.project(tmp_path)
    settings, workspace = read_settings(path), Workspace(root=tmp_path / "data")
    [line], profile = lines_of(settings), replace(PROFILES["cpu"], prediction_batch=1)
    for step in (*(step for run in dataset_runs(settings) for step in dataset_steps(run)), *line_steps(line, profile)):
        if step.name != "overfit":
            judge(workspace, run_step(workspace, step), step.rules)
        if step.name == "predictions":
            break
    alone = _answers(workspace)
    shutil.rmtree(workspace.step("predictions", "documents"))

    path.write_text(path.read_text() + LAUNCHER.format(address="http://127.0.0.1:18265"))
    started = time.monotonic()
    run = subprocess.Popen([sys.executable, "-c", MATERIALIZE], env={**os.environ, "MEDVL_SETTINGS": str(path)})
    demo_runs.wait_for(lambda: _parts_under_way(workspace, cluster.head_node.all_processes["raylet"][0].process.pid), 400)
    second = cluster.add_node(
        node_ip_address="127.0.0.1", num_cpus=2, resources={"place": 1}, **cluster.telling(18311)
    )  # the driver is on the other one
    raylet = second.all_processes["raylet"][0].process.pid
    demo_runs.wait_for(lambda: _parts_under_way(workspace, raylet), 400)
    lost = _parts_under_way(workspace, raylet)
    cluster.remove_node(second, allow_graceful=False)
    assert run.wait(600) == 0
    sys.stdout.write(f"lost with its node: {lost}; {time.monotonic() - started:.0f} s in all\n")

    written = newest(workspace, "predictions", "documents")
    assert len(lost) == 1
    assert read_json(written.directory / PROVENANCE)["facts"]["num_shards"] == NUM_SHARDS
    assert [rule.name for rule in RULES if not rule.holds(written.directory).passed and rule.is_blocking] == []
    assert _answers(workspace) == alone
    assert not list(workspace.root.glob("checkpoints/predictions/documents/*"))  # nothing is left behind
    assert Launcher() == profile.launcher  # and where it ran is no part of the name that both have
