"""Parts: a step's work in pieces that are done wherever there are hands, each whole under its name or not there at all.

In: how many parts there are, and what all of them have to know. Out: a directory for each. Whoever dies takes no finished part along, and a
part that stands there is never done again. What is in a part is the step's business; who does it is ``launch``'s.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medvl_lib.files import remove_abandoned, sync_directory, sync_tree, temporary_name, writing_below


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One of several parts of a step's work."""

    number: int
    """From 0."""
    of: int
    given: Mapping[str, int] = field(default_factory=dict[str, int])
    """What the leader found and every part must share, such as how many pairs are answered at a time."""

    @property
    def name(self) -> str:
        """What its directory is called: another way to divide the work, or other numbers, are other parts."""
        return "-".join([f"{self.number}-of-{self.of}", *(f"{name}-{value}" for name, value in sorted(self.given.items()))])


def divide(number: int, given: Mapping[str, int]) -> list[Part]:
    """All parts of a step."""
    return [Part(number=part, of=number, given=given) for part in range(number)]


def missing(folder: Path, parts: Sequence[Part]) -> list[Part]:
    """The parts that are not there yet."""
    return [part for part in parts if not (folder / part.name).is_dir()]


def write_part(folder: Path, part: Part, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill the directory of a part, and put it in place whole; one that came meanwhile is as good."""
    directory = folder / part.name
    temporary = temporary_name(directory)
    remove_abandoned(directory)
    try:
        with writing_below(folder):
            temporary.mkdir(parents=True)
            write(temporary)
            sync_tree(temporary)
            if not directory.is_dir():
                temporary.rename(directory)
                sync_directory(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
