"""Frozen weights: a hash of each before and after training. No torch here.

In: a module's tensors. Out: rows that say which frozen tensor changed. Which tensors are to be trained is the recipe's business.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from medvl_lib.tables import Column

FROZEN_TENSORS = "frozen_tensors.parquet"
CHUNK_BYTES = 1 << 26  # copied from the device at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenTensor:
    """One tensor that training must leave alone."""

    name: Annotated[str, Column("the tensor's name in the model")]
    sha256_before: Annotated[str | None, Column("SHA-256 of its bytes before the first step; null: it was not frozen then")]
    sha256_after: Annotated[str | None, Column("SHA-256 of its bytes after the last step; null: it was not frozen then")]


def frozen_hashes(model: Any) -> dict[str, str]:
    """SHA-256 of every tensor of a torch module that is not trained, packed ones as they lie in memory, with their scales."""
    return {name: _sha256(tensor) for name, tensor in _frozen(model)}


def compare(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[FrozenTensor]:
    """One row per tensor of either."""
    for name in sorted(before.keys() | after.keys()):
        yield FrozenTensor(name=name, sha256_before=before.get(name), sha256_after=after.get(name))


def _frozen(model: Any) -> Iterator[tuple[str, Any]]:
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            yield name, parameter
            state = getattr(parameter, "quant_state", None)
            if state is not None:
                yield from ((f"{name}.{key}", value) for key, value in state.as_dict(packed=True).items())
    yield from model.named_buffers()


def _sha256(tensor: Any) -> str:
    import torch

    found = hashlib.sha256()
    values = tensor.detach().contiguous().view(-1).view(torch.uint8) if tensor.numel() else tensor.detach()
    for start in range(0, values.numel(), CHUNK_BYTES):
        found.update(values[start : start + CHUNK_BYTES].cpu().numpy())
    return found.hexdigest()
