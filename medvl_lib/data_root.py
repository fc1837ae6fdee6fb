"""The data root's file system: whether it keeps the promises that everything here is built on, and whether it is the one that was meant.

In: the data root. Out: nothing, or an error that names the promise: a rename replaces a file whole, a folder is renamed, what was written
is synced, a lock that one process holds keeps another out. A bucket that is mounted as a folder, and some network shares, keep none or not
all of them. Several machines that share a data root know it by the marker in it. What is written below it is not known here.
"""

import os
import subprocess
import sys
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path

from filelock import FileLock

from medvl_lib.errors import MedVLError
from medvl_lib.files import read_json, sync_directory, temporary_name, write_json
from medvl_lib.workspace import Workspace

LOCK_SECONDS = 60
TRY_LOCK = "import sys, filelock\ntry:\n filelock.FileLock(sys.argv[1]).acquire(timeout=0)\nexcept filelock.Timeout:\n sys.exit(3)"
HELD = 3  # exit status of who found the lock held
CURE = "name a folder of a local disk, or of a share that has all of these (NFS 4 with locks, SMB 3), as data_root in the settings"


def require_durable(root: Path) -> None:
    """Refuse a data root without atomic renames, syncs and locks; tried in a folder of its own, which is removed again."""
    place = root / temporary_name(root / "probe").name
    try:
        place.mkdir(parents=True)
        _try(place)
    except OSError as error:
        raise MedVLError(found=f"the data root does not take what is written: {error}", where=str(root), do=CURE) from error
    finally:
        for path in sorted(place.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        with suppress(OSError):
            place.rmdir()


def _try(place: Path) -> None:
    old, new = place / "pointer.json", place / "new.json"
    old.write_bytes(b"old")
    with new.open("wb") as stream:
        stream.write(b"new")
        stream.flush()
        os.fsync(stream.fileno())
    with old.open("rb") as reader:  # who reads goes on reading what it opened
        new.replace(old)
        sync_directory(place)
        if (old.read_bytes(), reader.read(), new.exists()) != (b"new", b"old", False):
            raise _broken("a rename does not replace a file whole, or changes it for who reads it", place)
    (place / "unfinished").mkdir()
    (place / "unfinished" / "row").write_bytes(b"1")
    (place / "unfinished").rename(place / "whole")
    if (place / "unfinished").exists() or (place / "whole" / "row").read_bytes() != b"1":
        raise _broken("a folder is not renamed whole", place)
    _try_lock(place)


def _try_lock(place: Path) -> None:
    path = place / "held.lock"
    with FileLock(path, timeout=LOCK_SECONDS):
        other = subprocess.run(  # noqa: S603 (our own interpreter)
            [sys.executable, "-c", TRY_LOCK, str(path)], check=False, timeout=LOCK_SECONDS, capture_output=True, text=True
        )
    if other.returncode != HELD:
        raise _broken(f"a lock that one process holds does not keep another out (it ended with {other.returncode})", place)


def _broken(what: str, place: Path) -> MedVLError:
    return MedVLError(found=what, where=str(place.parent), do=CURE)


def marker_id(root: Path) -> str:
    """What the data root is called, whatever path it is mounted at; made up when it is asked for the first time."""
    path = Workspace(root=root).marker
    if not path.is_file():
        with FileLock(path.with_suffix(".lock")):
            if not path.is_file():
                write_json(path, {"data_root_id": uuid.uuid4().hex})
    return str(read_json(path)["data_root_id"])


def require_mounted(root: Path, expected: str, where: str) -> None:
    """Refuse a data root that is not the one in the settings: one that is not mounted looks empty, and would be filled anew."""
    if not expected:
        return
    path = Workspace(root=root).marker
    found = str(read_json(path)["data_root_id"]) if path.is_file() else None
    if found != expected:
        raise MedVLError(
            found=f"{path} says {found}" if found else f"no {path.name}: nothing is mounted there, or it is another folder",
            where=f"{where}: data_root_id = {expected!r}",
            do="mount the shared data root there; `medvl doctor` on the machine that has it prints what it is called",
        )


@cache
def require_fit(root: Path) -> None:
    """The same as ``require_durable``, once a process."""
    root.mkdir(parents=True, exist_ok=True)
    require_durable(root)
