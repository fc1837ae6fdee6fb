"""Fill a raw folder: ask for the lists, bring what is missing, check it, and place it when all that belongs together is there.

In: an ``Acquisition``, the raw folder, a folder for downloads, and limits. Out: ``Fetched``, and ``fetch.json`` and ``files.parquet`` among
the downloads. Nothing is placed before everybody's files are there, and of patients only whole ones; so whoever looks at the raw folder
never sees a cut file or half a set. A file that somebody else put there is never written over. Started again, it goes on.
"""

import datetime as dt
import os
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import httpx2
from filelock import FileLock, Timeout
from huggingface_hub import constants

from medvl_lib.datasets import raw_folder
from medvl_lib.errors import InputRefused, MedVLError
from medvl_lib.fetching.downloads import GB, SHA256_DIGITS, Away, LimitReached, Wanted, Watch, checksum, client, download, require_disk
from medvl_lib.fetching.unpacking import unpack
from medvl_lib.fetching.wanted import Limits, Listed, listed
from medvl_lib.files import read_json, sha256_of_file, size_of, write_json, write_whole, writing_below
from medvl_lib.pairs import Dataset
from medvl_lib.progress import Report, silent
from medvl_lib.sources import Source
from medvl_lib.tables import Column, read_table, write_table

RECORD, FILES, UNPACKED = "fetch.json", "files.parquet", "unpacked.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedFile:
    """A file that was brought."""

    path: Annotated[str, Column("path below the raw folder")]
    num_bytes: Annotated[int, Column("size", unit="bytes")]
    sha256: Annotated[str, Column("hash of the contents")]
    origin: Annotated[str, Column("the publisher's file that it is, or was unpacked from")]
    checked_by: Annotated[Literal["the publisher's hash", "the archive's own checksums"], Column("how its contents are known to be right")]


Known = dict[str, FetchedFile]


class Fetched(NamedTuple):
    """What a call did."""

    num_files: int
    """Of the set, in the raw folder now."""
    num_bytes: int
    num_placed: int
    """Of these, by this call."""
    num_patients: int | None
    """Whole ones; None where the sources know none."""
    reached: str
    """The limit that stopped it: ``bytes`` or ``seconds``; empty where everything that was asked for is there."""
    record: Path


class _Places(NamedTuple):
    """Where things lie while they come."""

    raw: Path
    room: Path

    @property
    def tree(self) -> Path:
        """Checked files, as they will lie in the raw folder."""
        return self.room / "tree"

    def whole(self, wanted: Wanted) -> Path:
        """Where a file is put when it was checked."""
        return (self.tree if wanted.unpacking is None else self.room / "archives") / wanted.path

    def part(self, wanted: Wanted) -> Path:
        """What has come of a file so far."""
        return self.room / "parts" / f"{wanted.source}--{wanted.path.replace('/', '--')}.part"


class _Call(NamedTuple):
    """What a call is about."""

    dataset: Dataset
    sources: tuple[Source, ...]
    limits: Limits
    places: _Places
    wanted: Listed
    known: Known
    """Checked files by path: in the tree, or in the raw folder."""
    unpacked: dict[str, list[str] | None]
    """Archive -> the patients whose members were taken; None: all members."""


def fetch(dataset: Dataset, folder: Path, room: Path, limits: Limits, only: Sequence[str] = (), report: Report = silent) -> Fetched:
    """Bring a dataset's files into ``folder`` by way of ``room``; raises MedVLError, Unreachable and WriteFailed."""
    sources = _chosen(dataset, only)
    _require_welcome(dataset.name, folder)
    places = _Places(folder, room)
    with writing_below(room):
        room.mkdir(parents=True, exist_ok=True)
    with writing_below(room), _alone(room), client() as asker:
        wanted = listed(sources, limits, room, asker)
        known = {file.path: file for file in read_table(room / FILES, FetchedFile)} if (room / FILES).is_file() else {}
        unpacked: dict[str, list[str] | None] = read_json(room / UNPACKED) if (room / UNPACKED).is_file() else {}
        call = _Call(dataset, sources, limits, places, wanted, known, unpacked)
        reached = _bring(call, asker, report)
        num_placed = _place(call, is_whole=not reached)
        return _record(call, reached, num_placed)


def _chosen(dataset: Dataset, only: Sequence[str]) -> tuple[Source, ...]:
    """The sources that are meant; raises MedVLError where nothing can be fetched, or the network may not be used."""
    sources, where = dataset.acquisition.sources, f"the dataset {dataset.name}"
    if not sources:
        raise MedVLError(found="no source that could be fetched", where=where, do=dataset.acquisition.terms)
    names = [source.name for source in sources]
    for name in only:
        if name not in names:
            raise MedVLError(found=f"the source {name!r}", where=where, do=f"name one of {', '.join(names)}")
    if constants.HF_HUB_OFFLINE:
        raise Away(found="HF_HUB_OFFLINE is set, which forbids to use the network", where=where, do="unset it, or bring the files by hand")
    return tuple(source for source in sources if not only or source.name in only)


def _require_welcome(name: str, folder: Path) -> None:
    """Refuse to mix a publisher's files with invented ones."""
    if raw_folder.says_invented(folder):
        raise InputRefused(
            found="invented data, as its README.md says", where=str(folder),
            do=f"move the folder away, or name another one in [datasets.{name}] raw_path; nothing was fetched",
        )  # fmt: skip


@contextmanager
def _alone(room: Path) -> Generator[None, None, None]:
    """Hold the downloads of a dataset; raises MedVLError while another process has them."""
    lock = FileLock(room / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        do = "let it end, or stop it; then start this again"
        raise MedVLError(found="another fetch that is going on", where=str(room), do=do) from None
    try:
        yield
    finally:
        lock.release()


# -- bringing ----------------------------------------------------------------------------------------------------------
def _bring(call: _Call, asker: httpx2.Client, report: Report) -> str:
    """Download and check what is not here; returns the limit that stopped it, or nothing."""
    known, places, limits = call.known, call.places, call.limits
    missing = [item for item in call.wanted.files if not _is_here(item, call)]
    _require_no_others([item.path for item in missing if item.unpacking is None and (places.raw / item.path).exists()], places)
    here = sum(file.num_bytes for file in known.values()) + sum(size_of(places.part(item)) for item in missing)
    watch = Watch(report, most_bytes=limits.max_bytes, most_seconds=limits.max_seconds, already=here)
    _require_room(missing, places, limits, here, watch)
    try:
        for item in missing:
            watch.require_room()
            _bring_one(item, call, asker, watch)
    except LimitReached as limit:
        return str(limit)
    finally:
        _remember(known, places)
    return ""


def _is_here(item: Wanted, call: _Call) -> bool:
    """Whether a file, or what is wanted of an archive, lies on this machine whole, to be placed or placed already."""
    known, places = call.known, call.places
    if item.unpacking is not None:
        taken = call.unpacked.get(_origin(item), [])
        covers = taken is None or (call.wanted.patients is not None and call.wanted.patients <= set(taken))
        return covers and all(_stands(file, places) for file in known.values() if file.origin == _origin(item))
    if item.path in known and _stands(known[item.path], places) and _is_as_stated(known[item.path], item):
        return True
    for path in (places.tree / item.path, places.raw / item.path):  # of a call that was killed, or put there by hand
        if item.checksum and path.is_file() and checksum(path, item.checksum) == item.checksum:
            known[item.path] = _row(item, item.path, path)
            return True
    return False


def _is_as_stated(file: FetchedFile, item: Wanted) -> bool:
    """Whether what was brought once is still what the publisher states: another version has other contents under one name."""
    return len(item.checksum) != SHA256_DIGITS or file.sha256 == item.checksum


def _stands(file: FetchedFile, places: _Places) -> bool:
    return any(size_of(folder / file.path) == file.num_bytes and (folder / file.path).is_file() for folder in (places.raw, places.tree))


def _require_room(missing: Sequence[Wanted], places: _Places, limits: Limits, here: int, watch: Watch) -> None:
    """Refuse what cannot fit, as far as sizes are known before; a set without patients is brought whole or not at all."""
    sizes = [item.num_bytes for item in missing]
    if any(size is None for size in sizes) or not sizes:
        return
    total = sum(size or 0 for size in sizes) - sum(size_of(places.part(item)) for item in missing)
    watch.all_bytes = here + total
    if limits.max_bytes is not None and here + total > limits.max_bytes:
        raise MedVLError(
            found=f"{(here + total) / GB:,.3f} GB in all, {limits.max_bytes / GB:,.3f} GB allowed", where=missing[0].host.page,
            do="raise --max-bytes: this set is brought whole or not at all; nothing was fetched",
        )  # fmt: skip
    require_disk(total, places.room)


def _bring_one(item: Wanted, call: _Call, asker: httpx2.Client, watch: Watch) -> None:
    """One file into the tree; of an archive, what it holds."""
    places, whole = call.places, call.places.whole(item)
    if item.unpacking is None or not whole.is_file():
        part = places.part(item)
        download(asker, item, part, watch)
        whole.parent.mkdir(parents=True, exist_ok=True)
        part.replace(whole)
    if item.unpacking is None:
        call.known[item.path] = _row(item, item.path, whole)
        return
    folder = places.room / "unpacking"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        unpack(whole, item.unpacking, folder, call.wanted.patients)
    except InputRefused:
        whole.unlink()
        raise
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        (places.tree / name).parent.mkdir(parents=True, exist_ok=True)
        call.known[name] = _row(item, name, path)
        path.replace(places.tree / name)
    _remember(call.known, places)
    is_all = call.wanted.patients is None or "(?P<patient>" not in item.unpacking.member
    call.unpacked[_origin(item)] = None if is_all else sorted(call.wanted.patients or ())
    write_json(places.room / UNPACKED, call.unpacked)
    whole.unlink()


def _row(item: Wanted, name: str, path: Path) -> FetchedFile:
    return FetchedFile(
        path=name, num_bytes=size_of(path), sha256=sha256_of_file(path), origin=_origin(item),
        checked_by="the publisher's hash" if item.checksum else "the archive's own checksums",
    )  # fmt: skip


def _origin(item: Wanted) -> str:
    return f"{item.source}: {item.path}"


def _remember(known: Known, places: _Places) -> None:
    write_whole(places.room / FILES, lambda temporary: write_table(temporary, FetchedFile, (known[path] for path in sorted(known))))


# -- placing -----------------------------------------------------------------------------------------------------------
def _place(call: _Call, *, is_whole: bool) -> int:
    """Rename into the raw folder what is whole: everything, or, where a limit stopped it, the patients of whom all is here."""
    wanted, known, places = call.wanted, call.known, call.places
    lacking = set[str]() if is_whole else {item.unit for item in wanted.files if not _is_here(item, call)}
    if "" in lacking:
        return 0  # a table that everybody is listed in
    unit_of = {item.path: item.unit for item in wanted.files if item.unpacking is None}
    ready = [file for file in known.values() if unit_of.get(file.path, "") not in lacking and (places.tree / file.path).is_file()]
    there = [file for file in ready if (places.raw / file.path).is_file()]
    _require_no_others([file.path for file in there if sha256_of_file(places.raw / file.path) != file.sha256], places)
    os.sync()  # what is placed is there after a power cut as well; one call, however many files
    for file in ready:
        source, target = places.tree / file.path, places.raw / file.path
        with writing_below(places.raw):
            target.parent.mkdir(parents=True, exist_ok=True)
        try:
            source.replace(target)
        except OSError:  # another file system
            write_whole(target, lambda temporary, source=source: shutil.copyfile(source, temporary))
            source.unlink()
    return len(ready)


def _require_no_others(paths: Sequence[str], places: _Places) -> None:
    """Refuse to write over what lies in the raw folder: it is somebody's, or was changed since it was brought."""
    if paths:
        raise InputRefused(
            found=f"{len(paths)} other files of the same names, such as {paths[0]}", where=str(places.raw),
            do="move them away, then start it again; nothing was written over, and what was fetched is kept",
        )  # fmt: skip


def _record(call: _Call, reached: str, num_placed: int) -> Fetched:
    """Write down what lies in the raw folder now, from where, and within which limits; nothing that opens a host is in it."""
    dataset, wanted, places = call.dataset, call.wanted, call.places
    rows = [
        file for file in call.known.values() if size_of(places.raw / file.path) == file.num_bytes and (places.raw / file.path).is_file()
    ]
    here = {file.path for file in rows}
    lacking = {item.unit for item in wanted.files if item.unpacking is None and item.path not in here}
    num_patients = None if wanted.patients is None else len(wanted.patients - lacking)
    total = sum(file.num_bytes for file in rows)
    write_json(places.room / RECORD, {
        "dataset": dataset.name, "licence": dataset.licence, "terms": dataset.acquisition.terms, "raw_folder": str(places.raw),
        "sources": [{"name": source.name, "page": source.page, "version": wanted.versions[source.name]} for source in call.sources],
        "limits": asdict(call.limits), "limit_reached": reached or None, "num_files": len(rows), "num_bytes": total,
        "num_patients": num_patients,
        "finished_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    })  # fmt: skip
    return Fetched(len(rows), total, num_placed, num_patients, reached, places.room / RECORD)


def sentence(found: Fetched, name: str, folder: Path) -> str:
    """What a person reads at the end."""
    patients = "" if found.num_patients is None else f" of {found.num_patients} patients"
    said = f"{name}: {found.num_files} files{patients}, {found.num_bytes / 1e6:,.1f} MB in {folder}, {found.num_placed} of them placed now"
    if found.reached == "seconds":
        said += "; time ran out: start it again, it goes on where it stopped"
    elif found.reached:
        said += "; the limit of bytes was reached: raise it to have more"
    return f"{said}; {found.record}"
