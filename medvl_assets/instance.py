"""Dagster's instance folder, inside the data root: printed for shells, created once before any service starts.

DAGSTER_HOME="$(python -m medvl_assets.instance)" dg dev -w workspace.yaml

Runs whose process was killed are ended here: nobody else does it without a daemon, and each would keep its place in the device's queue.
"""

import sys

import dagster as dg
from filelock import Timeout

from medvl_assets.resources import run_lock
from medvl_lib.errors import MedVLError
from medvl_lib.files import write_bytes
from medvl_lib.settings import read_settings
from medvl_lib.workspace import Workspace

INSTANCE = """\
# Written by MedVL; yours to change. https://docs.dagster.io/deployment/oss/dagster-yaml
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  pools:
    default_limit: 1
    granularity: op
run_monitoring:
  enabled: true
  poll_interval_seconds: 30
  free_slots_after_run_end_seconds: 60
"""
UNFINISHED = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def instance_home(workspace: Workspace) -> str:
    """The instance folder, with its storage initialised (two services on an empty one would race) and dead runs ended."""
    home = workspace.dagster_home
    if not (home / "dagster.yaml").is_file():
        write_bytes(home / "dagster.yaml", INSTANCE.encode())
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.all_instigator_state()
        end_dead_runs(instance, workspace)
    return str(home)


def end_dead_runs(instance: dg.DagsterInstance, workspace: Workspace) -> list[str]:
    """Fail every unfinished run whose process no longer holds its lock, and free what it held; returns their ids."""
    ended: list[str] = []
    for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)):
        lock = run_lock(workspace, run.run_id)
        if not workspace.lock(f"run-{run.run_id}").is_file():
            continue  # it has not come so far, or belongs to another workspace
        try:
            with lock.acquire(timeout=0):
                now = instance.get_run_by_id(run.run_id)
                if now is None or now.is_finished:
                    continue  # it ended while we looked: its lock goes before its status
                instance.report_run_failed(run, "the run's process is gone: it was killed, or the machine went down")
                instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
                ended.append(run.run_id)
        except Timeout:
            continue  # alive
    return ended


def main() -> int:
    """Print the instance folder; returns the exit status."""
    try:
        sys.stdout.write(instance_home(Workspace(root=read_settings().data_root)) + "\n")
    except MedVLError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
