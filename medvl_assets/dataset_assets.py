"""``dataset_assets(run)``: raw records, pairs and validated pairs of one dataset, what is known of its subjects from other tables, with
their checks. No Dagster code per dataset.
"""

import dagster as dg

from medvl_assets.step_assets import light_asset, step_checks
from medvl_lib.configured import DatasetRun
from medvl_lib.route.data import dataset_steps


def dataset_assets(run: DatasetRun) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """The assets and checks of one dataset."""
    return [made for step in dataset_steps(run) for made in (light_asset(step), step_checks(step))]
