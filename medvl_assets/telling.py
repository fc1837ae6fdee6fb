"""Who is told, and of what: sensors that notify and start nothing.

In: the benchmark store, and Dagster's failed runs. Out: notices, made of names and numbers alone. How they are sent is
``medvl_lib.notifications``'. See https://docs.dagster.io/guides/automate/sensors.
"""

import json
import logging

import dagster as dg

from medvl_lib import notifications
from medvl_lib.benchmark.publish import ask
from medvl_lib.errors import InputMissing
from medvl_lib.notifications import Notice, Told
from medvl_lib.settings import Settings
from medvl_lib.workspace import Workspace

REGRESSED = """
    select line, variant, dataset, metric, evaluation_id, change from regressions
    where are_intervals_apart and condition = 'as_is' and slice = 'all' order by all
"""


def model_regressed(settings: Settings) -> dg.SensorDefinition:
    """Tells people when what a line does has got worse beyond its intervals since the evaluation before; once for each."""

    @dg.sensor(
        name="model_regressed", minimum_interval_seconds=settings.automation.look_seconds,
        default_status=dg.DefaultSensorStatus.STOPPED, description="Notifies of regressions in the benchmark store. Starts nothing.",
    )  # fmt: skip
    def regressed(context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[Workspace]) -> dg.SensorResult | dg.SkipReason:
        try:
            rows = ask(workspace, REGRESSED).rows
        except InputMissing:
            return dg.SkipReason("no benchmark was published yet")
        known = {tuple(row) for row in json.loads(context.cursor or "[]")}
        found = {(line, variant, dataset, metric, evaluation): delta for line, variant, dataset, metric, evaluation, delta in rows}
        new = [key for key in found if key not in known]
        cursor = json.dumps(sorted(found))
        if not new:
            return dg.SensorResult(
                skip_reason=f"{len(found)} regressions, all of them told" if found else "nothing got worse", cursor=cursor
            )
        for line in dict.fromkeys(key[0] for key in new):
            worse = [f"{', '.join(key[1:4])}: {found[key]:+.3g}" for key in new if key[0] == line]
            what = f"{line} got worse than in the evaluation before by more than its intervals: {'; '.join(worse)}"
            _tell(Notice(kind="model_regressed", what=what, url=settings.notifications.ui), settings, context.log)
        return dg.SensorResult(skip_reason=f"{len(new)} new regressions", cursor=cursor)

    return regressed


def run_failed(settings: Settings) -> dg.SensorDefinition:
    """Tells people which run failed, at which steps and checks: names alone, since an error's words may quote the data.

    It watches every code location: of two machines one alone tells, and what fails on the other is no less a failure.
    """

    @dg.run_failure_sensor(
        name="run_failed", minimum_interval_seconds=settings.automation.look_seconds, default_status=dg.DefaultSensorStatus.STOPPED,
        description="Notifies of failed runs, on whatever machine. Starts nothing.", monitor_all_code_locations=True,
    )  # fmt: skip
    def failed(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
        told = _tell(notice_of(context, settings.notifications.ui), settings, context.log)
        return None if told.how else dg.SkipReason("[notifications] names nobody")

    return failed


def _tell(notice: Notice, settings: Settings, log: logging.Logger) -> Told:
    """Send it; a way that failed beside one that did not is logged, and the notice counts as told."""
    told = notifications.send(notice, settings.notifications)
    for failure in told.failures:
        log.warning(failure)
    return told


def notice_of(context: dg.RunFailureSensorContext, ui: str) -> Notice:
    """A failed run by name: job, steps, and the checks whose blocking rule was broken."""
    run = context.dagster_run
    records = context.instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
    events = [record.event_log_entry.dagster_event for record in records]
    broken = [event.asset_check_evaluation_data for event in events if event is not None]
    return Notice(
        kind="run_failed", what=f"a run of {run.job_name} failed" if not run.job_name.startswith("__") else "a run failed",
        job=run.job_name, run_id=run.run_id, steps=tuple(event.step_key or "" for event in context.get_step_failure_events()),
        checks=tuple(
            f"{check.asset_key.to_user_string()}: {check.check_name}" for check in broken
            if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR
        ),
        url=f"{ui.rstrip('/')}/runs/{run.run_id}" if ui else "",
    )  # fmt: skip
