"""Runs that are alive, and those that are not: told by a file lock that the kernel drops when a run's process dies.

A killed run keeps its status and its place in the device's queue; without a daemon nobody ends it, and the next run would wait for ever.
See https://docs.dagster.io/guides/operate/managing-concurrency.
"""

import dagster as dg
from filelock import FileLock, Timeout

from medvl_lib.workspace import Workspace

UNFINISHED = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def run_lock(workspace: Workspace, run_id: str) -> FileLock:
    """The lock that a run's process holds while it lives."""
    path = workspace.lock(f"run-{run_id}")
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)


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
