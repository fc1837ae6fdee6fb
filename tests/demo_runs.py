"""A small project of its own below a temporary folder, and its demo as a process: what the slow tests start, watch and kill."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path

import psutil

from medvl_lib.configured import dataset_runs, lines_of
from medvl_lib.hardware import PROFILES
from medvl_lib.provenance import judge
from medvl_lib.route.data import dataset_steps
from medvl_lib.route.line import line_steps
from medvl_lib.sample_data import write
from medvl_lib.settings import read_settings
from medvl_lib.step import run_step
from medvl_lib.workspace import Workspace

SETTINGS = """\
data_root = "data"
scale = "tiny"
profile = "cpu"

[datasets.clinical_documents]
{raw}

[lines.documents.recipe]
max_steps = 8
max_training_pairs = 16
max_validation_pairs = 4

[lines.documents.evaluation]
max_pairs_per_dataset = 4
max_answer_tokens = 12
"""
HEAVY = "medvl_lib.launch"
MATERIALIZE = """
import sys
import dagster as dg
from medvl_assets.definitions import definitions
from medvl_lib.settings import read_settings
keys = [dg.AssetKey(name.split("/")) for name in sys.argv[1:]]
done = definitions(read_settings()).resolve_implicit_global_asset_job_def().execute_in_process(asset_selection=keys, raise_on_error=False)
raise SystemExit(not done.success)
"""


def project(root: Path, *, raw: str = "", more: str = "") -> Path:
    """A settings file with a few invented documents beside it."""
    root.mkdir(parents=True, exist_ok=True)
    settings = root / "dagster_project.toml"
    settings.write_text(SETTINGS.format(raw=raw) + more, encoding="utf-8")
    if not raw:
        write(
            "clinical_documents",
            root / "data" / "raw" / "clinical_documents",
            counts={"train": 2, "validation": 1, "test": 1, "benchmark": 1},
        )
    return settings


def start(settings: Path) -> psutil.Popen:
    """The demo of a project, as ``make demo`` starts it, in a process group of its own."""
    return psutil.Popen(
        [sys.executable, "-m", "medvl_assets.demo"], cwd=settings.parent, env={**os.environ, "MEDVL_SETTINGS": str(settings)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def materialize(settings: Path, *keys: str) -> psutil.Popen:
    """A run of the graph for these assets alone, and their checks; its words are this process's."""
    command = [sys.executable, "-c", MATERIALIZE, *keys]
    return psutil.Popen(command, cwd=settings.parent, env={**os.environ, "MEDVL_SETTINGS": str(settings)})


def prepare(settings: Path, wanted: str) -> None:
    """Everything that a step of the project's one line reads, made in this process and judged; the rehearsal is left out."""
    read = read_settings(settings)
    [line], workspace = lines_of(read), Workspace(root=settings.parent / "data")
    steps = [*(step for run in dataset_runs(read) for step in dataset_steps(run)), *line_steps(line, PROFILES["cpu"])]
    for step in takewhile(lambda step: step.name != wanted, steps):
        if step.name != "overfit":
            judge(workspace, run_step(workspace, step), step.rules)


def finish(process: psutil.Popen, *, seconds: float = 900) -> str:
    """What it printed; fails when it does not end in time."""
    said, _ = process.communicate(timeout=seconds)
    return said


def run(settings: Path) -> tuple[int, str]:
    """Exit status and words of a whole demo."""
    process = start(settings)
    said = finish(process)
    return process.returncode, said


def heavy(process: psutil.Popen) -> list[psutil.Process]:
    """The heavy processes below a demo."""
    return [child for child in process.children(recursive=True) if HEAVY in " ".join(child.cmdline())]


def worker(process: psutil.Popen) -> psutil.Process:
    """The process that runs the graph: the parent of the heavy one."""
    [child] = heavy(process)
    parent = child.parent()
    assert parent is not None
    return parent


def wait_for(what: Callable[[], object], seconds: float = 300) -> None:
    """Until something is true."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.05)


def steps_done(settings: Path) -> int:
    """How many optimizer steps the training run has recorded so far."""
    files = list((settings.parent / "data" / "checkpoints").glob("adapter/documents/*/steps.jsonl"))
    return sum(len(path.read_text().splitlines()) for path in files)
