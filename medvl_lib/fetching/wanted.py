"""From a source to the files that are wanted of it: the publisher's list, and how much of it is asked for.

In: a source, and limits. Out: ``Wanted`` files, each with the hash that its publisher states. A list is fetched once and remembered
under what was asked for: neither a commit nor a published version changes.
"""

import base64
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import httpx2

from medvl_lib.errors import InputRefused, MedVLError
from medvl_lib.fetching import hub
from medvl_lib.fetching.downloads import Host, Wanted, Watch, download
from medvl_lib.fetching.hub import Repository
from medvl_lib.files import read_json, write_json
from medvl_lib.progress import silent
from medvl_lib.sources import Hub, PhysioNet, Source, Unpacking

USER, PASSWORD = "PHYSIONET_USERNAME", "PHYSIONET_PASSWORD"
SUM = re.compile(r"([0-9a-f]{64})\s+\*?(?:\./)?(\S.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is brought; None: all of it."""

    max_patients: int | None = None
    """The first ones in the order of their numbers."""
    max_studies_per_patient: int | None = None
    """Whole studies, the first ones in the order of their numbers."""
    max_bytes: int | None = None
    """Of all that this machine has of the set."""
    max_seconds: float | None = None
    """Of one call: the next one goes on."""


class Listed(NamedTuple):
    """What is wanted of all sources together."""

    files: tuple[Wanted, ...]
    """Everybody's first, then patient by patient."""
    patients: frozenset[str] | None
    """Those who were chosen; None where the sources know no patients."""
    versions: Mapping[str, str]
    """Name of a source -> the commit or version that it is pinned at."""


def listed(sources: Sequence[Source], limits: Limits, folder: Path, asker: httpx2.Client) -> Listed:
    """Ask each source for its list, or remember it in ``folder``; raises MedVLError for one that does not open."""
    files: list[Wanted] = []
    versions: dict[str, str] = {}
    for source in sources:
        found, versions[source.name] = _of_source(source, folder, asker)
        files += found
    studies: dict[str, set[str]] = {}
    for item in files:
        if item.unit:
            studies.setdefault(item.unit, set()).add(item.study)
    patients = {patient: frozenset(sorted(studies[patient])[: limits.max_studies_per_patient]) for patient in sorted(studies)}
    chosen = dict(list(patients.items())[: limits.max_patients])
    kept = [item for item in files if not item.unit or (item.unit in chosen and item.study in chosen[item.unit])]
    return Listed(tuple(sorted(kept, key=lambda item: item.unit)), frozenset(chosen) if studies else None, versions)


def _of_source(source: Source, folder: Path, asker: httpx2.Client) -> tuple[list[Wanted], str]:
    if isinstance(source, Hub):
        return _of_hub(source, folder)
    if isinstance(source, PhysioNet):
        return _of_physionet(source, folder, asker), source.version
    host = Host(page=source.page, cure="see whether the page asks for an account, and fetch it by hand then")
    return [Wanted(host=host, url=source.url, source=source.name, path=source.file, unpacking=source.unpacking)], "as it came"


# -- the hub -----------------------------------------------------------------------------------------------------------
def _of_hub(source: Hub, folder: Path) -> tuple[list[Wanted], str]:
    asked = hashlib.sha256("\n".join((source.repository, source.revision, *source.files)).encode()).hexdigest()[:8]
    memory = folder / f"{source.name}-{source.revision[:12] or 'newest'}-{asked}.json"
    repository = Repository(kind="dataset", name=source.repository, page=source.page)
    if not memory.is_file():
        write_json(memory, _asked_of_hub(source, repository))
    known = read_json(memory)
    host, commit = hub.host(repository), str(known["commit"])
    return [
        Wanted(
            host=host, url=hub.url(repository, entry["path"], commit), source=source.name, path=entry["path"],
            num_bytes=entry["num_bytes"], checksum=entry["checksum"], unpacking=_unpacking(source.archives, entry["path"]),
        ) for entry in known["files"]
    ], commit  # fmt: skip


def _asked_of_hub(source: Hub, repository: Repository) -> dict[str, Any]:
    """The commit, and the wanted files that it has."""
    commit = hub.commit_of(repository, source.revision)
    entries = hub.files_at(repository, commit, is_recursive=True)
    files = [entry for entry in entries if any(fnmatch(entry.name, pattern) for pattern in source.files)]
    for entry in files:
        _require_inside(entry.name, source.page)
    if not files:
        raise InputRefused(
            found=f"none of {', '.join(source.files)}", where=f"{source.page} at {commit}",
            do="compare with the page: the repository has changed, and the reader may need to as well",
        )  # fmt: skip
    listing = [{"path": entry.name, "num_bytes": entry.num_bytes, "checksum": entry.checksum} for entry in files]
    return {"commit": commit, "files": listing}


def _unpacking(archives: Mapping[str, Unpacking], path: str) -> Unpacking | None:
    return next((unpacking for pattern, unpacking in archives.items() if fnmatch(path, pattern)), None)


# -- PhysioNet ---------------------------------------------------------------------------------------------------------
def _of_physionet(source: PhysioNet, folder: Path, asker: httpx2.Client) -> list[Wanted]:
    host = Host(
        page=source.page, authorization=_basic(source),
        cure=f"sign the agreement on {source.page} with the account that {USER} names (training included), and mend {USER} and {PASSWORD}",
    )  # fmt: skip
    sums = folder / f"{source.name}-{source.project}-{source.version}-SHA256SUMS.txt"
    base = f"{source.base}/{source.project}/{source.version}"
    if not sums.is_file():
        part = sums.with_name(f"{sums.name}.part")
        listing = Wanted(host=host, url=f"{base}/SHA256SUMS.txt", source=source.name, path="SHA256SUMS.txt")
        download(asker, listing, part, Watch(silent))
        try:
            list(_sums(part, source))
        except InputRefused:
            part.unlink()
            raise
        part.replace(sums)
    found: list[Wanted] = []
    for checksum, path in _sums(sums, source):
        match = _matched(source, path)
        if match is not None:
            unpacking = _unpacking(source.archives, path)
            into = "" if unpacking is not None or not source.into else f"{source.into}/"
            found.append(Wanted(
                host=host, url=f"{base}/{path}", source=source.name, path=f"{into}{path}", checksum=checksum, unpacking=unpacking,
                unit=match.groupdict().get("patient") or "", study=match.groupdict().get("study") or "",
            ))  # fmt: skip
    return found


def _matched(source: PhysioNet, path: str) -> re.Match[str] | None:
    return next((found for pattern in source.files if (found := re.fullmatch(pattern, path)) is not None), None)


def _sums(path: Path, source: PhysioNet) -> Iterator[tuple[str, str]]:
    """Hash and path of each file in a list of checksums; a page to log in is none."""
    with path.open(encoding="utf-8", errors="replace") as stream:
        for number, line in enumerate(stream, start=1):
            found = SUM.fullmatch(line.rstrip("\n"))
            if found is None and line.strip():
                raise InputRefused(
                    found=f"line {number} of SHA256SUMS.txt is no checksum with a path", where=source.page,
                    do=f"a page to log in is answered like this: sign the agreement there, and mend {USER} and {PASSWORD}",
                )  # fmt: skip
            if found is not None:
                _require_inside(found[2], source.page)
                yield found[1], found[2]


def _basic(source: PhysioNet) -> str:
    """What opens a credentialed project; raises MedVLError where the environment does not have it."""
    if not source.is_credentialed:
        return ""
    user, password = os.environ.get(USER, ""), os.environ.get(PASSWORD, "")
    if not user or not password:
        raise MedVLError(
            found=f"no {USER if not user else PASSWORD} in the environment", where=source.page,
            do=f"set {USER} and {PASSWORD} there, never in a file of the project, to an account that signed the agreement on that page",
        )  # fmt: skip
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


def _require_inside(path: str, page: str) -> None:
    """Refuse a listed path that leads out of the raw folder."""
    parts = PurePosixPath(path.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in parts.parts[0]:
        raise InputRefused(found=f"a listed path {path!r}, which leads outside", where=page, do="ask the publisher; nothing was fetched")
