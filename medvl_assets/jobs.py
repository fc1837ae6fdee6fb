"""Jobs: everything, and each line with what it is made of. See https://docs.dagster.io/guides/build/jobs."""

from collections.abc import Sequence

import dagster as dg
from dagster import AssetSelection
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition  # not exported, but returned

from medvl_lib.lines import Line

EVERYTHING = "everything"


def jobs(lines: Sequence[Line]) -> list[UnresolvedAssetJobDefinition]:
    """One job for the whole graph, one for each line and all that is upstream of it."""
    whole = dg.define_asset_job(EVERYTHING, selection=AssetSelection.all(), description="The whole graph, from raw files to served models.")
    each = [
        dg.define_asset_job(
            line.name, selection=AssetSelection.groups(line.name).upstream() | AssetSelection.assets("benchmark_store"),
            description=f"Everything that the line {line.name} is made of.",
        ) for line in lines
    ]  # fmt: skip
    return [whole, *each]
