"""Processes that share one copy of a model: each holds a part of every tensor, and gathers a layer when its turn comes (FSDP2).

In: a loaded model and a profile whose launcher divides weights; the trainer; then the model that it has trained. Out: arguments for the
trainer, a trainer that really divides, and a model of whole tensors again. accelerate divides, gathers and writes checkpoints; why FSDP2,
and what is set otherwise than by default, is in docs/decisions/0029. Where weights are copied each of these does nothing, and nothing here
asks for a line, a stage or a family.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from accelerate.utils.constants import FSDP_MODEL_NAME
from torch import distributed
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy
from torch.distributed.tensor import DTensor
from transformers import Trainer, TrainerCallback, TrainingArguments

from medvl_lib.errors import HeavyStepFailed, MedVLError
from medvl_lib.hardware import Profile
from medvl_lib.models.loading import DTYPES, hold_packed_as
from medvl_lib.models.spec import ADAPTED, LANGUAGE_LAYERS, ONLY_WITH_PICTURES
from medvl_lib.ranks import ranks_here


def divided_weights(model: torch.nn.Module, profile: Profile) -> dict[str, Any]:
    """Make a model with its adapter ready to be divided, and return what the trainer is told for that.

    Packed weights are held as numbers of the profile's type, which changes no bit: FSDP divides floating tensors, and would leave bytes
    whole on every GPU. Gradients are divided after each micro-batch: by default those of an accumulation stand whole in every process.
    Raises MedVLError for weights in eight bits, which keep what they are multiplied with outside of their tensors.
    """
    if profile.launcher.weights == "copied" or ranks_here().is_alone:  # one process has all weights, whatever the launcher says
        return {}
    if eight := [name for name, module in model.named_modules() if isinstance(module, bnb.nn.Linear8bitLt)]:
        raise MedVLError(
            found=f"{len(eight)} linears in int8, the first is {eight[0]}, and weights that are to be divided", where="launcher.weights",
            do=f"train on NF4 or in full width, or set weights = 'copied' in [profiles.{profile.name}.launcher]",
        )  # fmt: skip
    hold_packed_as(model, DTYPES[profile.weights_dtype])
    return {
        "fsdp": True,
        "fsdp_config": {
            "version": 2, "reshard_after_forward": True, "activation_checkpointing": False, "cpu_ram_efficient_loading": False,
            "state_dict_type": "FULL_STATE_DICT",  # the leader writes adapter and optimizer whole, as one process would
            "auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "transformer_layer_cls_to_wrap": gathered_alone(model),
        },
        "accelerator_config": {"gradient_accumulation_kwargs": {"sync_each_batch": True}},
    }  # fmt: skip


def gathered_alone(model: torch.nn.Module) -> list[str]:
    """The classes of layers that are gathered one at a time: those of the language model that every batch goes through.

    Whoever gathers waits for all others. A batch without a picture skips the vision tower and what looks at it, so these are gathered with
    the rest of the model, at the beginning of each pass, in every process.
    """
    layers = model.get_submodule(f"{ADAPTED}{LANGUAGE_LAYERS.rstrip('.')}")
    return sorted({type(layer).__name__ for layer in layers.children()} - ONLY_WITH_PICTURES)


def keep_exact(arguments: TrainingArguments) -> None:
    """Gather tensors in the type that they have, and add gradients in 32 bits: by default both are rounded to the profile's type.

    Products are rounded by autocast, as in one process. A packed weight that is gathered must not be: its bytes are no number.
    """
    if arguments.fsdp_plugin_args is None:
        return
    policy = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    arguments.fsdp_plugin_args["mixed_precision_policy"] = policy
    if arguments.device.type == "cpu":  # accelerate divides between GPUs alone, and would train copies here without a word
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU


def take_part(trainer: Trainer) -> None:
    """Round products as in one process, which accelerate does for copies alone, and see to it that the model is divided.

    A model that is prepared for answers already can have its held-out loss measured before it is trained, and whole.
    """
    if trainer.args.fsdp_plugin_args is not None:
        trainer.accelerator.prepare_model(trainer.model, device_placement=False, evaluation_mode=True)
        trainer.add_callback(TakesPart())


class TakesPart(TrainerCallback):
    """Looks, once the trainer has made the model ready, whether it is divided, and has every process take part in what all wait for."""

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Have gradients of all that is trained added in every process, zero where its batch had no picture, and in the same order.

        FSDP adds those of a layer when the gradient of its input is there, and of all that is left at the end: a first layer that only a
        batch with pictures asks for one, for the projector's sake, would be added before the projector or after it.
        Raises HeavyStepFailed where the model is a copy in spite of what was asked for.
        """
        if not isinstance(model, FSDPModule):
            raise HeavyStepFailed(
                found=f"a model that is whole in each of {distributed.get_world_size()} processes ({type(model).__name__})",
                where="launcher.weights = 'divided'", do="set weights = 'copied': this accelerate or transformers does not divide it",
            )  # fmt: skip
        model.set_reduce_scatter_unused_params(True)
        model.get_input_embeddings().register_forward_hook(_asks_for_gradient)  # after FSDP's own, which would gather it again otherwise


def _asks_for_gradient(_: torch.nn.Module, __: Any, words: torch.Tensor) -> None:
    if torch.is_grad_enabled():
        words.requires_grad_(True)


def require_resumable(checkpoint: Path, arguments: TrainingArguments) -> None:
    """Refuse to go on from a checkpoint of copies with parts, or the other way: both have one place, since neither is named by it.

    Raises MedVLError with how it was written.
    """
    was_divided = (checkpoint / f"{FSDP_MODEL_NAME}.bin").is_file()
    if was_divided != (arguments.fsdp_plugin_args is not None):
        was, now = ("divided", "copied") if was_divided else ("copied", "divided")
        raise MedVLError(
            found=f"a checkpoint of weights that were {was}, and weights = '{now}'", where=str(checkpoint),
            do=f"set weights = '{was}' in the profile's launcher again, or remove {checkpoint.parent}: training begins anew",
        )  # fmt: skip


def make_whole(model: torch.nn.Module) -> None:
    """Put whole tensors in the place of parts, for a model that was trained and is to be read and saved, and never run again.

    Every process takes part, and holds all weights afterwards, as it did when it had loaded them. One that is whole is left alone.
    """
    if not isinstance(model, FSDPModule):
        return
    whole: dict[DTensor, torch.nn.Parameter] = {}
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()  # the last pass may have left it gathered
    for module in model.modules():
        module._load_state_dict_post_hooks.clear()  # they look for parts
        for name, part in _parts(module).items():
            if part not in whole:  # what two modules have in common stays so
                whole[part] = torch.nn.Parameter(part.full_tensor().detach(), requires_grad=part.requires_grad)
            module._parameters[name] = whole[part]
    hold_packed_as(model, torch.uint8)


def _parts(module: torch.nn.Module) -> Mapping[str, DTensor]:
    return {name: item for name, item in module.named_parameters(recurse=False) if isinstance(item, DTensor)}
