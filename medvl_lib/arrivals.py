"""Arrivals: has anything come into a raw folder that the graph has not seen? Asked every minute, so it must cost next to nothing.

In: a raw folder, and the little that was remembered of it. Out: what to do now, in words. A look (``Sight``) reads path, size and
modification time of every file and keeps 32 bytes of them, whatever the number of files; contents are hashed only where these differ from
what the raw records of the graph say, and only as far as a look may take (``MOST_HASHED_BYTES``). Two equal looks mean that an upload is
complete. An observation is counted, not named by contents: earlier data that come back, and files that are put there again after a run that
failed, are observations of their own. Who asks, and what is started, is not known here.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

from medvl_lib.errors import InputMissing
from medvl_lib.files import read_json, sha256_of_file
from medvl_lib.provenance import ancestor, made_last, read_artifact
from medvl_lib.raw_records import MANIFEST, RawFile, observations
from medvl_lib.tables import read_table
from medvl_lib.workspace import Workspace

MOST_HASHED_BYTES = 256 << 20  # two seconds of hashing: what is larger, the run finds out
SETTLED_SECONDS = 60.0  # a file that is younger may still be written: for who looks only once
MODULUS = 1 << 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What a look at a folder saw of all its files together."""

    num_files: int
    num_bytes: int
    digest: str
    """Of paths, sizes and modification times, in whatever order the system lists them."""
    newest_ns: int
    """The youngest modification time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What is remembered from look to look: of one size, however many files there are."""

    seen: str = ""
    """Digest of the last look."""
    settled: str = ""
    """Digest of the files that were dealt with last."""
    observation: int = 0
    """How often something new was found, counted on from the clock at the first look."""


class Answer(NamedTuple):
    """What a look says."""

    memory: Memory
    is_new: bool
    """Whether the data are to be brought up to date."""
    reason: str
    """Why, or why not."""


def look(folder: Path) -> Sight:
    """Every file below a folder, as one number: names are listed as the system has them, and forgotten at once."""
    total, num_files, num_bytes, newest = 0, 0, 0, 0
    for name, facts in _files(os.fspath(folder), ""):
        one = hashlib.blake2b(f"{name}\0{facts.st_size}\0{facts.st_mtime_ns}".encode(errors="surrogateescape"), digest_size=32)
        total += int.from_bytes(one.digest())  # a sum does not ask for an order; a collision needs 2^128 tries
        num_files, num_bytes, newest = num_files + 1, num_bytes + facts.st_size, max(newest, facts.st_mtime_ns)
    return Sight(num_files=num_files, num_bytes=num_bytes, digest=f"{num_files}-{total % MODULUS:064x}", newest_ns=newest)


def _files(folder: str, below: str) -> Iterator[tuple[str, os.stat_result]]:
    """Path below the folder and facts of each file; as in ``raw_records`` a folder behind a link is not looked into."""
    inside: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    inside.append(entry.name)
                elif entry.is_file():
                    yield below + entry.name, entry.stat()
    except (FileNotFoundError, NotADirectoryError):
        return  # it went while we looked, or was never there: the next look sees the same
    for name in inside:
        yield from _files(f"{folder}/{name}", f"{below}{name}/")


def next_answer(memory: Memory, sight: Sight, differs: Callable[[], str | None]) -> Answer:
    """What a look means, after what was remembered; ``differs`` says in what the files are not those that are in use, or None.

    It is asked only when two looks have seen the same, and that is not what was dealt with last.
    """
    now = replace(memory, seen=sight.digest)
    if not sight.num_files:
        return Answer(now, False, "no files there")
    if sight.digest == memory.settled:
        return Answer(now, False, f"nothing changed: {_in_words(sight)}")
    if sight.digest != memory.seen:
        return Answer(now, False, f"something came: {_in_words(sight)}; a second look that sees the same will mean that it is complete")
    difference, now = differs(), replace(now, settled=sight.digest)
    if difference is None:
        return Answer(now, False, f"the same contents as are in use: {_in_words(sight)}")
    return Answer(replace(now, observation=memory.observation + 1), True, f"{difference}: {_in_words(sight)}")


def single_answer(sight: Sight, differs: Callable[[], str | None], *, now_ns: int | None = None) -> Answer:
    """What one look means to who does not look twice, such as a clock at night: a young file may still be written."""
    nothing = Memory(seen=sight.digest)
    if not sight.num_files:
        return Answer(nothing, False, "no files there")
    age = ((time.time_ns() if now_ns is None else now_ns) - sight.newest_ns) / 1e9
    if age < SETTLED_SECONDS:
        return Answer(nothing, False, f"a file is {max(age, 0):.0f} s old: an upload may be going on")
    difference = differs()
    if difference is None:
        return Answer(nothing, False, f"nothing changed: {_in_words(sight)}")
    return Answer(nothing, True, f"{difference}: {_in_words(sight)}")


def _in_words(sight: Sight) -> str:
    return f"{sight.num_files} files, {sight.num_bytes / 1e6:,.1f} MB"


def remembered(text: str | None) -> Memory:
    """A memory as it was kept. Where there is none, or it was reset, an empty one, whose count begins at the clock: beyond each before."""
    return Memory(**json.loads(text)) if text else Memory(observation=int(time.time()))


def observation_key(memory: Memory) -> str:
    """A name that no other observation has: its number, and, for a clock that was turned back, which files it was of."""
    return f"{memory.observation}:{memory.settled[-16:]}"


def kept(memory: Memory) -> str:
    """A memory as text."""
    return json.dumps(asdict(memory))


def difference(workspace: Workspace, dataset: str, folder: Path) -> str | None:
    """In what a raw folder is not what the dataset's validated pairs in use were made from; None where it is that, byte for byte.

    A file of the same size and another modification time is hashed. Where more than MOST_HASHED_BYTES would have to be, the run finds out.
    """
    used = _in_use(workspace, dataset)
    if used is None:
        return "these files are not in use yet"
    listed = {file.path: file for file in read_table(used / MANIFEST, RawFile)}
    hashes = {
        (row.path, row.num_bytes, row.modified_ns): row.sha256 for row in observations(workspace.observed("raw_records", dataset), folder)
    }
    unhashed = MOST_HASHED_BYTES
    for name, facts in _files(os.fspath(folder), ""):
        file = listed.pop(name, None)
        if file is None:
            return f"new files, such as {name}"
        if file.num_bytes != facts.st_size:
            return f"other files, such as {name}"
        known = hashes.get((name, facts.st_size, facts.st_mtime_ns))
        if known is None:
            unhashed -= facts.st_size
            if unhashed < 0:
                return f"files were written again, such as {name}: too many to compare here"
            known = sha256_of_file(folder / name)
        if known != file.sha256:
            return f"other files, such as {name}"
    return f"{len(listed)} files are gone, such as {next(iter(listed))}" if listed else None


def _in_use(workspace: Workspace, dataset: str) -> Path | None:
    """The raw records that the dataset's validated pairs in use were made from; None where they are not the newest, or not there."""
    latest, current = workspace.latest("raw_records", dataset), workspace.current("validated_pairs", dataset)
    if not (latest.is_file() and current.is_file()):
        return None
    try:
        validated = read_artifact(workspace.directory("validated_pairs", dataset, read_json(current)["fingerprint"]))
        pairs = ancestor(workspace, validated, "pairs", dataset)
        again = made_last(workspace, "pairs", dataset, pairs.data_version, pairs.fingerprint)
        raw = ancestor(workspace, read_artifact(workspace.directory("pairs", dataset, again)), "raw_records", dataset)
        newest = read_artifact(workspace.directory("raw_records", dataset, read_json(latest)["fingerprint"]))
    except InputMissing:  # taken away by hand
        return None
    return raw.directory if newest.data_version == raw.data_version else None  # the newest did not get through: what came before is in use
