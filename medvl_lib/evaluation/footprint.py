"""Footprints: what each variant needs when it is alone, measured by a fresh process for each.

In: the weights of every variant and a full batch of the longest questions. Out: load time, memory after loading and its peak. Two models in
one process cannot be told apart afterwards: the requirement documents' 11,345 MB for NF4 with an adapter are two models. Answers, and the
time that they take, belong to ``predict``.
"""

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from medvl_lib.chat import Conversation
from medvl_lib.evaluation.answering import Speaker, Weights
from medvl_lib.evaluation.fresh import Told, each_alone
from medvl_lib.evaluation.spec import EvaluationSpec
from medvl_lib.hardware import Profile, peak_memory_bytes
from medvl_lib.images import Pictures
from medvl_lib.models.computing import computing
from medvl_lib.models.counting import num_parameters
from medvl_lib.models.loading import load
from medvl_lib.models.spec import ModelSpec

ANSWER_TOKENS = 16  # the peak lies where the whole batch of prompts is read; what later tokens add is small beside it


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What a variant is and needs, alone in a process."""

    precision: str
    num_parameters: int
    num_quantized_parameters: int
    load_seconds: float
    memory_after_load_bytes: int
    """Every tensor that is alive, not only those of the model: a second one that lingers is counted."""
    memory_peak_bytes: int
    """Highest resident memory of the process on a CPU, libraries included; highest allocated on a GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What every variant is measured with."""

    spec: ModelSpec
    evaluation: EvaluationSpec
    profile: Profile
    images: Pictures
    conversations: Sequence[Conversation]
    """A full batch of the longest questions."""


def measure_all(weights: Sequence[Weights], probe: Probe) -> Iterator[tuple[Weights, Footprint]]:
    """Each variant in a process of its own, one after the other.

    Raises HeavyStepFailed when one of them is killed or runs out of memory.
    """
    told = [Told(f"the process that measured {item.variant} alone", str(item.directory)) for item in weights]
    yield from zip(weights, each_alone(probe.profile, partial(measure, probe=probe), zip(told, weights, strict=True)), strict=True)


def measure(item: Weights, probe: Probe) -> Footprint:
    """Load one variant and answer one batch, in this process."""
    loaded = load(item.directory, probe.spec, probe.profile, adapter=item.adapter)
    device, engine = loaded.model.device.type, computing(loaded.model)
    after_load = live_tensor_bytes(device) + (0 if engine is None else engine.held_bytes())
    speaker = Speaker(
        variant=item.variant, condition="as_is", loaded=loaded, evaluation=probe.evaluation, images=probe.images, profile=probe.profile,
        adapter=None if item.adapter is None else "default",
    )  # fmt: skip
    speaker.fill(probe.conversations, ANSWER_TOKENS)
    total, quantized = num_parameters(loaded.model)
    return Footprint(
        precision=loaded.precision, num_parameters=total, num_quantized_parameters=quantized, load_seconds=loaded.load_seconds,
        memory_after_load_bytes=after_load, memory_peak_bytes=_peak_bytes(device) if engine is None else engine.peak_bytes(),
    )  # fmt: skip


def live_tensor_bytes(device: str) -> int:
    """Bytes of every tensor that this process holds: what the allocator says on a GPU, storages counted once on a CPU."""
    gc.collect()
    if device == "cuda":
        return torch.cuda.memory_allocated()
    if device == "mps":
        return torch.mps.current_allocated_memory()
    tensors = [item for item in gc.get_objects() if issubclass(type(item), torch.Tensor) and item.device.type == "cpu"]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def _peak_bytes(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return max(peak_memory_bytes(), torch.mps.driver_allocated_memory() if device == "mps" else 0)
