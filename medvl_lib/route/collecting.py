"""Collecting: which directories nobody needs any more.

In: a data root. Out: the directories that no pointer, champion or unfinished run refers to, by their provenance; and their removal, which
is refused while a run is going on, since that may be about to read one of them. What is evidence stays for ever, whatever refers to it:
answers, scores, decisions and what persons said. A look at a test set that was forgotten could be taken twice. Raw files, pictures and
downloads are not looked at: they are somebody's own, shared by everything, or fetched at a price.
"""

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from medvl_lib.errors import InputRefused
from medvl_lib.files import read_json, remove_abandoned
from medvl_lib.pointer import Served, read_state
from medvl_lib.provenance import PROVENANCE, read_artifact
from medvl_lib.workspace import Workspace

EVIDENCE = frozenset({
    "predictions", "scores", "benchmark", "promotion", "parity", "retrieval", "report", "served_model", "override", "rollback",
    "review_sheets", "reviews",
})  # fmt: skip
PLACES = frozenset({
    "raw", "mirrors", "images", "served", "downloads", "fetched", "checkpoints", "requests", "locks", "runs", "dagster", "reports", "smoke",
})  # fmt: skip
"""What lies beside the steps' folders."""
REMOVED = ".removed"
"""How the name of what is being removed ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unneeded:
    """A folder that nothing refers to."""

    path: Path
    num_bytes: int


def find(workspace: Workspace) -> tuple[Unneeded, ...]:
    """What could be removed, by path: directories of steps, those that were moved aside, checkpoints of what is whole by now, and
    what is left of a removal that was broken off.
    """
    needed = _needed(workspace)
    found = [path for path in _written(workspace) if path.parent.parent.name not in EVIDENCE and path not in needed]
    aside = [path for kind in ("damaged-*", "removed") for path in workspace.root.glob(f"*/*/.*.{kind}")]
    found += [path for path in aside if path.parent.parent.name not in PLACES]
    found += [path for path in workspace.root.glob("checkpoints/*/*/*") if _is_removed(path) or _is_whole(workspace, path)]
    return tuple(Unneeded(path=path, num_bytes=_num_bytes(path)) for path in sorted(set(found)))


def remove(workspace: Workspace, found: Iterable[Unneeded]) -> tuple[Path, ...]:
    """Remove them; returns which. Raises InputRefused while a run is going on."""
    if alive := running(workspace):
        raise InputRefused(
            found=f"{len(alive)} runs are going on, such as {alive[0]}", where=str(workspace.root),
            do="wait until they have ended: one of them may be about to read what would be removed",
        )  # fmt: skip
    removed: list[Path] = []
    for each in found:
        aside = each.path
        if not _is_removed(aside):
            aside = each.path.with_name(f".{each.path.name.lstrip('.')}{REMOVED}")
            if aside.is_dir():
                shutil.rmtree(aside)  # the rest of a removal that was broken off
            each.path.rename(aside)  # at once: nobody finds half of it
        if aside.is_dir():  # unless it went with what was made again beside it
            shutil.rmtree(aside)
        remove_abandoned(each.path)
        removed.append(each.path)
    return tuple(removed)


def running(workspace: Workspace) -> list[str]:
    """The runs whose process is alive: it holds a lock that the kernel drops when it dies."""
    alive: list[str] = []
    for path in sorted(workspace.lock("x").parent.glob("run-*.lock")):
        try:
            with FileLock(path).acquire(timeout=0):
                continue
        except Timeout:
            alive.append(path.stem.removeprefix("run-"))
    return alive


def _written(workspace: Workspace) -> Iterator[Path]:
    """Every complete directory of every step."""
    for path in workspace.root.glob(f"*/*/[!.]*/{PROVENANCE}"):
        if path.parent.parent.parent.name not in PLACES:
            yield path.parent


def _needed(workspace: Workspace) -> set[Path]:
    """What the roots were made from, all the way up."""
    needed: set[Path] = set()
    left = list(_roots(workspace))
    while left:
        directory = left.pop()
        if directory in needed or not (directory / PROVENANCE).is_file():
            continue
        needed.add(directory)
        for key, mark in read_artifact(directory).inputs.items():
            step, _, name = key.partition("/")
            left.append(workspace.directory(step, name, mark))
    return needed


def _roots(workspace: Workspace) -> Iterator[Path]:
    """The newest of each step and the newest that passed; what is served and what was before; what living runs have read."""
    for kind in ("latest.json", "current.json"):
        for path in workspace.root.glob(f"*/*/{kind}"):
            yield path.parent / read_json(path)["fingerprint"]
    for path in workspace.served("x").parent.glob("*.json"):
        state = read_state(workspace, path.stem)
        for served in (state.served, state.previous):
            if served is not None:
                yield from _named_by(workspace, served)
    yield from _read_by_runs(workspace)


def _read_by_runs(workspace: Workspace) -> Iterator[Path]:
    for run in running(workspace):
        pins = Workspace(root=workspace.root, run_id=run).pins
        if pins is not None and pins.is_file():
            for key, mark in read_json(pins).items():
                step, _, name = key.partition("/")
                yield workspace.directory(step, name, mark)


def _named_by(workspace: Workspace, served: Served) -> Iterator[Path]:
    """Weights, adapter, and the decision, whose ancestors are encoder and index as well."""
    yield workspace.directory(served.weights_step, served.line, served.weights_fingerprint)
    if served.adapter_step is not None and served.adapter_fingerprint is not None:
        yield workspace.directory(served.adapter_step, served.line, served.adapter_fingerprint)
    yield workspace.directory(served.decision_step, served.line, served.decision)


def _is_whole(workspace: Workspace, checkpoints: Path) -> bool:
    """Whether what these checkpoints are of was finished; where it was not, a run may go on from them."""
    step, name, mark = checkpoints.parts[-3:]
    return (workspace.directory(step, name, mark) / PROVENANCE).is_file()


def _is_removed(folder: Path) -> bool:
    """Whether this is the rest of a removal that was broken off."""
    return folder.name.startswith(".") and folder.name.endswith(REMOVED)


def _num_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
