"""Jobs: everything, each line with what it is made of, and the rehearsal of every line before a long run. See https://docs.dagster.io/guides/build/jobs."""

from collections.abc import Sequence

import dagster as dg
from dagster import AssetKey, AssetSelection
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition  # not exported, but returned

from medvl_lib.lines import Line
from medvl_lib.training.overfit import OVERFIT

EVERYTHING = "everything"
REHEARSAL = OVERFIT  # the only one that trains what nobody reads: no other job starts it


def jobs(lines: Sequence[Line]) -> list[UnresolvedAssetJobDefinition]:
    """One job for the whole graph, one for each line and all that is upstream of it."""
    rehearsals = AssetSelection.assets(*(AssetKey([line.name, OVERFIT]) for line in lines))
    whole = dg.define_asset_job(
        EVERYTHING, selection=AssetSelection.all() - rehearsals, description="The whole graph, from raw files to served models."
    )
    rehearsal = dg.define_asset_job(
        REHEARSAL,
        selection=rehearsals.upstream(),
        description="Can every line's model learn 32 of its pairs by heart? Before any long run.",
    )
    each = [
        dg.define_asset_job(
            line.name, selection=(AssetSelection.groups(line.name).upstream() | AssetSelection.assets("benchmark_store")) - rehearsals,
            description=f"Everything that the line {line.name} is made of.",
        ) for line in lines
    ]  # fmt: skip
    return [whole, rehearsal, *each]
