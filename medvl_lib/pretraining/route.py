"""Pretraining through TRL's trainer: every weight of a small model, on examples that are drawn as they are needed.

In: a recipe, an empty directory, and where checkpoints go. Out: the trained model in the hub's layout, and its steps. Seeded; resumed
from the newest whole checkpoint, since a row of the trainer's dataset is one whole step and names its examples by number. Answers are
masked in ``batches`` and the way through the trainer is that of ``training.route``; only here image tokens get labels of their own
(``spell_cells``). What the model can do is judged in ``examination``.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForImageTextToText
from transformers.utils import logging
from trl import SFTConfig, SFTTrainer

from medvl_lib.batches import Reader, training_batch
from medvl_lib.chat import Conversation, single_turn
from medvl_lib.hardware import Profile
from medvl_lib.models.loading import DTYPES, load, quiet, serializing
from medvl_lib.models.preparing import AS_PUBLISHED, LAYOUTS, TINY, copy_side_files, in_library_layout
from medvl_lib.models.spec import ModelSpec
from medvl_lib.pretraining.recipe import Distribution, Example, Lesson, PretrainingRecipe
from medvl_lib.prompts import PromptFormat
from medvl_lib.provenance import Fact
from medvl_lib.sample_data.chest_studies import ChestStudy
from medvl_lib.sample_data.described_pictures import DescribedPicture
from medvl_lib.sample_data.reading_pages import ReadingPage
from medvl_lib.tables import write_table
from medvl_lib.training.checkpoints import newest_complete
from medvl_lib.training.route import CONVERSATIONS, Recorder, Report, make_repeatable, train_to_the_end
from medvl_lib.training.steps import TRAINING_STEPS, TrainingStep
from medvl_lib.training.work import shared_arguments

STEPS_PER_CHECKPOINT = 100  # operational, not identity: what a kill costs at worst
VALIDATION_PART = "validation"
START = "start"  # the untrained model's directory below the checkpoints'


@dataclass(frozen=True, slots=True)
class Shelf:
    """Examples in memory, whose pictures are read like those of an image store."""

    examples: Mapping[str, Example]
    """By the id of each picture."""

    def read(self, image_id: str) -> bytes:
        """The picture's file."""
        return self.examples[image_id].read(image_id)


def shelf(examples: Iterable[Example]) -> Shelf:
    """Examples by the ids of their pictures."""
    return Shelf({image_id: example for example in examples for image_id in example.image_ids})


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleSet:
    """The examples of one step: ``count`` of them from number ``first`` on."""

    examples: Distribution
    part: str
    first: int
    count: int
    is_spelled: bool
    """Whether image tokens are asked for their characters too."""

    def draw(self) -> list[Example]:
        """The examples, drawn."""
        return [self.examples.draw(self.part, number) for number in range(self.first, self.first + self.count)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleCollator:
    """What the trainer calls with a row of its dataset, which names a set of examples by ``index``."""

    processor: Any
    prompts: PromptFormat
    sets: Sequence[ExampleSet]

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Rows -> tensors with ``labels``, as in fine-tuning."""
        chosen = [self.sets[row["index"]] for row in rows]
        drawn = [example for examples in chosen for example in examples.draw()]
        reader = Reader(processor=self.processor, prompts=self.prompts, images=shelf(drawn))
        batch = training_batch(reader, [to_conversation(example) for example in drawn])
        if all(examples.is_spelled for examples in chosen):
            spell_cells(batch, [example for example in drawn if not isinstance(example, DescribedPicture)], self.processor)
        return batch


def spell_cells(batch: dict[str, torch.Tensor], examples: Sequence[ReadingPage | ChestStudy], processor: Any) -> None:
    """Ask the language model at each image token for what stands there, beside the answer: labels (B, T) are changed.

    Without it a small model does not find out for thousands of steps that the picture holds the answer (docs/log.md): here every letter
    teaches the vision tower at once, wherever the answer names it. A label is predicted from the token before it, so the text of a cell is
    the label of the next token: its first token, where it has several.
    """
    for row, example in enumerate(examples):
        places = (batch["input_ids"][row] == processor.image_token_id).nonzero().flatten().tolist()
        texts = example.cell_texts if isinstance(example, ChestStudy) else example.cell_characters
        for place, text in zip(places, texts, strict=True):
            if text is not None:
                batch["labels"][row, place + 1] = processor.tokenizer.encode(text, add_special_tokens=False)[0]


def to_conversation(example: Example) -> Conversation:
    """An example as one question and its answer."""
    return single_turn(example.example_id, image_ids=example.image_ids, request=example.request, response=example.response)


def step_sets(recipe: PretrainingRecipe) -> list[ExampleSet]:
    """The examples of every step, in order: no number is drawn twice."""
    sets: list[ExampleSet] = []
    first = 0
    for lesson in recipe.lessons:
        for step in range(lesson.num_steps):
            examples = lesson.examples.at_step(step) if lesson.is_alike_in_a_step else lesson.examples
            sets.append(ExampleSet(
                examples=examples, part=recipe.part, first=first, count=lesson.num_examples, is_spelled=lesson.is_spelled,
            ))  # fmt: skip
            first += lesson.num_examples
    return sets


def validation_sets(recipe: PretrainingRecipe) -> list[ExampleSet]:
    """The held-out examples, in batches as large as the last lesson's."""
    last: Lesson = recipe.lessons[-1]
    starts = range(0, recipe.num_validation_examples, last.num_examples)
    return [
        ExampleSet(
            examples=last.examples, part=VALIDATION_PART, first=first,
            count=min(last.num_examples, recipe.num_validation_examples - first), is_spelled=False,
        ) for first in starts
    ]  # fmt: skip


def pretrain(
    directory: Path, *, recipe: PretrainingRecipe, spec: ModelSpec, profile: Profile, checkpoints: Path, report: Report,
) -> dict[str, Fact]:  # fmt: skip
    """Train a small model from its seed, or go on from the newest whole checkpoint, and save it into ``directory`` in 16 bit."""
    make_repeatable(recipe.seed)
    start = _start(checkpoints / START, recipe, spec)
    loaded = load(start, spec, profile)
    if (resumed := newest_complete(checkpoints, recipe.num_steps)) is not None:
        read_weights(loaded.model, resumed, profile)
    loaded.model.requires_grad_(requires_grad=True)
    sets, held_out = step_sets(recipe), validation_sets(recipe)
    recorder = Recorder(checkpoints, report)
    trainer = SFTTrainer(
        model=loaded.model, args=arguments(recipe, profile, checkpoints), train_dataset=_rows(range(len(sets))),
        eval_dataset=_rows(range(len(sets), len(sets) + len(held_out))), processing_class=loaded.processor,
        data_collator=ExampleCollator(processor=loaded.processor, prompts=loaded.prompts, sets=[*sets, *held_out]), callbacks=[recorder],
    )  # fmt: skip
    logging.set_verbosity_error()  # the trainer tells at length that it cannot load a checkpoint's weights: they have been loaded above
    train_to_the_end(trainer, recorder, checkpoints)
    return _save(directory, start, trainer.model, list(recorder.rows()), spec)


def read_weights(model: torch.nn.Module, checkpoint: Path, profile: Profile) -> None:
    """Put a checkpoint's weights into the model: the trainer would not.

    A checkpoint holds the hub's tensor names, which only ``from_pretrained`` maps to the modules'. The trainer's own way of loading looks
    for the modules' names, finds none, and goes on with untrained weights and the optimizer's state of trained ones.
    """
    with quiet():
        trained = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=DTYPES[profile.weights_dtype])
    model.load_state_dict(trained.state_dict())


def _start(directory: Path, recipe: PretrainingRecipe, spec: ModelSpec) -> Path:
    """The untrained model, written again each time: it costs a second, and a half-written one would cost a day."""
    shutil.rmtree(directory, ignore_errors=True)
    published = directory / AS_PUBLISHED if spec.family in LAYOUTS else directory
    published.mkdir(parents=True)
    with quiet():
        TINY[spec.family](published, seed=recipe.seed, max_pixels=spec.max_pixels)
        in_library_layout(published, directory, spec.family)
    return directory


def arguments(recipe: PretrainingRecipe, profile: Profile, output: Path) -> SFTConfig:
    """The recipe as the trainer's arguments: a row is a whole step, taken in order."""
    return SFTConfig(
        **shared_arguments(profile, output, recipe.seed), **CONVERSATIONS,
        max_steps=recipe.num_steps, per_device_train_batch_size=1, gradient_accumulation_steps=1, per_device_eval_batch_size=1,
        train_sampling_strategy="sequential",
        learning_rate=recipe.learning_rate, lr_scheduler_type="cosine_with_restarts",
        lr_scheduler_kwargs={"num_cycles": recipe.num_cycles}, warmup_steps=recipe.num_warmup_steps,
        weight_decay=recipe.weight_decay, max_grad_norm=recipe.max_gradient_norm, adam_beta2=recipe.adam_beta2,
        bf16=recipe.products == "bfloat16",
        gradient_checkpointing=False, eval_strategy="steps", eval_steps=recipe.validate_every, save_steps=STEPS_PER_CHECKPOINT,
    )  # fmt: skip


def _rows(indices: range) -> Dataset:
    """Rows that name a set of examples; a column called ``images`` tells the trainer that they are multimodal."""
    return Dataset.from_dict({"index": list(indices), "images": [[""] for _ in indices]})


def _save(directory: Path, start: Path, model: Any, steps: Sequence[TrainingStep], spec: ModelSpec) -> dict[str, Fact]:
    """The model in 16 bit as its publisher would deliver it: with the start's side files, or in a layout of its own."""
    with quiet(), serializing(directory):
        if spec.family in LAYOUTS:
            with TemporaryDirectory(prefix="medvl-") as scratch:
                model.to(torch.bfloat16).save_pretrained(scratch)
                LAYOUTS[spec.family].restore(Path(scratch), directory, start / AS_PUBLISHED)
        else:
            copy_side_files(start, directory)
            model.to(torch.bfloat16).save_pretrained(directory)
    write_table(directory / TRAINING_STEPS, TrainingStep, steps)
    return {"num_steps": len(steps), "first_loss": steps[0].loss, "last_loss": steps[-1].loss}
