"""Steps as assets: read, call ``medvl_lib``, write, report.

A light step runs in the run's own process. Steps that share a heavy process are one multi-asset, whose process is started only when one of
them cannot be reused. The rules of a step are one multi-asset check: each rule is a named check in the UI, all of them one step of the run.
See https://docs.dagster.io/guides/test/asset-checks.
"""

from collections.abc import Iterator, Mapping, Sequence

import dagster as dg

from medvl_assets.heavy import run_heavy
from medvl_assets.keys import HERE, Keys
from medvl_assets.reporting import check_result, column_schema, result
from medvl_assets.under_way import Progress, tried_again
from medvl_lib.hardware import Profile
from medvl_lib.lines import Line
from medvl_lib.provenance import judge, newest
from medvl_lib.step import Step, run_step
from medvl_lib.workspace import Workspace

Conditions = Mapping[str, dg.AutomationCondition]
NEVER: Conditions = {}
# A condition asks for assets alone: checks of their own would be left out of its run, and what follows refused for want of a verdict.
JUDGED_WITH_ITS_ASSET = dg.AutomationCondition.any_deps_match(dg.AutomationCondition.will_be_requested()).with_label("with its asset")
POOL = "gpu"  # the queue that the UI shows; the device itself is held by a file lock


def step_spec(step: Step, when: Conditions = NEVER, keys: Keys = HERE) -> dg.AssetSpec:
    """A step's key, inputs, meaning and columns, and when it runs by itself."""
    return dg.AssetSpec(
        key=keys.of(step.owner, step.name), deps=[keys.of(source.name, source.step) for source in step.reads], group_name=step.owner,
        description=step.description, code_version=step.version,
        kinds={"parquet" if step.table else "files", *(() if step.process is None else ("pytorch",))},
        metadata=column_schema(step), automation_condition=when.get(step.name),
    )  # fmt: skip


def light_asset(step: Step, when: Conditions = NEVER, keys: Keys = HERE) -> dg.AssetsDefinition:
    """A step that runs in the run's own process."""

    @dg.multi_asset(name=f"{step.owner}__{step.name}", specs=[step_spec(step, when, keys)])
    def written(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        progress = Progress(context, dg.AssetKey(keys.of(step.owner, step.name)), is_quiet_at_first=True)
        with tried_again(context):
            return result(step, run_step(workspace, step, progress.tell), keys)

    return written


def heavy_asset(steps: Sequence[Step], line: Line, profile: Profile, when: Conditions = NEVER, keys: Keys = HERE) -> dg.AssetsDefinition:
    """Steps that share one heavy process: it is started only when one of them is not there yet."""

    @dg.multi_asset(
        name=f"{line.name}__{'__'.join(step.name for step in steps)}",
        specs=[step_spec(step, when, keys) for step in steps],
        can_subset=True,
        pool=POOL,
    )
    def written(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> Iterator[dg.MaterializeResult]:
        chosen = [step for step in steps if dg.AssetKey(keys.of(step.owner, step.name)) in context.selected_asset_keys]
        for step, artifact in run_heavy(context, workspace, chosen, line, profile, keys):
            yield result(step, artifact, keys)

    return written


def step_checks(step: Step, when: Conditions = NEVER, keys: Keys = HERE) -> dg.AssetChecksDefinition:
    """Judge the written directory, leave the verdicts in it, and move ``current`` only when every blocking rule passed."""
    follows = JUDGED_WITH_ITS_ASSET if step.name in when else None

    @dg.multi_asset_check(
        name=f"{step.owner}__{step.name}__rules",
        specs=[
            dg.AssetCheckSpec(
                rule.name,
                asset=keys.of(step.owner, step.name),
                blocking=rule.is_blocking,
                description=rule.sentence,
                automation_condition=follows,
            )
            for rule in step.rules
        ],
        can_subset=True,
    )
    def judged(context: dg.AssetCheckExecutionContext, workspace: dg.ResourceParam[Workspace]) -> Iterator[dg.AssetCheckResult]:
        chosen = {key.name for key in context.selected_asset_check_keys}
        for verdict in judge(workspace, newest(workspace, step.name, step.owner), step.rules):
            if verdict.rule in chosen:  # all are judged together, and one verdict file says so
                yield check_result(step, verdict, keys)

    return judged
