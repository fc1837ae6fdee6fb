"""What datasets say of their pairs before these are read. If these passed wrongly, a gate that can decide would be refused, or a line whose
gate never can would be trained for a day first.
"""

from pathlib import Path

import pytest

from medvl_lib.chat import to_reference
from medvl_lib.datasets import DATASETS
from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.pairs import Draft, Pair
from medvl_lib.sample_data import write
from medvl_lib.split import SplitRow


def placed(pair: Pair) -> SplitRow:
    return SplitRow(pair_id=pair.pair_id, dataset=pair.dataset, group_id=pair.group_id, image_ids=(), split="test")


@pytest.mark.parametrize("name", [name for name, dataset in DATASETS.items() if dataset.answers is not None])
def test_a_dataset_gives_what_it_says_and_nothing_else(name: str, tmp_path: Path):
    write(name, tmp_path / "raw")
    drafts = [reading for reading in DATASETS[name].read(tmp_path / "raw") if isinstance(reading, Draft)]
    references = [to_reference(draft.pair, placed(draft.pair)) for draft in drafts]
    found = {metric.needs for metric in METRICS.values() if any(map(metric.applies_to, references))}
    assert found == set(DATASETS[name].answers)


def test_every_metric_says_what_it_needs():
    assert not [name for name, metric in METRICS.items() if metric.needs is None]
