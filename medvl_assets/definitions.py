"""The code location: one graph from the raw files of every dataset in the settings to the served model of every line.

Settings and profile are read here, when the location loads; nothing heavy is imported. See https://docs.dagster.io/guides/build/projects-and-components.
"""

import dagster as dg

from medvl_assets.acquisition import fetch_jobs
from medvl_assets.automation import automation
from medvl_assets.dataset_assets import dataset_assets
from medvl_assets.jobs import jobs
from medvl_assets.keys import Keys
from medvl_assets.line_assets import line_assets
from medvl_assets.resources import workspace_resource
from medvl_assets.smoke import smoke_job
from medvl_assets.store_assets import benchmark_store
from medvl_lib.configured import dataset_runs, lines_of
from medvl_lib.hardware import profile_for
from medvl_lib.settings import Settings, read_settings


def definitions(settings: Settings) -> dg.Definitions:
    """Everything that Dagster knows of this project, for one settings file."""
    lines = lines_of(settings)
    profile = profile_for(settings).profile
    keys, runs = Keys(settings.machine.name), dataset_runs(settings) if settings.machine.has_datasets else ()
    url = settings.benchmark_url
    sensors, schedules = automation(settings, lines)
    made = [
        *(item for run in runs for item in dataset_assets(run)),
        *(item for line in lines for item in line_assets(line, profile, settings.automation.served_model_fresh_days, keys, url)),
        benchmark_store(lines, keys, url),
    ]
    made_of = dg.Definitions(
        assets=[item for item in made if not isinstance(item, dg.AssetChecksDefinition)],
        asset_checks=[item for item in made if isinstance(item, dg.AssetChecksDefinition)],
        jobs=[*jobs(lines, [run.dataset.name for run in runs], keys), smoke_job(settings), *fetch_jobs(settings)],
        sensors=sensors,
        schedules=schedules,
        resources={"workspace": workspace_resource(settings)},
        executor=dg.in_process_executor,  # light steps take 0.2 s here, 2.3 s in a process of their own; heavy ones are processes anyway
    )

    def owned(spec: dg.AssetSpec) -> dg.AssetSpec:
        owner = Keys.owner(list(spec.key.path))
        return spec.replace_attributes(owners=settings.owners[owner]) if owner in settings.owners else spec

    return made_of.map_resolved_asset_specs(func=owned) if settings.owners else made_of


@dg.definitions
def defs() -> dg.Definitions:
    """The graph of the settings file that ``MEDVL_SETTINGS`` names, or of the project's own."""
    return definitions(read_settings())
