"""What a stage begins with: the held-out loss before its first step, and what it trains in full as it was.

In: a trainer that has not begun, and where its checkpoints go. Out: ``Start``. Only a stage with a ``Handover`` is asked for it: whether it
learned anything and broke nothing cannot be told from its end alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import Trainer

from medvl_lib.files import read_json, write_json
from medvl_lib.models.loading import serializing
from medvl_lib.training.moved import MovedTensor
from medvl_lib.training.steps import START_LOSS
from medvl_lib.training.together import leaders, leads, wait_for_all

START, START_TENSORS = "start.json", "start.safetensors"  # beside the checkpoints


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a stage began with, for whoever asks whether it learned anything and broke nothing."""

    validation_loss: float | None
    """Held-out loss of the weights that it goes on from; None where it has no held-out pair."""
    tensors: Mapping[str, torch.Tensor]
    """What it trains in full, as it was: nothing of a low-rank update, which begins at zero."""

    def moved(self, model: Any) -> Iterator[MovedTensor]:
        """How far each tensor that was trained in full has moved."""
        now = dict(model.named_parameters())
        for name, before in self.tensors.items():
            after = now[name].detach().float().cpu()
            yield MovedTensor(name=name, norm_before=before.norm().item(), norm_of_change=(after - before).norm().item())


def the_start(trainer: Trainer, checkpoints: Path) -> Start:
    """Measure the held-out loss before the first step, and keep what is trained in full.

    A run that is resumed finds both beside its checkpoints. Random numbers are as they were, so the steps that follow are the same.
    """
    path = checkpoints / START
    if not leaders(path.is_file()):
        checkpoints.mkdir(parents=True, exist_ok=True)
        full = {name: item.detach().float().cpu().contiguous() for name, item in trainer.model.named_parameters() if _is_full(name, item)}
        with serializing(checkpoints), torch.random.fork_rng():
            if leads():
                save_file(full, checkpoints / START_TENSORS)
            loss = trainer.evaluate()["eval_loss"] if trainer.eval_dataset is not None else None
        if leads():
            write_json(path, {START_LOSS: loss})
        wait_for_all()
    return Start(validation_loss=read_json(path)[START_LOSS], tensors=load_file(checkpoints / START_TENSORS))


def _is_full(name: str, parameter: torch.nn.Parameter) -> bool:
    return parameter.requires_grad and ".lora_" not in name
