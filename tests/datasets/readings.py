"""What a reader yields, sorted: shared by the tests of the datasets."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from medvl_lib.images import ImageStore
from medvl_lib.pairs import Draft, Pair, Reading, Rejection, store


def pairs(readings: Iterable[Reading]) -> list[Pair]:
    """The drafts' pairs, in order."""
    return [reading.pair for reading in readings if isinstance(reading, Draft)]


def rejections(readings: Iterable[Reading]) -> list[Rejection]:
    """The rejections, in order."""
    return [reading for reading in readings if isinstance(reading, Rejection)]


def stored_reasons(readings: Iterable[Reading], root: Path) -> Counter[str]:
    """How many became pairs ("") with their pictures stored below ``root``, and how many were left out for which reason."""
    images = ImageStore(root)
    rows = [reading if isinstance(reading, Rejection) else store(reading, images) for reading in readings]
    return Counter(row.reason if isinstance(row, Rejection) else "" for row in rows)
