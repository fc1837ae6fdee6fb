"""The graph that Dagster sees. If these passed wrongly, an asset could lack its checks, bad data could flow on past a blocking one, or a
killed run could keep its place in the device's queue for ever.
"""

import datetime as dt
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickStatus

from medvl_assets.dataset_assets import dataset_assets
from medvl_assets.definitions import definitions
from medvl_assets.instance import instance_home
from medvl_assets.jobs import EVERYTHING, REHEARSAL
from medvl_assets.resources import workspace_resource
from medvl_assets.runs import end_dead_runs, forget_old_runs, run_lock
from medvl_assets.smoke import smoke_settings
from medvl_lib.configured import dataset_runs, lines_of
from medvl_lib.errors import SettingsError
from medvl_lib.hardware import PROFILES
from medvl_lib.route.data import dataset_steps
from medvl_lib.route.line import line_steps
from medvl_lib.route.parity import SERVED_RULE
from medvl_lib.sample_data import write
from medvl_lib.settings import Settings, read_settings
from medvl_lib.workspace import Workspace

TOML = 'data_root = "data"\nscale = "tiny"\nprofile = "cpu"\n[datasets.clinical_documents]\n'


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "dagster_project.toml").write_text(TOML, encoding="utf-8")
    write("clinical_documents", tmp_path / "data/raw/clinical_documents", counts={"train": 4, "validation": 1, "test": 1, "benchmark": 0})
    return read_settings(tmp_path / "dagster_project.toml")


def _materialize(settings: Settings, instance: dg.DagsterInstance | None = None) -> dg.ExecuteInProcessResult:
    [run] = dataset_runs(settings)
    resources = {"workspace": workspace_resource(settings)}
    return dg.materialize(dataset_assets(run), resources=resources, raise_on_error=False, instance=instance)


def test_every_step_is_an_asset_and_every_rule_a_check_of_it(settings: Settings):
    graph = definitions(settings).resolve_asset_graph()
    steps = [step for run in dataset_runs(settings) for step in dataset_steps(run)]
    steps += [step for line in lines_of(settings) for step in line_steps(line, PROFILES["cpu"])]
    assets = {dg.AssetKey([step.owner, step.name]) for step in steps}
    assert graph.get_all_asset_keys() == assets | {dg.AssetKey(["documents", "served_model"]), dg.AssetKey("benchmark_store")}
    checks = {dg.AssetCheckKey(dg.AssetKey([step.owner, step.name]), rule.name) for step in steps for rule in step.rules}
    assert set(graph.asset_check_keys) == checks | {dg.AssetCheckKey(dg.AssetKey(["documents", "served_model"]), SERVED_RULE)}


def test_the_rehearsal_is_a_job_of_its_own_and_no_other_job_starts_it(settings: Settings):
    made = definitions(settings)
    rehearsal, adapter = dg.AssetKey(["documents", "overfit"]), dg.AssetKey(["documents", "adapter"])
    chosen = {name: made.resolve_job_def(name).asset_layer.executable_asset_keys for name in (EVERYTHING, REHEARSAL, "documents")}
    assert {name for name, keys in chosen.items() if rehearsal in keys} == {REHEARSAL}
    assert {name for name, keys in chosen.items() if adapter in keys} == {EVERYTHING, "documents"}
    assert dg.AssetKey(["clinical_documents", "raw_records"]) in chosen[REHEARSAL]


def test_who_answers_for_a_dataset_or_a_line_stands_at_each_of_its_assets(tmp_path: Path):
    (tmp_path / "dagster_project.toml").write_text(TOML + '[owners]\ndocuments = ["team:imaging", "adler@example.org"]\n', encoding="utf-8")
    graph = definitions(read_settings(tmp_path / "dagster_project.toml")).resolve_asset_graph()
    owners = {key.path[0]: list(graph.get(key).owners) for key in graph.get_all_asset_keys()}
    assert owners == {"documents": ["team:imaging", "adler@example.org"], "clinical_documents": [], "benchmark_store": []}


@pytest.mark.parametrize(("line", "found"), [('document = ["team:x"]', "unknown key 'document'"), ('documents = ["Adler"]', "0 = 'Adler'")])
def test_an_owner_who_cannot_be_meant_is_refused(tmp_path: Path, line: str, found: str):
    (tmp_path / "dagster_project.toml").write_text(f"{TOML}[owners]\n{line}\n", encoding="utf-8")
    with pytest.raises(SettingsError) as raised:
        definitions(read_settings(tmp_path / "dagster_project.toml"))
    assert raised.value.found == found


def test_each_job_makes_what_its_name_says(settings: Settings):
    made = definitions(settings)
    chosen = {
        job: {key.to_user_string() for key in made.resolve_job_def(job).asset_layer.executable_asset_keys}
        for job in (EVERYTHING, "documents", "data", "data_clinical_documents", "data_of_documents", "benchmark")
    }  # fmt: skip
    data = {f"clinical_documents/{step}" for step in ("raw_records", "pairs", "validated_pairs")}
    assert chosen["data"] == chosen["data_clinical_documents"] == chosen["data_of_documents"] == data
    judged = {f"documents/{step}" for step in ("predictions", "scores", "benchmark", "promotion", "parity", "report")}
    assert chosen["benchmark"] == judged | {"benchmark_store"}  # no adapter, and no pointer
    assert chosen["documents"] == chosen[EVERYTHING] > chosen["benchmark"] | data | {"documents/adapter", "documents/served_model"}


def test_two_runs_of_one_line_and_of_one_dataset_wait_for_each_other(settings: Settings, tmp_path: Path):
    made = definitions(settings)
    tags = {name: made.resolve_job_def(name).tags for name in ("documents", "data_clinical_documents")}
    assert (tags["documents"]["medvl/line"], tags["data_clinical_documents"]["medvl/dataset"]) == ("documents", "clinical_documents")
    [looking] = [sensor for sensor in made.sensors if sensor.name == "documents_retrains"]
    assert looking.run_tags["medvl/line"] == "documents"  # what retrains by itself waits for what a person started, and the other way
    with dg.DagsterInstance.from_config(instance_home(Workspace(root=settings.data_root))) as instance:
        queue = instance.get_concurrency_config().run_queue_config
        assert {limit["key"]: limit["limit"] for limit in queue.tag_concurrency_limits} == {"medvl/line": 1, "medvl/dataset": 1}
        assert instance.run_monitoring_enabled and instance.run_retries_enabled and not instance.run_retries_retry_on_asset_or_op_failure
        assert instance.get_tick_retention_settings(InstigatorType.SENSOR)[TickStatus.SKIPPED] == 2


def test_old_runs_are_forgotten_but_for_those_that_an_asset_stands_on(settings: Settings):
    with dg.DagsterInstance.from_config(instance_home(Workspace(root=settings.data_root))) as instance:
        first, second = (_materialize(settings, instance).run_id for _ in range(2))
        unfinished = instance.create_run_for_job(dg.job(name="waiting")(lambda: None), status=dg.DagsterRunStatus.STARTED).run_id
        assert forget_old_runs(instance, dt.timedelta(days=1)) == []
        assert forget_old_runs(instance, dt.timedelta(0)) == [first]
        assert {run.run_id for run in instance.get_runs()} == {second, unfinished}
        key = dg.AssetKey(["clinical_documents", "validated_pairs"])
        assert instance.get_latest_materialization_event(key).run_id == second


def test_the_small_run_is_made_of_the_same_datasets_and_lines(settings: Settings, tmp_path: Path):
    text = TOML + '[datasets.slake]\n[datasets.mimic_cxr]\n[lines.five]\nlike = "documents"\ndatasets = ["clinical_documents"]\n'
    text += '[lines.imaging.model]\nfamily = "qwen2_5_vl"\n[lines.radiology.split]\nvalidation_share = 0.25\n'
    (tmp_path / "dagster_project.toml").write_text(text, encoding="utf-8")
    real = read_settings(tmp_path / "dagster_project.toml")
    (tmp_path / "smoke").mkdir()
    (tmp_path / "smoke" / "dagster_project.toml").write_text(smoke_settings(real, lines_of(real)), encoding="utf-8")
    small = read_settings(tmp_path / "smoke" / "dagster_project.toml")
    assert small.data_root == tmp_path / "smoke" / "data"
    assert [(line.name, line.datasets) for line in lines_of(small)] == [(line.name, line.datasets) for line in lines_of(real)]
    assert {stage.recipe.max_steps for line in lines_of(small) for stage in line.stages} == {8}
    assert [line.model.family for line in lines_of(small)] == [line.model.family for line in lines_of(real)]
    assert [line.split for line in lines_of(small)] == [line.split for line in lines_of(real)]
    steps = [stage.share_of_steps * stage.recipe.max_steps for line in lines_of(small) for stage in line.stages]
    assert min(steps) >= 2  # or its loss could not fall
    assert definitions(small).resolve_job_def("smoke")


def test_a_dataset_is_materialized_with_its_counts_and_passes_its_checks(settings: Settings):
    result = _materialize(settings)
    assert result.success
    [event] = result.asset_materializations_for_node("clinical_documents__validated_pairs")
    assert event.metadata["num_read"].value == event.metadata["num_pairs"].value + event.metadata["num_rejected"].value
    assert event.metadata["dagster/row_count"].value == event.metadata["num_pairs"].value
    assert all(check.passed for check in result.get_asset_check_evaluations())
    assert Workspace(root=settings.data_root).current("validated_pairs", "clinical_documents").is_file()


def test_a_broken_upload_stops_at_its_check_and_what_was_good_stays(settings: Settings):
    assert _materialize(settings).success
    workspace = Workspace(root=settings.data_root)
    good = workspace.current("validated_pairs", "clinical_documents").read_text()
    pages = sorted((workspace.raw("clinical_documents") / "train" / "images").glob("*.png"))
    for page in pages[: len(pages) // 2]:
        page.write_bytes(b"no picture")
    result = _materialize(settings)
    assert not result.success
    [failed] = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert failed.check_name == "rejected_share_is_within_budget"
    assert "image_unreadable" in failed.description
    assert "[datasets.clinical_documents] rejected_share_budget" in failed.description
    assert workspace.current("validated_pairs", "clinical_documents").read_text() == good


def test_a_run_whose_process_is_gone_is_ended_and_a_living_one_is_not(tmp_path: Path):
    workspace = Workspace(root=tmp_path)
    with dg.DagsterInstance.from_config(instance_home(workspace)) as instance:
        dead, alive = (instance.create_run_for_job(dg.job(name=name)(lambda: None), status=dg.DagsterRunStatus.STARTED) for name in "ab")
        with run_lock(workspace, dead.run_id):
            pass  # its process held the lock, and died
        with run_lock(workspace, alive.run_id):
            assert end_dead_runs(instance, workspace) == [dead.run_id]
        assert instance.get_run_by_id(dead.run_id).status == dg.DagsterRunStatus.FAILURE
        assert instance.get_run_by_id(alive.run_id).status == dg.DagsterRunStatus.STARTED


def test_a_run_ends_the_dead_ones_whose_place_in_the_queue_it_would_wait_for(settings: Settings):
    workspace = Workspace(root=settings.data_root)
    with dg.DagsterInstance.from_config(instance_home(workspace)) as instance:
        storage = instance.event_log_storage
        dead = instance.create_run_for_job(dg.job(name="killed")(lambda: None), status=dg.DagsterRunStatus.STARTED)
        with run_lock(workspace, dead.run_id):
            pass
        storage.set_concurrency_slots("gpu", 1)
        assert storage.claim_concurrency_slot("gpu", dead.run_id, "training").is_claimed
        assert _materialize(settings, instance).success
        assert instance.get_run_by_id(dead.run_id).status == dg.DagsterRunStatus.FAILURE
        assert storage.get_concurrency_info("gpu").active_slot_count == 0
