"""Dagster's instance folder, inside the data root: printed for shells, created once before any service starts.

DAGSTER_HOME="$(python -m medvl_assets.instance)" dg dev -w workspace.yaml
"""

import sys
from pathlib import Path

import dagster as dg

from medvl_lib.files import write_bytes
from medvl_lib.settings import read_settings
from medvl_lib.workspace import Workspace

INSTANCE = """\
# Written by MedVL; yours to change. https://docs.dagster.io/deployment/oss/dagster-yaml
telemetry:
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


def instance_home(workspace: Workspace) -> Path:
    """The instance folder, with its storage initialised: two services on an empty one would race on its migrations."""
    home = workspace.dagster_home
    if not (home / "dagster.yaml").is_file():
        write_bytes(home / "dagster.yaml", INSTANCE.encode())
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.get_runs(limit=1)
        instance.all_instigator_state()
    return home


if __name__ == "__main__":
    sys.stdout.write(str(instance_home(Workspace(root=read_settings().data_root))) + "\n")
