"""What several processes that train one model have to agree on: when to stop, and that a checkpoint is whole before it counts.

In: a trainer, or nothing. Out: answers that are the same in every process. Alone each of these does nothing. How gradients are averaged is
the trainer's business; how a recipe's batch is divided stands here, since it must be the same batch.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import distributed
from transformers import TrainerCallback, TrainingArguments

from medvl_lib.errors import MedVLError
from medvl_lib.ranks import ranks_here


class Divided(NamedTuple):
    """A recipe's batch, divided between processes."""

    per_process: int
    """Pairs at a time."""
    accumulation: int
    """How many times that before an optimizer step."""


def divided(effective_batch: int, at_a_time: int) -> Divided:
    """The effective batch as equal parts for every process; raises MedVLError where there are none."""
    size = ranks_here().size
    if effective_batch % size:
        raise MedVLError(
            found=f"an effective batch of {effective_batch}, and {size} processes that train together", where="launcher.num_processes",
            do=f"choose a number of processes that {effective_batch} can be divided by: another batch would be another training",
        )  # fmt: skip
    share = effective_batch // size
    per_process = math.gcd(share, at_a_time)
    return Divided(per_process=per_process, accumulation=share // per_process)


def on_one_device(arguments: TrainingArguments) -> None:
    """Keep a process on its own device: with several GPUs in sight the trainer would copy the model to each (``nn.DataParallel``).

    That multiplies the recipe's batch by their number, breaks four-bit weights, and is slow. Several GPUs are ``launcher.num_processes``.
    """
    arguments._n_gpu = min(1, arguments.n_gpu)  # after n_gpu has been asked for, which counts them


def are_several() -> bool:
    """Whether other processes train the same model."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def leads() -> bool:
    """Whether this process writes for all."""
    return ranks_here().leads


def wait_for_all() -> None:
    """Go on when every process has come here."""
    if are_several():
        distributed.barrier()


def leaders(value: Any) -> Any:
    """What the leader says, whatever this process would."""
    if not are_several():
        return value
    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


class Together(TrainerCallback):
    """Every process stops, and saves, where one of them has to: a signal reaches one of them first, and the others would hang."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Agree after each step; the last of the callbacks."""
        if not are_several():
            return
        wishes = torch.tensor([control.should_training_stop, control.should_save, control.should_evaluate], dtype=torch.int32)
        wishes = wishes.to(args.device)
        distributed.all_reduce(wishes, op=distributed.ReduceOp.MAX)
        control.should_training_stop, control.should_save, control.should_evaluate = (bool(wish) for wish in wishes.tolist())
