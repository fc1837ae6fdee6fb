"""Acquisition as jobs: one for each dataset of the settings that has a source, started by a person and by nothing else.

A job and no asset: raw records are observed and never written by a step, and no other job, sensor or condition may begin a download of
hundreds of gigabytes (docs/decisions/0026). What it does is ``medvl fetch``'s; when it has placed the files, whoever watches the folder
sees them as any other upload. It waits for the runs of the same dataset's data by the tag that these have. Credentials stand in
the environment of who starts the services, never in a run's config. See https://docs.dagster.io/guides/build/ops.
"""

from collections.abc import Mapping

import dagster as dg
from pydantic import Field

from medvl_assets.jobs import DATASET_TAG
from medvl_assets.under_way import tried_again
from medvl_lib.datasets import DATASETS
from medvl_lib.fetching.by_hand import by_hand
from medvl_lib.fetching.downloads import Away
from medvl_lib.fetching.fetch import fetch
from medvl_lib.fetching.wanted import Limits
from medvl_lib.provenance import Fact
from medvl_lib.settings import FETCH_JOBS, Settings
from medvl_lib.workspace import Workspace


class FetchConfig(dg.Config):
    """How much is brought; as it stands, all of it."""

    max_patients: int | None = Field(default=None, ge=1, description="the first patients, where the publisher's paths name them")
    max_studies_per_patient: int | None = Field(default=None, ge=1, description="of each patient the first studies, whole ones")
    max_bytes: int | None = Field(default=None, ge=1, description="of the whole set on this machine")
    max_seconds: float | None = Field(default=None, gt=0, description="of this run; the next one goes on")
    only: list[str] = Field(default=[], description="of several sources these")


def fetch_jobs(settings: Settings) -> list[dg.JobDefinition]:
    """A job for each dataset in use that can be fetched; none where a URL says where its files lie."""
    names = [name for name in settings.enabled_datasets() if not settings.dataset(name).raw_url]
    return [fetch_job(settings, name) for name in names if DATASETS[name].acquisition.sources]


def fetch_job(settings: Settings, name: str) -> dg.JobDefinition:
    """One step that brings a dataset's files, and says how far it is."""
    dataset, folder = DATASETS[name], settings.own_raw_folder(name)
    told = f"Bring the raw files of {name} into {folder}, from {', '.join(source.page for source in dataset.acquisition.sources)}. "
    told += f"Licence: {dataset.licence}. {dataset.acquisition.terms}"

    @dg.op(name=f"bring_{name}", description=told)
    def bring(context: dg.OpExecutionContext, config: FetchConfig) -> None:
        def report(facts: Mapping[str, Fact]) -> None:
            context.log.info(", ".join(f"{key} {value}" for key, value in facts.items()))

        limits = Limits(**{key: value for key, value in config.model_dump().items() if key != "only"})
        with tried_again(context):
            try:
                found = fetch(dataset, folder, Workspace(root=settings.data_root).fetched(name), limits, config.only, report)
            except Away:
                context.log.warning(by_hand(dataset, folder))
                raise
        context.add_output_metadata({
            "num_files": found.num_files, "num_bytes": found.num_bytes, "num_placed": found.num_placed,
            "limit_reached": found.reached or "none", "dagster/uri": dg.MetadataValue.path(str(found.record)),
            **({} if found.num_patients is None else {"num_patients": found.num_patients}),
        })  # fmt: skip

    @dg.job(name=f"{FETCH_JOBS}{name}", description=told, executor_def=dg.in_process_executor, tags={DATASET_TAG: name})
    def fetched() -> None:
        bring()

    return fetched
