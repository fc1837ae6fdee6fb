"""Raw records: the user's files as the publisher ships them, observed and never written.

In: a raw folder. Out: ``manifest.parquet`` with path, size and hash of every file: what "the data changed" means. Contents are hashed
only where size or modification time differ from the manifest before; the modification time itself is never identity.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from medvl_lib.errors import InputMissing
from medvl_lib.files import sha256_of_file, write_whole
from medvl_lib.provenance import Fact, Outcome, Rule, digest
from medvl_lib.tables import Column, num_rows, read_table, write_table

REVISION = 1  # first version
MANIFEST = "manifest.parquet"
TIMES = "observed.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class RawFile:
    """A file below a raw folder."""

    path: Annotated[str, Column("path below the raw folder")]
    num_bytes: Annotated[int, Column("size", unit="bytes")]
    sha256: Annotated[str, Column("hash of the contents")]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Observed:
    """When a file was last seen to change: lets an unchanged file keep its hash. Never part of a data version."""

    path: Annotated[str, Column("path below the raw folder")]
    num_bytes: Annotated[int, Column("size", unit="bytes")]
    modified_ns: Annotated[int, Column("modification time", unit="nanoseconds since 1970")]
    sha256: Annotated[str, Column("hash of the contents")]


def observe(folder: Path, dataset: str, memory: Path) -> tuple[RawFile, ...]:
    """Every file of a raw folder by path, hashed where it differs from what ``memory`` (a Parquet file of ours) remembers.

    Raises InputMissing when the folder is not there or empty.
    """
    known = {(row.path, row.num_bytes, row.modified_ns): row.sha256 for row in _remembered(memory)}
    seen: list[_Observed] = []
    for path in sorted(item for item in folder.rglob("*") if item.is_file()):
        name, facts = path.relative_to(folder).as_posix(), path.stat()
        sha256 = known.get((name, facts.st_size, facts.st_mtime_ns)) or sha256_of_file(path)
        seen.append(_Observed(path=name, num_bytes=facts.st_size, modified_ns=facts.st_mtime_ns, sha256=sha256))
    if not seen:
        raise InputMissing(
            found=f"no raw files of {dataset}", where=str(folder),
            do=f"put the publisher's files there, name their folder in [datasets.{dataset}] raw_path, or run `medvl sample-data {dataset}`",
        )  # fmt: skip
    write_whole(memory, lambda temporary: write_table(temporary, _Observed, seen))
    return tuple(RawFile(path=row.path, num_bytes=row.num_bytes, sha256=row.sha256) for row in seen)


def _remembered(memory: Path) -> Iterator[_Observed]:
    if memory.is_file():
        yield from read_table(memory, _Observed)


def contents(files: tuple[RawFile, ...]) -> str:
    """The identity of a raw folder: paths and hashes."""
    return digest([[file.path, file.sha256] for file in files])


def write_manifest(directory: Path, files: tuple[RawFile, ...]) -> dict[str, Fact]:
    """Write the manifest; returns ``num_files`` and ``num_bytes``."""
    write_table(directory / MANIFEST, RawFile, files)
    return {"num_files": len(files), "num_bytes": sum(file.num_bytes for file in files)}


def manifest_is_not_empty(directory: Path) -> Outcome:
    """At least one file was observed."""
    count = num_rows(directory / MANIFEST)
    return Outcome(passed=count > 0, found=f"{count} files")


RULES = (Rule(name="raw_files_are_there", sentence="The raw folder holds at least one file.", holds=manifest_is_not_empty),)
