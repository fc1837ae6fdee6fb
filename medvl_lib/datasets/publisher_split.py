"""The split that a publisher gave, as far as it does not leak.

In: what must stay together (a picture, patient or article), each with a part in which it occurs. Out: its one part, or None where there
are several: then ``split`` places it by its group, and it is in one split after all. Nothing else of a publisher's split is changed.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from medvl_lib.pairs import Split

PARTS: Mapping[str, Split] = {"train": "train", "val": "validation", "validate": "validation", "validation": "validation", "test": "test"}
"""What publishers call the three parts."""

Key = TypeVar("Key")


def homes(seen: Iterable[tuple[Key, Split | None]]) -> dict[Key, Split | None]:
    """The part of each key that occurs in one part alone; None for the others, and for those that are outside every part once."""
    found: dict[Key, Split | None] = {}
    for key, part in seen:
        found[key] = part if found.setdefault(key, part) == part else None
    return found
