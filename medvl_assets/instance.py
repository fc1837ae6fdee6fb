"""Dagster's instance folder, inside the data root: printed for shells, created once before any service starts.

DAGSTER_HOME="$(python -m medvl_assets.instance)" dg dev -w workspace.yaml

Runs whose process was killed are ended here too, so that the UI shows them as what they are.
"""

import sys

import dagster as dg

from medvl_assets.runs import end_dead_runs
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


def instance_home(workspace: Workspace) -> str:
    """The instance folder, with its storage initialised (two services on an empty one would race) and dead runs ended."""
    home = workspace.dagster_home
    if not (home / "dagster.yaml").is_file():
        write_bytes(home / "dagster.yaml", INSTANCE.encode())
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.all_instigator_state()
        end_dead_runs(instance, workspace)
    return str(home)


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
