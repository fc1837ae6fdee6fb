"""Remarks: what decides nothing in a gate, and has to be known of a challenger all the same.

In: a challenger before the gate, and what was found. Out: sentences. They never enter the verdict; what decides is ``findings``'.
"""

from collections.abc import Iterable, Iterator

from medvl_lib.benchmark.comparisons import Answers
from medvl_lib.benchmark.findings import Finding, Trial, is_shown
from medvl_lib.benchmark.slices import ALL
from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.evaluation.predictions import FLOORS
from medvl_lib.evaluation.statistics import Difference

NO_SAY = "this gate decides nothing by it"


def remarks(trial: Trial, findings: Iterable[Finding]) -> Iterator[str]:
    """What got worse by a metric that has no say in this gate, and on which datasets the answers do not beat those that need no model.

    Both are looked for on every dataset that was answered, whether the gate decides by it or not.
    """
    yield from _worse_elsewhere(trial.on(()))
    has_told = "floor" in {found.topic for found in findings}
    told = set(trial.comparisons.column(trial.mine, trial.gate.primary_metric)) if has_told else set[str]()
    for dataset in trial.comparisons.datasets(trial.mine.variant):
        there = trial.on((dataset,))
        for name, metric in METRICS.items():
            is_told = name == trial.gate.primary_metric and told == set(there.comparisons.column(there.mine, name))
            if metric.is_gateable and not is_told:
                yield from _below_its_floors(there, dataset, name)


def _worse_elsewhere(trial: Trial) -> Iterator[str]:
    """Each metric without a say by which the candidate is worse than the champion; a rate of failures that rose also within chance."""
    champion = trial.rivals[0]
    guarded = {rail.metric for rail in trial.gate.guardrails if rail.slice == ALL}
    for name in (name for name in METRICS if name not in {*trial.gate.primaries, *guarded}):
        there, parts = trial.in_one_way(name)
        for within in parts:
            found = there.against(champion, name, within=within)
            if found is not None and found.difference < 0:
                yield from _worse(there, found, name, within)


def _worse(trial: Trial, found: Difference, metric: str, within: str) -> Iterator[str]:
    champion, is_certain = trial.rivals[0], is_shown(found, trial.alpha) and found.ci_high is not None and found.ci_high < 0
    said = trial.words(found, champion, metric, within=within)
    if METRICS[metric].is_higher_better:
        if is_certain:
            yield f"worse than {champion} by {metric}, and {NO_SAY}: {said}"
        return
    mine, theirs = trial.comparisons.values(trial.mine, champion, metric, within=within)
    how = "more than chance explains" if is_certain else "which chance may explain"
    yield f"{metric} rose from {theirs:.3f} ({champion}) to {mine:.3f} ({trial.mine}), {how}, and {NO_SAY}: {said}"


def _below_its_floors(trial: Trial, dataset: str, metric: str) -> Iterator[str]:
    """The best floor on one dataset, where the candidate was not shown to be better by a metric that a gate could decide by."""
    there, parts = trial.in_one_way(metric)
    for within in parts:
        floors = [(Answers(other), found) for other in FLOORS if (found := there.against(Answers(other), metric, within=within))]
        if not floors:
            continue
        best, found = min(floors, key=lambda one: one[1].difference)
        if not (is_shown(found, trial.alpha) and found.ci_low is not None and found.ci_low > 0):
            is_below = is_shown(found, trial.alpha) and found.ci_high is not None and found.ci_high < 0
            below = "stays below" if is_below else "was not shown to beat"
            yield f"on {dataset} {trial.mine} {below} {best}, which needs no model: {trial.words(found, best, metric, within=within)}"
