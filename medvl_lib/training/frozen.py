"""Frozen weights: a hash of each before and after training. No torch here.

In: hashes by name. Out: rows that say which frozen tensor changed. Which tensors are to be trained is the recipe's business.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

from medvl_lib.tables import Column

FROZEN_TENSORS = "frozen_tensors.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenTensor:
    """One tensor that training must leave alone."""

    name: Annotated[str, Column("the tensor's name in the model")]
    sha256_before: Annotated[
        str | None, Column("SHA-256 of its bytes before the first step of the process that ended training; null: not frozen then")
    ]
    sha256_after: Annotated[str | None, Column("SHA-256 of its bytes after the last step; null: not frozen then")]


def compare(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[FrozenTensor]:
    """One row per tensor of either."""
    for name in sorted(before.keys() | after.keys()):
        yield FrozenTensor(name=name, sha256_before=before.get(name), sha256_after=after.get(name))
