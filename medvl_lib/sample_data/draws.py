"""Chance that is the same on every machine and Python version.

In: a ``random.Random`` with a seed. Out: numbers, choices and orders drawn from it. Only its ``random()`` is used: Python promises that
sequence for ever, and nothing of the kind for ``choice``, ``sample`` or ``shuffle``.
"""

import hashlib
from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


def seeded(name: str) -> Random:
    """A source of chance of its own for each name."""
    return Random(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))  # noqa: S311 - invented data, not secrets


def whole(chance: Random, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``, both included."""
    return low + int(chance.random() * (high - low + 1))


def pick(chance: Random, items: Sequence[T]) -> T:
    """One of the items."""
    return items[whole(chance, 0, len(items) - 1)]


def shuffled(chance: Random, items: Sequence[T]) -> list[T]:
    """All items in another order (Fisher and Yates)."""
    drawn = list(items)
    for last in range(len(drawn) - 1, 0, -1):
        other = whole(chance, 0, last)
        drawn[last], drawn[other] = drawn[other], drawn[last]
    return drawn


def some(chance: Random, items: Sequence[T], count: int) -> list[T]:
    """``count`` different items in their given order."""
    kept = sorted(shuffled(chance, range(len(items)))[:count])
    return [items[index] for index in kept]


def decimal(chance: Random, low: float, high: float, decimals: int) -> str:
    """A number as printed, from ``low`` to ``high`` in steps of its last decimal."""
    scale = 10**decimals
    return f"{whole(chance, round(low * scale), round(high * scale)) / scale:.{decimals}f}"
