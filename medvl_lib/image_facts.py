"""Image facts: what can be said of every stored picture without a model.

In: the ids of pictures, and the image store. Out: a table of ``ImageRow``, in the order of the ids. What is too small or too large,
and what becomes of a pair whose picture does not open, is ``validation``'s to say.
"""

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated

from medvl_lib.errors import InputMissing
from medvl_lib.images import ImageStore, UnreadableImage, facts
from medvl_lib.tables import Column, write_table

IMAGE_FACTS = "image_facts.parquet"
BATCH_IMAGES = 256  # pictures in flight between disk and the table: memory stays flat


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRow:
    """One stored picture."""

    image_id: Annotated[str, Column("SHA-256 of the stored bytes")]
    is_readable: Annotated[bool, Column("whether all of it could be decoded")]
    width_pixels: Annotated[int | None, Column("width as stored, before any EXIF rotation", unit="pixels")]
    height_pixels: Annotated[int | None, Column("height as stored, before any EXIF rotation", unit="pixels")]
    mode: Annotated[str | None, Column("Pillow's mode of the stored bytes (L, RGB, CMYK, ...), or how DICOM calls it (MONOCHROME2 12 bit)")]
    format: Annotated[str | None, Column("file format")]
    num_frames: Annotated[int | None, Column("frames; only the first is seen by a model", unit="frames")]
    num_bytes: Annotated[int, Column("size of the stored bytes", unit="bytes")]
    problem: Annotated[str | None, Column("why it is not readable; null where it is")]


def write_image_facts(path: Path, image_ids: Iterable[str], images: ImageStore) -> int:
    """Decode every picture and write its facts; returns how many pictures there were."""
    return write_table(path, ImageRow, image_rows(image_ids, images))


def image_rows(image_ids: Iterable[str], images: ImageStore) -> Iterator[ImageRow]:
    """The facts of every picture, decoded in parallel (Pillow's decoders let other threads run), in the order given."""
    waiting = iter(image_ids)
    with ThreadPoolExecutor() as pool:
        while batch := list(islice(waiting, BATCH_IMAGES)):
            yield from pool.map(partial(_image_row, images), batch)


def _image_row(images: ImageStore, image_id: str) -> ImageRow:
    data = _stored(images, image_id)
    try:
        found = facts(data)
    except UnreadableImage as error:
        return ImageRow(
            image_id=image_id, is_readable=False, width_pixels=None, height_pixels=None, mode=None, format=None, num_frames=None,
            num_bytes=len(data), problem=str(error),
        )  # fmt: skip
    return ImageRow(
        image_id=image_id, is_readable=True, width_pixels=found.width_pixels, height_pixels=found.height_pixels, mode=found.mode,
        format=found.format, num_frames=found.num_frames, num_bytes=len(data), problem=None,
    )  # fmt: skip


def _stored(images: ImageStore, image_id: str) -> bytes:
    """The bytes that the pairs were made with; raises InputMissing: damage to our store is not the record's fault."""
    path = images.path(image_id)
    data = images.read(image_id) if path.is_file() else None
    if data is None or hashlib.sha256(data).hexdigest() != image_id:
        raise InputMissing(
            found="a picture that is not in the image store" if data is None else "a stored picture whose bytes have changed",
            where=str(path), do="delete this file if it is there, and the dataset's pairs directory; then materialize its pairs again",
        )  # fmt: skip
    return data
