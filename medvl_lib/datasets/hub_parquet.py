# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingTypeStubs=false
# (pyarrow ships no types)
"""Parquet files in the hub's layout: ``<part>-00000-of-00003-<hash>.parquet`` at any depth, read a few rows at a time.

In: a raw folder, the name of a part and the columns that a dataset wants. Out: rows as dictionaries, in the order of the files' names, and
the picture that a row holds. What a row means is the dataset's business.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from medvl_lib.errors import InputRefused
from medvl_lib.pairs import Split

BATCH_ROWS = 16  # rows with pictures of some megabytes
BUFFER_BYTES = 1 << 20  # without it, and with pre-buffering, Arrow takes three times the memory of a row group
IMAGE: Mapping[str, pa.DataType] = {"image": pa.struct([("bytes", pa.binary()), ("path", pa.string())])}
"""How the hub's library keeps a picture."""
SHARD = re.compile(r"-(\d{5})-of-(\d{5})[-.]")


def part_files(root: Path, part: str) -> list[Path]:
    """The files of one part, in the order of their names; raises InputRefused where one is missing, or of another set.

    Rows are numbered through all of them: one that came later would give other rows the ids of these.
    """
    found = sorted(root.rglob(f"{part}-*.parquet"), key=lambda path: (path.name, path.as_posix()))
    shards = [(int(name[1]), int(name[2])) for path in found if (name := SHARD.search(path.name))]
    totals = {total for _, total in shards}
    if shards and (len(totals) > 1 or len(shards) < len(found) or [number for number, _ in shards] != list(range(max(totals)))):
        names = ", ".join(path.relative_to(root).as_posix() for path in found)
        raise InputRefused(
            found=f"{len(found)} files of the part {part}, which are not one whole set: {names}", where=str(root),
            do="keep one set, every file of it: <part>-00000-of-0000n up to n - 1",
        )  # fmt: skip
    return found


def rows(
    path: Path, columns: Mapping[str, pa.DataType], dataset: str, optional: Mapping[str, pa.DataType] | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of a file, these columns of them; raises InputRefused for a file that is cut or has other columns.

    Memory is about that of a row group, which the publisher chose.
    """
    try:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER_BYTES) as file:
            there = {name: kind for name, kind in (optional or {}).items() if name in file.schema_arrow.names}
            wanted = {**columns, **there}
            _require(file.schema_arrow, wanted, path, dataset)
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(wanted)):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise InputRefused(
            found=f"{path.stat().st_size} bytes that cannot be read as Parquet: {str(error).splitlines()[0]}", where=str(path),
            do="see that the disk can be read; if it can, download the file again from the hub",
        ) from error  # fmt: skip


def part_rows(
    root: Path, part: str, columns: Mapping[str, pa.DataType], dataset: str, optional: Mapping[str, pa.DataType] | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row of a part with its file and number within it."""
    for path in part_files(root, part):
        for number, row in enumerate(rows(path, columns, dataset, optional)):
            yield f"{path.relative_to(root).as_posix()} row {number}", row


def picture(row: Mapping[str, Any]) -> bytes | None:
    """The bytes of a row's picture; None where it holds none."""
    return (row["image"] or {}).get("bytes") or None


def no_picture(row: Mapping[str, Any]) -> str:
    """What there is in a picture's place."""
    path = (row["image"] or {}).get("path")
    return "the row has no picture" if not path else f"the row names {path} but does not hold it"


def pictures_seen(root: Path, parts: Sequence[Split], dataset: str) -> Iterator[tuple[bytes, Split]]:
    """Each picture's SHA-256 with the part that it was found in."""
    for part in parts:
        for _, row in part_rows(root, part, IMAGE, dataset):
            if (data := picture(row)) is not None:
                yield hashlib.sha256(data).digest(), part


def _require(schema: pa.Schema, columns: Mapping[str, pa.DataType], path: Path, dataset: str) -> None:
    for name, kind in columns.items():
        found = schema.field(name).type if name in schema.names else "absent"
        if found != kind:
            raise InputRefused(found=f"column {name!r} is {found}", where=str(path), do=f"{dataset} wants {kind}: use the hub's own files")
