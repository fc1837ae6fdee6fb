"""What runs by itself. If these passed wrongly, unchanged data would train for a night, changed data never, bad data all the same, or a
sensor would be on in a fresh clone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import pytest

from medvl_assets.definitions import definitions
from medvl_lib.errors import SettingsError
from medvl_lib.route.parity import SERVED_RULE
from medvl_lib.settings import Settings, read_settings

HEAD = 'data_root = "data"\nscale = "tiny"\nprofile = "cpu"\n'
TOML = HEAD + '[datasets.clinical_documents]\n[datasets.mtsamples]\n[lines.forms]\nlike = "documents"\ndatasets = ["clinical_documents"]\n'
SERVED_CHECKS = {dg.AssetCheckKey(dg.AssetKey([line, "served_model"]), SERVED_RULE) for line in ("documents", "forms")}  # of the same step
PREPARED = {"documents/split", "documents/near_duplicates", "documents/chat", "documents/audit"}
JUDGED = {f"documents/{step}" for step in ("predictions", "scores", "benchmark", "promotion", "parity", "report", "served_model")}


def _settings(folder: Path, text: str = TOML) -> Settings:
    (folder / "dagster_project.toml").write_text(text, encoding="utf-8")
    return read_settings(folder / "dagster_project.toml")


@dataclass
class World:
    """Real definitions, an instance in memory, and what the daemon would remember from tick to tick."""

    defs: dg.Definitions
    instance: dg.DagsterInstance
    cursor: object = None
    versions: dict[str, int] = field(default_factory=dict)

    def write(self, *keys: str, passes: Callable[[dg.AssetCheckKey], bool] = lambda _: True, is_other: bool = True) -> None:
        """Each asset is materialized, with another data version or the same, and judged by each of its checks."""
        graph = self.defs.resolve_asset_graph()
        for name in keys:
            key = dg.AssetKey(name.split("/"))
            self.versions[name] = self.versions.get(name, 0) + is_other
            tags = {"dagster/data_version": str(self.versions[name])}
            self.instance.report_runless_asset_event(dg.AssetMaterialization(key, tags=tags))
            for check in graph.get_check_keys_for_assets({key}):
                self.instance.report_runless_asset_event(dg.AssetCheckEvaluation(
                    asset_key=key, check_name=check.name, passed=passes(check), blocking=graph.get(check).blocking,
                ))  # fmt: skip

    def tick(self) -> set[str]:
        """The assets that the next tick of all sensors asks for; each comes with every check of it, or what follows would be refused."""
        result = dg.evaluate_automation_conditions(self.defs, self.instance, cursor=self.cursor)
        self.cursor = result.cursor
        asked = {each.key for each in result.results if not each.true_subset.is_empty}
        assets = {key for key in asked if isinstance(key, dg.AssetKey)}
        assert asked - assets == self.defs.resolve_asset_graph().get_check_keys_for_assets(assets) - SERVED_CHECKS
        return {key.to_user_string() for key in assets}


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Everything was made once, and the sensors have looked since."""
    defs = definitions(_settings(tmp_path))
    made = World(defs, dg.DagsterInstance.ephemeral())
    made.write(*sorted(key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()))
    assert made.tick() == set()
    return made


def test_other_pairs_of_one_dataset_make_other_conversations_of_the_lines_that_read_it_and_train_nothing_yet(world: World):
    world.write("mtsamples/validated_pairs")
    assert world.tick() == PREPARED
    assert world.tick() == set()


def test_other_conversations_train_again_and_all_that_is_downstream_follows_in_the_same_run(world: World):
    world.write("documents/chat")
    assert world.tick() - {"documents/audit"} == {"documents/adapter", "benchmark_store"} | JUDGED
    assert world.tick() == set()


def test_the_same_conversations_written_again_train_nothing(world: World):
    world.write("mtsamples/validated_pairs", *sorted(PREPARED), is_other=False)
    assert world.tick() == set()


def test_another_test_set_alone_is_not_judged_on_the_adapter_of_before(world: World):
    world.write("mtsamples/validated_pairs")
    assert not world.tick() & JUDGED  # they read the pairs as well, and wait for what is trained on them


@pytest.mark.parametrize("rule", ["rejected_share_is_within_budget", "every_image_opens"])
def test_pairs_that_broke_a_blocking_rule_start_nothing_until_they_are_mended(world: World, rule: str):
    world.write("mtsamples/validated_pairs", passes=lambda check: check.name != rule)
    assert world.tick() == set()
    world.write("mtsamples/validated_pairs")
    assert world.tick() == PREPARED


def test_a_rule_that_only_warns_keeps_nothing_back(world: World):
    graph = world.defs.resolve_asset_graph()
    warning = {key for key in graph.asset_check_keys if not graph.get(key).blocking}
    assert warning
    world.write("documents/chat", "documents/audit", passes=lambda check: check not in warning)
    assert "documents/adapter" in world.tick()


def test_nothing_is_asked_for_while_what_it_reads_is_being_made(world: World):
    job = world.defs.resolve_job_def("data_mtsamples")
    run = world.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    world.write("clinical_documents/validated_pairs")
    assert world.tick() == {key.replace("documents", "forms") for key in PREPARED}  # it does not read mtsamples
    world.instance.report_run_canceled(run)
    assert world.tick() == set()  # checks that were to run, and did not, have not passed
    world.write("mtsamples/validated_pairs", is_other=False)
    assert world.tick() == PREPARED


def test_what_was_never_made_is_left_to_the_lines_job(tmp_path: Path):
    made = World(definitions(_settings(tmp_path)), dg.DagsterInstance.ephemeral())
    made.tick()
    made.write("clinical_documents/validated_pairs", "mtsamples/validated_pairs")
    assert "documents/adapter" not in made.tick()


@pytest.fixture
def one_line(tmp_path: Path) -> World:
    """Two lines, of which only ``documents`` was ever made, and the sensors have looked since."""
    defs = definitions(_settings(tmp_path))
    made = World(defs, dg.DagsterInstance.ephemeral())
    keys = (key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys())
    made.write(*sorted(key for key in keys if not key.startswith("forms/")))
    made.tick()
    return made


def test_the_benchmark_store_follows_a_line_beside_one_that_was_never_made(one_line: World):
    one_line.write("documents/promotion")
    assert "benchmark_store" in one_line.tick()
    assert "benchmark_store" not in one_line.tick()


def test_the_benchmark_store_follows_the_first_decision_of_a_line(one_line: World):
    one_line.write("forms/benchmark", "forms/promotion")
    assert "benchmark_store" in one_line.tick()


def test_the_benchmark_store_waits_for_what_passes_and_for_no_other_line(world: World):
    blocking = {key for key in world.defs.resolve_asset_graph().asset_check_keys if world.defs.resolve_asset_graph().get(key).blocking}
    assert any(key.asset_key == dg.AssetKey(["forms", "benchmark"]) for key in blocking)
    world.write("forms/benchmark", passes=lambda check: check not in blocking)
    assert "benchmark_store" not in world.tick()  # nothing new has passed
    world.write("documents/benchmark")
    assert "benchmark_store" in world.tick()
    assert "benchmark_store" not in world.tick()
    world.write("forms/benchmark", is_other=False)  # judged again, and passed now
    assert "benchmark_store" in world.tick()


def test_a_rehearsal_and_weights_that_nothing_feeds_never_run_by_themselves(world: World):
    graph = world.defs.resolve_asset_graph()
    still = {key.to_user_string() for key in graph.get_all_asset_keys() if graph.get(key).automation_condition is None}
    datasets = {f"{name}/{step}" for name in ("clinical_documents", "mtsamples") for step in ("raw_records", "pairs", "validated_pairs")}
    assert still == datasets | {f"{line}/{step}" for line in ("documents", "forms") for step in ("base_model", "overfit")}


def test_everything_that_looks_is_off_until_it_is_switched_on(world: World):
    assert {sensor.default_status for sensor in world.defs.sensors} == {dg.DefaultSensorStatus.STOPPED}
    assert {schedule.default_status for schedule in world.defs.schedules} == {dg.DefaultScheduleStatus.STOPPED}
    assert {sensor.name for sensor in world.defs.sensors} == {
        "documents_retrains", "forms_retrains", "benchmark_store_follows", "raw_records_arrived__clinical_documents",
        "raw_records_arrived__mtsamples", "model_regressed", "run_failed",
    }  # fmt: skip


def test_every_asset_with_a_condition_is_looked_at_by_exactly_one_sensor(world: World):
    graph = world.defs.resolve_asset_graph()
    looking = [sensor for sensor in world.defs.sensors if isinstance(sensor, dg.AutomationConditionSensorDefinition)]
    seen: dict[dg.AssetKey, int] = {}
    for sensor in looking:
        for key in sensor.asset_selection.resolve(graph):
            seen[key] = seen.get(key, 0) + 1
    moving = {key for key in graph.get_all_asset_keys() if graph.get(key).automation_condition is not None}
    assert {seen.get(key) for key in moving} == {1}


def test_each_line_has_its_own_clock_in_the_time_zone_of_the_settings(tmp_path: Path):
    text = TOML + '[automation]\ntime_zone = "Europe/Berlin"\ncron = "0 3 * * *"\ncrons = { forms = "30 4 * * 1-5" }\n'
    clocks = definitions(_settings(tmp_path, text)).schedules
    found = {clock.name: (clock.cron_schedule, clock.execution_timezone) for clock in clocks}
    assert found == {"data_of_documents": ("0 3 * * *", "Europe/Berlin"), "data_of_forms": ("30 4 * * 1-5", "Europe/Berlin")}


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ('time_zone = "Berlin"', "time_zone = 'Berlin'"), ('cron = "every night"', "cron = 'every night'"),
        ('cron = "99 3 * * *"', "cron = '99 3 * * *'"), ("look_seconds = 0", "look_seconds = 0"),
        ('crons = { document = "0 3 * * *" }', "unknown key 'document'"),
    ],
)  # fmt: skip
def test_a_clock_that_cannot_be_meant_is_refused(tmp_path: Path, table: str, found: str):
    with pytest.raises(SettingsError) as raised:
        definitions(_settings(tmp_path, f"{TOML}[automation]\n{table}\n"))
    assert raised.value.found == found


# -- what a change marks -----------------------------------------------------------------------------------------------
def _stale_after(tmp_path: Path, changed: str, *, before: str = TOML) -> set[str]:
    """Which assets have another code version than when everything was made, and which stand downstream of them."""
    first, second = (definitions(_settings(tmp_path, text)).resolve_asset_graph() for text in (before, changed))
    versions: Mapping[dg.AssetKey, str | None] = {key: first.get(key).code_version for key in first.get_all_asset_keys()}
    moved = {key for key in second.get_all_asset_keys() if second.get(key).code_version != versions[key]}
    return {key.to_user_string() for key in moved}


def test_another_learning_rate_of_one_line_marks_exactly_its_adapter_and_the_rehearsal_of_it(tmp_path: Path):
    changed = TOML + "[lines.documents.recipe]\nlearning_rate = 1e-3\n"
    assert _stale_after(tmp_path, changed) == {"documents/adapter", "documents/overfit"}
    graph = definitions(_settings(tmp_path, changed)).resolve_asset_graph()
    below = {
        key.to_user_string() for key in dg.AssetSelection.assets(["documents", "adapter"]).downstream(include_self=False).resolve(graph)
    }
    assert below == JUDGED | {"benchmark_store"}  # and no other line's


def test_a_path_and_a_profiles_speed_mark_nothing(tmp_path: Path):
    changed = TOML.replace('"data"', '"elsewhere"').replace("[datasets.mtsamples]\n", '[datasets.mtsamples]\nraw_path = "uploads"\n')
    assert _stale_after(tmp_path, changed + "[profiles.cpu]\ntraining_batch = 1\nprediction_batch = 3\ngrace_seconds = 60.0\n") == set()


def test_a_docstring_marks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from medvl_lib import chat, split, training

    before = definitions(_settings(tmp_path)).resolve_asset_graph()
    for room in (chat, split, training):
        monkeypatch.setattr(room, "__doc__", "Other words for the same.")
    after = definitions(_settings(tmp_path)).resolve_asset_graph()
    key = dg.AssetKey(["documents", "split"])
    assert (before.get(key).description, after.get(key).description)[1] == "Other words for the same."
    assert {key for key in after.get_all_asset_keys() if after.get(key).code_version != before.get(key).code_version} == set()
