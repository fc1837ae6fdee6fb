"""The data behind trained weights, for their card: which pairs of which dataset under which licence, in numbers.

In: an adapter or encoder. Out: counts by dataset and licence, of those datasets that it took any pair of.
"""

from collections.abc import Iterator

from medvl_lib.datasets import DATASETS
from medvl_lib.evaluation.parquet_sql import query
from medvl_lib.evaluation.predictions import REFERENCES
from medvl_lib.export.card import DataUsed
from medvl_lib.lines import Line
from medvl_lib.provenance import Artifact, ancestor
from medvl_lib.training.steps import TRAINED_ON
from medvl_lib.workspace import Workspace

TRAINING_PAIRS = """
    select dataset, licence, count(*), list(distinct language order by language) from refs where split in ('train', 'validation')
    group by dataset, licence order by dataset, licence
"""


def data_behind(workspace: Workspace, line: Line, trained: Artifact) -> Iterator[DataUsed]:
    """Pairs of the conversations that it was trained on."""
    chat = ancestor(workspace, trained, "chat", line.name)
    taken = {name.removeprefix(TRAINED_ON): count for name, count in trained.facts.items() if name.startswith(TRAINED_ON)}
    for dataset, licence, count, languages in query(TRAINING_PAIRS, {"refs": chat.directory / REFERENCES}):
        if not taken or taken.get(dataset):
            known = DATASETS[dataset]
            yield DataUsed(
                dataset=dataset, title=known.title, source=known.source, licence=licence, num_pairs=count, languages=tuple(languages)
            )
