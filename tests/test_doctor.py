"""The preflight sees what would fail later.

If these passed wrongly, a torchvision that breaks every import of a processor would show as a traceback in the middle of a run.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from medvl_lib.benchmark.publish import ask
from medvl_lib.benchmark.terms import Terms, write_terms
from medvl_lib.doctor import (
    data_root,
    decision,
    device,
    engines,
    hub_model,
    raw_records,
    requirement_name,
    store,
    torchvision,
    tried_together,
)
from medvl_lib.errors import InputRefused
from medvl_lib.files import write_json
from medvl_lib.hardware import PROFILES, Gpu, Machine
from medvl_lib.lines import DOCUMENTS, IMAGING
from medvl_lib.provenance import Outcome, Rule, judge, write_step
from medvl_lib.settings import Settings, read_settings
from medvl_lib.workspace import Workspace

CPU = {"torch": "2.13.0+cpu"}


def settings(folder: Path, dataset: str = "") -> Settings:
    path = folder / "dagster_project.toml"
    path.write_text(f'data_root = "data"\nscale = "tiny"\nprofile = "cpu"\n[datasets.mtsamples]\n{dataset}')
    return read_settings(path)


def test_models_that_the_engine_does_not_run_are_named():
    studio = PROFILES["m3_ultra"]
    assert list(engines(DOCUMENTS, studio)) == []
    found = list(engines(IMAGING, studio))
    assert [finding.level for finding in found] == ["note", "note"]  # decoder and encoder
    assert all("runs on torch (mps), quantization none: the engine mlx does not run" in finding.found for finding in found)
    assert list(engines(IMAGING, PROFILES["gb10"])) == []


def test_a_decision_under_other_settings_is_noted_with_their_names(tmp_path: Path):
    now, workspace = settings(tmp_path), Workspace(root=tmp_path / "data")
    assert list(decision(now, DOCUMENTS)) == []
    terms = Terms(gate=replace(DOCUMENTS.gate, min_pairs=7), evaluation=DOCUMENTS.evaluation)

    def decide(folder: Path) -> dict[str, str]:
        write_terms(folder, terms)
        return {}

    decided = write_step(workspace, "promotion", "documents", "v1", [], decide)
    judge(workspace, decided, [Rule(name="decided", sentence="", holds=lambda _: Outcome(passed=True, found=""))])
    [found] = decision(now, DOCUMENTS)
    assert (found.level, found.found) == ("note", f"documents: decided under other settings: gate.min_pairs ({decided.directory})")


@pytest.mark.parametrize(
    ("versions", "requires", "level"),
    [
        (CPU, None, "ok"),
        ({"torch": "2.13.0", "torchvision": "0.28.0"}, ["numpy", "torch==2.13.0"], "ok"),
        ({"torch": "2.13.0", "torchvision": "0.29.2"}, ["numpy", "torch==2.15.0"], "wrong"),
        ({**CPU, "torchvision": "0.28.0"}, ["torch==2.13.0"], "wrong"),
        ({**CPU, "torchvision": "0.28.0+cpu"}, ["torch==2.13.0"], "ok"),
    ],
)
def test_a_torchvision_that_cannot_be_imported_is_found(versions: dict[str, str], requires: list[str] | None, level: str):
    assert torchvision(versions, requires).level == level


def test_other_versions_than_the_tried_ones_are_named(tmp_path: Path):
    file = tmp_path / "linux-x86_64.txt"
    file.write_text("# comment ==\ntorch==2.13.0\nDuckDB==2.0.0\nnot-installed==1.0\n")
    assert tried_together({**CPU, "duckdb": "2.0.0"}, file).level == "ok"
    assert tried_together({**CPU, "duckdb": "2.0.1"}, file).found == "duckdb 2.0.1 (tried with 2.0.0)"


def test_a_requirement_is_named_whatever_follows_its_name():
    assert [requirement_name(line) for line in ("torch<2.16,>=2.13", "great_expectations~=1.24", "uvicorn[standard]", "six")] == [
        "torch",
        "great-expectations",
        "uvicorn",
        "six",
    ]


def test_a_data_root_that_cannot_be_written_is_found(tmp_path: Path):
    (tmp_path / "data").write_text("a file, not a folder")
    assert data_root(settings(tmp_path)).level == "wrong"


def test_a_data_root_that_is_not_there_yet_is_fine_and_is_not_made(tmp_path: Path):
    assert data_root(settings(tmp_path)).level in {"ok", "note"}
    assert not (tmp_path / "data").exists()


def test_a_store_of_random_bytes_is_no_database_and_the_doctor_and_a_question_say_what_rebuilds_it(tmp_path: Path):
    workspace = Workspace(root=tmp_path)
    workspace.store.write_bytes(bytes(range(256)) * 64)
    found = store(workspace.store)
    assert (found.level, found.found.startswith(f"{workspace.store}: no DuckDB database that can be read: ")) == ("wrong", True)
    with pytest.raises(InputRefused, match="no DuckDB database that can be read") as refused:
        ask(workspace, "leaderboard")
    assert found.do == refused.value.do
    assert "benchmark_store" in found.do


def test_a_model_that_may_not_be_fetched_is_found_until_every_file_of_it_is_here(tmp_path: Path):
    assert hub_model(DOCUMENTS.model, tmp_path).level == "wrong"  # the suite runs with HF_HUB_OFFLINE=1
    write_json(tmp_path / "listing.json", [{"name": "model.safetensors", "num_bytes": 3, "checksum": "0" * 64}])
    assert hub_model(DOCUMENTS.model, tmp_path).level == "wrong"
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    assert hub_model(DOCUMENTS.model, tmp_path).level == "ok"


def test_missing_raw_files_are_to_do_and_a_named_folder_without_files_is_wrong(tmp_path: Path):
    assert raw_records(settings(tmp_path), "mtsamples").level == "note"
    assert raw_records(settings(tmp_path, 'raw_path = "mine"'), "mtsamples").level == "wrong"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mtsamples.csv").write_text("x")
    assert raw_records(settings(tmp_path, 'raw_path = "mine"'), "mtsamples").found == f"mtsamples: 1 files in {tmp_path / 'mine'}"


@pytest.mark.parametrize(
    ("name", "torch_version", "gpu", "level"),
    [
        ("cpu", "2.13.0+cpu", None, "ok"),
        ("gb10", "2.13.0", None, "wrong"),
        ("cuda", "2.13.0", Gpu(name="NVIDIA H200", memory_bytes=2**37, compute_capability=9.0), "ok"),
        ("cuda", "2.13.0+cpu", Gpu(name="NVIDIA H200", memory_bytes=2**37, compute_capability=9.0), "wrong"),
    ],
)
def test_a_profile_whose_device_is_not_here_is_wrong(name: str, torch_version: str, gpu: Gpu | None, level: str):
    machine = Machine(
        system="Linux", architecture="x86_64", chip="", num_cores=2, available_bytes=2**34, gpu=gpu, torch_version=torch_version
    )
    assert device(PROFILES[name], machine).level == level


def test_the_warning_about_a_gb10_is_explained_and_not_believed():
    spark = Machine(
        system="Linux", architecture="aarch64", chip="", num_cores=20, available_bytes=2**36, torch_version="2.13.0+cu130",
        gpu=Gpu(name="NVIDIA GB10", memory_bytes=None, compute_capability=12.1),
    )  # fmt: skip
    finding = device(PROFILES["gb10"], spark)
    assert finding.level == "ok"
    assert "capability 12.1 is above what it was built for (12.0): a false alarm" in finding.found
