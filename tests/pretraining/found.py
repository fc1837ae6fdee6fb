"""What an examination finds, invented: a finding of every kind that a card tells of."""

from collections.abc import Mapping
from dataclasses import replace

from medvl_lib.pretraining.examination import CONTROLS, LOSS, Finding, Measures
from tests.pretraining.test_card import FINDING


def found_of(measures: Mapping[str, Measures]) -> list[Finding]:
    """One of each metric of each set: 0.8 as it is, gray and other pictures at 0.3, the floor at 0.2, four bits at 0.75."""
    found: list[Finding] = []
    for name, metrics in measures.items():
        for metric in metrics:
            base = replace(FINDING, pages=name, metric=metric, num_pages=60, mean=0.8, ci_low=0.7, ci_high=0.9)
            found += [base, *(replace(base, condition=condition, mean=0.3) for condition in CONTROLS)]
            found.append(replace(base, variant="floor_majority", mean=0.2, memory_bytes=None))
            found.append(replace(base, variant="nf4", mean=0.75, minus_base=-0.05, minus_base_ci_low=-0.1, minus_base_ci_high=0.0))
    loss = replace(FINDING, pages=LOSS, metric="loss", memory_bytes=None, ci_low=None, ci_high=None)
    return [*found, replace(loss, mean=0.1), replace(loss, condition="shuffled_image", mean=1.9)]
