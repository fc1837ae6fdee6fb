"""A small project of its own below a temporary folder, and its demo as a process: what the slow tests start, watch and kill."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from medvl_lib.sample_data import write

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
