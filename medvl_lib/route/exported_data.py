"""The data behind trained weights, for their card: which pairs of which dataset under which licence, in numbers.

In: an adapter or encoder. Out: counts by dataset and licence, of those datasets that it took any pair of.
"""

from collections.abc import Iterator

from medvl_lib.datasets import DATASETS
from medvl_lib.evaluation.parquet_sql import query
from medvl_lib.evaluation.predictions import REFERENCES
from medvl_lib.export.card import DataUsed
from medvl_lib.lines import Line
from medvl_lib.provenance import Artifact, ancestor, read_artifact
from medvl_lib.training.steps import TRAINED_ON
from medvl_lib.workspace import Workspace

TRAINING_PAIRS = """
    select dataset, licence, count(*), list(distinct language order by language) from refs where split in ('train', 'validation')
    group by dataset, licence order by dataset, licence
"""


def data_behind(workspace: Workspace, line: Line, trained: Artifact) -> Iterator[DataUsed]:
    """Pairs of the conversations that it, and every stage that it goes on from, was trained on."""
    found: dict[tuple[str, str], tuple[int, set[str]]] = {}
    for stage in _with_stages_before(workspace, line, trained):
        for dataset, licence, count, languages in _taken(workspace, line, stage):
            most, known = found.get((dataset, licence), (0, set[str]()))
            found[dataset, licence] = max(most, count), known | set(languages)
    for (dataset, licence), (count, languages) in sorted(found.items()):
        known = DATASETS[dataset]
        yield DataUsed(
            dataset=dataset, title=known.title, source=known.source, licence=licence, num_pairs=count, languages=tuple(sorted(languages))
        )


def _taken(workspace: Workspace, line: Line, trained: Artifact) -> Iterator[tuple[str, str, int, list[str]]]:
    """Dataset, licence, pairs and languages of what one stage took."""
    chat = ancestor(workspace, trained, "chat", line.name)
    taken = {name.removeprefix(TRAINED_ON): count for name, count in trained.facts.items() if name.startswith(TRAINED_ON)}
    for dataset, licence, count, languages in query(TRAINING_PAIRS, {"refs": chat.directory / REFERENCES}):
        if not taken or taken.get(dataset):
            yield dataset, licence, count, languages


def _with_stages_before(workspace: Workspace, line: Line, trained: Artifact) -> Iterator[Artifact]:
    """It, and every stage whose adapter it goes on from: their data is in the weights too."""
    yield trained
    for stage in line.answering:
        if mark := trained.inputs.get(f"{stage.name}/{line.name}"):
            yield from _with_stages_before(workspace, line, read_artifact(workspace.directory(stage.name, line.name, mark)))
