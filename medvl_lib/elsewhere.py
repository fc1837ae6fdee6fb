"""Files that lie elsewhere: raw records behind a URL, brought here file by file, and finished files that are sent to one.

In: a URL that fsspec knows, such as ``s3://hospital/exports/mtsamples``. Out: a mirror on this disk that is what the place lists, verified,
and read like any raw folder; or a copy there. The data root itself is never such a place: it needs renames and locks (``data_root``).
How a place is reached (keys, endpoint) stands in its own variables of the environment, such as AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL.
"""

import hashlib
import re
import shutil
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

from medvl_lib.errors import InputMissing, MedVLError, Unreachable
from medvl_lib.files import CHUNK_BYTES, read_json, sha256_of_file, write_json, write_whole

LISTED = "listed.json"  # beside the mirror: what was listed when each file was brought
MD5 = re.compile(r"[0-9a-f]{32}")  # an ETag that is no hash of the contents has a hyphen in it; one that has none may be none either

CLIENTS = {"botocore", "aiobotocore", "aiohttp"}  # modules of errors that s3fs lets through: no keys, no endpoint, a line that broke


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A file as its place lists it."""

    num_bytes: int
    mark: str
    """What changes with it: an ETag, a checksum, a time; empty where the place says nothing, and then it is brought each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """A file that was brought, as it was listed, and what came."""

    num_bytes: int
    mark: str
    sha256: str
    modified_ns: int
    """Of the copy: one that was touched since is hashed again."""


def mirror(url: str, folder: Path) -> int:
    """Bring what differs from the last time, remove what is gone there; returns how many files were brought.

    Raises Unreachable where the place does not answer, InputMissing where it lists nothing, MedVLError where something else came than it
    lists. What is here already stays as it is until its successor is whole.
    """
    places, root = _place(url)
    listed = _list(places, root, url)
    memory = folder.with_name(f".{folder.name}-{LISTED}")
    remembered: dict[str, dict[str, Any]] = read_json(memory) if memory.is_file() else {}
    known = {name: Brought(**entry) for name, entry in remembered.items()}
    brought, num_brought = dict[str, Brought](), 0
    for name, entry in sorted(listed.items()):
        path = folder / name
        if not _is_here(path, entry, known.get(name)):
            _bring(places, f"{root}/{name}", path, entry, url)
            num_brought += 1
            known[name] = Brought(**asdict(entry), sha256=sha256_of_file(path), modified_ns=path.stat().st_mtime_ns)
            write_json(memory, {key: asdict(value) for key, value in known.items()})  # a long one that is cut goes on where it was
        brought[name] = known[name]
    _remove_others(folder, listed)
    write_json(memory, {name: asdict(entry) for name, entry in brought.items()})
    return num_brought


def send(path: Path, url: str) -> str:
    """Write a finished file to a place, whole: under its name there is the old one or the new one; returns the URL of the file."""
    places, root = _place(url)
    target = f"{root}/{path.name}"
    with _reaching(url):
        places.makedirs(root, exist_ok=True)
        places.put_file(str(path), f"{target}.part")
        if (found := places.info(f"{target}.part")["size"]) != path.stat().st_size:
            raise MedVLError(
                found=f"{found} bytes arrived of {path.stat().st_size}",
                where=f"{url}/{path.name}",
                do="send it again: the old one is there",
            )
        places.mv(f"{target}.part", target)
    return f"{url.rstrip('/')}/{path.name}"


def _place(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        places, root = cast(Any, fsspec).core.url_to_fs(url, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise MedVLError(
            found=str(error), where=url, do="pip install 'medvl[s3]' for s3:// (other places: the fsspec package that the message names)"
        ) from error
    return places, str(root).rstrip("/")


def _list(places: Any, root: str, url: str) -> Mapping[str, Listed]:
    with _reaching(url):
        places.invalidate_cache()
        found = places.find(root, detail=True)
    listed = {str(PurePosixPath(path).relative_to(root)): _listed(facts) for path, facts in found.items() if facts["type"] == "file"}
    if not listed:
        raise InputMissing(found="no files", where=url, do="put the publisher's files there, or mend raw_url in the settings")
    for name in listed:
        if ".." in PurePosixPath(name).parts:
            raise MedVLError(found=f"a file called {name!r}", where=url, do="rename it: it would be written beside the mirror")
    return listed


def _listed(facts: Mapping[str, Any]) -> Listed:
    mark = next((str(facts[name]) for name in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified") if facts.get(name)), "")
    return Listed(num_bytes=int(facts["size"]), mark=mark.strip('"'))


def _is_here(path: Path, entry: Listed, known: Brought | None) -> bool:
    """Whether the copy is the file that is listed: as it was brought, by size and mark, and not touched since, or the same contents."""
    if known is None or not entry.mark or (known.num_bytes, known.mark) != (entry.num_bytes, entry.mark) or not path.is_file():
        return False
    facts = path.stat()
    if facts.st_size != entry.num_bytes:
        return False
    return facts.st_mtime_ns == known.modified_ns or sha256_of_file(path) == known.sha256


def _bring(places: Any, source: str, path: Path, entry: Listed, url: str) -> None:
    """One file, whole or not at all; a hash that its place gives is held against what came.

    An ETag that looks like one is none where the place encrypts (SSE-KMS, SSE-C): it is a mark then, which has not changed meanwhile.
    """
    digest, size = hashlib.md5(usedforsecurity=False), 0

    def write(temporary: Path) -> None:
        nonlocal size
        with ExitStack() as held, temporary.open("wb") as writing:
            with _reaching(url):
                reading = held.enter_context(places.open(source, "rb"))
            while chunk := _read(reading, url):
                digest.update(chunk)
                size += len(chunk)
                writing.write(chunk)
        if size == entry.num_bytes and MD5.fullmatch(entry.mark) and digest.hexdigest() != entry.mark:
            with _reaching(url):
                places.invalidate_cache()
                again = _listed(places.info(source))
            if again == entry:
                return
        _require_as_listed(size, digest.hexdigest(), entry, f"{url} ({source})")

    if path.is_dir():
        shutil.rmtree(path)
    write_whole(path, write)


def _read(reading: Any, url: str) -> bytes:
    with _reaching(url):
        return reading.read(CHUNK_BYTES)


def _require_as_listed(size: int, md5: str, entry: Listed, where: str) -> None:
    is_hash = MD5.fullmatch(entry.mark) is not None
    if size != entry.num_bytes or (is_hash and md5 != entry.mark):
        raise MedVLError(
            found=f"{size} bytes with the MD5 {md5} came, and {entry.num_bytes} bytes marked {entry.mark} are listed", where=where,
            do="materialize again: the file was changed while it was read, or damaged on its way; the copy that was here is kept",
        )  # fmt: skip


def _remove_others(folder: Path, listed: Mapping[str, Listed]) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(folder).as_posix() not in listed:
            path.unlink()


@contextmanager
def _reaching(url: str) -> Generator[None]:
    """Raise Unreachable where the place, or the way to it, is what failed: clients of S3 have errors of their own for some of it."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, OSError) and type(error).__module__.split(".")[0] not in CLIENTS:
            raise
        raise Unreachable(
            found=f"{type(error).__name__}: {error}", where=url,
            do="see that the place can be reached from here, and its keys in the environment",
        ) from error  # fmt: skip
