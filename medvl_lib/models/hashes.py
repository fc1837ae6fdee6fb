"""Hashes of tensors in memory.

In: tensors, or a model of which some are frozen. Out: SHA-256 by name. Which of them may change is a recipe's business; those in files are
``weights``'s.
"""

import hashlib
from collections.abc import Iterator

import torch

from medvl_lib.models.computing import computing

CHUNK_BYTES = 1 << 26  # copied from the device at a time


def tensor_sha256(tensor: torch.Tensor) -> str:
    """SHA-256 of a tensor's bytes, wherever it lies."""
    found = hashlib.sha256()
    values = tensor.detach().contiguous().view(-1).view(torch.uint8) if tensor.numel() else tensor.detach()
    for start in range(0, values.numel(), CHUNK_BYTES):
        found.update(values[start : start + CHUNK_BYTES].cpu().numpy())
    return found.hexdigest()


def frozen_hashes(model: torch.nn.Module) -> dict[str, str]:
    """SHA-256 of every tensor of a module that is not trained, packed ones as they lie in memory, with their scales."""
    return {name: tensor_sha256(tensor) for name, tensor in _frozen(model)}


def _frozen(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    engine = computing(model)
    if engine is not None:  # the model itself has shapes alone
        yield from ((name, torch.from_numpy(item)) for name, item in engine.tensors())
        return
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            yield name, parameter
            state = getattr(parameter, "quant_state", None)
            if state is not None:
                yield from ((f"{name}.{key}", value) for key, value in state.as_dict(packed=True).items())
    yield from model.named_buffers()
