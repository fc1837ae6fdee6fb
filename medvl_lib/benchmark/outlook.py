"""The gate's outlook: whether the pairs that will be judged can decide anything, said before a day of training.

In: the references of a line, its gate and what its evaluation will ask. Out: a rule that warns. Judging itself is ``promotion``'s.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from medvl_lib.benchmark.gate import Gate
from medvl_lib.errors import InputRefused
from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.evaluation.predictions import REFERENCES, Reference
from medvl_lib.evaluation.spec import EvaluationSpec, first_asked
from medvl_lib.provenance import Outcome, Rule
from medvl_lib.tables import read_table


def outlook(gate: Gate, evaluation: EvaluationSpec) -> Rule:
    """The rule for a line with this gate and this evaluation."""
    return Rule(
        name="the_gate_can_decide", sentence="The test split has enough pairs, in enough groups, for the metric that decides.",
        holds=partial(the_gate_can_decide, gate, evaluation), is_blocking=False,
        literals=(
            gate.primary_metric, gate.datasets, gate.min_pairs, gate.min_clusters, evaluation.datasets, evaluation.max_pairs_per_dataset,
            evaluation.seed,
        ),
    )  # fmt: skip


def the_gate_can_decide(gate: Gate, evaluation: EvaluationSpec, directory: Path) -> Outcome:
    """As many test pairs as the gate wants have what its primary metric needs; fewer are inconclusive whatever the model says."""
    metric = METRICS[gate.primary_metric]
    try:
        asked = list(_asked(read_table(directory / REFERENCES, Reference), gate, evaluation))
    except InputRefused as refusal:
        return Outcome(passed=True, found=f"not asked: {refusal.found}")  # another rule says so, and blocks
    judged = [reference for reference in asked if metric.applies_to(reference)]
    num_pairs, num_groups = len(judged), len({(reference.dataset, reference.group_id) for reference in judged})
    others = {name for name, other in METRICS.items() if other.is_gateable and any(map(other.applies_to, asked))}
    cuts = {metric.signature(reference) for reference in judged} if metric.signature else set[str]()
    can_decide = num_pairs >= gate.min_pairs and num_groups >= gate.min_clusters and len(cuts) < 2
    cure = f"; set primary_metric to one that these pairs have: {', '.join(sorted(others))}" if not num_pairs and others else ""
    mixed = f"; but their texts are cut in {len(cuts)} ways: let datasets of the gate be of one language" if len(cuts) > 1 else ""
    return Outcome(
        passed=can_decide,
        found=f"{num_pairs} test pairs in {num_groups} groups can be judged by {gate.primary_metric}; the gate wants {gate.min_pairs} in "
        f"{gate.min_clusters}{mixed}{cure or ('' if can_decide else ': it will say inconclusive')}",
    )  # fmt: skip


def _asked(references: Iterable[Reference], gate: Gate, evaluation: EvaluationSpec) -> Iterator[Reference]:
    """The test pairs of the gate's datasets that the evaluation will ask."""
    by_dataset: dict[str, list[Reference]] = defaultdict(list)
    for reference in references:
        is_evaluated = not evaluation.datasets or reference.dataset in evaluation.datasets
        if reference.split == "test" and is_evaluated and (not gate.datasets or reference.dataset in gate.datasets):
            by_dataset[reference.dataset].append(reference)
    for found in by_dataset.values():
        yield from first_asked(found, evaluation, lambda reference: reference.pair_id)
