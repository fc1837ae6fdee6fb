"""Jobs: everything, each line with what it is made of, data alone, judging alone, and rehearsals before a long run.

Two runs of one line, or of one dataset's data, wait for each other by their tags: see ``instance``. Any other subset is chosen by asset
name in the UI or by ``dg launch --assets``. See https://docs.dagster.io/guides/build/jobs.
"""

from collections.abc import Sequence

import dagster as dg
from dagster import AssetKey, AssetSelection
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition  # not exported, but returned

from medvl_assets.keys import HERE, Keys
from medvl_lib.lines import Line
from medvl_lib.settings import DATA_JOBS
from medvl_lib.training.overfit import OVERFIT

EVERYTHING, DATA, BENCHMARK = "everything", "data", "benchmark"
REHEARSAL = OVERFIT  # the only one that trains what nobody reads: no other job starts it
LINE_TAG, DATASET_TAG = "medvl/line", "medvl/dataset"
BECAUSE = "medvl/because"


def data_job_of_dataset(name: str) -> str:
    """What the job is called that brings one dataset up to date."""
    return f"{DATA_JOBS}{name}"


def data_job_of_line(name: str) -> str:
    """What the job is called that brings the datasets of one line up to date."""
    return f"{DATA_JOBS}of_{name}"


def jobs(lines: Sequence[Line], datasets: Sequence[str], keys: Keys = HERE) -> list[UnresolvedAssetJobDefinition]:
    """The whole graph, each line and all that is upstream of it; the data of all, of one dataset and of one line; judging; rehearsing."""
    rehearsals = AssetSelection.assets(*(AssetKey(keys.of(line.name, OVERFIT)) for line in lines))
    trained = AssetSelection.assets(*(AssetKey(keys.of(line.name, stage.name)) for line in lines for stage in line.stages))
    pointers = AssetSelection.assets(*(AssetKey(keys.of(line.name, "served_model")) for line in lines))
    whole = dg.define_asset_job(
        EVERYTHING, selection=AssetSelection.all() - rehearsals, description="The whole graph, from raw files to served models."
    )
    rehearsal = dg.define_asset_job(
        REHEARSAL,
        selection=rehearsals.upstream(),
        description="Can every line's model learn 32 of its pairs by heart? Before any long run.",
    )
    judging = dg.define_asset_job(
        BENCHMARK, selection=trained.downstream() - trained - pointers,
        description=(
            "Judge what is trained already: answers, scores, benchmark, decision and report. Trains nothing and moves no pointer. "
            "Where the conversations have changed since the training, a step refuses its inputs, two contents of one thing: start the "
            "line's job, which trains again."
        ),
    )  # fmt: skip
    data = dg.define_asset_job(DATA, selection=AssetSelection.groups(*datasets), description="Bring every dataset up to date.")
    each = [
        dg.define_asset_job(
            line.name, selection=(AssetSelection.groups(line.name).upstream() | AssetSelection.assets(AssetKey(keys.store))) - rehearsals,
            description=f"Everything that the line {line.name} is made of.", tags={LINE_TAG: line.name},
        ) for line in lines
    ]  # fmt: skip
    of_datasets = [
        dg.define_asset_job(
            data_job_of_dataset(name), selection=AssetSelection.groups(name), tags={DATASET_TAG: name},
            description=f"Bring {name} up to date, from its raw files to its validated pairs.",
        ) for name in datasets
    ]  # fmt: skip
    of_lines = [
        dg.define_asset_job(
            data_job_of_line(line.name), selection=AssetSelection.groups(*line.datasets), tags={DATASET_TAG: f"of {line.name}"},
            description=f"Bring the datasets of {line.name} up to date.",
        ) for line in lines
    ]  # fmt: skip
    if not datasets:  # another machine brings them up to date
        return [whole, rehearsal, judging, *each]
    return [whole, rehearsal, judging, data, *each, *of_datasets, *of_lines]
