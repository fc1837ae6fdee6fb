"""Footprints: what each variant needs when it is alone, measured by a fresh process for each.

In: the weights of every variant and a full batch of the longest questions. Out: load time, memory after loading and its peak. Two models in
one process cannot be told apart afterwards: the requirement documents' 11,345 MB for NF4 with an adapter are two models. Answers, and the
time that they take, belong to ``predict``.
"""

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import torch

from medvl_lib.chat import Conversation
from medvl_lib.errors import HeavyStepFailed
from medvl_lib.evaluation.answering import Speaker, Weights
from medvl_lib.evaluation.fresh import context
from medvl_lib.evaluation.spec import EvaluationSpec
from medvl_lib.hardware import Profile, peak_memory_bytes
from medvl_lib.images import Pictures
from medvl_lib.models.loading import load, num_parameters
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
    with ProcessPoolExecutor(1, mp_context=context(probe.profile), max_tasks_per_child=1, initializer=_die_with_parent) as pool:
        for item in weights:
            try:
                yield item, pool.submit(measure, item, probe).result()
            except (BrokenProcessPool, torch.OutOfMemoryError) as error:
                ended = "was killed, probably because memory ran out" if isinstance(error, BrokenProcessPool) else "ran out of memory"
                raise HeavyStepFailed(
                    found=f"the process that measured {item.variant} alone {ended}",
                    where=str(item.directory), do="lower prediction_batch of the profile, or free memory, and materialize again",
                ) from error  # fmt: skip


def _die_with_parent() -> None:
    """Who is killed takes its measuring process along."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="die-with-parent").start()


def measure(item: Weights, probe: Probe) -> Footprint:
    """Load one variant and answer one batch, in this process."""
    loaded = load(item.directory, probe.spec, probe.profile, adapter=item.adapter)
    after_load = live_tensor_bytes(probe.profile.device)
    speaker = Speaker(
        variant=item.variant, condition="as_is", loaded=loaded, evaluation=probe.evaluation, images=probe.images, profile=probe.profile,
        adapter=None if item.adapter is None else "default",
    )  # fmt: skip
    speaker.fill(probe.conversations, ANSWER_TOKENS)
    total, quantized = num_parameters(loaded.model)
    return Footprint(
        precision=loaded.precision, num_parameters=total, num_quantized_parameters=quantized, load_seconds=loaded.load_seconds,
        memory_after_load_bytes=after_load, memory_peak_bytes=_peak_bytes(probe.profile.device),
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
