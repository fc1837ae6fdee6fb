"""What runs by itself, once it is switched on in the UI: one mechanism that retrains, and what brings data up to date for it.

``<line>_retrains``: the automation conditions of a line. Its conversations follow its validated pairs; a trained stage is trained again
when the data version of something that it reads has changed, all blocking checks of that have passed, and nothing of it is in progress;
what is downstream of it follows in the same run, up to the gate's verdict and the pointer. Nothing else retrains.
``raw_records_arrived__<dataset>`` and ``data_of_<line>`` (a clock) start jobs of data alone. ``model_regressed`` and ``run_failed`` tell
people, and start nothing.

Put here what decides *that* something runs; what runs is ``jobs``', whether files have come is ``medvl_lib.arrivals``'.
See https://docs.dagster.io/guides/automate.
"""

from collections.abc import Callable, Mapping, Sequence

import dagster as dg
from dagster._utils.schedules import is_valid_cron_string  # not exported; the schedule itself would say it without the file's name

from medvl_assets.jobs import BECAUSE, LINE_TAG, data_job_of_dataset, data_job_of_line
from medvl_assets.keys import HERE, Keys
from medvl_assets.telling import model_regressed, run_failed
from medvl_lib import arrivals, notifications
from medvl_lib.configured import DatasetRun, dataset_runs
from medvl_lib.errors import SettingsError
from medvl_lib.hardware import Profile
from medvl_lib.lines import Line
from medvl_lib.route.data import dataset_steps
from medvl_lib.route.line import line_steps
from medvl_lib.settings import Settings
from medvl_lib.training.overfit import OVERFIT
from medvl_lib.workspace import Workspace

AC = dg.AutomationCondition


# -- conditions --------------------------------------------------------------------------------------------------------
def conditions(line: Line, profile: Profile, keys: Keys = HERE) -> Mapping[str, dg.AutomationCondition]:
    """What makes each asset of a line run by itself, by step; weights that nothing feeds and the rehearsal have none."""
    steps = [step for step in line_steps(line, profile) if step.name != OVERFIT]
    trained = {stage.name for stage in line.stages}
    fed = {step.key for step in steps if step.name in trained}
    after: set[str] = set()
    for step in steps:  # in the order of the route: what a step reads stands before it
        if step.name not in trained and fed & {read.key for read in step.reads}:
            fed.add(step.key)
            after.add(step.name)
    before = {step.name for step in steps if step.process is None} - trained - after
    of_the_line = dg.AssetSelection.groups(line.name)
    data = dg.AssetSelection.assets(*(keys.of(line.name, name) for name in sorted(before)))
    stages = dg.AssetSelection.assets(*(keys.of(line.name, name) for name in sorted(trained | after)))
    # a pointer that did not move was still looked at: what its own run changed above it is no reason for another one
    changed = AC.any_deps_match(AC.data_version_changed() & ~AC.executed_with_root_target())
    requested = AC.any_deps_match(AC.will_be_requested())
    retrains = _when(changed | requested.allow(stages), "a dependency's data version changed: train again")
    follows = _when(changed.ignore(data) | requested.ignore(data), "follows what was trained")
    prepares = _when(changed | requested.allow(of_the_line), "follows the data")
    chosen = {step.name: retrains if step.name in trained else follows if step.name in after else prepares for step in steps if step.reads}
    return {**chosen, "served_model": follows}


def _when(something: dg.AutomationCondition, label: str) -> dg.AutomationCondition:
    """Once something is true: when everything that is read is there and has passed, and nothing is in progress."""
    return (
        something.since_last_handled() & AC.all_deps_blocking_checks_passed() & ~AC.any_deps_missing()
        & ~AC.any_deps_in_progress() & ~AC.in_progress()
    ).with_label(label)  # fmt: skip


# the store takes what has passed, of whatever line: one that was never made, or was refused, keeps no other from being published
_PASSED = AC.all_checks_match(AC.check_passed(), blocking_only=True)
_NEW_AND_PASSED = _PASSED.newly_true() | (_PASSED & AC.data_version_changed())  # its checks may come a tick after it
STORE_FOLLOWS = (
    AC.any_deps_match(_NEW_AND_PASSED | AC.will_be_requested()).since_last_handled() & ~AC.any_deps_in_progress() & ~AC.in_progress()
).with_label("follows every decision")  # fmt: skip


# -- what looks --------------------------------------------------------------------------------------------------------
def automation(settings: Settings, lines: Sequence[Line]) -> tuple[list[dg.SensorDefinition], list[dg.ScheduleDefinition]]:
    """Sensors and schedules, all of them off until a person switches them on."""
    runs, seconds, keys = dataset_runs(settings), settings.automation.look_seconds, Keys(settings.machine.name)
    notifications.require_meant(settings.notifications)
    retraining = [retrains(line.name, dg.AssetSelection.groups(line.name), seconds) for line in lines]
    store = dg.AutomationConditionSensorDefinition(
        "benchmark_store_follows", target=dg.AssetSelection.assets(keys.store), minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.STOPPED, description="Publishes the benchmark again after every decision.",
    )  # fmt: skip
    if not settings.machine.has_datasets:  # the other machine looks after data, and tells people
        return [*retraining, store], []
    sensors = [*retraining, store, *arrivals_of(runs, seconds), model_regressed(settings), run_failed(settings)]
    return sensors, [data_schedule(settings, line, runs) for line in lines]


def arrivals_of(runs: Sequence[DatasetRun], seconds: int) -> list[dg.SensorDefinition]:
    """Who looks at raw folders; what lies behind a URL is looked at by the clock's runs, or by hand."""
    return [raw_records_arrived(run, seconds) for run in runs if not run.raw_url]


def retrains(line: str, target: dg.AssetSelection, seconds: int) -> dg.AutomationConditionSensorDefinition:
    """The sensor that evaluates a line's conditions."""
    return dg.AutomationConditionSensorDefinition(
        f"{line}_retrains", target=target, minimum_interval_seconds=seconds, run_tags={LINE_TAG: line},
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=(
            f"Trains {line} again when the data version of what it reads has changed and every blocking check of that has passed; judges "
            "what came out, and moves the pointer only on a promote verdict. What was never made is left to the line's job."
        ),
    )  # fmt: skip


def raw_records_arrived(run: DatasetRun, seconds: int) -> dg.SensorDefinition:
    """Starts the data job of a dataset when its raw files have changed and two looks have seen the same."""
    name = run.dataset.name

    @dg.sensor(
        name=f"raw_records_arrived__{name}", job_name=data_job_of_dataset(name), minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=f"Brings {name} up to date when two looks at {run.raw_folder} have seen the same new files. Trains nothing.",
    )  # fmt: skip
    def arrived(context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[Workspace]) -> dg.SensorResult:
        answer = arrivals.next_answer(
            arrivals.remembered(context.cursor), arrivals.look(run.raw_folder),
            lambda: arrivals.difference(workspace, name, run.raw_folder),
        )  # fmt: skip
        cursor, reason = arrivals.kept(answer.memory), f"{name}: {answer.reason}"
        if not answer.is_new:
            return dg.SensorResult(skip_reason=reason, cursor=cursor)
        context.log.info(reason)
        request = dg.RunRequest(run_key=f"{name}:{arrivals.observation_key(answer.memory)}", tags={BECAUSE: answer.reason})
        return dg.SensorResult(run_requests=[request], cursor=cursor)

    return arrived


def data_schedule(settings: Settings, line: Line, runs: Sequence[DatasetRun]) -> dg.ScheduleDefinition:
    """A clock that brings a line's datasets up to date, where no sensor looks."""
    cron = settings.cron(line.name)
    if not is_valid_cron_string(cron):
        raise SettingsError(found=f"cron = {cron!r}", where=settings.where("automation"), do="write a time that comes, such as 0 3 * * 1-5")
    mine = [run for run in runs if run.dataset.name in line.datasets]

    @dg.schedule(
        name=data_job_of_line(line.name), job_name=data_job_of_line(line.name), cron_schedule=cron,
        execution_timezone=settings.automation.time_zone, default_status=dg.DefaultScheduleStatus.STOPPED,
        description=f"Brings the datasets of {line.name} up to date. Trains nothing.",
    )  # fmt: skip
    def due(workspace: dg.ResourceParam[Workspace]) -> dg.RunRequest | dg.SkipReason:
        answers = {run.dataset.name: _answer(workspace, run) for run in mine}
        new = [name for name, answer in answers.items() if answer.is_new]
        said = "; ".join(f"{name}: {answer.reason}" for name, answer in answers.items())
        if not new:
            return dg.SkipReason(said)
        keys = [dg.AssetKey([step.owner, step.name]) for run in mine if run.dataset.name in new for step in dataset_steps(run)]
        return dg.RunRequest(asset_selection=keys, tags={BECAUSE: said})

    return due


def _answer(workspace: Workspace, run: DatasetRun) -> arrivals.Answer:
    if run.raw_url:  # listing it is the run's work, which reuses what has not changed
        return arrivals.Answer(arrivals.Memory(), is_new=True, reason=f"{run.raw_url} is looked at")
    return arrivals.single_answer(arrivals.look(run.raw_folder), _difference(workspace, run))


def _difference(workspace: Workspace, run: DatasetRun) -> Callable[[], str | None]:
    return lambda: arrivals.difference(workspace, run.dataset.name, run.raw_folder)
