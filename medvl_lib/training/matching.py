"""The objective ``match``: from captioned pictures and an encoder to one that knows which text belongs to which picture.

In: a stage with a ``MatchRecipe``, and what ``route`` gives every objective. Out: a ``Work`` for transformers' trainer, which ``route``
walks like any other; saved is a whole encoder in the hub's layout, a low-rank update added in. The loss is in ``sigmoid_loss``, what is
noted of each step in ``matching_steps``.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import EvalPrediction, Trainer, TrainingArguments

from medvl_lib.captions import CaptionedImage, captioned_images
from medvl_lib.errors import MedVLError
from medvl_lib.files import write_json
from medvl_lib.hardware import Profile
from medvl_lib.images import Pictures, rgb_pixels
from medvl_lib.models.counting import num_parameters, parameters_by_part
from medvl_lib.models.loading import load_encoder, quiet, serializing
from medvl_lib.models.preparing import copy_side_files
from medvl_lib.models.siglip import canonical, num_cut, picture_tensor, text_tensor
from medvl_lib.provenance import Fact
from medvl_lib.retrieval import CUTOFFS, mean_similarities, retrieval
from medvl_lib.tables import write_table
from medvl_lib.training.choice import chosen, num_by_dataset
from medvl_lib.training.matching_steps import MATCHING_STEPS, MATCHING_WHILE_RUNNING, NUM_CUT, MatchingStep
from medvl_lib.training.recipe import MatchRecipe
from medvl_lib.training.recorder import Recorder
from medvl_lib.training.rules import SUMMARY
from medvl_lib.training.sigmoid_loss import ROWS, Matcher, loss_if_orthogonal, plain, relation
from medvl_lib.training.steps import TRAINED_ON, TRAINING_STEPS, TrainingStep
from medvl_lib.training.together import divided, on_one_device
from medvl_lib.training.work import CHECKPOINTS_PER_RUN, Material, Work, pace, shared_arguments

WEIGHTS = "model.safetensors"  # of a checkpoint, as the trainer calls it


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionCollator:
    """What the trainer calls with rows of its dataset; a row names its captioned picture by ``index``."""

    processor: Any
    images: Pictures
    captions: Sequence[CaptionedImage]

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Rows -> the tensors of ``Matcher.forward``."""
        items = [self.captions[row["index"]] for row in rows]
        input_ids = text_tensor(self.processor, [item.text for item in items])
        return {
            "pixel_values": picture_tensor(self.processor, [rgb_pixels(self.images.read(item.image_id)) for item in items]),
            "input_ids": input_ids,
            "texts": _keys([ids.numpy().tobytes() for ids in input_ids]),  # as the model sees them: lower-cased, cut
            "groups": _keys([item.group_id.encode() for item in items]), "pictures": _keys([item.image_id.encode() for item in items]),
            ROWS: torch.tensor([row["index"] for row in rows]),
        }  # fmt: skip


def _keys(values: Sequence[bytes]) -> torch.Tensor:
    """A 64-bit number for each value, the same for equal ones."""
    return torch.tensor([int.from_bytes(hashlib.sha256(value).digest()[:8], "big", signed=True) for value in values])


@dataclass(frozen=True, slots=True, kw_only=True)
class Temperature:
    """What is noted beside the loss (``recorder.Beside``): the temperature, the bias, and what each validation finds."""

    matcher: Matcher
    file: str = MATCHING_WHILE_RUNNING
    row: type = MatchingStep

    def num_tokens(self) -> int:
        """Patches and text positions trained on so far."""
        return self.matcher.num_tokens

    def of_step(self, step: int) -> MatchingStep:
        """Temperature and bias as they are now."""
        return MatchingStep(step=step, temperature=self.matcher.log_temperature.exp().item(), bias=self.matcher.bias.item())

    def of_validation(self, logs: Mapping[str, float]) -> Mapping[str, object]:
        """The trainer's numbers, under the columns' names."""
        found = {name.removeprefix("eval_"): value for name, value in logs.items()}
        return {name: found[name] for name in MatchingStep.__dataclass_fields__ if name in found and name != "step"}


def ranked(captions: Sequence[CaptionedImage], said: EvalPrediction) -> dict[str, float | int | None]:
    """How well the pictures and texts of the validation split find each other: the columns of ``MatchingStep``."""
    pictures, texts = said.predictions
    shown = [captions[row] for row in said.label_ids.tolist()]
    named, image_ids = [canonical(item.text) for item in shown], [item.image_id for item in shown]
    similarity = pictures @ texts.T
    both = retrieval(similarity, named, image_ids)
    matched, mismatched = mean_similarities(similarity, named, image_ids)
    return {
        "gallery_size": len(named),
        **{f"{way.direction}_recall_at_{k}": value for way in both for k, value in zip(CUTOFFS, way.recalls, strict=True)},
        **{f"chance_at_{k}": value for k, value in zip(CUTOFFS, both[0].chances, strict=True)},
        **{f"{way.direction}_median_rank": way.median_rank for way in both},
        "matched_similarity": matched, "mismatched_similarity": None if math.isnan(mismatched) else mismatched,
    }  # fmt: skip


def matching(material: Material) -> Work:
    """Learn to match: captioned pictures through transformers' trainer, an encoder out."""
    recipe, spec, profile, checkpoints = material.stage.recipe, material.spec, material.profile, material.checkpoints
    if not isinstance(recipe, MatchRecipe):
        raise TypeError(f"{material.stage.name} is trained by a {type(recipe).__name__}: matching needs a MatchRecipe")
    training = chosen(captioned_images(material.chat, "train"), recipe, recipe.max_training_pairs, is_training=True)
    held_out = chosen(captioned_images(material.chat, "validation"), recipe, recipe.max_validation_pairs, is_training=False)
    if len(training) < 2:
        raise MedVLError(
            found=f"{len(training)} captioned pictures of {', '.join(recipe.pairs_per_dataset) or 'any dataset'}", where=str(material.chat),
            do="name datasets of this line in the recipe's pairs_per_dataset, or check what was rejected: a pair alone has no negatives",
        )  # fmt: skip
    loaded = load_encoder(material.weights, spec, profile)
    matcher = Matcher(adapted(loaded.model, recipe), chunk=profile.training_batch if profile.training_batch < recipe.effective_batch else 0)
    recorder = Recorder(checkpoints, material.report, Temperature(matcher=matcher))
    captions = [*training, *held_out]
    trainer = Trainer(
        model=matcher, args=arguments(recipe, profile, len(training), checkpoints, has_validation=bool(held_out)),
        train_dataset=_rows(range(len(training))),
        eval_dataset=_rows(range(len(training), len(captions))) if held_out else None,
        data_collator=CaptionCollator(processor=loaded.processor, images=material.images, captions=captions),
        compute_metrics=lambda said: ranked(captions, said), callbacks=[recorder], optimizers=(optimizer(matcher, recipe), None),
    )  # fmt: skip
    distinct = num_by_dataset({item.pair_id: item for item in training}.values())
    counts: dict[str, Fact] = {
        "num_training_pairs": sum(distinct.values()), "num_captioned_pictures": len(training), "num_validation_pairs": len(held_out),
        **{f"{TRAINED_ON}{name}": count for name, count in distinct.items()},
        NUM_CUT: num_cut(loaded.processor, list({item.text for item in captions})), "num_texts": len({item.text for item in captions}),
    }  # fmt: skip
    distinct_keys = torch.arange(min(len(training), recipe.effective_batch))
    counts["loss_if_orthogonal"] = loss_if_orthogonal(
        matcher.log_temperature.item(), matcher.bias.item(), relation(distinct_keys, distinct_keys, distinct_keys)
    )
    return Work(
        trainer=trainer, recorder=recorder, counts=counts, put_back=put_back,
        save=lambda directory, facts: _save(directory, material.weights, trainer, recorder, spec.family, facts),
    )  # fmt: skip


def adapted(encoder: Any, recipe: MatchRecipe) -> Any:
    """The encoder as the recipe trains it: every weight, or a low-rank update with temperature and bias."""
    if not recipe.lora_rank:
        return encoder.requires_grad_(requires_grad=True)
    model = get_peft_model(encoder, LoraConfig(
        r=recipe.lora_rank, lora_alpha=recipe.lora_alpha, lora_dropout=recipe.lora_dropout, target_modules=recipe.lora_targets,
    ))  # fmt: skip
    for parameter in (plain(model).logit_scale, plain(model).logit_bias):
        parameter.requires_grad_(requires_grad=True)
    return model


def optimizer(matcher: Matcher, recipe: MatchRecipe) -> torch.optim.AdamW:
    """AdamW whose decay spares what is no matrix: temperature, biases, norms."""
    trained = [parameter for parameter in matcher.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.dim() > 1], "weight_decay": recipe.weight_decay},
        {"params": [parameter for parameter in trained if parameter.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(recipe.adam_beta1, recipe.adam_beta2), eps=1e-8)


def arguments(recipe: MatchRecipe, profile: Profile, num_pairs: int, output: Path, *, has_validation: bool) -> TrainingArguments:
    """The recipe and the profile as the trainer's arguments: no accumulation, since it would not enlarge the batch that is told apart."""
    total, validate_every = pace(recipe, num_pairs)
    per_process = divided(recipe.effective_batch, recipe.effective_batch).per_process
    is_validated = has_validation and validate_every > 0
    common = shared_arguments(profile, output, recipe.seed)
    made = TrainingArguments(
        **{**common, "adam_beta1": recipe.adam_beta1}, adam_beta2=recipe.adam_beta2,
        max_steps=total, per_device_train_batch_size=per_process, gradient_accumulation_steps=1, per_device_eval_batch_size=per_process,
        label_names=[ROWS],
        learning_rate=recipe.learning_rate, lr_scheduler_type="cosine", warmup_steps=math.ceil(total * recipe.warmup_share),
        weight_decay=recipe.weight_decay, max_grad_norm=recipe.max_gradient_norm,
        bf16=profile.weights_dtype == "bfloat16", fp16=profile.weights_dtype == "float16",  # of products; weights are in 32 bit
        eval_strategy="steps" if is_validated else "no", eval_steps=validate_every or None,
        metric_for_best_model="eval_loss" if is_validated else None, greater_is_better=False,
        save_steps=max(1, total // CHECKPOINTS_PER_RUN),
    )  # fmt: skip
    on_one_device(made)
    return made


def _rows(indices: range) -> Dataset:
    return Dataset.from_dict({"index": list(indices)})


def put_back(trainer: Trainer, checkpoint: Path) -> bool:
    """Read a checkpoint's weights into the model; False where they are another one's."""
    path = checkpoint / WEIGHTS
    kept = load_file(path, device=str(trainer.args.device)) if path.is_file() else {}
    held = trainer.model.state_dict()
    if kept.keys() != held.keys() or any(kept[name].shape != held[name].shape for name in kept):
        return False
    trainer.model.load_state_dict(kept)
    return True


def _save(directory: Path, weights: Path, trainer: Trainer, recorder: Recorder, family: str, facts: Mapping[str, Fact]) -> dict[str, Fact]:
    matcher: Any = trainer.model
    parts = parameters_by_part(matcher.encoder, family)
    encoder = matcher.encoder.merge_and_unload() if hasattr(matcher.encoder, "merge_and_unload") else matcher.encoder
    with quiet(), serializing(directory):
        encoder.save_pretrained(directory)
    copy_side_files(weights, directory)
    rows = list(recorder.rows())
    write_table(directory / TRAINING_STEPS, TrainingStep, rows)
    write_table(directory / MATCHING_STEPS, MatchingStep, recorder.noted())
    written: dict[str, Fact] = {
        "num_steps": len(rows), "num_planned_steps": trainer.state.max_steps, **facts,
        "num_trainable_parameters": sum(count.trainable for count in parts.values()), "num_parameters": num_parameters(encoder)[0],
        **{f"num_parameters_{part}": count.total for part, count in parts.items()},
        **{f"num_trainable_parameters_{part}": count.trainable for part, count in parts.items() if count.trainable},
        "first_loss": rows[0].loss, "last_loss": rows[-1].loss, "temperature": matcher.log_temperature.exp().item(),
        "bias": matcher.bias.item(), "precision": "float32",
    }  # fmt: skip
    write_json(directory / SUMMARY, written)
    return written
