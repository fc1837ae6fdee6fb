"""The gate's outlook: whether the pairs that will be judged can decide anything, said before a day of training.

In: a gate and what its evaluation will ask; before anything is read what the datasets are known to give, then the references of the line.
Out: the metrics that no pair will have, and a rule that warns. Judging itself is ``promotion``'s.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from medvl_lib.benchmark.gate import EVERY, Gate, Guardrail
from medvl_lib.benchmark.slices import ALL
from medvl_lib.errors import InputRefused
from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.evaluation.predictions import REFERENCES, Reference
from medvl_lib.evaluation.spec import EvaluationSpec, first_asked
from medvl_lib.evaluation.statistics import MAX_EXACT_CLUSTERS
from medvl_lib.pairs import Dataset
from medvl_lib.provenance import Outcome, Rule
from medvl_lib.tables import read_table


class Unjudged(NamedTuple):
    """A metric of a gate that no pair of its datasets will ever have."""

    key: str
    """Where the gate names it: primary_metric, further_primaries or guardrails."""
    metric: str
    others: tuple[str, ...]
    """Metrics that a gate may decide by and that these pairs do have."""


def never_judged(gate: Gate, datasets: Sequence[Dataset]) -> Iterator[Unjudged]:
    """What of a gate these datasets cannot decide, whatever their files hold; nothing where one of them does not say what it gives."""
    if any(dataset.answers is None for dataset in datasets):
        return
    given = {kind for dataset in datasets for kind in dataset.answers or ()}
    others = tuple(name for name, metric in METRICS.items() if metric.is_gateable and metric.needs in given)
    named = [
        ("primary_metric", gate.primary_metric),
        *(("further_primaries", name) for name in gate.further_primaries),
        *(("guardrails", rail.metric) for rail in gate.guardrails),
    ]
    for key, name in named:
        needs = METRICS[name].needs
        if needs is not None and needs not in given:
            yield Unjudged(key, name, others)


def outlook(gate: Gate, evaluation: EvaluationSpec) -> Rule:
    """The rule for a line with this gate and this evaluation."""
    return Rule(
        name="the_gate_can_decide",
        sentence="The test split has enough pairs, in enough groups, for the metrics that decide and for what guards them.",
        holds=partial(the_gate_can_decide, gate, evaluation), is_blocking=False,
        literals=(
            gate.primaries, gate.datasets, gate.min_pairs, gate.min_clusters, gate.guardrails, evaluation.datasets,
            evaluation.max_pairs_per_dataset, evaluation.seed,
        ),
    )  # fmt: skip


def the_gate_can_decide(gate: Gate, evaluation: EvaluationSpec, directory: Path) -> Outcome:
    """As many test pairs as the gate wants have what its metrics need, and each guardrail has pairs; else it is always inconclusive."""
    try:
        asked = list(_asked(read_table(directory / REFERENCES, Reference), gate, evaluation))
    except InputRefused as refusal:
        return Outcome(passed=True, found=f"not asked: {refusal.found}")  # another rule says so, and blocks
    said = [_primary(name, asked, gate) for name in gate.primaries]
    unguarded = tuple(problem for rail in gate.guardrails if (problem := _unguarded(rail, asked)) is not None)
    return Outcome(
        passed=all(one.passed for one in said) and not unguarded,
        found="; ".join([*(one.found for one in said), *unguarded]),
        offenders=unguarded,
    )


def _primary(name: str, asked: Sequence[Reference], gate: Gate) -> Outcome:
    """Whether one metric has as many pairs, in as many groups, as the gate wants."""
    metric = METRICS[name]
    judged = [reference for reference in asked if metric.applies_to(reference)]
    num_pairs, num_groups = len(judged), _num_groups(judged)
    others = {other for other, found in METRICS.items() if found.is_gateable and any(map(found.applies_to, asked))}
    cuts = {metric.signature(reference) for reference in judged} if metric.signature else set[str]()
    can_decide = num_pairs >= gate.min_pairs and num_groups >= gate.min_clusters and len(cuts) < 2
    cure = f"; set primary_metric to one that these pairs have: {', '.join(sorted(others))}" if not num_pairs and others else ""
    mixed = f"; but their texts are cut in {len(cuts)} ways: let datasets of the gate be of one language" if len(cuts) > 1 else ""
    return Outcome(
        passed=can_decide,
        found=f"{num_pairs} test pairs in {num_groups} groups can be judged by {name}; the gate wants {gate.min_pairs} in "
        f"{gate.min_clusters}{mixed}{cure or ('' if can_decide else ': it will say inconclusive')}",
    )  # fmt: skip


def _num_groups(references: Iterable[Reference]) -> int:
    return len({(reference.dataset, reference.group_id) for reference in references})


def _unguarded(rail: Guardrail, asked: Sequence[Reference]) -> str | None:
    """Why a guardrail will keep everything back: too few groups have its metric and, one by one, its labels. Nothing where they have."""
    label, _, value = rail.slice.partition("=")
    own = {name.partition("=")[0] for name in METRICS[rail.metric].parts}  # labels of the metric itself: every pair has them all
    is_whole = rail.slice == ALL or label in own
    parts: dict[str, list[Reference]] = defaultdict(list)
    for reference in asked:
        has = reference.slices.get(label)
        if METRICS[rail.metric].applies_to(reference) and (is_whole or (has is not None and value in {EVERY, has})):
            parts[ALL if is_whole else f"{label}={has}"].append(reference)
    few = [f"{name} has {_num_groups(found)}" for name, found in sorted(parts.items()) if _num_groups(found) <= MAX_EXACT_CLUSTERS]
    if parts and not few:
        return None
    known = sorted({f"{label}={reference.slices[label]}" for reference in asked if label in reference.slices})
    there = f" (there are {', '.join(known)})" if known else ""
    counted = f"{'; '.join(few)}: more than {MAX_EXACT_CLUSTERS} groups are needed" if few else f"no test pair can be judged by it{there}"
    return f"guardrail {rail.metric} in {rail.slice}: {counted}, so it will keep everything back"


def _asked(references: Iterable[Reference], gate: Gate, evaluation: EvaluationSpec) -> Iterator[Reference]:
    """The test pairs of the gate's datasets that the evaluation will ask."""
    by_dataset: dict[str, list[Reference]] = defaultdict(list)
    for reference in references:
        is_evaluated = not evaluation.datasets or reference.dataset in evaluation.datasets
        if reference.split == "test" and is_evaluated and (not gate.datasets or reference.dataset in gate.datasets):
            by_dataset[reference.dataset].append(reference)
    for found in by_dataset.values():
        yield from first_asked(found, evaluation, lambda reference: reference.pair_id)
