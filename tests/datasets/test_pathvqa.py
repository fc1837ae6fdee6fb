"""If these passed wrongly, a picture could be trained on and tested with, or a row without a picture could vanish uncounted."""

import io
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from PIL.ExifTags import Base as ExifTag

from medvl_lib import sample_data
from medvl_lib.datasets import DATASETS
from medvl_lib.datasets import pathvqa as dataset
from medvl_lib.errors import InputMissing, InputRefused
from medvl_lib.images import UnreadableImage, facts, rgb_pixels
from medvl_lib.pairs import Draft, Reading, Rejection

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "vqa-rad" / "hf"


def row(data: bytes | None, question: str | None = "is it large?", answer: str | None = "yes", path: str | None = None) -> dict[str, Any]:
    return {"image": {"bytes": data, "path": path}, "question": question, "answer": answer}


def write(root: Path, part: str, *rows: dict[str, Any], shard: str = "00000-of-00001") -> None:
    (root / "data").mkdir(exist_ok=True)
    pq.write_table(
        pa.Table.from_pylist(list(rows), schema=pa.schema(list(dataset.COLUMNS.items()))), root / "data" / f"{part}-{shard}.parquet"
    )


def drafts(readings: list[Reading]) -> list[Draft]:
    return [reading for reading in readings if isinstance(reading, Draft)]


def test_a_row_becomes_the_pair_that_the_docstring_shows(tmp_path: Path):
    write(tmp_path, "train", row(b"one"), row(b"two", "where is it?", "in the left lung"))
    first, second = drafts(list(dataset.read(tmp_path)))
    assert (first.pair.pair_id, first.pair.request, first.pair.response) == ("pathvqa/train/000000", "is it large?", "yes")
    assert first.pair.source == "data/train-00000-of-00001.parquet row 0"
    assert first.pair.metadata == {"answer_type": "closed", "publisher_split": "train"}
    assert second.pair.metadata["answer_type"] == "open"
    assert (first.pair.publisher_split, first.pair.subject_id, first.pair.language) == ("train", None, "en")
    assert [draft.images[0].data() for draft in (first, second)] == [b"one", b"two"]
    assert first.pair.document_id != second.pair.document_id


def test_rows_are_numbered_through_all_files_of_a_part(tmp_path: Path):
    write(tmp_path, "test", row(b"1"), row(b"2"), shard="00000-of-00002")
    write(tmp_path, "test", row(b"3"), shard="00001-of-00002")
    pairs = [draft.pair for draft in drafts(list(dataset.read(tmp_path)))]
    assert [pair.pair_id for pair in pairs] == [f"pathvqa/test/{number:06d}" for number in range(3)]
    assert pairs[2].source == "data/test-00001-of-00002.parquet row 0"


def test_a_picture_of_two_parts_has_no_publishers_split_and_one_document(tmp_path: Path):
    write(tmp_path, "train", row(b"shared"), row(b"own"))
    write(tmp_path, "test", row(b"shared", "other?"), row(b"held out"))
    shared, own, again, held_out = (draft.pair for draft in drafts(list(dataset.read(tmp_path))))
    assert (shared.publisher_split, own.publisher_split, again.publisher_split, held_out.publisher_split) == (None, "train", None, "test")
    assert shared.group_id == again.group_id
    assert (shared.metadata["publisher_split"], again.metadata["publisher_split"]) == ("train", "test")


@pytest.mark.parametrize(
    ("image", "says"),
    [({"bytes": None, "path": "a.jpg"}, "names a.jpg"), ({"bytes": b"", "path": None}, "no picture"), (None, "no picture")],
)
def test_a_row_without_a_picture_is_rejected_and_the_others_are_read(image: dict[str, Any] | None, says: str, tmp_path: Path):
    write(tmp_path, "train", row(b"one"), {"image": image, "question": "?", "answer": "yes"}, row(b"two"))
    readings = list(dataset.read(tmp_path))
    (rejected,) = [reading for reading in readings if isinstance(reading, Rejection)]
    assert (rejected.reason, rejected.pair_id, rejected.stage) == ("image_missing", "pathvqa/train/000001", "read")
    assert says in rejected.detail
    assert len(drafts(readings)) == 2


def test_missing_texts_are_left_to_validation(tmp_path: Path):
    write(tmp_path, "train", row(b"one", None, None))
    (draft,) = drafts(list(dataset.read(tmp_path)))
    assert (draft.pair.request, draft.pair.response) == ("", "")


def test_an_empty_folder_a_cut_file_and_other_columns_are_told_apart(tmp_path: Path):
    with pytest.raises(InputMissing, match="train-"):
        list(dataset.read(tmp_path))
    write(tmp_path, "train", row(b"one" * 1000))
    path = tmp_path / "data" / "train-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputRefused) as cut:
        list(dataset.read(tmp_path))
    assert "cannot be read as Parquet" in cut.value.found
    pq.write_table(pa.table({"image": [b"x"], "question": ["?"], "answer": ["yes"]}), path)
    with pytest.raises(InputRefused) as other:
        list(dataset.read(tmp_path))
    assert other.value.found == "column 'image' is binary"


def test_the_invented_set_has_the_pictures_that_a_reader_must_bear(tmp_path: Path):
    sample_data.write("pathvqa", tmp_path / "raw")
    readings = list(dataset.read(tmp_path / "raw"))
    assert Counter(type(reading).__name__ for reading in readings) == {"Draft": 103, "Rejection": 1}
    modes: Counter[tuple[str, str]] = Counter()
    rotated: list[bytes] = []
    for draft in drafts(readings):
        data = draft.images[0].data()
        try:
            found = facts(data)
        except UnreadableImage:
            modes["unreadable", ""] += 1
            continue
        modes[found.format, found.mode] += 1
        if Image.open(io.BytesIO(data)).getexif().get(ExifTag.Orientation) == 6:
            rotated.append(data)
    assert modes == {
        ("JPEG", "RGB"): 93, ("JPEG", "CMYK"): 6, ("PNG", "I;16"): 1, ("PNG", "RGBA"): 1, ("PNG", "RGB"): 1, ("unreadable", ""): 1,
    }  # fmt: skip
    [data] = rotated
    assert np.abs(rgb_pixels(data).astype(int) - np.asarray(Image.open(io.BytesIO(data)).rotate(-90)).astype(int)).mean() < 1


def test_the_invented_sets_share_no_picture_and_can_be_trained_on_together(tmp_path: Path):
    pictures: dict[str, set[bytes]] = {}
    for name in ("pathvqa", "pubmedvision"):
        sample_data.write(name, tmp_path / name)
        pictures[name] = set()
        for draft in drafts(list(DATASETS[name].read(tmp_path / name))):
            with suppress(OSError):
                pictures[name] |= {image.data() for image in draft.images}
    assert len(pictures["pubmedvision"]) == 30
    assert pictures["pathvqa"].isdisjoint(pictures["pubmedvision"])


@pytest.mark.parametrize("names", [["00000-of-00003", "00002-of-00003"], ["00000-of-00001", "00000-of-00002", "00001-of-00002"]])
def test_a_missing_file_and_a_mixed_set_are_refused(names: list[str], tmp_path: Path):
    for shard in names:
        write(tmp_path, "train", row(b"one"), shard=shard)
    with pytest.raises(InputRefused, match="not one whole set"):
        list(dataset.read(tmp_path))


@pytest.mark.real_data
def test_vqa_rad_has_the_same_schema_and_its_shared_pictures_are_found():
    if not REAL.is_dir():
        pytest.skip(f"{REAL} is not there")
    readings = list(dataset.read(REAL))
    pairs = [draft.pair for draft in drafts(readings)]
    assert (len(readings), len(pairs)) == (437 + 85, 437 + 85)
    assert Counter(pair.metadata["publisher_split"] for pair in pairs) == {"train": 437, "test": 85}
    assert {pair.publisher_split for pair in pairs} == {None, "train"}  # all 45 test pictures are in train too
    assert len({pair.document_id for pair in pairs}) == 70
    assert len({pair.document_id for pair in pairs if pair.publisher_split is None}) == 45
