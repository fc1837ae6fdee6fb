"""Identity, reuse and verdicts: write, audit, publish.

In: the literal values that bear identity and the artifacts that a step reads. Out: a directory that is complete or absent,
with ``provenance.json`` (what it is, from what, by which versions) and, once judged, ``verdicts.json`` beside it.

A directory's **fingerprint** is known before it is written (code version + data versions of its inputs); its **data version**
is the hash of what was written. Where and how fast it ran is in neither. No format, model or metric is known here.
The decision page is ``docs/decisions/0001-identity-fingerprints-places.md``; the split between identity and execution follows
Marin's lazy artifacts (github.com/marin-community/marin, lib/marin/src/marin/execution/lazy.py @ 029b10b43).
"""

import dataclasses
import datetime as dt
import hashlib
import importlib.metadata
import json
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from medvl_lib.errors import InputMissing, InputRefused
from medvl_lib.files import (
    read_json,
    remove_abandoned,
    sha256_of_file,
    sync_directory,
    sync_tree,
    temporary_name,
    write_json,
    writing_below,
)
from medvl_lib.workspace import Workspace

PROVENANCE = "provenance.json"
VERDICTS = "verdicts.json"
FINGERPRINT_CHARACTERS = 16  # 64 bits: a collision among a million directories has a chance below 1e-7
LIBRARIES = ("medvl", "dagster", "torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes", "tokenizers",
             "polars", "pyarrow", "duckdb", "great_expectations", "pillow", "numpy", "datasketch", "ijson",
             "mlx", "mlx-vlm")  # fmt: skip

Fact = int | float | str | bool | None
"""A number or a word that a step reports about what it wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One complete directory on the route."""

    directory: Path
    step: str
    name: str
    fingerprint: str
    data_version: str
    """Hash of the files' names and contents."""
    inputs: Mapping[str, str]
    """``step/name`` of every direct input -> its fingerprint."""
    facts: Mapping[str, Fact]
    """What the step counted and measured, as shown in the UI."""
    reused: bool = False
    """Whether it stood there already."""

    @property
    def key(self) -> str:
        """``step/name``: what others call it."""
        return f"{self.step}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a rule found."""

    passed: bool
    found: str
    """One sentence with the numbers."""
    offenders: tuple[str, ...] = ()
    """Ids or paths of the first few rows that broke the rule; never their text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A sentence that must be true of a written directory."""

    name: str
    """The sentence as an identifier: ``no_patient_in_two_splits``."""
    sentence: str
    holds: Callable[[Path], Outcome]
    literals: tuple[object, ...] = ()
    """Bounds that the rule judges by: a verdict under other bounds is not one under these."""
    is_blocking: bool = True
    """Whether a failure keeps the directory from being read downstream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one rule said of one directory."""

    rule: str
    bounds: str
    """Hash of the rule's literals."""
    is_blocking: bool
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """``provenance.json``."""

    step: str
    name: str
    fingerprint: str
    code_version: str
    data_version: str
    inputs: dict[str, str]
    input_data_versions: dict[str, str]
    files: dict[str, dict[str, Any]]
    facts: dict[str, Fact]
    libraries: dict[str, str] = field(default_factory=dict[str, str])
    platform: str = ""
    command: str = ""
    finished_at: str = ""


def _canonical(value: Any) -> Any:
    """``value`` as JSON types, the same for equal values: dataclasses by field name, sets sorted, 1.0 as 1, paths refused."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _canonical(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, set | frozenset):
        return sorted((_canonical(item) for item in value), key=repr)  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, float) and value.is_integer():
        return int(value)  # 1 and 1.0 are one number, whether Python, JSON or TOML wrote it
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{value!r} ({type(value).__name__}) cannot bear identity: use numbers, text and dataclasses of them")


def digest(value: Any) -> str:
    """A short hash of ``value``; raises TypeError for what cannot bear identity (a path, a device, a callable)."""
    text = json.dumps(_canonical(value), sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT_CHARACTERS]


def code_version(revision: int, *literals: Any) -> str:
    """The hash of a room's ``REVISION`` and the literal values that change what it writes."""
    return digest(["code", revision, list(literals)])


def fingerprint(version: str, inputs: Sequence[Artifact]) -> str:
    """The name of what a step will write: its code version and the data versions of its inputs."""
    return digest(["step", version, sorted([artifact.key, artifact.data_version] for artifact in inputs)])


def _data_version(files: Mapping[str, Mapping[str, Any]]) -> str:
    return digest(["data", sorted([name, str(entry["sha256"])] for name, entry in files.items())])


def _files(directory: Path) -> dict[str, dict[str, Any]]:
    paths = sorted(path for path in directory.rglob("*") if path.is_file() and path.name not in {PROVENANCE, VERDICTS})
    return {path.relative_to(directory).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)} for path in paths}


def library_versions() -> dict[str, str]:
    """The versions of the libraries that can change a number, of those that are installed."""
    found: dict[str, str] = {"python": platform.python_version()}
    for library in LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[library] = importlib.metadata.version(library)
    return found


def read_artifact(directory: Path) -> Artifact:
    """The artifact in a directory, by its provenance alone; raises InputMissing where there is none."""
    path = directory / PROVENANCE
    if not path.is_file():
        raise InputMissing(found="no provenance.json", where=str(directory), do="materialize the step that writes it")
    record = read_json(path)
    return Artifact(
        directory=directory, step=record["step"], name=record["name"], fingerprint=record["fingerprint"],
        data_version=record["data_version"], inputs=record["inputs"], facts=record["facts"],
    )  # fmt: skip


def made_from(artifact: Artifact) -> Mapping[str, str]:
    """``step/name`` of every direct input -> its data version: what was read, whatever it was called by its own inputs."""
    return read_json(artifact.directory / PROVENANCE)["input_data_versions"]


def damage(directory: Path) -> str | None:
    """What is wrong with a directory that should be complete, or None: missing, cut short or changed files."""
    path = directory / PROVENANCE
    if not path.is_file():
        return f"{path} is missing"
    try:
        listed = read_json(path)["files"]
    except (ValueError, TypeError, KeyError) as error:
        return f"{path} is not what was written: {type(error).__name__}"
    for name, entry in listed.items():
        file = directory / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != entry["bytes"]:
            return f"{name} has {file.stat().st_size} bytes, {entry['bytes']} were written"
    for name, entry in listed.items():
        if sha256_of_file(directory / name) != entry["sha256"]:
            return f"{name} has other contents than were written"
    return None


def reusable(workspace: Workspace, step: str, name: str, version: str, inputs: Sequence[Artifact]) -> Artifact | None:
    """The complete, intact directory that this step would write again, or None. Nothing else decides reuse."""
    directory = workspace.directory(step, name, fingerprint(version, inputs))
    if not directory.is_dir() or damage(directory) is not None:
        return None
    found = dataclasses.replace(read_artifact(directory), reused=True)
    _note(workspace, found)
    return found


def write_step(
    workspace: Workspace,
    step: str,
    name: str,
    version: str,
    inputs: Sequence[Artifact],
    write: Callable[[Path], Mapping[str, Fact]],
) -> Artifact:
    """Let ``write`` fill a new directory and put it in place whole, or report the one that stands there already.

    ``write`` gets an empty temporary directory and returns what it counted. A damaged directory of the same fingerprint is
    moved aside, never overwritten. Raises WriteFailed when the disk refuses; whatever ``write`` raises passes through.
    """
    if found := reusable(workspace, step, name, version, inputs):
        return found
    directory = workspace.directory(step, name, fingerprint(version, inputs))
    temporary = temporary_name(directory)
    remove_abandoned(directory)
    try:
        with writing_below(directory.parent):
            temporary.mkdir(parents=True)
            facts = dict(write(temporary))
            _finish(temporary, step, name, version, inputs, facts, directory.name)
            _put_in_place(temporary, directory)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    written = read_artifact(directory)
    _note(workspace, written)
    return written


def _finish(temporary: Path, step: str, name: str, version: str, inputs: Sequence[Artifact], facts: dict[str, Fact], mark: str) -> None:
    files = _files(temporary)
    record = _Record(
        step=step, name=name, fingerprint=mark, code_version=version, data_version=_data_version(files),
        inputs={artifact.key: artifact.fingerprint for artifact in inputs},
        input_data_versions={artifact.key: artifact.data_version for artifact in inputs},
        files=files, facts=facts, libraries=library_versions(), platform=platform.platform(),
        command=" ".join(Path(part).name if index == 0 else part for index, part in enumerate(sys.argv)),
        finished_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )  # fmt: skip
    write_json(temporary / PROVENANCE, dataclasses.asdict(record))
    sync_tree(temporary)


def _put_in_place(temporary: Path, directory: Path) -> None:
    with FileLock(directory.with_name(f".{directory.name}.lock")):
        if directory.is_dir() and damage(directory) is None:  # another run wrote the same thing meanwhile
            shutil.rmtree(temporary)
            return
        if directory.is_dir():
            aside = sum(1 for _ in directory.parent.glob(f".{directory.name}.damaged-*"))
            directory.rename(directory.with_name(f".{directory.name}.damaged-{aside}"))
        temporary.rename(directory)
        sync_directory(directory.parent)


def _note(workspace: Workspace, artifact: Artifact) -> None:
    """Remember the newest directory, and for this run which one it reads from now on."""
    write_json(workspace.latest(artifact.step, artifact.name), {"fingerprint": artifact.fingerprint})
    _pin(workspace, artifact)


def _pin(workspace: Workspace, artifact: Artifact) -> None:
    path = workspace.pins
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        pins: dict[str, str] = read_json(path) if path.is_file() else {}
        write_json(path, {**pins, artifact.key: artifact.fingerprint})


def _pinned(workspace: Workspace, step: str, name: str) -> str | None:
    path = workspace.pins
    return read_json(path).get(f"{step}/{name}") if path is not None and path.is_file() else None


def newest(workspace: Workspace, step: str, name: str) -> Artifact:
    """The directory that a check judges: this run's own, or else the newest one written."""
    mark = _pinned(workspace, step, name)
    if mark is None:
        pointer = workspace.latest(step, name)
        if not pointer.is_file():
            raise InputMissing(found=f"nothing was written for {step}/{name}", where=str(pointer), do=f"materialize {name}/{step}")
        mark = str(read_json(pointer)["fingerprint"])
    return read_artifact(workspace.directory(step, name, mark))


def judge(workspace: Workspace, artifact: Artifact, rules: Iterable[Rule]) -> tuple[Verdict, ...]:
    """Apply every rule, leave the verdicts in the directory, and move ``current.json`` when all blocking ones passed.

    Raises InputRefused when the directory is damaged; then, and when a rule raises, no earlier verdict stays.
    """
    try:
        require_intact(artifact)
        verdicts = tuple(
            Verdict(rule=rule.name, bounds=digest(rule.literals), is_blocking=rule.is_blocking, outcome=rule.holds(artifact.directory))
            for rule in rules
        )
    except BaseException:
        (artifact.directory / VERDICTS).unlink(missing_ok=True)
        raise
    write_json(
        artifact.directory / VERDICTS,
        {"data_version": artifact.data_version, "verdicts": [dataclasses.asdict(verdict) for verdict in verdicts]},
    )
    if all(verdict.outcome.passed for verdict in verdicts if verdict.is_blocking):
        write_json(workspace.current(artifact.step, artifact.name), {"fingerprint": artifact.fingerprint})
    return verdicts


def require_intact(artifact: Artifact) -> None:
    """Refuse a directory whose files are not those that were written."""
    if problem := damage(artifact.directory):
        raise InputRefused(
            found=f"a damaged directory: {problem}", where=str(artifact.directory),
            do=f"materialize {artifact.name}/{artifact.step} again: it is moved aside and written anew",
        )  # fmt: skip


def require_verdicts(artifact: Artifact, rules: Iterable[Rule]) -> None:
    """Refuse an artifact unless each blocking rule named here has passed on exactly these contents."""
    path = artifact.directory / VERDICTS
    said: dict[str, Any] = read_json(path) if path.is_file() else {"data_version": None, "verdicts": []}
    passed = {(entry["rule"], entry["bounds"]) for entry in said["verdicts"] if entry["outcome"]["passed"]}
    missing = [rule.name for rule in rules if rule.is_blocking and (rule.name, digest(rule.literals)) not in passed]
    if missing or said["data_version"] != artifact.data_version:
        raise InputRefused(
            found=f"no passing verdict for {', '.join(missing) or 'these contents'}",
            where=str(artifact.directory),
            do=f"run the checks of {artifact.name}/{artifact.step}; if one fails, mend the data it names and materialize again",
        )


def resolve(workspace: Workspace, step: str, name: str, rules: Iterable[Rule]) -> Artifact:
    """The input that this run reads: the one it wrote or read before, else the current one; it must have passed ``rules``."""
    mark = _pinned(workspace, step, name)
    if mark is None:
        pointer = workspace.current(step, name)
        if not pointer.is_file():
            raise InputMissing(found=f"no {step} of {name} has passed its checks yet", where=str(pointer), do=f"materialize {name}/{step}")
        mark = str(read_json(pointer)["fingerprint"])
    artifact = read_artifact(workspace.directory(step, name, mark))
    require_verdicts(artifact, rules)
    require_intact(artifact)
    _pin(workspace, artifact)
    return artifact


def ancestor(workspace: Workspace, artifact: Artifact, step: str, name: str) -> Artifact:
    """The input of an input: the very directory that ``artifact`` was made from, however long ago."""
    mark = artifact.inputs.get(f"{step}/{name}")
    if mark is None:
        raise InputMissing(
            found=f"{artifact.key} was not made from {step}/{name}", where=str(artifact.directory / PROVENANCE),
            do="name one of its inputs: " + ", ".join(artifact.inputs),
        )  # fmt: skip
    return read_artifact(workspace.directory(step, name, mark))


def require_one_of_each(workspace: Workspace, inputs: Iterable[Artifact]) -> None:
    """Refuse inputs that were made from different contents of one thing: a split of last week's pairs beside this week's.

    Walked from the inputs up, each thing once: where two of them name the same contents of it, one of the two is followed, as it was made
    last. What is not there any more, since it was collected, is not looked into.
    """
    seen: dict[str, tuple[str, str]] = {}
    left = [(artifact.key, artifact.data_version, artifact.fingerprint, "this step") for artifact in inputs]
    while left:
        further: list[tuple[str, str, str, str]] = []
        for key, version, mark, by in left:
            if key in seen:
                _require_same(key, version, by, *seen[key])
                continue
            seen[key] = (version, by)
            step, _, name = key.partition("/")
            path = workspace.directory(step, name, made_last(workspace, step, name, version, mark)) / PROVENANCE
            if path.is_file():
                record = read_json(path)
                further += [(above, found, record["inputs"][above], key) for above, found in record["input_data_versions"].items()]
        left = further


def made_last(workspace: Workspace, step: str, name: str, version: str, mark: str) -> str:
    """The directory in use where it has the same contents, else ``mark``: what a reused directory names may have been made again since.

    A row that validation rejects changes the validated pairs and not the split: what stands on the split is reused, and names the old one.
    """
    pointer = workspace.current(step, name)
    if not pointer.is_file():
        return mark
    now = str(read_json(pointer)["fingerprint"])
    record = workspace.directory(step, name, now) / PROVENANCE
    return now if record.is_file() and read_json(record)["data_version"] == version else mark


def _require_same(key: str, version: str, by: str, other: str, other_by: str) -> None:
    if version == other:
        return
    step, _, name = key.partition("/")
    old = by if other_by == "this step" else other_by
    old_step, _, old_name = old.partition("/")
    raise InputRefused(
        found=f"two contents of {key}: {other_by} reads {other}, and {by} {version}", where=key,
        do=f"materialize {old_name}/{old_step} again, with all that stands between {name}/{step} and this step" if old_name
        else f"materialize what stands between {name}/{step} and this step again",
    )  # fmt: skip
