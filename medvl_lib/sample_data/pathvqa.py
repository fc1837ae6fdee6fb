# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false
# (pyarrow ships no types)
"""Invented questions about invented pictures in the layout of PathVQA on the hub: Parquet files with the picture in each of its rows.

In: how many pictures each part shall have, and a seed. Out: ``data/<part>-00000-of-00001.parquet``. Each picture comes in three rows; one
in ten is a CMYK JPEG, as in the real set. Broken or odd on purpose, all in ``train``: a picture cut short, a row without a picture, an
empty answer, a repeated row, a picture of absurd shape; and pictures that must be read all the same: 16 bit gray, transparent, and lying on
its side with an EXIF note.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from PIL.ExifTags import Base as ExifTag

from medvl_lib.datasets.pathvqa import COLUMNS
from medvl_lib.sample_data import draws
from medvl_lib.sample_data.micrographs import draw_micrograph

COUNTS: dict[str, int] = {"train": 20, "validation": 4, "test": 8}
"""Pictures per part; broken and odd rows come on top."""

CMYK_EVERY = 10
FEATURES = (
    '{"info": {"features": {"image": {"_type": "Image"}, "question": {"dtype": "string", "_type": "Value"}, '
    '"answer": {"dtype": "string", "_type": "Value"}}}}'
)

README = """# Invented data: questions about pictures

Every picture and question in this folder was made up by a program; no slide or patient stands behind any of it. Licence: CC0-1.0.
The files have the layout of PathVQA on the hub: `data/<part>-*.parquet` with image, question, answer. The train part holds broken rows on
purpose: a picture cut short, a row without a picture, an empty answer, a repeated row, a picture of absurd shape. Seed: {seed}.
"""


def encoded(image: Image.Image, form: str = "JPEG", **options: Any) -> bytes:
    """A picture as a file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _row(data: bytes | None, question: str, answer: str) -> dict[str, Any]:
    return {"image": {"bytes": data, "path": None}, "question": question, "answer": answer}


def _rows(seed: int, part: str, count: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number in range(count):
        drawn = draw_micrograph(draws.seeded(f"pathvqa/{seed}/{part}/{number}"))
        image = drawn.image()
        data = encoded(image.convert("CMYK") if number % CMYK_EVERY == CMYK_EVERY - 1 else image, quality=90)
        rows += [_row(data, question, answer) for question, answer in drawn.questions]
    return rows


def _defects(seed: int, good: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows that must be left out, then rows that must not."""
    drawn = draw_micrograph(draws.seeded(f"pathvqa/{seed}/defects"))
    image, (question, answer) = drawn.image(), drawn.questions[1]
    whole = encoded(image, quality=90)
    lying = Image.Exif()
    lying[ExifTag.Orientation] = 6
    deep = Image.fromarray((np.asarray(image.convert("L"), dtype=np.uint16) * 257).astype(np.uint16))
    return [
        _row(whole[: len(whole) // 2], question, answer),
        _row(None, question, answer),
        _row(whole, question, ""),
        dict(good),
        _row(encoded(Image.new("RGB", (28 * 25, 28), (250, 250, 250)), "PNG"), question, answer),
        _row(encoded(deep, "PNG"), "is the picture gray?", "yes"),
        _row(encoded(image.convert("RGBA"), "PNG"), question, answer),
        _row(encoded(image.transpose(Image.Transpose.ROTATE_90), quality=90, exif=lying), question, answer),
    ]


def write_raw(root: Path, counts: Mapping[str, int], seed: int) -> int:
    """Fill an empty folder; a part with a count of 0 is left out. Returns the number of rows, broken ones included."""
    (root / "README.md").write_text(README.format(seed=seed), encoding="utf-8")
    (root / "data").mkdir()
    num_rows = 0
    for part in COUNTS:
        rows = _rows(seed, part, counts[part])
        if part == "train" and rows:
            rows += _defects(seed, rows[0])
        if rows:
            columns = pa.schema(list(COLUMNS.items()), metadata={"huggingface": FEATURES})
            pq.write_table(pa.Table.from_pylist(rows, schema=columns), root / "data" / f"{part}-00000-of-00001.parquet")
        num_rows += len(rows)
    return num_rows
