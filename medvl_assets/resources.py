"""Resources: the workspace that every asset reads and writes.

One resource, made anew for each run, so that the run resolves each input once. While it is open the run's process holds a file lock that
the kernel drops when the process dies: that is how a dead run is told from a slow one. Paths are spelled in ``medvl_lib.workspace`` alone.
See https://docs.dagster.io/guides/build/external-resources.
"""

from collections.abc import Generator
from contextlib import contextmanager

import dagster as dg
from filelock import FileLock

from medvl_lib.settings import Settings
from medvl_lib.workspace import Workspace


def run_lock(workspace: Workspace, run_id: str) -> FileLock:
    """The lock that a run's process holds while it lives."""
    path = workspace.lock(f"run-{run_id}")
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)


def workspace_resource(settings: Settings) -> dg.ResourceDefinition:
    """The workspace of the settings' data root, as seen by one run."""

    @contextmanager
    def opened(init_context: dg.InitResourceContext) -> Generator[Workspace, None, None]:
        workspace = Workspace(root=settings.data_root, run_id=init_context.run_id)
        if init_context.run_id is None:
            yield workspace
            return
        with run_lock(workspace, init_context.run_id):
            yield workspace

    return dg.ResourceDefinition(opened, description=f"Files below {settings.data_root}")
