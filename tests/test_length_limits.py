"""Bounds that fit descriptions (more than 5 and fewer than 1,000 characters), counted on what else is read. If these passed wrongly, most
short answers could be thrown away by a bound that was meant for something else, and nobody would know how many.
"""

import csv
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from medvl_lib.configured import DatasetRun, dataset_runs
from medvl_lib.images import ImageStore
from medvl_lib.pairs import write_pairs
from medvl_lib.sample_data import write
from medvl_lib.settings import read_settings
from medvl_lib.validation import write_validated

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "data"
DESCRIPTIONS = "min_response_characters = 6\nmax_response_characters = 999\n"


def run_with(folder: Path, dataset: str, raw: Path, limits: str) -> DatasetRun:
    """A dataset as a user's settings file has it."""
    path = folder / "dagster_project.toml"
    table = f'[datasets.{dataset}]\nraw_path = "{raw}"\n[datasets.{dataset}.limits]\n{limits}'
    path.write_text(f'data_root = "data"\nscale = "tiny"\nprofile = "cpu"\n{table}')
    [run] = dataset_runs(read_settings(path))
    return run


def lengths_rejected(folder: Path, dataset: str, raw: Path) -> dict[str, int]:
    """How many pairs there are, and how many the descriptions' bounds leave out; the project's own leave out none for its length."""
    images, pairs = ImageStore(folder / "images"), folder / "pairs"
    pairs.mkdir()
    facts = write_pairs(pairs, run_with(folder, dataset, raw, "").dataset.read(raw), images)
    found: dict[str, Mapping[str, object]] = {}
    for name, limits in (("own", ""), ("descriptions", DESCRIPTIONS)):
        run = run_with(folder, dataset, raw, limits)
        (folder / name).mkdir()
        found[name] = write_validated(folder / name, pairs, images, run.dataset, run.limits)
    assert not [reason for reason in found["own"] if reason.endswith(("_too_short", "_too_long"))]
    wrong = {
        reason.removeprefix("rejected_response_"): count for reason, count in found["descriptions"].items() if "response_too" in reason
    }
    return {"num_pairs": facts["num_pairs"], **wrong}


@pytest.mark.real_data
def test_of_vqa_rads_answers_they_would_leave_out_two_thirds(tmp_path: Path):
    raw = REAL / "vqa-rad" / "hf"
    if not raw.is_dir():
        pytest.skip(f"VQA-RAD is not at {raw}")
    assert lengths_rejected(tmp_path, "pathvqa", raw) == {"num_pairs": 522, "too_short": 339}
    answers = [answer for path in raw.rglob("*.parquet") for answer in pq.read_table(path, columns=["answer"])["answer"].to_pylist()]
    assert sum(len(answer.strip()) <= 5 for answer in answers) == 339  # counted without our reader


@pytest.mark.real_data
def test_of_mtsamples_they_would_leave_out_no_page_and_most_whole_transcriptions(tmp_path: Path):
    raw = REAL / "mtsamples"
    if not raw.is_dir():
        pytest.skip(f"MTSamples are not at {raw}")
    assert lengths_rejected(tmp_path, "mtsamples", raw) == {"num_pairs": 892}
    with (raw / "mtsamples.csv").open(encoding="utf-8", newline="") as file:
        lengths = [len(row["transcription"].strip()) for row in csv.DictReader(file)]
    assert (len(lengths), sum(0 < length <= 5 for length in lengths), sum(length >= 1000 for length in lengths)) == (200, 0, 168)


@pytest.mark.parametrize(
    ("dataset", "counts"),
    [
        ("clinical_documents", {"num_pairs": 572}),
        ("mtsamples", {"num_pairs": 46}),
        ("pathvqa", {"num_pairs": 103, "too_short": 92}),
        ("pubmedvision", {"num_pairs": 60}),
    ],
)
def test_of_invented_sets_they_would_leave_out_the_short_answers_alone(tmp_path: Path, dataset: str, counts: dict[str, int]):
    assert lengths_rejected(tmp_path, dataset, write(dataset, tmp_path / "raw").root) == counts
