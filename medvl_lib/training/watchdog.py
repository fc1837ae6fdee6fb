"""A training that eats the memory that was left alone ends after its step, with a checkpoint, and says what to change.

In: a profile, and what reads how much memory is available. Out: a callback of the trainer, and the error that ends the run. On memory that
CPU and GPU share running out freezes the machine, and on any system the kernel kills somebody; neither raises. What a GPU with memory of
its own lacks it says itself (``torch.OutOfMemoryError``), and the watchdog looks at the system's.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from medvl_lib.errors import HeavyStepFailed
from medvl_lib.hardware import Profile, available_bytes
from medvl_lib.models.loading import give_memory_back

EATEN_SHARE = 0.5  # of the margin: a plan leaves the margin alone and may err by some of it
LOOK_SECONDS = 0.5
GB = 1e9
Reader = Callable[[], int]
"""Bytes that can be taken without swapping."""


class Watchdog(TrainerCallback):
    """Looks twice a second, remembers the least, and ends the training at the end of a step in which too little was left."""

    def __init__(self, profile: Profile, read: Reader = available_bytes) -> None:
        # the budget of a GPU with memory of its own says nothing of the system's
        budget = read() if profile.name == "cuda" and profile.memory_budget_bytes else profile.memory_budget_bytes
        self.limit_bytes = budget * profile.memory_margin_share * EATEN_SHARE
        """Less than this ends the training; 0 (a profile without a margin or a measured budget): nothing does."""
        self.found_bytes: int | None = None
        """What was left when the training was ended."""
        self._profile, self._read = profile, read
        self._least: int | None = None
        self._is_over = threading.Event()

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Begin to look."""
        if self.limit_bytes:
            threading.Thread(target=self._watch, daemon=True, name="watchdog").start()

    def _watch(self) -> None:
        while not self._is_over.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> int:
        now = self._read()
        self._least = now if self._least is None else min(now, self._least)
        return now

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Give back what dropped tensors held, where little is left within a step: an optimizer step is not cut in two."""
        if self.limit_bytes and self._look() < self.limit_bytes:
            give_memory_back(self._profile)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """End here, with a checkpoint, where too little was left in this step, and giving back does not help."""
        if not self.limit_bytes:
            return
        self._look()
        least, self._least = self._least, None
        if least is None or least >= self.limit_bytes:
            return
        give_memory_back(self._profile)
        self.found_bytes = least
        control.should_save = control.should_training_stop = True

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Look no longer."""
        self._is_over.set()

    def raise_if_stopped(self, step: int, num_steps: int, micro_batch: int, checkpoints: Path) -> None:
        """Raise HeavyStepFailed where it was the watchdog that ended the training."""
        if self.found_bytes is None or step >= num_steps:
            return
        raise HeavyStepFailed(
            found=f"{self.found_bytes / GB:.2f} GB of memory were left during step {step} of {num_steps}, and {self.limit_bytes / GB:.2f} "
            "are to stay free: training was stopped before the machine would freeze or the kernel kill it",
            where=str(checkpoints), do=memory_cures(self._profile, micro_batch) + "; it goes on from the checkpoint that was just written",
        )  # fmt: skip

    def told(self, error: torch.OutOfMemoryError, micro_batch: int, checkpoints: Path) -> HeavyStepFailed:
        """What a device with memory of its own says when it is full, in three parts."""
        return HeavyStepFailed(
            found=str(error).splitlines()[0], where=str(checkpoints),
            do=memory_cures(self._profile, micro_batch) + "; it goes on from the newest checkpoint",
        )  # fmt: skip


def memory_cures(profile: Profile, micro_batch: int) -> str:
    """What makes a training step smaller, the changes that keep its weights comparable first."""
    fewer = f"training_batch = {max(1, micro_batch // 2)} (it was {micro_batch})" if micro_batch > 1 else ""
    again = "" if profile.gradient_checkpointing else "gradient_checkpointing = true"
    here = " and ".join(part for part in (fewer, again) if part)
    shorter = "shorten what goes through it: audit.max_tokens, model.max_pixels of the line, which begins another training"
    smaller = f"set {here} in [profiles.{profile.name}]; " if here else ""
    return f"end what else needs memory; {smaller}or {shorter}"
