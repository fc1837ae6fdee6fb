"""If these passed wrongly, the invented files would lack the quirks of the real ones, and a reader that fails on those would pass."""

import csv
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from medvl_lib import sample_data
from medvl_lib.datasets.mtsamples_files import SPECIALTIES
from medvl_lib.sample_data import mtsamples


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "mtsamples"
    assert sample_data.write("mtsamples", folder).num_records == 30 + 3 + 6 + 2 + 1
    return folder


def rows(root: Path) -> list[list[str]]:
    with (root / "mtsamples.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def test_the_csv_has_the_publishers_header_and_line_ends(root: Path):
    data = (root / "mtsamples.csv").read_bytes()
    assert data.startswith(b",description,medical_specialty,sample_name,transcription,keywords\r\n")
    assert data.count(b"\n") == data.count(b"\r\n")


def test_the_csv_has_the_quirks_of_the_real_one(root: Path):
    body = rows(root)[1:-1]
    assert [row[0] for row in body] == [str(number) for number in range(32)]
    assert all(row[1].startswith(" ") and row[2].startswith(" ") and row[3].startswith(" ") for row in body)
    assert {row[2].strip() for row in body} <= set(SPECIALTIES)
    assert any(row[1].endswith("\r\n") for row in body)
    assert any(row[5] == "" for row in body)
    assert any("\u2019" in row[4] for row in body)
    assert all(":,  " in row[4] for row in body if row[4])


def test_the_csv_has_one_empty_one_repeated_and_one_cut_row(root: Path):
    texts = [row[4] for row in rows(root)[1:-1]]
    assert [texts.index(""), len(texts) - len(set(texts))] == [15, 1]
    assert texts[16] == texts[0]
    assert not (root / "mtsamples.csv").read_bytes().endswith(b"\r\n")
    assert len(rows(root)[-1]) == 5
    assert mtsamples.NUM_BROKEN_CSV_ROWS == 3


def test_the_hub_files_have_the_publishers_columns_and_label_names(root: Path):
    for part, num_rows in (("train", 6), ("test", 3)):
        path = root / "data" / f"{part}-00000-of-00001.parquet"
        frame = pl.read_parquet(path)
        assert dict(frame.schema) == {"id": pl.Int32, "text": pl.String, "label": pl.Int64}
        assert frame.height == num_rows
        assert b'"_type": "ClassLabel"' in pq.read_schema(path).metadata[b"huggingface"]


def test_one_transcription_of_the_hubs_train_file_leaks_into_its_test_file(root: Path):
    train, test = (set(pl.read_parquet(root / "data" / f"{part}-00000-of-00001.parquet")["text"]) for part in ("train", "test"))
    assert len(train & test) == mtsamples.NUM_LEAKED_HUB_ROWS == 1


def test_a_file_with_a_count_of_0_is_not_written(tmp_path: Path):
    sample_data.write("mtsamples", tmp_path / "raw", counts={"csv": 0, "hub_test": 0})
    assert sorted(path.name for path in (tmp_path / "raw").rglob("*") if path.is_file()) == ["README.md", "train-00000-of-00001.parquet"]
