"""What a model is made of: its parameters by part, how many of them are packed, and the bytes that it holds.

In: a model as it is loaded or trained. Out: counts. An adapter's parameters belong to the part that they adapt; four-bit ones are counted
unpacked, since a byte holds two.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import bitsandbytes as bnb
import torch
from peft import PeftModel
from transformers import PreTrainedModel

from medvl_lib.models.computing import IS_PACKED
from medvl_lib.models.spec import ADAPTED, FAMILIES, LANGUAGE, PARTS, Family


def count_quantized(model: PreTrainedModel | PeftModel) -> dict[str, int]:
    """``Linear4bit`` modules per part: ``language``, ``vision`` and ``other``."""
    vision = dict(PARTS[FAMILIES[model.config.model_type]])["vision"]
    counts = Counter({"language": 0, "vision": 0, "other": 0})
    for name, module in model.named_modules():
        if isinstance(module, bnb.nn.Linear4bit):
            plain = name.removeprefix(ADAPTED)
            part = "language" if plain.startswith(LANGUAGE) else "vision" if plain.startswith(vision) else "other"
            counts[part] += 1
    return dict(counts)


class PartCount(NamedTuple):
    """Parameters of one part of a model, 4-bit ones counted unpacked."""

    total: int
    trainable: int


def parameters_by_part(model: torch.nn.Module, family: Family) -> dict[str, PartCount]:
    """The parameters of each part that the family's models have; an adapter's belong to the part that they adapt."""
    counts: dict[str, PartCount] = {part: PartCount(0, 0) for part, _ in PARTS[family]}
    for name, parameter in _in_use(model):
        plain = name.removeprefix(ADAPTED)
        part = next((part for part, prefix in PARTS[family] if plain.startswith(prefix)), None)
        if part is None:
            raise ValueError(f"{name} is in none of the parts of {family}: {dict(PARTS[family])}")
        size = _unpacked(parameter)
        counts[part] = PartCount(counts[part].total + size, counts[part].trainable + (size if parameter.requires_grad else 0))
    return counts


def _in_use(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """The parameters without those that an adapter has a trained copy of."""
    return ((name, parameter) for name, parameter in model.named_parameters() if ".original_module." not in name)


def _unpacked(parameter: torch.nn.Parameter) -> int:
    return parameter.numel() * (2 * parameter.element_size() if isinstance(parameter, bnb.nn.Params4bit) else 1)


def num_parameters(model: torch.nn.Module) -> tuple[int, int]:
    """(all parameters, those in four bits), 4-bit ones counted unpacked: two to a byte."""
    total = quantized = 0
    for _, parameter in _in_use(model):
        size = _unpacked(parameter)
        total += size
        quantized += size if isinstance(parameter, bnb.nn.Params4bit) or getattr(parameter, IS_PACKED, False) else 0
    return total, quantized


def resident_bytes(model: torch.nn.Module) -> int:
    """Bytes of parameters and buffers, the quantization constants included."""
    tensors = [*model.parameters(), *model.buffers()]
    held = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    states = [tensor.quant_state for tensor in tensors if isinstance(tensor, bnb.nn.Params4bit) and tensor.quant_state is not None]
    return held + sum(part.numel() * part.element_size() for state in states for part in _state_tensors(state))


def _state_tensors(state: Any) -> Iterator[torch.Tensor]:
    yield state.absmax
    yield state.code
    if state.nested:
        yield state.state2.absmax
        yield state.state2.code
