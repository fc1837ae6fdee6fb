"""What can be said of a raw folder as a whole: that it is not there, holds nothing a dataset knows, or holds invented data.

In: a dataset's name, the folder and the files it looked for. Out: the error that names the setting and the way to invented data.
"""

from pathlib import Path

from medvl_lib.errors import InputMissing

INVENTED = "# Invented data"  # how the README.md of an invented folder begins


def missing(dataset: str, root: Path, known_files: str) -> InputMissing:
    """The refusal of a raw folder without any of ``known_files``; the caller raises it."""
    found = f"none of {known_files}" if root.is_dir() else "no such folder"
    return InputMissing(
        found=found, where=str(root),
        do=f"put the publisher's files there, set raw_path under [datasets.{dataset}] in dagster_project.toml to the folder that "
        f"holds them, or write invented ones with `medvl sample-data`",
    )  # fmt: skip


def is_invented(root: Path) -> bool:
    """Whether a raw folder was written by ``sample_data`` and says so in its README.md."""
    readme = root / "README.md"
    return readme.is_file() and readme.read_text(encoding="utf-8", errors="replace").startswith(INVENTED)
