"""The exported folder: wholly there under its name, with the SHA-256 of each file, or not there at all.

In: a place where nothing is, and who fills it. Out: the folder, or what was raised while it was filled.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from medvl_lib.errors import MedVLError
from medvl_lib.files import remove_abandoned, sha256_of_file, sync_directory, sync_tree, temporary_name, writing_below

SUMS = "SHA256SUMS"
Filled = TypeVar("Filled")


def require_free(folder: Path) -> None:
    """Raise MedVLError where something is already."""
    if folder.exists() or folder.is_symlink():
        raise MedVLError(found="a file or folder that is there already", where=str(folder), do="name a folder that is not there yet")


def write_folder(folder: Path, fill: Callable[[Path], Filled]) -> Filled:
    """Let ``fill`` fill a folder under a temporary name, sync it, and rename it into place; raises MedVLError where one is there."""
    require_free(folder)
    temporary = temporary_name(folder)
    remove_abandoned(folder)
    try:
        with writing_below(folder.parent):
            temporary.mkdir(parents=True)
            found = fill(temporary)
            sync_tree(temporary)
            require_free(folder)  # it took minutes
            temporary.rename(folder)
            sync_directory(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return found


def write_sums(directory: Path) -> None:
    """The SHA-256 of every file, as ``sha256sum --check`` reads it."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != SUMS)
    listed = "".join(f"{sha256_of_file(path)}  {path.relative_to(directory).as_posix()}\n" for path in paths)
    (directory / SUMS).write_text(listed, encoding="utf-8")
