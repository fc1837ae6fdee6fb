"""The one route through the trainer: from what a line says of pictures and a base model to trained weights, for every stage of every line.

In: a stage, the chat directory, a directory of weights, the pictures, the profile, and where checkpoints go. Out: an adapter (or an
encoder) in an empty directory. Nothing here asks for the line or the model family. How conversations are trained on stands here, since
most stages do; pictures and texts are matched in ``matching``; labels are masked in ``batches`` and nowhere else.
What TRL 1.16 and transformers 5.23 do otherwise, and what is undone here, is in docs/decisions/0004.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict
from transformers import PrinterCallback, Trainer, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

from medvl_lib.batches import Collator, Reader
from medvl_lib.chat import Conversation
from medvl_lib.errors import HeavyStepFailed, MedVLError
from medvl_lib.files import write_json
from medvl_lib.hardware import Profile
from medvl_lib.images import ImageStore
from medvl_lib.models.computing import computing
from medvl_lib.models.counting import num_parameters, parameters_by_part
from medvl_lib.models.hashes import frozen_hashes
from medvl_lib.models.loading import Loaded, fill_whole_modules, load, serializing, whole_modules
from medvl_lib.models.spec import ADAPTED, ModelSpec, on_its_engine
from medvl_lib.progress import Report
from medvl_lib.provenance import Fact
from medvl_lib.retrieved_cases import prefaces, with_cases
from medvl_lib.tables import write_table
from medvl_lib.training import matching
from medvl_lib.training.checkpoints import is_complete, newest_complete, path_of, step_of
from medvl_lib.training.choice import held_out, num_by_dataset, require_pairs, taken, takes_cases
from medvl_lib.training.frozen import FROZEN_TENSORS, FrozenTensor, compare
from medvl_lib.training.moved import MOVED_TENSORS, MovedTensor
from medvl_lib.training.recipe import Objective, Recipe, Stage
from medvl_lib.training.recorder import Recorder, stopping_at_the_next_step
from medvl_lib.training.rules import FULLY_TRAINED, SUMMARY
from medvl_lib.training.sharding import divided_weights, keep_exact, make_whole, require_resumable, take_part
from medvl_lib.training.start import the_start
from medvl_lib.training.steps import START_LOSS, TRAINED_ON, TRAINING_STEPS, TrainingStep
from medvl_lib.training.together import Together, divided, leaders, leads, on_one_device
from medvl_lib.training.watchdog import Watchdog
from medvl_lib.training.work import CHECKPOINTS_PER_RUN, Material, Pace, Work, pace, shared_arguments

CONVERSATIONS: Mapping[str, Any] = {  # what TRL's trainer is told beside what every trainer is: the plain loss, and hands off the data
    "loss_type": "nll", "max_length": None, "packing": False, "completion_only_loss": False,
    "dataset_kwargs": {"skip_prepare_dataset": True},
}  # fmt: skip


INPUT_HOOK = "make_inputs_require_grads"  # what transformers calls it


def train(
    directory: Path, *, stage: Stage, spec: ModelSpec, weights: Path, chat: Path, images: ImageStore, profile: Profile,
    previous: Path | None, checkpoints: Path, report: Report, cases: Path | None = None, watchdog: Watchdog | None = None,
) -> dict[str, Fact]:  # fmt: skip
    """Train one stage, or resume it from its newest complete checkpoint, and save the adapter into ``directory``.

    ``previous`` is the adapter of the stage before, which this one goes on training; ``cases`` are those that the recipe puts before
    questions. ``watchdog`` looks after the memory: without one, the profile's margin.
    """
    make_repeatable(stage.recipe.seed)
    profile = on_its_engine(profile, spec.family)
    work = OBJECTIVES[stage.objective](Material(
        stage=stage, spec=spec, weights=weights, chat=chat, images=images, profile=profile, previous=previous, checkpoints=checkpoints,
        report=report, cases=cases,
    ))  # fmt: skip
    settle(work.trainer)
    before = frozen_hashes(work.trainer.model)
    at_the_start = the_start(work.trainer, checkpoints) if stage.handover is not None else None
    train_to_the_end(work.trainer, work.recorder, checkpoints, Watchdog(profile) if watchdog is None else watchdog)
    make_whole(work.trainer.model)
    if not leads():
        return {}
    write_table(directory / FROZEN_TENSORS, FrozenTensor, compare(before, frozen_hashes(work.trainer.model)))
    kept = keep_the_best(work.trainer, checkpoints, work.put_back)
    told = {} if at_the_start is None else {START_LOSS: at_the_start.validation_loss}
    if at_the_start is not None:
        write_table(directory / MOVED_TENSORS, MovedTensor, at_the_start.moved(work.trainer.model))
    return work.save(directory, {"kept_step": kept, **work.counts, **told})


def answering(material: Material) -> Work:
    """Learn to answer: conversations through TRL's trainer, an adapter out."""
    recipe, spec, profile, checkpoints = material.stage.recipe, material.spec, material.profile, material.checkpoints
    if not isinstance(recipe, Recipe):
        raise TypeError(f"{material.stage.name} is trained by a {type(recipe).__name__}: answers need a Recipe")
    loaded = load(material.weights, spec, profile, adapter=material.previous, is_trainable=True)
    model = loaded.model if material.previous is not None else adapt(loaded, spec, recipe)
    _require_whole(model, recipe, material.previous or material.weights)
    exact = values_to_keep(model, is_continued=material.previous is not None)
    further = divided_weights(model, profile)
    stage, words = material.stage, prefaces(material.cases) if recipe.with_retrieved_cases and material.cases is not None else {}

    def asked(conversations: Iterable[Conversation]) -> list[Conversation]:
        return [with_cases(item, words[item.pair_id]) if takes_cases(item.pair_id, recipe) else item for item in conversations]

    found = taken(material.chat, stage, recipe)
    require_pairs(found, material.chat, stage, recipe)
    epoch, unseen = asked(found.epoch), asked(held_out(material.chat, stage, recipe))
    reader = Reader(processor=loaded.processor, prompts=loaded.prompts, images=material.images)
    recorder = Recorder(checkpoints, material.report)
    paced = pace(recipe, len(epoch), share=stage.share_of_steps, before=stage.share_before, num_line_pairs=found.num_line_pairs)
    args = arguments(recipe, profile, len(epoch), checkpoints, has_validation=bool(unseen), paced=paced, further=further)
    trainer = SFTTrainer(
        model=model, args=args,
        train_dataset=_rows(epoch, 0), eval_dataset=_rows(unseen, len(epoch)) if unseen else None,
        processing_class=loaded.processor, data_collator=Collator(reader=reader, conversations=[*epoch, *unseen]), callbacks=[recorder],
    )  # fmt: skip
    trainer.optimizer = optimizer(model, recipe, args)  # the constructor takes none for weights that will be divided
    put_exact_back(trainer.model, exact)
    take_part(trainer)
    if (engine := computing(trainer.model)) is not None:
        engine.take_over()  # the trainer has put its own loss over the model's
    distinct = num_by_dataset({pair.pair_id: pair for pair in epoch}.values())
    counts: dict[str, Fact] = {
        "num_training_pairs": sum(distinct.values()), "num_pairs_per_epoch": len(epoch),
        "num_validation_pairs": len(unseen), "num_pairs_with_cases": sum(takes_cases(pair.pair_id, recipe) for pair in found.pairs),
        "num_line_pairs_per_epoch": found.num_line_pairs,
        "num_training_images": len({image_id for pair in epoch for image_id in pair.image_ids}),
        **{f"{TRAINED_ON}{name}": count for name, count in distinct.items()},
    }  # fmt: skip
    return Work(
        trainer=trainer, recorder=recorder, counts=counts, put_back=put_adapter_back,
        save=lambda directory, facts: _save(directory, trainer, recorder, loaded, recipe, spec, facts),
    )  # fmt: skip


OBJECTIVES: Mapping[Objective, Callable[[Material], Work]] = {"generate": answering, "match": matching.matching}


def make_repeatable(seed: int) -> None:
    """Seed everything, and ask for the deterministic form of each operation that has one.

    New memory is not filled with NaN, as torch does then unless told otherwise: unpacking four bits writes every weight once more for it.
    """
    set_seed(seed)
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False


def train_to_the_end(trainer: Trainer, recorder: Recorder, checkpoints: Path, watchdog: Watchdog | None = None) -> None:
    """Train from the newest complete checkpoint, or from the start; raises HeavyStepFailed when it was stopped on the way."""
    settle(trainer)
    if watchdog is not None:
        trainer.add_callback(watchdog)
    trainer.remove_callback(Together)
    trainer.add_callback(Together())  # the last one: it passes on what the others wish
    resumed = leaders(newest_complete(checkpoints, trainer.args.max_steps) if leads() else None)
    if resumed is not None:
        require_resumable(resumed, trainer.args)
    recorder.resume(0 if resumed is None else step_of(resumed))
    size = trainer.args.per_device_train_batch_size
    with stopping_at_the_next_step(recorder), serializing(checkpoints):
        try:
            trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
        except torch.OutOfMemoryError as error:
            if watchdog is None:
                raise
            raise watchdog.told(error, size, checkpoints) from error
    if watchdog is not None:
        watchdog.raise_if_stopped(trainer.state.global_step, trainer.args.max_steps, size, checkpoints)
    if trainer.state.global_step < trainer.args.max_steps:
        raise HeavyStepFailed(
            found=f"training was stopped after step {trainer.state.global_step} of {trainer.args.max_steps}", where=str(checkpoints),
            do="start it again: it goes on from the checkpoint that was just written",
        )  # fmt: skip


def keep_the_best(trainer: Trainer, checkpoints: Path, put_back: Callable[[Trainer, Path], bool]) -> int:
    """Put the weights of the lowest held-out loss back into the model; returns their step: the last one where none was measured."""
    best = trainer.state.best_global_step or trainer.state.global_step
    if best == trainer.state.global_step:
        return best
    checkpoint = path_of(checkpoints, best)
    if not (is_complete(checkpoint) and put_back(trainer, checkpoint)):
        raise HeavyStepFailed(
            found=f"the checkpoint of step {best}, whose held-out loss is the lowest, is damaged or not of this model",
            where=str(checkpoint), do=f"remove {checkpoints}, and materialize again: training begins anew",
        )  # fmt: skip
    return best


def put_adapter_back(trainer: Trainer, checkpoint: Path) -> bool:
    """Read a checkpoint's adapter into the model; False where it is another one's."""
    kept = load_peft_weights(str(checkpoint), device=str(trainer.args.device))
    set_peft_model_state_dict(trainer.model, kept)
    held = get_peft_model_state_dict(trainer.model, save_embedding_layers=False)
    return kept.keys() == held.keys() and all(torch.equal(kept[name], held[name]) for name in kept)


def adapt(loaded: Loaded, spec: ModelSpec, recipe: Recipe) -> Any:
    """Put a fresh low-rank update on the linears that the recipe names, and a copy beside each module that is trained whole.

    Everything else is frozen.
    """
    model = get_peft_model(loaded.model, LoraConfig(
        r=recipe.lora_rank, lora_alpha=recipe.lora_alpha, lora_dropout=recipe.lora_dropout, target_modules=recipe.lora_targets,
        modules_to_save=list(recipe.fully_trained) or None, task_type="CAUSAL_LM", revision=spec.revision or None,
    ))  # fmt: skip
    model.peft_config["default"].base_model_name_or_path = None  # a path of this machine; PEFT would also ask the hub about it at each save
    fill_whole_modules(model)
    return model


def _require_whole(model: Any, recipe: Recipe, where: Path) -> None:
    """Refuse to train other modules whole than the recipe names: those of a model that has none of them, or of an adapter before."""
    found = whole_modules(model)
    absent = [name for name in recipe.fully_trained if not any(f".{module}".endswith(f".{name}") for module in found)]
    others = [module for module in found if not any(f".{module}".endswith(f".{name}") for name in recipe.fully_trained)]
    if absent or others:
        raise MedVLError(
            found=f"modules trained whole: {sorted(found) or 'none'}, and fully_trained = {list(recipe.fully_trained)}", where=str(where),
            do="name modules of this model in recipe.fully_trained, and the same ones in every stage that goes on with an adapter",
        )  # fmt: skip


def values_to_keep(model: Any, *, is_continued: bool) -> dict[str, torch.Tensor]:
    """Trainable values that come from somewhere: of modules that are trained whole, and of an adapter that is trained on.

    TRL's trainer rounds them to bfloat16 on a quantized base; that of a fresh low-rank update, which is drawn by chance, it may.
    """
    whole = tuple(f"{ADAPTED}{name}." for name in whole_modules(model))
    return {
        name: parameter.detach().float().clone()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and (is_continued or name.startswith(whole))
    }


def put_exact_back(model: Any, values: Mapping[str, torch.Tensor]) -> None:
    """Give trainable weights the values that they had, in 32 bits."""
    for name, parameter in model.named_parameters():
        if name in values:
            parameter.data = values[name]


def optimizer(model: Any, recipe: Recipe, args: SFTConfig) -> torch.optim.Optimizer | None:
    """AdamW with a learning rate of its own for the modules that are trained whole, biases without decay; None: the trainer's own."""
    if not recipe.fully_trained:
        return None
    whole = tuple(f"{ADAPTED}{name}." for name in whole_modules(model))
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    updates = [parameter for name, parameter in trainable.items() if not name.startswith(whole)]
    matrices = [parameter for name, parameter in trainable.items() if name.startswith(whole) and parameter.dim() > 1]
    biases = [parameter for name, parameter in trainable.items() if name.startswith(whole) and parameter.dim() == 1]
    cls, how = Trainer.get_optimizer_cls_and_kwargs(args)
    return cls([
        {"params": updates, "weight_decay": recipe.weight_decay},  # the first: the recorded learning rate is this one's
        {"params": matrices, "weight_decay": recipe.weight_decay, "lr": recipe.fully_trained_rate},
        {"params": biases, "weight_decay": 0.0, "lr": recipe.fully_trained_rate},
    ], **how)  # fmt: skip


def arguments(
    recipe: Recipe, profile: Profile, num_pairs: int, output: Path, *, has_validation: bool, paced: Pace | None = None,
    further: Mapping[str, Any] = MappingProxyType({}),
) -> SFTConfig:  # fmt: skip
    """The recipe and the profile as the trainer's arguments: each one listed, none left to a default that decides weights.

    ``further``: how processes share the weights (``sharding``).
    """
    per_device, accumulation = divided(recipe.effective_batch, profile.training_batch)
    total, validate_every = paced or pace(recipe, num_pairs)
    is_validated = has_validation and validate_every > 0
    made = SFTConfig(
        **shared_arguments(profile, output, recipe.seed), **CONVERSATIONS,
        max_steps=total, per_device_train_batch_size=per_device, gradient_accumulation_steps=accumulation,
        per_device_eval_batch_size=profile.training_batch,
        learning_rate=recipe.learning_rate, lr_scheduler_type="cosine", warmup_steps=math.ceil(total * recipe.warmup_share),
        weight_decay=recipe.weight_decay, max_grad_norm=recipe.max_gradient_norm, adam_beta2=0.999,
        # of torch's own arithmetic, which is the optimizer's alone where another engine computes
        bf16=profile.engine == "torch" and profile.weights_dtype == "bfloat16",
        fp16=profile.engine == "torch" and profile.weights_dtype == "float16",
        gradient_checkpointing=profile.gradient_checkpointing, gradient_checkpointing_kwargs={"use_reentrant": False},
        eval_strategy="steps" if is_validated else "no", eval_steps=validate_every or None,
        metric_for_best_model="eval_loss" if is_validated else None, greater_is_better=False,
        save_steps=max(1, total // CHECKPOINTS_PER_RUN), **further,
    )  # fmt: skip
    on_one_device(made)
    keep_exact(made)
    return made


class Thrifty(TrainerCallback):
    """Undoes, once the trainer has made the model ready, what it would compute for nothing."""

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Let no gradient flow into what is frozen below the first adapter."""
        leave_inputs_alone(model)


def leave_inputs_alone(model: torch.nn.Module) -> None:
    """Take the hooks away that make the embeddings of words and pictures require a gradient.

    With gradient checkpointing transformers and TRL set them on every embedding, the vision tower's included: the frozen tower is then
    kept, computed again and walked back for nothing. Only reentrant checkpointing needs them; ours is not.
    """
    for module in model.modules():
        for key, hook in list(module._forward_hooks.items()):
            if getattr(hook, "__name__", "") == INPUT_HOOK:
                del module._forward_hooks[key]


def settle(trainer: Trainer) -> None:
    """Undo two of the trainer's habits that would change the weights, and one that costs memory and time (``leave_inputs_alone``).

    Qwen2.5-VL declares that it takes no loss arguments, and the trainer then averages micro-batches instead of tokens: accumulation
    would change the gradient by 44 %. (A loss over pairs has no tokens to average.) On a 4-bit base the adapter is cast to bfloat16, but
    loaded back as float32 on resume.
    """
    trainer.model_accepts_loss_kwargs = isinstance(trainer, SFTTrainer)
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(Thrifty)  # a stage that looks at its start is settled before that, too
    trainer.add_callback(Thrifty())
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
    whole = {FULLY_TRAINED: list(recipe.fully_trained)} if recipe.fully_trained else {}
    write_json(directory / SUMMARY, {**facts, "lora_targets": recipe.lora_targets, **whole})
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
