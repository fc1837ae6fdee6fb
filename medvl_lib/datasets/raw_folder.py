"""What can be said of a raw folder as a whole: that it is not there, holds nothing a dataset knows, or holds invented data.

In: a dataset's name, the folder and the files it looked for. Out: the error that names the setting and the way to invented data.
"""

import fnmatch
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from medvl_lib.errors import InputMissing

README = "README.md"
INVENTED = "# Invented data"  # how the README.md of an invented folder begins
INVENTED_LICENCE = "CC0-1.0 (invented)"  # of rows of such a folder, and of no others: they may be shown whatever the dataset's card says
_SEAL = "Files as they were written: "


def missing(dataset: str, root: Path, known_files: str) -> InputMissing:
    """The refusal of a raw folder without any of ``known_files``; the caller raises it."""
    found = f"none of {known_files}" if root.is_dir() else "no such folder"
    return InputMissing(
        found=found, where=str(root),
        do=f"put the publisher's files there, set raw_path under [datasets.{dataset}] in dagster_project.toml to the folder that "
        f"holds them, or write invented ones with `medvl sample-data`",
    )  # fmt: skip


def seal(root: Path) -> None:
    """Note in a folder's README.md which files were invented: what anybody adds or changes later is not."""
    readme = root / README
    text = readme.read_text(encoding="utf-8").partition(f"\n{_SEAL}")[0]
    readme.write_text(f"{text}\n{_SEAL}{_files(root)}\n", encoding="utf-8")


def says_invented(root: Path) -> bool:
    """Whether a raw folder was begun by ``sample_data``; others may have added files since."""
    return _readme(root).startswith(INVENTED)


def is_invented(root: Path) -> bool:
    """Whether a raw folder was written by ``sample_data``, says so in its README.md, and holds those very files and no others."""
    sealed = re.search(rf"^{_SEAL}(\w+)$", _readme(root), re.MULTILINE)
    return says_invented(root) and sealed is not None and sealed[1] == _files(root)


def named(*patterns: str, at_any_depth: bool = True) -> Callable[[Path, str], bool]:
    """For ``Dataset.is_read``: whether a file's path is, or ends in, one of ``patterns``; ``*`` also stands for folders."""
    starts = ("", "*/") if at_any_depth else ("",)
    whole = re.compile("|".join(fnmatch.translate(start + pattern) for pattern in patterns for start in starts))
    return lambda _, place: whole.match(place) is not None


def _readme(root: Path) -> str:
    path = root / README
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _files(root: Path) -> str:
    """SHA-256 of the names and sizes of all files below a folder but its README.md."""
    files = sorted((path.relative_to(root).as_posix(), path.stat().st_size) for path in root.rglob("*") if path.is_file())
    return hashlib.sha256(repr([file for file in files if file[0] != README]).encode()).hexdigest()
