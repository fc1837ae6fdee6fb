"""Near-duplicates. If these passed wrongly, a note with another date could be trained on and tested with, or every drawn form be called a
copy of every other.
"""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.fft import dctn

from medvl_lib import near_duplicates as room
from medvl_lib.images import ImageStore
from medvl_lib.near_duplicates import NEAR_DUPLICATES, NearDuplicate, write_near_duplicates
from medvl_lib.pairs import PAIRS, Pair, Split
from medvl_lib.sample_data.clinical_documents import draw_document, page_bytes
from medvl_lib.sample_data.clinical_facts import DOCUMENT_TYPES
from medvl_lib.split import SplitSpec, write_split
from medvl_lib.tables import read_table, write_table

NOTE = " ".join(f"word{number}" for number in range(60))
OTHER = " ".join(f"other{number}" for number in range(60))
SPEC = SplitSpec(seed=1, validation_share=0.1, test_share=0.1)


def gray(seed: int) -> Image.Image:
    """A smooth picture, a little like a photograph."""
    coarse = np.random.RandomState(seed).randint(0, 255, (7, 7)).astype(np.uint8)
    return Image.fromarray(coarse).resize((160, 120), Image.Resampling.BICUBIC)


def saved(image: Image.Image, form: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def found(root: Path, things: Iterable[tuple[Split, str, bytes]]) -> list[NearDuplicate]:
    """What is suspected among (split, answer, picture)."""
    images = ImageStore(root / "images")
    pairs = [
        Pair(
            pair_id=f"notes/{number}", dataset="notes", image_ids=(images.put(picture),), request="?", response=text, expected=(),
            subject_id=None, document_id=str(number), publisher_split=split, language="en", source="", licence="CC0-1.0", metadata={},
        ) for number, (split, text, picture) in enumerate(things)
    ]  # fmt: skip
    for name in ("notes", "split", "out"):
        (root / name).mkdir()
    write_table(root / "notes" / PAIRS, Pair, pairs)
    write_split(root / "split", {"notes": root / "notes"}, SPEC)
    write_near_duplicates(root / "out", root / "split", {"notes": root / "notes"}, images)
    return list(read_table(root / "out" / NEAR_DUPLICATES, NearDuplicate))


def failing(root: Path) -> set[str]:
    return {rule.name for rule in room.RULES if not rule.holds(root / "out").passed}


def test_shingles_and_their_similarity_by_hand():
    assert room.shingles("The quick, brown fox JUMPS over") == {"the quick brown fox jumps", "quick brown fox jumps over"}
    assert room.shingles("four words are few") == frozenset()
    assert room.jaccard(frozenset("abc"), frozenset("bcd")) == 0.5
    assert room.jaccard(frozenset(), frozenset()) == 0


def test_a_note_with_a_changed_word_is_found_across_splits_and_only_there(tmp_path: Path):
    changed = NOTE.replace("word30", "another")  # 5 of 56 shingles differ each way: 51 / 61
    things: list[tuple[Split, str, bytes]] = [
        ("train", NOTE, saved(gray(1))), ("test", changed, saved(gray(2))), ("test", OTHER, saved(gray(3))),
        ("train", NOTE, saved(gray(4))),
    ]  # fmt: skip
    rows = found(tmp_path, things)
    assert {(row.kind, row.held_out_id, row.other_id) for row in rows} == {("text", "notes/1", "notes/0"), ("text", "notes/1", "notes/3")}
    assert {round(row.similarity, 6) for row in rows} == {round(51 / 61, 6)}
    assert failing(tmp_path) == {"no_text_stands_nearly_twice"}


def test_two_held_out_splits_are_compared_once(tmp_path: Path):
    rows = found(tmp_path, [("test", NOTE, saved(gray(1))), ("validation", NOTE, saved(gray(2))), ("train", OTHER, saved(gray(3)))])
    assert [(row.held_out_split, row.other_split) for row in rows] == [("test", "validation")]
    [rule] = [rule for rule in room.RULES if rule.name == "no_text_stands_nearly_twice"]
    assert rule.holds(tmp_path / "out").offenders == ("notes/0 (test) = notes/1 (validation)",)


def test_short_answers_are_not_compared(tmp_path: Path):
    assert found(tmp_path, [("train", "yes " * 5, saved(gray(1))), ("test", "yes " * 5, saved(gray(2)))]) == []
    assert failing(tmp_path) == set()


@pytest.mark.parametrize("change", ["jpeg", "scaled", "brighter"])
def test_a_picture_saved_again_is_found(change: str, tmp_path: Path):
    picture = gray(1)
    copy = {
        "jpeg": saved(picture, "JPEG", quality=50), "scaled": saved(picture.resize((128, 96))),
        "brighter": saved(picture.point(lambda value: min(255, round(value * 1.1)))),
    }[change]  # fmt: skip
    rows = found(tmp_path, [("train", "a", saved(picture)), ("test", "b", copy), ("test", "c", saved(gray(2)))])
    assert [(row.kind, row.other_split) for row in rows] == [("picture", "train")]
    assert rows[0].similarity > 0.95
    assert failing(tmp_path) == {"no_picture_stands_nearly_twice"}


def test_different_forms_of_one_layout_are_not_copies(tmp_path: Path):
    documents = [draw_document(1, "test", kind, index) for index in range(4) for kind in DOCUMENT_TYPES]
    things: list[tuple[Split, str, bytes]] = [
        ("test" if number % 2 else "train", str(number), page_bytes(document)) for number, document in enumerate(documents)
    ]
    assert found(tmp_path, things) == []


def test_pictures_of_one_colour_have_nothing_to_compare():
    white, black = (saved(Image.new("L", (64, 64), value)) for value in (255, 0))
    assert room.correlation(white, black) == 0
    assert room.correlation(white, saved(gray(1))) == 0


def test_chunks_share_one_of_three_where_two_bits_differ():
    for bits in ((0, 1), (0, 63), (21, 22), (42, 43), (10, 50)):
        other = sum(1 << bit for bit in bits)
        assert any(mine == yours for mine, yours in zip(room._chunks(0), room._chunks(other), strict=True))
    assert sum(room.CHUNK_BITS) == 64
    assert room._chunks(-1) == [2**22 - 1, 2**21 - 1, 2**21 - 1]


def test_the_hash_is_that_of_scipys_cosine_transform():
    picture = saved(gray(3))
    lowest = dctn(room._gray(picture, 32), type=2)[:8, :8].flatten()
    bits = "".join(str(int(value > np.median(lowest))) for value in lowest)
    assert room.perceptual_hash(picture) % 2**64 == int(bits, 2)


def test_the_buckets_of_all_bands_are_never_in_memory_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    num_texts = 20_000
    numbers = np.arange(num_texts * room.BANDS, dtype=np.int64)
    numbers[-1] = numbers[room.BANDS - 1]  # the last text and the first share the bucket of their last band
    buckets = pa.ListArray.from_arrays(np.arange(0, len(numbers) + 1, room.BANDS, dtype=np.int32), numbers)
    splits = ["train"] * (num_texts // 2) + ["test"] * (num_texts // 2)
    columns = pa.table([np.arange(num_texts), splits, buckets], schema=room.BUCKET_COLUMNS)
    pq.write_table(columns, tmp_path / "buckets.parquet", row_group_size=room.BATCH)

    bounds = {"memory_limit": "12MiB", "threads": 1, "max_temp_directory_size": "0KiB"}  # a band needs 6 of these MiB, all need 24
    monkeypatch.setattr("medvl_lib.rules.BOUNDS", bounds)
    monkeypatch.setattr("medvl_lib.rules.duckdb.OutOfMemoryException", MemoryError)  # what is too much is not tried again without bounds
    room._write_candidates(tmp_path)
    assert pq.read_table(tmp_path / "candidates.parquet").to_pylist() == [{"held_out": num_texts - 1, "other": 0}]


def test_nothing_but_the_result_is_left_behind(tmp_path: Path):
    found(tmp_path, [("train", NOTE, saved(gray(1))), ("test", NOTE, saved(gray(2)))])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {NEAR_DUPLICATES, room.COUNTS}
