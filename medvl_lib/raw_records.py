"""Raw records: the user's files as the publisher ships them, observed and never written.

In: a raw folder. Out: ``manifest.parquet`` with path, size and hash of every file: what "the data changed" means. Contents are hashed
only where size or modification time differ from the manifest before; the modification time itself is never identity. The check names files
that the dataset's reader does not look at: they are part of the data version, and no row comes from them.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Annotated

from pyarrow import ArrowInvalid  # pyright: ignore[reportUnknownVariableType]

from medvl_lib.errors import InputMissing, InputRefused
from medvl_lib.files import sha256_of_file, write_whole
from medvl_lib.provenance import Fact, Outcome, Rule, digest
from medvl_lib.tables import Column, num_rows, read_table, write_table

REVISION = 1  # first version
MANIFEST = "manifest.parquet"
SHOWN_UNREAD = 3
BESIDE = re.compile(r"(readme|licen[cs]e|source|checksums|sha256sums|md5sums)\b[^/]*|.*\.(sha256|md5)", re.IGNORECASE)
"""Names of files that no reader is expected to read: README, LICENSE, SOURCE, and lists of checksums."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawFile:
    """A file below a raw folder."""

    path: Annotated[str, Column("path below the raw folder")]
    num_bytes: Annotated[int, Column("size", unit="bytes")]
    sha256: Annotated[str, Column("hash of the contents")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """When a file was last seen to change: lets an unchanged file keep its hash. Never part of a data version."""

    folder: Annotated[str, Column("where the raw folder was")]
    path: Annotated[str, Column("path below the raw folder")]
    num_bytes: Annotated[int, Column("size", unit="bytes")]
    modified_ns: Annotated[int, Column("modification time", unit="nanoseconds since 1970")]
    sha256: Annotated[str, Column("hash of the contents")]


def observe(folder: Path, memory: Path, *, cure: str) -> tuple[RawFile, ...]:
    """Every file of a folder by path, hashed where it differs from what ``memory`` (a Parquet file of ours) remembers of this folder.

    Raises InputMissing with ``cure`` when the folder is not there or empty.
    """
    where = str(folder.resolve())
    known = {(row.path, row.num_bytes, row.modified_ns): row.sha256 for row in observations(memory, folder)}
    seen: list[tuple[RawFile, int]] = []
    for name in _names(folder):
        path = folder / name
        facts = path.stat()
        sha256 = known.pop((name, facts.st_size, facts.st_mtime_ns), None) or sha256_of_file(path)
        seen.append((RawFile(path=name, num_bytes=facts.st_size, sha256=sha256), facts.st_mtime_ns))
    if not seen:
        found = "a file, where a folder should be" if folder.is_file() else "no files" if folder.is_dir() else "no such folder"
        raise InputMissing(found=found, where=str(folder), do=cure)
    write_whole(memory, lambda temporary: write_table(temporary, Observed, (_observed(where, *each) for each in seen)))
    return tuple(file for file, _ in seen)


def _names(folder: Path) -> list[str]:
    """The paths of the files below a folder, in their order; a folder behind a link is not looked into."""
    found: list[str] = []
    for place, _, names in os.walk(folder):
        below = Path(place).relative_to(folder)
        found += [(below / name).as_posix() for name in names if Path(place, name).is_file()]
    return sorted(found, key=lambda name: name.split("/"))


def _observed(where: str, file: RawFile, modified_ns: int) -> Observed:
    return Observed(folder=where, path=file.path, num_bytes=file.num_bytes, modified_ns=modified_ns, sha256=file.sha256)


def observations(memory: Path, folder: Path) -> Iterator[Observed]:
    """What was seen of a folder last time; a memory that is damaged or of another make has none, and everything is hashed again."""
    where = str(folder.resolve())
    if memory.is_file():
        with suppress(ArrowInvalid, InputRefused):  # pyright: ignore[reportUnknownArgumentType]
            yield from (row for row in read_table(memory, Observed) if row.folder == where)


def require_unchanged(manifest: Path, files: tuple[RawFile, ...], folder: Path, dataset: str) -> None:
    """Refuse a raw folder that is not what the manifest observed: an upload is going on, or has come since."""
    if all(listed == found for listed, found in zip_longest(read_table(manifest / MANIFEST, RawFile), files)):
        return
    listed = {file.path: file.sha256 for file in read_table(manifest / MANIFEST, RawFile)}
    found = {file.path: file.sha256 for file in files}
    changed = sorted(path for path in listed | found if listed.get(path) != found.get(path))
    if changed:
        raise InputRefused(
            found=f"{len(changed)} files changed since they were observed, such as {changed[0]}", where=str(folder),
            do=f"when the upload is complete, materialize {dataset}/raw_records and what follows again",
        )  # fmt: skip


def contents(files: tuple[RawFile, ...]) -> str:
    """The identity of a raw folder: paths and hashes."""
    return digest([[file.path, file.sha256] for file in files])


def write_manifest(directory: Path, files: tuple[RawFile, ...]) -> dict[str, Fact]:
    """Write the manifest; returns ``num_files`` and ``num_bytes``."""
    write_table(directory / MANIFEST, RawFile, files)
    return {"num_files": len(files), "num_bytes": sum(file.num_bytes for file in files)}


def _is_beside(path: str) -> bool:
    """Whether a file is hidden, or says something about the others."""
    *folders, name = path.split("/")
    return any(part.startswith(".") for part in (*folders, name)) or BESIDE.match(name) is not None


def manifest_is_not_empty(directory: Path, folder: Path, is_read: Callable[[Path, str], bool] | None) -> Outcome:
    """At least one file was observed; those that nobody reads are named."""
    count = num_rows(directory / MANIFEST)
    found = f"{count} files"
    if is_read is not None:
        paths = (file.path for file in read_table(directory / MANIFEST, RawFile))
        unread = [path for path in paths if not _is_beside(path) and not is_read(folder, path)]
        names = ", ".join(unread[:SHOWN_UNREAD]) + (", ..." if len(unread) > SHOWN_UNREAD else "")
        found += f"; {len(unread)} {'file' if len(unread) == 1 else 'files'} that nobody reads: {names}" if unread else ""
    return Outcome(passed=count > 0, found=found)


def rules(folder: Path, is_read: Callable[[Path, str], bool] | None = None) -> tuple[Rule, ...]:
    """What must be true of the manifest of a raw folder; ``is_read`` is the dataset's own. Files that nobody reads block nothing."""
    holds = partial(manifest_is_not_empty, folder=folder, is_read=is_read)
    return (Rule(name="raw_files_are_there", sentence="The raw folder holds at least one file.", holds=holds),)
