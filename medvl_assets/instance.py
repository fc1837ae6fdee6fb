"""Dagster's instance folder, inside the data root: printed for shells, created once before any service starts.

DAGSTER_HOME="$(python -m medvl_assets.instance)" dg dev -w workspace.yaml

Runs whose process was killed are ended here too, so that the UI shows them as what they are; old ones are forgotten where the settings say
so.
"""

import datetime as dt
import os
import sys
from collections.abc import Mapping

import dagster as dg

from medvl_assets.runs import end_dead_runs, forget_old_runs
from medvl_lib.errors import MedVLError
from medvl_lib.files import write_bytes
from medvl_lib.settings import read_settings
from medvl_lib.workspace import Workspace

INSTANCE = """\
# Written by MedVL for one machine; yours to change. SQLite, in this folder. https://docs.dagster.io/deployment/oss/dagster-yaml
# Several machines need Postgres instead of SQLite: docs/two-machines.md.
telemetry:
  enabled: false
nux:
  enabled: false

# Runs of one line, or of one dataset's data, wait for each other; heavy steps wait for the device in the pool "gpu".
concurrency:
  runs:
    max_concurrent_runs: 4
    tag_concurrency_limits:
      - key: medvl/line
        value: {applyLimitPerUniqueValue: true}
        limit: 1
      - key: medvl/dataset
        value: {applyLimitPerUniqueValue: true}
        limit: 1
  pools:
    default_limit: 1
    granularity: op

# Runs whose process is gone are ended, and what they held is freed.
run_monitoring:
  enabled: true
  start_timeout_seconds: 300
  cancel_timeout_seconds: 600
  poll_interval_seconds: 30
  free_slots_after_run_end_seconds: 60

# A run whose process was killed is started again, once, and goes on from what stands there. A step that failed is not: what may pass by
# itself, it tries again on its own.
run_retries:
  enabled: true
  max_retries: 1
  retry_on_asset_or_op_failure: false

# Ticks, in days. Events have no such bound in Dagster: [automation] keep_runs_days forgets old runs with theirs.
retention:
  schedule:
    purge_after_days: {skipped: 7, success: 90, failure: 90, started: 7}
  sensor:
    purge_after_days: {skipped: 2, success: 90, failure: 90, started: 7}
  auto_materialize:
    purge_after_days: {skipped: 2, success: 90, failure: 90, started: 7}

freshness:
  enabled: true
"""
POSTGRES_HOST = "MEDVL_PG_HOST"  # where it is set when the file is first written, the instance lies in Postgres
POSTGRES = """
# In Postgres, for several containers or machines; user and password come from the environment of each service.
storage:
  postgres:
    postgres_db:
      scheme: postgresql+psycopg2  # the driver that comes with dagster-postgres; without its name SQLAlchemy 2.1 looks for another
      hostname: {env: MEDVL_PG_HOST}
      port: {env: MEDVL_PG_PORT}
      username: {env: MEDVL_PG_USER}
      password: {env: MEDVL_PG_PASSWORD}
      db_name: medvl
"""
ONE_MACHINE = "Written by MedVL for one machine; yours to change. SQLite, in this folder."


def instance_file(environment: Mapping[str, str]) -> str:
    """``dagster.yaml`` as it is first written: in SQLite, or in Postgres where the environment says where that is."""
    if POSTGRES_HOST not in environment:
        return INSTANCE
    return INSTANCE.replace(ONE_MACHINE, "Written by MedVL; yours to change. Postgres.") + POSTGRES


def instance_home(workspace: Workspace, keep_runs_days: float | None = None) -> str:
    """The instance folder, with its storage initialised (two services on an empty one would race); dead runs ended, old ones forgotten."""
    home = workspace.dagster_home
    if not (home / "dagster.yaml").is_file():
        write_bytes(home / "dagster.yaml", instance_file(os.environ).encode())
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.all_instigator_state()
        end_dead_runs(instance, workspace)
        if keep_runs_days is not None:
            forget_old_runs(instance, dt.timedelta(days=keep_runs_days))
    return str(home)


def main() -> int:
    """Print the instance folder; returns the exit status."""
    try:
        settings = read_settings()
        home = instance_home(Workspace(root=settings.data_root), settings.automation.keep_runs_days)
        sys.stdout.write(home + "\n")
    except MedVLError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
