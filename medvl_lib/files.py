"""Durable files: bytes that are either wholly there under their name, or not there at all.

In: bytes and JSON values. Out: files that survive a crash right after the call returns. What a file means is not known here.
"""

import errno
import hashlib
import json
import os
import platform
import shutil
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from medvl_lib.errors import WriteFailed

DISK_REFUSED = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EIO}
CHUNK_BYTES = 1 << 20


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def size_of(path: Path) -> int:
    """How many bytes a file has; 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0


@contextmanager
def writing_below(folder: Path) -> Generator[None, None, None]:
    """Raise WriteFailed where the disk does not take what is written below ``folder``; any other OSError passes through."""
    try:
        yield
    except OSError as error:
        is_there = error.filename is not None and Path(os.fsdecode(error.filename)).is_relative_to(folder)
        if error.errno not in DISK_REFUSED and not is_there:
            raise
        raise WriteFailed(
            found=f"{error.strerror or error} (errno {error.errno})", where=str(error.filename or folder),
            do=f"free space, raise the limit or mend the permissions below {folder}, then start again; nothing half-written was kept",
        ) from error  # fmt: skip


HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]  # two machines may share a folder, and not their process numbers


def temporary_name(path: Path) -> Path:
    """Where this thread, and no other, writes what will be called ``path``."""
    return path.with_name(f".{path.name}.{HOST}-{os.getpid()}-{threading.get_ident()}.tmp")


def remove_abandoned(path: Path) -> None:
    """Remove what killed processes of this machine left under temporary names of ``path``."""
    for left in path.parent.glob(f".{path.name}.{HOST}-*.tmp"):
        process = int(left.name.removeprefix(f".{path.name}.{HOST}-").split("-")[0])
        if process != os.getpid() and not psutil.pid_exists(process):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Make renames inside ``directory`` durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(directory: Path) -> None:
    """Make every file and folder below ``directory`` durable."""
    for folder, _, names in os.walk(directory):
        for name in names:
            with (Path(folder) / name).open("rb") as stream:
                os.fsync(stream.fileno())
        sync_directory(Path(folder))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a file under a temporary name, sync it, and rename it into place; raises WriteFailed."""
    temporary = temporary_name(path)
    try:
        with writing_below(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            write(temporary)
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            temporary.replace(path)
            sync_directory(path.parent)
    except BaseException:
        with suppress(OSError):  # what could not be written cannot always be removed; the first error is the one to show
            temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data``, whole or not at all."""
    write_whole(path, lambda temporary: temporary.write_bytes(data))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as readable JSON with sorted keys, whole or not at all."""
    write_bytes(path, (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The JSON value in ``path``."""
    return json.loads(path.read_text(encoding="utf-8"))
