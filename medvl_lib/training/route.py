"""The one route through TRL's trainer: from conversations and a base model to an adapter, for every stage of every line.

In: a stage, the chat directory, a directory of weights, the pictures, the profile, and where checkpoints go. Out: an adapter in an
empty directory. Nothing here asks for the line or the model family; labels are masked in ``batches`` and nowhere else.
What TRL 1.16 and transformers 5.23 do otherwise, and what is undone here, is in docs/decisions/0004.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict
from transformers import PrinterCallback, set_seed
from trl import SFTConfig, SFTTrainer

from medvl_lib.batches import Collator, Reader
from medvl_lib.chat import Conversation, conversations_path, read_conversations
from medvl_lib.errors import HeavyStepFailed, MedVLError
from medvl_lib.files import write_json
from medvl_lib.hardware import Profile
from medvl_lib.images import ImageStore
from medvl_lib.models.hashes import frozen_hashes
from medvl_lib.models.loading import Loaded, load, num_parameters, parameters_by_part, serializing
from medvl_lib.models.spec import ModelSpec
from medvl_lib.provenance import Fact
from medvl_lib.step import Report
from medvl_lib.tables import write_table
from medvl_lib.training.checkpoints import is_complete, newest_complete, path_of, step_of
from medvl_lib.training.choice import chosen, mixed, num_by_dataset
from medvl_lib.training.frozen import FROZEN_TENSORS, FrozenTensor, compare
from medvl_lib.training.recipe import Recipe, Stage
from medvl_lib.training.recorder import Recorder, stopping_at_the_next_step
from medvl_lib.training.steps import TRAINED_ON, TRAINING_STEPS, TrainingStep

CHECKPOINTS_PER_RUN = 8  # about every eighth of a run is repeated at worst after a kill; operational, not identity


def train(
    directory: Path, *, stage: Stage, spec: ModelSpec, weights: Path, chat: Path, images: ImageStore, profile: Profile,
    previous: Path | None, checkpoints: Path, report: Report,
) -> dict[str, Fact]:  # fmt: skip
    """Train one stage, or resume it from its newest complete checkpoint, and save the adapter into ``directory``.

    ``previous`` is the adapter of the stage before, which this one goes on training.
    """
    recipe = stage.recipe
    make_repeatable(recipe.seed)
    loaded = load(weights, spec, profile, adapter=previous, is_trainable=True)
    model = loaded.model if previous is not None else adapt(loaded, spec, recipe)
    pairs = chosen(read_conversations(conversations_path(chat, "train")), recipe, recipe.max_training_pairs, is_training=True)
    held_out = chosen(read_conversations(conversations_path(chat, "validation")), recipe, recipe.max_validation_pairs, is_training=False)
    epoch = mixed(pairs, recipe)
    if not epoch:
        raise MedVLError(
            found=f"no training pair of {', '.join(recipe.pairs_per_dataset) or 'any dataset'}"
            + (f", {len(pairs)} before mixture_weights = {dict(recipe.mixture_weights)}" if pairs else ""),
            where=str(conversations_path(chat, "train")),
            do="name datasets of this line in recipe.pairs_per_dataset, raise its mixture_weights, or check what validation rejected",
        )  # fmt: skip
    reader = Reader(processor=loaded.processor, prompts=loaded.prompts, images=images)
    recorder = Recorder(checkpoints, report)
    trainer = SFTTrainer(
        model=model, args=arguments(recipe, profile, len(epoch), checkpoints, has_validation=bool(held_out)),
        train_dataset=_rows(epoch, 0), eval_dataset=_rows(held_out, len(epoch)) if held_out else None,
        processing_class=loaded.processor, data_collator=Collator(reader=reader, conversations=[*epoch, *held_out]), callbacks=[recorder],
    )  # fmt: skip
    before = frozen_hashes(trainer.model)
    train_to_the_end(trainer, recorder, checkpoints)
    write_table(directory / FROZEN_TENSORS, FrozenTensor, compare(before, frozen_hashes(trainer.model)))
    kept_step = keep_the_best(trainer, checkpoints)
    distinct = num_by_dataset({pair.pair_id: pair for pair in epoch}.values())
    counts: dict[str, Fact] = {
        "kept_step": kept_step, "num_training_pairs": sum(distinct.values()), "num_pairs_per_epoch": len(epoch),
        "num_validation_pairs": len(held_out), **{f"{TRAINED_ON}{name}": count for name, count in distinct.items()},
    }  # fmt: skip
    return _save(directory, trainer, recorder, loaded, recipe, spec, counts)


def make_repeatable(seed: int) -> None:
    """Seed everything, and ask for the deterministic form of each operation that has one."""
    set_seed(seed)
    torch.use_deterministic_algorithms(mode=True, warn_only=True)


def train_to_the_end(trainer: SFTTrainer, recorder: Recorder, checkpoints: Path) -> None:
    """Train from the newest complete checkpoint, or from the start; raises HeavyStepFailed when it was stopped on the way."""
    settle(trainer)
    resumed = newest_complete(checkpoints, trainer.args.max_steps)
    recorder.resume(0 if resumed is None else step_of(resumed))
    with stopping_at_the_next_step(recorder), serializing(checkpoints):
        trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
    if trainer.state.global_step < trainer.args.max_steps:
        raise HeavyStepFailed(
            found=f"training was stopped after step {trainer.state.global_step} of {trainer.args.max_steps}", where=str(checkpoints),
            do="start it again: it goes on from the checkpoint that was just written",
        )  # fmt: skip


def keep_the_best(trainer: SFTTrainer, checkpoints: Path) -> int:
    """Put the adapter of the lowest held-out loss back into the model; returns its step: the last one where none was measured."""
    best = trainer.state.best_global_step or trainer.state.global_step
    if best == trainer.state.global_step:
        return best
    checkpoint = path_of(checkpoints, best)
    kept = load_peft_weights(str(checkpoint), device=str(trainer.args.device)) if is_complete(checkpoint) else {}
    set_peft_model_state_dict(trainer.model, kept)
    held = get_peft_model_state_dict(trainer.model, save_embedding_layers=False)
    if kept.keys() != held.keys() or not all(torch.equal(kept[name], held[name]) for name in kept):
        raise HeavyStepFailed(
            found=f"the checkpoint of step {best}, whose held-out loss is the lowest, is damaged or not of this adapter",
            where=str(checkpoint), do=f"remove {checkpoints}, and materialize again: training begins anew",
        )  # fmt: skip
    return best


def adapt(loaded: Loaded, spec: ModelSpec, recipe: Recipe) -> Any:
    """Put a fresh low-rank update on the linears that the recipe names; everything else is frozen."""
    model = get_peft_model(loaded.model, LoraConfig(
        r=recipe.lora_rank, lora_alpha=recipe.lora_alpha, lora_dropout=recipe.lora_dropout, target_modules=recipe.lora_targets,
        task_type="CAUSAL_LM", revision=spec.revision or None,
    ))  # fmt: skip
    model.peft_config["default"].base_model_name_or_path = None  # a path of this machine; PEFT would also ask the hub about it at each save
    return model


def arguments(recipe: Recipe, profile: Profile, num_pairs: int, output: Path, *, has_validation: bool) -> SFTConfig:
    """The recipe and the profile as the trainer's arguments: each one listed, none left to a default that decides weights."""
    accumulation = recipe.effective_batch // math.gcd(recipe.effective_batch, profile.training_batch)
    per_device = recipe.effective_batch // accumulation
    steps_per_epoch = max(1, math.ceil(num_pairs / recipe.effective_batch))
    total = recipe.max_steps or max(1, math.ceil(steps_per_epoch * recipe.num_epochs))
    validate_every = max(1, steps_per_epoch // recipe.validations_per_epoch) if recipe.validations_per_epoch else 0
    is_validated = has_validation and validate_every > 0
    return SFTConfig(
        **shared_arguments(profile, output, recipe.seed),
        max_steps=total, per_device_train_batch_size=per_device, gradient_accumulation_steps=accumulation,
        per_device_eval_batch_size=profile.training_batch,
        learning_rate=recipe.learning_rate, lr_scheduler_type="cosine", warmup_steps=math.ceil(total * recipe.warmup_share),
        weight_decay=recipe.weight_decay, max_grad_norm=recipe.max_gradient_norm, adam_beta2=0.999,
        bf16=profile.weights_dtype == "bfloat16",
        gradient_checkpointing=profile.gradient_checkpointing, gradient_checkpointing_kwargs={"use_reentrant": False},
        eval_strategy="steps" if is_validated else "no", eval_steps=validate_every or None,
        metric_for_best_model="eval_loss" if is_validated else None, greater_is_better=False,
        save_steps=max(1, total // CHECKPOINTS_PER_RUN),
    )  # fmt: skip


def shared_arguments(profile: Profile, output: Path, seed: int) -> dict[str, Any]:
    """What every training has in common: AdamW on the plain loss, rows left to our collator, old checkpoints to the recorder."""
    return {
        "output_dir": str(output), "seed": seed, "data_seed": seed, "full_determinism": False,
        "optim": "adamw_torch", "adam_beta1": 0.9, "adam_epsilon": 1e-8, "loss_type": "nll",
        "fp16": False, "tf32": None, "use_cpu": profile.device == "cpu",
        "dataloader_num_workers": profile.num_workers, "dataloader_pin_memory": profile.pin_memory,
        "max_length": None, "packing": False, "completion_only_loss": False, "dataset_kwargs": {"skip_prepare_dataset": True},
        "remove_unused_columns": False, "report_to": "none", "disable_tqdm": True, "logging_steps": 1, "logging_first_step": True,
        "save_strategy": "steps", "save_total_limit": None,  # the recorder removes old ones
    }  # fmt: skip


def settle(trainer: SFTTrainer) -> None:
    """Undo two of the trainer's habits that would change the weights.

    Qwen2.5-VL declares that it takes no loss arguments, and the trainer then averages micro-batches instead of tokens: accumulation
    would change the gradient by 44 %. On a 4-bit base the adapter is cast to bfloat16, but loaded back as float32 on resume.
    """
    trainer.model_accepts_loss_kwargs = True
    trainer.remove_callback(PrinterCallback)
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def _rows(conversations: list[Conversation], first: int) -> Dataset:
    """Rows that name a conversation of the collator; a column called ``images`` tells the trainer that they are multimodal."""
    return Dataset.from_dict({
        "index": list(range(first, first + len(conversations))), "images": [list(item.image_ids) for item in conversations],
    })  # fmt: skip


def _save(
    directory: Path, trainer: SFTTrainer, recorder: Recorder, loaded: Loaded, recipe: Recipe, spec: ModelSpec, counts: Mapping[str, Fact]
) -> dict[str, Fact]:
    trainer.model.peft_config["default"].base_model_name_or_path = spec.hub_id
    with serializing(directory):
        trainer.model.save_pretrained(directory, save_embedding_layers=False)
    (directory / "README.md").unlink(missing_ok=True)  # PEFT's card names this machine's paths
    rows = list(recorder.rows())
    write_table(directory / TRAINING_STEPS, TrainingStep, rows)
    facts: dict[str, Fact] = {
        "num_steps": len(rows), "num_planned_steps": trainer.state.max_steps, **counts, **parameter_facts(trainer.model, spec),
        "first_loss": rows[0].loss, "last_loss": rows[-1].loss, "precision": loaded.precision,
    }  # fmt: skip
    write_json(directory / "training.json", {**facts, "lora_targets": recipe.lora_targets})
    return facts


def parameter_facts(model: torch.nn.Module, spec: ModelSpec) -> dict[str, Fact]:
    """How many parameters the model has and trains, in all and per part; 4-bit ones are counted unpacked."""
    parts = parameters_by_part(model, spec.family)
    total, quantized = num_parameters(model)
    return {
        "num_trainable_parameters": sum(count.trainable for count in parts.values()), "num_parameters": total,
        "num_4bit_parameters": quantized,
        **{f"num_parameters_{part}": count.total for part, count in parts.items()},
        **{f"num_trainable_parameters_{part}": count.trainable for part, count in parts.items() if count.trainable},
    }  # fmt: skip
