"""What verbs begin with: the settings, the data root, the line that is meant, this machine's profile, and where to write.

In: the settings file, and what was typed. Out: typed values, or a refusal in three parts. What a verb does with them is its own.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from medvl_lib.errors import MedVLError
from medvl_lib.hardware import Profile, process_environment, profile_for
from medvl_lib.settings import Settings, read_settings
from medvl_lib.workspace import Workspace

if TYPE_CHECKING:
    from medvl_lib.lines import Line

REFUSED = 2  # the exit status of what was refused, as argparse has it for words that it does not understand


def checked_settings() -> Settings:
    """The settings, refused by every verb alike where a line or a dataset of them cannot be meant, whether it needs that one or not."""
    from medvl_lib.configured import dataset_runs, lines_of

    settings = read_settings()
    lines_of(settings)
    dataset_runs(settings)
    return settings


def workspace_of(settings: Settings) -> Workspace:
    """The data root that the settings name."""
    return Workspace(root=settings.data_root)


def published(settings: Settings, workspace: Workspace) -> int:
    """Publish the benchmark; the exit status: 1 where a copy of it did not arrive, since what was asked for is done."""
    from medvl_lib.benchmark.publish import NoCopy, publish

    try:
        publish(workspace, settings.benchmark_url)
    except NoCopy as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def line_of(settings: Settings, named: str | None) -> "Line":
    """The line that is meant: the one that is named, or else the only one there is."""
    from medvl_lib.configured import lines_of

    lines = {line.name: line for line in lines_of(settings)}
    if named in lines or (named is None and len(lines) == 1):
        return lines[named or next(iter(lines))]
    found = f"no line was named, and there are {len(lines)}" if named is None else f"the line {named!r}"
    raise MedVLError(found=found, where=str(settings.path), do=f"name one of {', '.join(lines)}")


def entered_profile(settings: Settings) -> Profile:
    """This machine's profile, its environment variables set: to be called before anything imports torch, which reads them then."""
    profile = profile_for(settings).profile
    for name, value in process_environment(profile).items():
        os.environ.setdefault(name, value)
    return profile


def writable(named: str, *, is_folder: bool = False) -> Path:
    """What ``--output`` names; raises MedVLError for what can be no file, or no folder."""
    kind, other = ("folder", "file") if is_folder else ("file", "folder")
    path = Path(named)
    above = next((folder for folder in path.parents if folder.exists() and not folder.is_dir()), None)
    found = (
        f"{named!r}, which names nothing" if not named.strip()
        else f"a {other}" if path.exists() and path.is_dir() != is_folder
        else f"{above} is a file, and no folder" if above is not None else ""
    )  # fmt: skip
    if found:
        example = "sheets" if is_folder else "report.html"
        raise MedVLError(found=found, where=f"--output {named}".strip(), do=f"name a {kind}, such as {example}")
    return path
