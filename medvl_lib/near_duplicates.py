# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false
# pyright: reportUnknownLambdaType=false
# (pyarrow and datasketch ship no types)
"""Near-duplicates: texts and pictures that are almost the same and stand in two splits. They are named, never moved.

In: a split, the validated pairs it was made from, and the image store. Out: ``near_duplicates.parquet``, a row for each suspicion, and
``counts.json``. Exact copies are ``split``'s business; here it is the same note with another date, or the same figure saved again.

* **Texts**: sets of five words in a row, of answers with at least 20 of them. MinHash (Broder 1997; ``datasketch``) finds candidates, the
  exact Jaccard similarity of the sets decides: at least 0.8. At that similarity MinHash with 21 bands of 6 misses 1 of 600.
* **Pictures**: perceptual hashes of 64 bits (a cosine transform of 32 x 32 gray values, Zauner 2010, section 3.2) that differ in at most 2
  bits make candidates, the correlation of 256 x 256 gray values decides: at least 0.95. The hash alone is worth nothing for drawn pages: of
  200 different ones, most are within 8 bits of each other.

How often different things are taken for the same was measured with ``benchmarks/near_duplicates.py`` (docs/log.md). The rules do not block:
a suspicion is for a person to look at. What is compared lies in tables on disk, and of each bucket of equal hashes only the first and the
last of each split are compared: work and memory do not grow with the square of the data, and of many copies of one thing some stay unnamed.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from medvl_lib.files import read_json, write_json
from medvl_lib.images import ImageStore, rgb_pixels
from medvl_lib.pairs import Split
from medvl_lib.provenance import Fact, Outcome, Rule
from medvl_lib.rules import batches, columns_are_as_declared, no_rows, stream
from medvl_lib.split import SPLIT, placed
from medvl_lib.tables import Column, TableWriter

if TYPE_CHECKING:
    from datasketch import MinHash

REVISION = 1  # first version
NEAR_DUPLICATES = "near_duplicates.parquet"
COUNTS = "counts.json"

SHINGLE_WORDS = 5
MIN_SHINGLES = 20  # shorter answers ("yes", "left lung") are alike by nature
MIN_JACCARD = 0.8
BANDS, BAND_ROWS = 21, 6  # found with probability 1 - (1 - s^6)^21 at similarity s: 0.998 at 0.8, 0.28 at 0.5
MINHASH_SEED = 1

HASH_SIDE, KEPT_SIDE = 32, 8  # pixels, and the lowest frequencies each way
MAX_HASH_DISTANCE = 2  # bits
CHUNK_BITS = (22, 21, 21)  # with at most 2 of 64 bits different, one of three chunks is the same
COMPARED_SIDE = 256  # pixels
MIN_CORRELATION = 0.95

LITERALS = (SHINGLE_WORDS, MIN_SHINGLES, MIN_JACCARD, BANDS, BAND_ROWS, MAX_HASH_DISTANCE, COMPARED_SIDE, MIN_CORRELATION)
BATCH = 512
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")  # a Chinese or Japanese character is a word
BUCKET_COLUMNS = pa.schema([("row", pa.int64()), ("split", pa.string()), ("buckets", pa.list_(pa.int64()))])
CANDIDATE_COLUMNS = pa.schema([("held_out", pa.int64()), ("other", pa.int64())])
TEXT_COLUMNS = pa.schema([
    ("row", pa.int64()), ("pair_id", pa.string()), ("split", pa.string()), ("start", pa.int64()), ("num_bytes", pa.int64()),
])  # fmt: skip
PICTURE_COLUMNS = pa.schema([
    ("image_id", pa.string()), ("split", pa.string()), ("hash", pa.int64()), ("chunk", pa.int8()), ("bucket", pa.int64()),
])  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class NearDuplicate:
    """Two things in two splits that are almost the same."""

    kind: Annotated[Literal["text", "picture"], Column("what was compared")]
    held_out_id: Annotated[str, Column("pair id of the text, or SHA-256 of the picture, in the held-out split")]
    held_out_split: Annotated[Split, Column("validation, test or benchmark")]
    other_id: Annotated[str, Column("what it is almost the same as")]
    other_split: Annotated[Split, Column("another split, mostly train")]
    similarity: Annotated[float, Column("Jaccard similarity of the texts' shingles, or correlation of the pictures' gray values")]


def write_near_duplicates(directory: Path, split_directory: Path, validated: Mapping[str, Path], images: ImageStore) -> dict[str, Fact]:
    """Compare every held-out text and picture with those of the other splits."""
    with TemporaryDirectory(dir=directory, prefix=".scratch-") as scratch:
        place = Path(scratch)
        counts = {
            **_write_texts(place, split_directory, validated),
            "num_pictures": _write_pictures(place / "pictures.parquet", split_directory, images),
        }
        found = {"num_near_duplicate_texts": 0, "num_near_duplicate_pictures": 0}
        with TableWriter(directory / NEAR_DUPLICATES, NearDuplicate) as suspicions:
            for row in chain(_similar_texts(place), _similar_pictures(place / "pictures.parquet", images)):
                suspicions.write(row)
                found[f"num_near_duplicate_{row.kind}s"] += 1
    facts: dict[str, Fact] = {**counts, **found}
    write_json(directory / COUNTS, facts)
    return facts


# -- texts --------------------------------------------------------------------------------------------------------------
def shingles(text: str) -> frozenset[str]:
    """Every five words in a row, whatever their capitals and punctuation."""
    words = WORD.findall(text.casefold())
    return frozenset(" ".join(words[start : start + SHINGLE_WORDS]) for start in range(len(words) - SHINGLE_WORDS + 1))


def jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    """Shared by all (0-1); 0 where both are empty."""
    return len(left & right) / max(1, len(left | right))


def buckets(shingled: frozenset[str]) -> list[int]:
    """One number per band; two texts of similarity s share one with probability 1 - (1 - s^6)^21."""
    hashed = _new_minhash().copy()  # its permutations are drawn once: a fifth of the time of a text
    hashed.update_batch([shingle.encode() for shingle in sorted(shingled)])
    values = np.asarray(hashed.hashvalues, dtype="<u8")
    return [_number(values[band * BAND_ROWS : (band + 1) * BAND_ROWS].tobytes()) for band in range(BANDS)]


@lru_cache(maxsize=1)
def _new_minhash() -> "MinHash":
    from datasketch import MinHash  # brings SciPy: 0.6 s that the graph need not wait for when it loads

    return MinHash(num_perm=BANDS * BAND_ROWS, seed=MINHASH_SEED)


def _number(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little", signed=True)


def _write_texts(place: Path, split_directory: Path, validated: Mapping[str, Path]) -> dict[str, int]:
    """The texts in one file; tables of where each stands there, and of its buckets, one for each band."""
    num_texts = num_short = 0
    with (
        (place / "texts").open("wb") as written,
        pq.ParquetWriter(place / "texts.parquet", TEXT_COLUMNS) as texts,
        pq.ParquetWriter(place / "buckets.parquet", BUCKET_COLUMNS) as bucketed,
    ):
        for batch in _batches(placed(split_directory, validated)):
            text_rows: list[dict[str, Any]] = []
            bucket_rows: list[dict[str, Any]] = []
            for pair, row in batch:
                shingled = shingles(pair.response)
                if len(shingled) < MIN_SHINGLES:
                    num_short += 1
                    continue
                start = written.tell()
                text_rows.append({
                    "row": num_texts, "pair_id": pair.pair_id, "split": row.split, "start": start,
                    "num_bytes": written.write(pair.response.encode()),
                })  # fmt: skip
                bucket_rows.append({"row": num_texts, "split": row.split, "buckets": buckets(shingled)})
                num_texts += 1
            texts.write_table(pa.Table.from_pylist(text_rows, schema=TEXT_COLUMNS))
            bucketed.write_table(pa.Table.from_pylist(bucket_rows, schema=BUCKET_COLUMNS))
    return {"num_texts": num_texts, "num_texts_too_short": num_short}


_CANDIDATES = """
    with bucketed as (
        select row, split, buckets[$band] as bucket from read_parquet($buckets)
    ), ends as (
        select bucket, split, unnest([min(row), max(row)]) as row from bucketed group by bucket, split
    )
    select distinct if(ends.split = 'train', held.row, least(held.row, ends.row)) as held_out,
           if(ends.split = 'train', ends.row, greatest(held.row, ends.row)) as other
    from bucketed held join ends using (bucket)
    where held.split <> 'train' and ends.split <> held.split"""


def _write_candidates(place: Path) -> None:
    """A table of the texts that share a bucket, a band at a time: of all bands together there are twenty-one buckets a text."""
    with pq.ParquetWriter(place / "candidates.parquet", CANDIDATE_COLUMNS) as writer:
        for band in range(1, BANDS + 1):  # as SQL counts
            for batch in batches(_CANDIDATES, buckets=place / "buckets.parquet", band=band):
                writer.write_table(pa.table(list(map(list, zip(*batch, strict=True))), schema=CANDIDATE_COLUMNS))


_SIMILAR_TEXTS = """
    select held, other
    from (select distinct held_out, other as other_row from read_parquet($candidates)) candidates
    join read_parquet($texts) held on held.row = held_out join read_parquet($texts) other on other.row = other_row
    order by held_out, other_row"""


def _similar_texts(place: Path) -> Iterator[NearDuplicate]:
    _write_candidates(place)
    with (place / "texts").open("rb") as texts:
        for held, other in stream(_SIMILAR_TEXTS, candidates=place / "candidates.parquet", texts=place / "texts.parquet"):
            similarity = jaccard(*(shingles(_text(texts, each)) for each in (held, other)))
            if similarity >= MIN_JACCARD:
                yield NearDuplicate(
                    kind="text", held_out_id=held["pair_id"], held_out_split=held["split"], other_id=other["pair_id"],
                    other_split=other["split"], similarity=similarity,
                )  # fmt: skip


def _text(texts: BinaryIO, row: Mapping[str, Any]) -> str:
    texts.seek(row["start"])
    return texts.read(row["num_bytes"]).decode()


# -- pictures -----------------------------------------------------------------------------------------------------------
def _gray(data: bytes, side: int) -> NDArray[np.float64]:
    """A picture as the model's processor is given it, in gray, squeezed into a square: (side, side), 0 to 255."""
    square = Image.fromarray(rgb_pixels(data)).convert("L").resize((side, side), Image.Resampling.BOX)
    return np.asarray(square, dtype=np.float64)


@lru_cache(maxsize=1)
def _cosines() -> NDArray[np.float64]:
    """The lowest rows of the cosine transform (DCT-II): (KEPT_SIDE, HASH_SIDE)."""
    frequency, place = np.arange(KEPT_SIDE)[:, None], np.arange(HASH_SIDE)[None, :]
    return np.cos(np.pi * frequency * (2 * place + 1) / (2 * HASH_SIDE))


def perceptual_hash(data: bytes) -> int:
    """64 bits, as a signed number: which of the lowest frequencies are above their median."""
    lowest = _cosines() @ _gray(data, HASH_SIDE) @ _cosines().T
    bits = (lowest > np.median(lowest)).flatten()
    return int.from_bytes(np.packbits(bits).tobytes(), "big", signed=True)


def correlation(left: bytes, right: bytes) -> float:
    """Pearson's correlation of two pictures' gray values (-1 to 1); 0 where one of them is of one colour."""
    mine, yours = (_gray(data, COMPARED_SIDE).flatten() for data in (left, right))
    if mine.std() == 0 or yours.std() == 0:
        return 0.0
    return float(np.corrcoef(mine, yours)[0, 1])


def _chunks(hashed: int) -> list[int]:
    """The hash's three chunks, as numbers."""
    rest, found = hashed % 2**64, list[int]()
    for bits in CHUNK_BITS:
        found.append(rest % 2**bits)
        rest >>= bits
    return found


_PICTURES = "select distinct unnest(image_ids) as image_id, split from read_parquet($split) order by image_id, split"


def _write_pictures(path: Path, split_directory: Path, images: ImageStore) -> int:
    """A table with three rows per picture and split, one for each chunk of its hash."""
    num_pictures = 0
    with pq.ParquetWriter(path, PICTURE_COLUMNS) as writer, ThreadPoolExecutor() as pool:
        for batch in _batches(stream(_PICTURES, split=split_directory / SPLIT)):
            hashes = pool.map(lambda row: perceptual_hash(images.read(str(row[0]))), batch)
            rows = [
                {"image_id": image_id, "split": split, "hash": hashed, "chunk": chunk, "bucket": bucket}
                for (image_id, split), hashed in zip(batch, hashes, strict=True)
                for chunk, bucket in enumerate(_chunks(hashed))
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema=PICTURE_COLUMNS))
            num_pictures += len(batch)
    return num_pictures


_SIMILAR_PICTURES = """
    with ends as (
        select chunk, bucket, split, unnest([min(image_id), max(image_id)]) as image_id
        from read_parquet($pictures) group by chunk, bucket, split
    ), candidates as (
        select distinct held.image_id as held_out, held.split as held_split, ends.image_id as other, ends.split as other_split
        from read_parquet($pictures) held join ends using (chunk, bucket)
        where held.split <> 'train' and ends.split <> held.split and held.image_id <> ends.image_id
    )
    select distinct held_out, held_split, other, other_split
    from candidates join read_parquet($pictures) mine on mine.image_id = held_out
                    join read_parquet($pictures) theirs on theirs.image_id = other
    where bit_count(xor(mine.hash, theirs.hash)) <= $distance and (other_split = 'train' or held_out < other or not exists (
        from candidates back where back.held_out = candidates.other and back.other = candidates.held_out))
    order by held_out, other"""


def _similar_pictures(path: Path, images: ImageStore) -> Iterator[NearDuplicate]:
    for held_out, split, other, other_split in stream(_SIMILAR_PICTURES, pictures=path, distance=MAX_HASH_DISTANCE):
        similarity = correlation(images.read(held_out), images.read(other))
        if similarity >= MIN_CORRELATION:
            yield NearDuplicate(
                kind="picture", held_out_id=held_out, held_out_split=split, other_id=other, other_split=other_split, similarity=similarity
            )


def _batches(rows: Iterable[Any]) -> Iterator[list[Any]]:
    waiting = iter(rows)
    yield from iter(lambda: list(islice(waiting, BATCH)), [])


# -- rules --------------------------------------------------------------------------------------------------------------
def _none_of(kind: str, directory: Path) -> Outcome:
    counts = read_json(directory / COUNTS)
    question = """
        select held_out_id || ' (' || held_out_split || ') = ' || other_id || ' (' || other_split || ')'
        from read_parquet($table) where kind = $kind order by similarity desc, 1
    """
    says = f"times a held-out {kind} is almost the same as one of another split"
    outcome = no_rows(says, question, table=directory / NEAR_DUPLICATES, kind=kind)
    return replace(outcome, found=f"{outcome.found}; {counts[f'num_{kind}s']} were compared")


RULES = (
    columns_are_as_declared({NEAR_DUPLICATES: NearDuplicate}),
    Rule(
        name="no_text_stands_nearly_twice", sentence="No held-out answer is almost the same text as one of another split.",
        holds=partial(_none_of, "text"), is_blocking=False,
    ),
    Rule(
        name="no_picture_stands_nearly_twice", sentence="No held-out picture is almost the same as one of another split.",
        holds=partial(_none_of, "picture"), is_blocking=False,
    ),
)  # fmt: skip
