"""``line_assets(line, profile)``: every asset of one line from the split to the served model, with their checks. No code per line."""

import datetime as dt
from collections.abc import Iterator
from itertools import groupby

import dagster as dg

from medvl_assets.automation import conditions
from medvl_assets.keys import HERE, Keys
from medvl_assets.step_assets import heavy_asset, light_asset, step_checks
from medvl_lib.benchmark.promotion import RULES as PROMOTION_RULES
from medvl_lib.benchmark.publish import NoCopy, publish
from medvl_lib.evaluation import parity
from medvl_lib.hardware import Profile
from medvl_lib.lines import Line
from medvl_lib.provenance import resolve
from medvl_lib.route.line import line_steps
from medvl_lib.route.parity import SERVED_RULE, judge_served, served_sentence
from medvl_lib.route.pointing import serve
from medvl_lib.workspace import Workspace


def line_assets(
    line: Line, profile: Profile, fresh_days: float | None = None, keys: Keys = HERE, benchmark_url: str = ""
) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """The assets and checks of one line; neighbouring steps of one heavy process are one multi-asset."""
    when = conditions(line, profile, keys)
    made: list[dg.AssetsDefinition | dg.AssetChecksDefinition] = []
    for (process, _), group in groupby(line_steps(line, profile), key=lambda step: (step.process, step.process or step.name)):
        steps = list(group)
        made.append(light_asset(steps[0], when, keys) if process is None else heavy_asset(steps, line, profile, when, keys))
        made.extend(step_checks(step, when, keys) for step in steps)
    return [*made, served_model(line, when["served_model"], fresh_days, keys, benchmark_url)]


def served_model(
    line: Line, when: dg.AutomationCondition | None = None, fresh_days: float | None = None, keys: Keys = HERE, benchmark_url: str = ""
) -> dg.AssetsDefinition:
    """What the line serves: materialized only when the decision is to promote; held against its evaluation every time."""
    fresh = None if fresh_days is None else dg.FreshnessPolicy.time_window(fail_window=dt.timedelta(days=fresh_days))
    key = dg.AssetKey(keys.of(line.name, "served_model"))

    @dg.multi_asset(
        name=f"{line.name}__served_model",
        specs=[dg.AssetSpec(
            key=key, deps=[keys.of(line.name, "promotion"), keys.of(line.name, "parity")], group_name=line.name, kinds={"pointer"},
            skippable=True, automation_condition=when, freshness_policy=fresh,
            description="The pointer that says what is served; it moves only on a promote verdict whose winner answers as it was judged.",
        )],
        check_specs=[dg.AssetCheckSpec(SERVED_RULE, asset=key, blocking=True, description=served_sentence(line))],
    )  # fmt: skip
    def served(
        context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        decided = resolve(workspace, "promotion", line.name, PROMOTION_RULES)
        compared = resolve(workspace, "parity", line.name, parity.rules(line.parity, line.gate.min_pairs))
        moved = serve(workspace, line, decided, compared)
        context.log.info(moved.sentence)
        if moved.served is not None:
            yield dg.MaterializeResult(
                asset_key=key, data_version=dg.DataVersion(moved.served.data_version), metadata={"says": moved.sentence}
            )
        found = judge_served(workspace, line, decided, compared).outcome
        yield dg.AssetCheckResult(
            asset_key=key, check_name=SERVED_RULE, passed=found.passed, description=found.found,
            metadata={"offenders": dg.MetadataValue.json(list(found.offenders))},
        )  # fmt: skip
        if moved.served is not None:
            try:
                publish(workspace, benchmark_url)  # the store says what is served, and because of which decision
            except NoCopy as error:  # what is served has moved, and is told here: the copy comes with the next one
                context.log.warning(str(error))

    return served
