"""Runs that are alive, and those that are not: told by a file lock that the kernel drops when a run's process dies.

A killed run keeps its status and its place in the device's queue; without a daemon nobody ends it, and the next run would wait for ever.
See https://docs.dagster.io/guides/operate/managing-concurrency.
"""

import datetime as dt

import dagster as dg
from filelock import FileLock, Timeout

from medvl_lib.workspace import Workspace

FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
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


def forget_old_runs(instance: dg.DagsterInstance, age: dt.timedelta) -> list[str]:
    """Delete finished runs that are older, with their events, but for those that the newest state of an asset stands on.

    Returns their ids. Dagster itself bounds ticks alone: the event log never shrinks otherwise.
    """
    before = dg.RunsFilter(statuses=FINISHED, updated_before=dt.datetime.now(dt.UTC) - age)
    old = {record.dagster_run.run_id for record in instance.get_run_records(before)}
    for record in instance.get_asset_records():
        entry = record.asset_entry
        newest = (entry.last_materialization_record, entry.last_observation_record)
        old -= {event.run_id for event in newest if event is not None} | {entry.last_run_id or ""}
    for run_id in sorted(old):
        instance.delete_run(run_id)
    return sorted(old)
