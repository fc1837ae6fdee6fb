"""What datasets say of their pairs before these are read. If these passed wrongly, a gate that can decide would be refused, or a line whose
gate never can would be trained for a day first.
"""

from collections.abc import Iterable
from pathlib import Path

import pytest

from medvl_lib.chat import to_reference
from medvl_lib.datasets import DATASETS
from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.pairs import Dataset, Draft, Pair, Reading
from medvl_lib.sample_data import write
from medvl_lib.split import SplitRow


def placed(pair: Pair) -> SplitRow:
    return SplitRow(pair_id=pair.pair_id, dataset=pair.dataset, group_id=pair.group_id, image_ids=(), split="test")


def readings(dataset: Dataset, root: Path) -> Iterable[Reading]:
    """All that a dataset gives, with what is known of its subjects from other tables."""
    if dataset.context is None:
        return dataset.read(root / "raw")
    (root / "known").mkdir()
    dataset.context.write(root / "raw", root / "known")
    return dataset.context.read(root / "raw", root / "known")


@pytest.mark.parametrize("name", [name for name, dataset in DATASETS.items() if dataset.answers is not None])
def test_a_dataset_gives_what_it_says_and_nothing_else(name: str, tmp_path: Path):
    write(name, tmp_path / "raw")
    drafts = [reading for reading in readings(DATASETS[name], tmp_path) if isinstance(reading, Draft)]
    references = [to_reference(draft.pair, placed(draft.pair)) for draft in drafts]
    found = {metric.needs for metric in METRICS.values() if any(map(metric.applies_to, references))}
    assert found == set(DATASETS[name].answers)


def test_every_metric_says_what_it_needs():
    assert not [name for name, metric in METRICS.items() if metric.needs is None]
