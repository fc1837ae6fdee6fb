"""The one route through TRL's trainer: from conversations and a base model to an adapter, for every stage of every line.

In: a stage, the chat directory, a directory of weights, the pictures, the profile, and where checkpoints go. Out: an adapter in an
empty directory. Nothing here asks for the line or the model family; labels are masked in ``batches`` and nowhere else.
What TRL 1.16 and transformers 5.23 do otherwise, and what is undone here, is in docs/decisions/0004.
"""

import json
import math
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import PrinterCallback, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

from medvl_lib.batches import Collator, Reader
from medvl_lib.chat import Conversation, conversations_path, read_conversations
from medvl_lib.errors import HeavyStepFailed, MedVLError
from medvl_lib.files import write_bytes, write_json
from medvl_lib.hardware import Profile
from medvl_lib.images import ImageStore
from medvl_lib.models.loading import Loaded, load, num_parameters, serializing
from medvl_lib.models.spec import ModelSpec
from medvl_lib.provenance import Fact, digest
from medvl_lib.tables import write_table
from medvl_lib.training.checkpoints import newest_complete, seal, step_of
from medvl_lib.training.recipe import Recipe, Stage
from medvl_lib.training.steps import STEPS_WHILE_RUNNING, TRAINING_STEPS, TrainingStep

CHECKPOINTS_PER_RUN = 8  # about every eighth of a run is repeated at worst after a kill; operational, not identity
Report = Callable[[Mapping[str, Fact]], None]
"""Called once a step with what the UI shows while training runs."""


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
    if not pairs:
        raise MedVLError(
            found=f"no training pair of {', '.join(recipe.pairs_per_dataset) or 'any dataset'}",
            where=str(conversations_path(chat, "train")),
            do="name datasets of this line in recipe.pairs_per_dataset, or check what validation rejected",
        )  # fmt: skip
    reader = Reader(processor=loaded.processor, prompts=loaded.prompts, images=images)
    recorder = Recorder(checkpoints, report)
    trainer = SFTTrainer(
        model=model, args=arguments(recipe, profile, len(pairs), checkpoints, has_validation=bool(held_out)),
        train_dataset=_rows(pairs, 0), eval_dataset=_rows(held_out, len(pairs)) if held_out else None,
        processing_class=loaded.processor, data_collator=Collator(reader=reader, conversations=[*pairs, *held_out]), callbacks=[recorder],
    )  # fmt: skip
    train_to_the_end(trainer, recorder, checkpoints)
    return _save(directory, trainer, recorder, loaded, recipe, hub_id=spec.hub_id, num_pairs=len(pairs))


def make_repeatable(seed: int) -> None:
    """Seed everything, and ask for the deterministic form of each operation that has one."""
    set_seed(seed)
    torch.use_deterministic_algorithms(mode=True, warn_only=True)


def train_to_the_end(trainer: SFTTrainer, recorder: "Recorder", checkpoints: Path) -> None:
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
    return SFTConfig(
        **shared_arguments(profile, output, recipe.seed),
        max_steps=total, per_device_train_batch_size=per_device, gradient_accumulation_steps=accumulation,
        per_device_eval_batch_size=profile.training_batch,
        learning_rate=recipe.learning_rate, lr_scheduler_type="cosine", warmup_steps=math.ceil(total * recipe.warmup_share),
        weight_decay=recipe.weight_decay, max_grad_norm=recipe.max_gradient_norm, adam_beta2=0.999,
        bf16=profile.weights_dtype == "bfloat16",
        gradient_checkpointing=profile.gradient_checkpointing, gradient_checkpointing_kwargs={"use_reentrant": False},
        eval_strategy="steps" if has_validation and validate_every else "no", eval_steps=validate_every or None,
        save_steps=max(1, total // CHECKPOINTS_PER_RUN),
    )  # fmt: skip


def shared_arguments(profile: Profile, output: Path, seed: int) -> dict[str, Any]:
    """What every training has in common: AdamW on the plain loss, rows left to our collator, every step logged, two checkpoints kept."""
    return {
        "output_dir": str(output), "seed": seed, "data_seed": seed, "full_determinism": False,
        "optim": "adamw_torch", "adam_beta1": 0.9, "adam_epsilon": 1e-8, "loss_type": "nll",
        "fp16": False, "tf32": None, "use_cpu": profile.device == "cpu",
        "dataloader_num_workers": profile.num_workers, "dataloader_pin_memory": profile.pin_memory,
        "max_length": None, "packing": False, "completion_only_loss": False, "dataset_kwargs": {"skip_prepare_dataset": True},
        "remove_unused_columns": False, "report_to": "none", "disable_tqdm": True, "logging_steps": 1, "logging_first_step": True,
        "save_strategy": "steps", "save_total_limit": 2,
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


def chosen(conversations: Iterable[Conversation], recipe: Recipe, most: int, *, is_training: bool) -> list[Conversation]:
    """What a recipe takes of some conversations, in their order: its datasets, in training its share of each, at most ``most`` (0: all).

    Where there are too many, the first by a seeded hash of their ids are taken, so that one pair more moves hardly any other.
    """
    everything = list(conversations)
    by_dataset: dict[str, list[Conversation]] = defaultdict(list)
    for conversation in everything:
        by_dataset[_dataset(conversation)].append(conversation)
    named = [items for name, items in by_dataset.items() if not recipe.pairs_per_dataset or name in recipe.pairs_per_dataset]
    shares = recipe.pairs_per_dataset if is_training else {}
    taken = [item for items in named for item in _first(items, shares.get(_dataset(items[0]), 0), recipe.seed)]
    kept = {item.pair_id for item in _first(taken, most, recipe.seed)}
    return [item for item in everything if item.pair_id in kept]


def _dataset(conversation: Conversation) -> str:
    return conversation.pair_id.split("/", 1)[0]


def _first(conversations: list[Conversation], most: int, seed: int) -> list[Conversation]:
    if not most or len(conversations) <= most:
        return conversations
    kept = set(sorted((conversation.pair_id for conversation in conversations), key=lambda pair_id: digest([seed, pair_id]))[:most])
    return [conversation for conversation in conversations if conversation.pair_id in kept]


def _rows(conversations: list[Conversation], first: int) -> Dataset:
    """Rows that name a conversation of the collator; a column called ``images`` tells the trainer that they are multimodal."""
    return Dataset.from_dict({
        "index": list(range(first, first + len(conversations))), "images": [list(item.image_ids) for item in conversations],
    })  # fmt: skip


@contextmanager
def stopping_at_the_next_step(recorder: "Recorder") -> Generator[None, None, None]:
    """Let SIGTERM and Ctrl-C end training after the step that is going on, with a checkpoint; one longer than the grace time is lost."""

    def stop(*_: object) -> None:
        recorder.is_stopping = True

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can listen
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Recorder(TrainerCallback):
    """Writes down every step, reports it, and seals every checkpoint."""

    def __init__(self, checkpoints: Path, report: Report) -> None:
        self._checkpoints = checkpoints
        self._path = checkpoints / STEPS_WHILE_RUNNING
        self._report = report
        self._tokens_before = 0.0
        self._first_step = 1
        self.is_stopping = False
        """Whether training is to end, with a checkpoint, after the step that is going on."""
        self._started = self._step_started = time.perf_counter()

    def resume(self, step: int) -> None:
        """Forget steps after ``step``: they are done again."""
        self._checkpoints.mkdir(parents=True, exist_ok=True)
        self._rewrite([row for row in self.rows() if row.step <= step])
        self._first_step = step + 1
        self._started = time.perf_counter()

    def _rewrite(self, rows: list[TrainingStep]) -> None:
        write_bytes(self._path, "".join(json.dumps(asdict(row)) + "\n" for row in rows).encode())

    def rows(self) -> Iterator[TrainingStep]:
        """The steps so far; a last line that a kill cut short is not one."""
        if self._path.is_file():
            for line in self._path.read_text(encoding="utf-8").splitlines(keepends=True):
                if line.endswith("\n"):
                    yield TrainingStep(**json.loads(line))

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock of a step."""
        self._step_started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop here when that was asked for."""
        if self.is_stopping:
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float], **_: Any) -> None:
        """Append a step when its loss is logged; put a held-out loss on the step it was measured after."""
        if "eval_loss" in logs:
            self._append_validation(logs["eval_loss"])
        if "loss" not in logs:
            return
        now = time.perf_counter()
        num_tokens = int(logs["num_tokens"] - self._tokens_before)
        self._tokens_before = logs["num_tokens"]
        step = TrainingStep(
            step=state.global_step, epoch=float(state.epoch), loss=logs["loss"], learning_rate=logs["learning_rate"],
            gradient_norm=logs.get("grad_norm"), num_tokens=num_tokens,
            tokens_per_second=num_tokens / max(now - self._step_started, 1e-9), elapsed_seconds=now - self._started,
            validation_loss=None,
        )  # fmt: skip
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(step)) + "\n")
        left = (state.max_steps - step.step) * step.elapsed_seconds / (step.step - self._first_step + 1)
        self._report({
            "step": step.step, "num_steps": state.max_steps, "loss": step.loss, "tokens_per_second": step.tokens_per_second,
            "seconds_left": left,
        })  # fmt: skip

    def _append_validation(self, loss: float) -> None:
        rows = list(self.rows())
        if rows:
            rows[-1] = TrainingStep(**{**asdict(rows[-1]), "validation_loss": loss})
            self._rewrite(rows)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A checkpoint counts from now on; the steps before it are on disk."""
        with self._path.open("rb") as stream:
            os.fsync(stream.fileno())
        seal(self._checkpoints / f"checkpoint-{state.global_step}")


def _save(
    directory: Path, trainer: SFTTrainer, recorder: Recorder, loaded: Loaded, recipe: Recipe, *, hub_id: str, num_pairs: int
) -> dict[str, Fact]:
    trainer.model.peft_config["default"].base_model_name_or_path = hub_id
    with serializing(directory):
        trainer.model.save_pretrained(directory, save_embedding_layers=False)
    (directory / "README.md").unlink(missing_ok=True)  # PEFT's card names this machine's paths
    rows = list(recorder.rows())
    write_table(directory / TRAINING_STEPS, TrainingStep, rows)
    trainable = sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad)
    total, quantized = num_parameters(trainer.model)
    facts: dict[str, Fact] = {
        "num_steps": len(rows), "num_planned_steps": trainer.state.max_steps, "num_training_pairs": num_pairs,
        "num_trainable_parameters": trainable, "num_parameters": total, "num_4bit_parameters": quantized,
        "first_loss": rows[0].loss, "last_loss": rows[-1].loss, "precision": loaded.precision,
    }  # fmt: skip
    write_json(directory / "training.json", {**facts, "lora_targets": recipe.lora_targets})
    return facts
