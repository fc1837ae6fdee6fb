"""What a person types, or clicks, to have a dataset, and reads. If these passed wrongly, a run could download what nobody asked for, or who
has no network would not know what to put where.
"""

from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from huggingface_hub import constants

from medvl_assets.acquisition import fetch_job
from medvl_assets.definitions import definitions
from medvl_lib.cli import main
from medvl_lib.cli.arguments import amount
from medvl_lib.datasets import DATASETS
from medvl_lib.errors import MedVLError
from medvl_lib.files import read_json
from medvl_lib.settings import Settings, read_settings
from medvl_lib.sources import Acquisition, Archive
from tests.fetching.conftest import Person
from tests.fetching.test_downloads import ARCHIVE, PATH, PICTURES

TOML = 'data_root = "data"\nscale = "tiny"\nprofile = "cpu"\n[datasets.slake]\n[datasets.clinical_documents]\n'


@pytest.fixture
def settings(person: Person, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A project whose SLAKE lies on this machine's publisher."""
    path = person.folder / "dagster_project.toml"
    path.write_text(TOML, encoding="utf-8")
    monkeypatch.setenv("MEDVL_SETTINGS", str(path))
    person.publisher.files[PATH] = ARCHIVE
    source = Archive(name="here", url=person.publisher.url + PATH, file="set.zip", page="https://example.org/set")
    acquisition = replace(DATASETS["slake"].acquisition, sources=(source,))
    monkeypatch.setitem(DATASETS, "slake", replace(DATASETS["slake"], acquisition=acquisition))
    return read_settings(path)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_one_command_fills_the_raw_folder(settings: Settings, capsys: pytest.CaptureFixture[str]):
    assert main(["fetch", "slake"]) == 0
    assert files(settings.raw_folder("slake")) == set(PICTURES)
    assert f"slake: 4 files, 0.0 MB in {settings.raw_folder('slake')}, 4 of them placed now" in capsys.readouterr().out


@pytest.mark.parametrize("is_set", [True, False])
def test_without_a_network_it_says_what_to_put_where(
    settings: Settings, is_set: bool, person: Person, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", is_set)
    away = Archive(name="here", url="http://127.0.0.1:9/set.zip", file="set.zip", page="https://example.org/set")
    acquisition = replace(DATASETS["slake"].acquisition, sources=(away,))
    monkeypatch.setitem(DATASETS, "slake", replace(DATASETS["slake"], acquisition=acquisition))
    assert main(["fetch", "slake"]) == 2
    said = capsys.readouterr()
    for part in ("licence: CC-BY-4.0", "https://example.org/set", f"into {settings.raw_folder('slake')}:", "imgs/xmlab<n>/source.jpg"):
        assert part in said.out
    assert ("HF_HUB_OFFLINE is set" if is_set else "check the network") in said.err
    assert person.publisher.seen == []


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_says_what_to_put_where(name: str, capsys: pytest.CaptureFixture[str], settings: Settings):
    assert main(["fetch", name, "--by-hand"]) == 0
    said = capsys.readouterr().out
    acquisition: Acquisition = DATASETS[name].acquisition
    assert acquisition.layout
    for part in (acquisition.terms, *(source.page for source in acquisition.sources), *acquisition.layout):
        assert part in said


def test_what_nobody_publishes_is_not_fetched(settings: Settings, capsys: pytest.CaptureFixture[str]):
    assert main(["fetch", "clinical_documents"]) == 2
    assert "`medvl sample-data clinical_documents` writes it" in capsys.readouterr().out


@pytest.mark.parametrize(("text", "number"), [("500MB", 500_000_000), ("1.5G", 1_500_000_000), ("7", 7), ("2 kB", 2000)])
def test_an_amount_is_a_number_with_or_without_a_unit(text: str, number: int):
    assert amount(text) == number


def test_an_amount_that_cannot_be_meant_is_refused(settings: Settings):
    with pytest.raises(SystemExit):
        main(["fetch", "slake", "--max-bytes", "much"])


def test_a_click_does_the_same_and_says_within_which_limits(settings: Settings):
    result = definitions(settings).resolve_job_def("fetch_slake").execute_in_process(
        run_config={"ops": {"bring_slake": {"config": {"max_seconds": 600.0}}}}
    )  # fmt: skip
    assert result.success
    assert files(settings.raw_folder("slake")) == set(PICTURES)
    [output] = [event.step_output_data for event in result.all_events if event.is_successful_output]
    assert output.metadata["num_placed"].value == 4
    assert read_json(Path(output.metadata["dagster/uri"].value))["limits"]["max_seconds"] == 600.0


def test_no_other_job_fetches_and_what_has_no_source_has_no_job(settings: Settings):
    made = definitions(settings)
    jobs = {job.name: job for job in made.resolve_all_job_defs()}
    assert [name for name in jobs if name.startswith("fetch_")] == ["fetch_slake"]
    assert [name for name, job in jobs.items() if any("bring_" in node.name for node in job.graph.nodes)] == ["fetch_slake"]
    assert jobs["fetch_slake"].tags["medvl/dataset"] == "slake"  # it waits for the runs of the same dataset's data


def test_nothing_is_written_where_a_url_is_mirrored(settings: Settings, capsys: pytest.CaptureFixture[str]):
    settings.path.write_text(TOML.replace("[datasets.slake]", '[datasets.slake]\nraw_url = "s3://hospital/slake"'), encoding="utf-8")
    behind = read_settings(settings.path)
    for command in (["fetch", "slake"], ["sample-data", "slake"]):
        assert main(command) == 2
        assert "raw_url = 's3://hospital/slake'" in capsys.readouterr().err
    with pytest.raises(MedVLError, match="raw_url"):
        fetch_job(behind, "slake")
    assert not [job.name for job in definitions(behind).resolve_all_job_defs() if job.name.startswith("fetch_")]
    assert not behind.raw_folder("slake").exists()


def test_a_line_that_breaks_is_asked_for_again_and_a_refusal_is_not(settings: Settings, person: Person):
    job = fetch_job(settings, "slake")
    person.publisher.cuts = [0] * 4
    broken = job.execute_in_process(raise_on_error=False)
    assert any(event.is_step_up_for_retry for event in broken.all_events)
    assert broken.success  # the second time
    person.publisher.answers[PATH] = [(403, {})] * 9
    (settings.raw_folder("slake") / next(iter(PICTURES))).unlink()
    refused = job.execute_in_process(raise_on_error=False)
    assert not refused.success
    assert not any(event.is_step_up_for_retry for event in refused.all_events)


def test_a_dagster_without_config_asks_for_everything():
    job = fetch_job(read_settings(Path(__file__).parents[2] / "dagster_project.toml"), "mimic_cxr")
    assert dg.validate_run_config(job, {})
