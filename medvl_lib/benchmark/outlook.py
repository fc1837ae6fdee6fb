"""The gate's outlook: whether the pairs that will be judged can decide anything, said before a day of training.

In: the references of a line, its gate and what its evaluation will ask. Out: a rule that warns. Judging itself is ``promotion``'s.
"""

from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from medvl_lib.benchmark.gate import Gate
from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.evaluation.predictions import REFERENCES, Reference
from medvl_lib.evaluation.spec import EvaluationSpec
from medvl_lib.provenance import Outcome, Rule
from medvl_lib.tables import read_table


def outlook(gate: Gate, evaluation: EvaluationSpec) -> Rule:
    """The rule for a line with this gate and this evaluation."""
    return Rule(
        name="the_gate_can_decide", sentence="The test split has enough pairs, in enough groups, for the metric that decides.",
        holds=partial(the_gate_can_decide, gate, evaluation), is_blocking=False,
        literals=(
            gate.primary_metric, gate.datasets, gate.min_pairs, gate.min_clusters, evaluation.datasets, evaluation.max_pairs_per_dataset
        ),
    )  # fmt: skip


def the_gate_can_decide(gate: Gate, evaluation: EvaluationSpec, directory: Path) -> Outcome:
    """As many test pairs as the gate wants have what its primary metric needs; fewer are inconclusive whatever the model says."""
    metric = METRICS[gate.primary_metric]
    groups: dict[str, list[str]] = defaultdict(list)
    others: set[str] = set()
    for reference in _judged(read_table(directory / REFERENCES, Reference), gate, evaluation):
        if metric.applies_to(reference):
            groups[reference.dataset].append(reference.group_id)
        else:
            others |= {name for name, other in METRICS.items() if other.applies_to(reference)}
    most = evaluation.max_pairs_per_dataset
    num_pairs = sum(min(len(found), most or len(found)) for found in groups.values())
    num_groups = sum(min(len(set(found)), most or len(found)) for found in groups.values())
    is_enough = num_pairs >= gate.min_pairs and num_groups >= gate.min_clusters
    cure = f"; set primary_metric to one that these pairs have: {', '.join(sorted(others))}" if not num_pairs and others else ""
    return Outcome(
        passed=is_enough,
        found=f"{num_pairs} test pairs in {num_groups} groups can be judged by {gate.primary_metric}; the gate wants {gate.min_pairs} in "
        f"{gate.min_clusters}{cure or ('' if is_enough else ': it will say inconclusive')}",
    )  # fmt: skip


def _judged(references: Iterable[Reference], gate: Gate, evaluation: EvaluationSpec) -> Iterable[Reference]:
    for reference in references:
        is_asked = not evaluation.datasets or reference.dataset in evaluation.datasets
        if reference.split == "test" and is_asked and (not gate.datasets or reference.dataset in gate.datasets):
            yield reference
