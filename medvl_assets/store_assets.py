"""The published benchmark: one DuckDB file, rebuilt from the Parquet of every evaluation and decision that passed."""

from collections.abc import Sequence

import dagster as dg

from medvl_assets.automation import STORE_FOLLOWS
from medvl_assets.keys import HERE, Keys
from medvl_assets.under_way import tried_again
from medvl_lib.benchmark.publish import publish
from medvl_lib.lines import Line
from medvl_lib.workspace import Workspace


def benchmark_store(lines: Sequence[Line], keys: Keys = HERE, url: str = "") -> dg.AssetsDefinition:
    """The asset that publishes: downstream of every line's decision."""

    @dg.asset(
        key=keys.store, deps=[keys.of(line.name, name) for line in lines for name in ("benchmark", "promotion")], group_name="benchmark",
        kinds={"duckdb"}, description=__doc__, automation_condition=STORE_FOLLOWS,
    )  # fmt: skip
    def published(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        with tried_again(context):
            counts = publish(workspace, url)
        return dg.MaterializeResult(metadata={**counts, "dagster/uri": dg.MetadataValue.path(str(workspace.store))})

    return published
