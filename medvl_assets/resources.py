"""Resources: the workspace that every asset reads and writes.

One resource, made anew for each run, so that the run resolves each input once. Paths are spelled in ``medvl_lib.workspace`` alone.
See https://docs.dagster.io/guides/build/external-resources.
"""

import dagster as dg

from medvl_lib.settings import Settings
from medvl_lib.workspace import Workspace


def workspace_resource(settings: Settings) -> dg.ResourceDefinition:
    """The workspace of the settings' data root, as seen by one run."""

    def opened(init_context: dg.InitResourceContext) -> Workspace:
        return Workspace(root=settings.data_root, run_id=init_context.run_id)

    return dg.ResourceDefinition(opened, description=f"Files below {settings.data_root}")
