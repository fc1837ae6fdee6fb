"""Resources: the workspace that every asset reads and writes.

One resource, made anew for each run, so that it resolves each input once. While it is open the run's process holds its lock (``runs``).
Paths are spelled in ``medvl_lib.workspace`` alone.
See https://docs.dagster.io/guides/build/external-resources.
"""

from collections.abc import Generator
from contextlib import contextmanager

import dagster as dg

from medvl_assets.runs import end_dead_runs, run_lock
from medvl_lib.data_root import require_fit, require_mounted
from medvl_lib.settings import Settings
from medvl_lib.workspace import Workspace


def workspace_resource(settings: Settings) -> dg.ResourceDefinition:
    """The workspace of the settings' data root, as seen by one run."""

    @contextmanager
    def opened(init_context: dg.InitResourceContext) -> Generator[Workspace, None, None]:
        workspace = Workspace(root=settings.data_root, run_id=init_context.run_id)
        if init_context.run_id is None:
            yield workspace
            return
        require_mounted(settings.data_root, settings.machine.data_root_id, settings.where("machine"))
        require_fit(settings.data_root)
        with run_lock(workspace, init_context.run_id):
            if init_context.instance is not None:
                end_dead_runs(init_context.instance, workspace)  # a killed one holds its place in the queue that this run will wait in
            yield workspace

    return dg.ResourceDefinition(opened, description=f"Files below {settings.data_root}")
