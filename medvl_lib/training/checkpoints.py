"""Checkpoints that count only when they are whole. No torch here.

In: the directories that the trainer writes in place (``checkpoint-<step>``). Out: the newest one that is complete. A checkpoint cut
by a kill looks whole to the trainer's own search and would resume with other weights, or not at all; so a manifest with sizes and
hashes is written last, and a checkpoint without one, or with another content, is not resumed from.
"""

import re
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from medvl_lib.errors import InUse
from medvl_lib.files import read_json, sha256_of_file, sync_tree, write_json

COMPLETE = "complete.json"
TRAINER_STATE = "trainer_state.json"
KEPT = 2  # a disk that lost the newest still has one
NAME = re.compile(r"checkpoint-(\d+)")


@contextmanager
def held_alone(checkpoints: Path, lock: Path) -> Generator[None]:
    """Hold a training's checkpoints by a lock that the kernel drops; raises InUse where another process, on any machine, has them."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock, mode=0o666)
    try:
        held.acquire(timeout=0)
    except Timeout as error:
        raise InUse(
            found="another process trains the same", where=f"{checkpoints}, held by {lock}",
            do="wait for it: what it has finished is reused when this is materialized again",
        ) from error  # fmt: skip
    try:
        yield
    finally:
        held.release()


def seal(checkpoint: Path) -> None:
    """Declare a checkpoint whole: sync its files, then write their sizes and hashes."""
    sync_tree(checkpoint)
    files = {
        path.relative_to(checkpoint).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
        for path in sorted(checkpoint.rglob("*")) if path.is_file() and path.name != COMPLETE
    }  # fmt: skip
    write_json(checkpoint / COMPLETE, files)


def is_complete(checkpoint: Path) -> bool:
    """Whether every file of the manifest is there with its size and contents."""
    manifest = checkpoint / COMPLETE
    if not manifest.is_file():
        return False
    try:
        listed = read_json(manifest)
    except ValueError:  # a disk that lost the manifest's end may have lost more: the run starts from an older checkpoint
        return False
    return all(
        (checkpoint / name).is_file()
        and (checkpoint / name).stat().st_size == entry["bytes"]
        and sha256_of_file(checkpoint / name) == entry["sha256"]
        for name, entry in listed.items()
    )


def step_of(checkpoint: Path) -> int:
    """The optimizer step that a checkpoint was written after."""
    found = NAME.fullmatch(checkpoint.name)
    if found is None:
        raise ValueError(f"{checkpoint.name!r} is no checkpoint's name")
    return int(found.group(1))


def path_of(directory: Path, step: int) -> Path:
    """Where the trainer puts the checkpoint of a step."""
    return directory / f"checkpoint-{step}"


def prune(directory: Path) -> None:
    """Keep the two newest whole checkpoints, and of each the one that it calls the best; remove what is older.

    The trainer's own rotation forgets a best checkpoint as soon as a better one is written, before that one counts.
    """
    whole = sorted((path for path in _checkpoints(directory) if (path / COMPLETE).is_file()), key=step_of)
    best = {path_of(directory, step) for path in whole[-KEPT:] if (step := read_json(path / TRAINER_STATE)["best_global_step"])}
    for checkpoint in whole[:-KEPT]:
        if checkpoint not in best:
            shutil.rmtree(checkpoint)


def _checkpoints(directory: Path) -> list[Path]:
    return [path for path in directory.glob("checkpoint-*") if NAME.fullmatch(path.name)]


def newest_complete(directory: Path, num_steps: int) -> Path | None:
    """The newest whole checkpoint before the last of ``num_steps`` steps.

    Every other one is removed: the trainer would count a broken one when it rotates, and does one step too many after the last one.
    """
    whole: list[Path] = []
    for checkpoint in sorted(directory.glob("checkpoint-*")):
        if NAME.fullmatch(checkpoint.name) and step_of(checkpoint) < num_steps and is_complete(checkpoint):
            whole.append(checkpoint)
        else:
            shutil.rmtree(checkpoint)
    return max(whole, key=step_of, default=None)
