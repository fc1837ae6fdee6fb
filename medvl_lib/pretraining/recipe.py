"""How the small models learn: lessons of examples that are drawn from a distribution, as literal values. No torch here.

In: nothing. Out: ``PRETRAINING``, a recipe per family. What is drawn is decided in ``sample_data.reading_pages``, for the model that reads,
and in ``sample_data.described_pictures``, for the one that describes.

A model that is shown four lines from the start stays at the entropy of the answers for thousands of steps: it never finds out where to
look. One line first, then two, four and six (Bengio et al. 2009, "Curriculum learning"; our own runs in docs/log.md).
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from medvl_lib.models.spec import TOWER_TARGETS, Family
from medvl_lib.sample_data import chest_studies, described_pictures, reading_pages
from medvl_lib.sample_data.reading_pages import BLOCKS, LEARNED, LISTS
from medvl_lib.training.recipe import MatchRecipe

REVISION = 2  # a second cycle, on forms


Example = reading_pages.ReadingPage | described_pictures.DescribedPicture | chest_studies.ChestStudy
"""A picture, or several, with a request and the response that is wanted, under an id of its own."""
Distribution = reading_pages.Distribution | described_pictures.PictureDistribution | chest_studies.StudyDistribution
"""What a lesson can be drawn from: each draws the example of a part and a number, and says what those of one step are drawn from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """Some steps on examples of one distribution."""

    num_steps: int
    num_examples: int
    """Examples per optimizer step."""
    examples: Distribution
    is_alike_in_a_step: bool
    """Whether all examples of a step are drawn alike (``at_step``): pages with equally many facts, a third less padding."""
    is_spelled: bool
    """Whether image tokens are asked for what stands in their cells, too: of pages and studies, to a family with a token per cell."""

    def __post_init__(self) -> None:
        if min(self.num_steps, self.num_examples) < 1:
            raise ValueError(f"{self.num_steps} steps of {self.num_examples} examples: at least one of each")


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainingRecipe:
    """How a small model's weights come about."""

    seed: int
    """Seed of the initial weights."""
    part: str
    """Which endless row of examples is read; no other part shares one with it."""
    learning_rate: float
    """Peak learning rate of AdamW."""
    num_cycles: int
    """How often a cosine takes the learning rate to 0; it starts again from its peak (Loshchilov and Hutter 2017, arXiv 1608.03983)."""
    num_warmup_steps: int
    adam_beta2: float
    weight_decay: float
    max_gradient_norm: float
    products: Literal["bfloat16", "float32"]
    """The type in which matrices are multiplied; the weights are held in float32."""
    lessons: tuple[Lesson, ...]
    """In their order, without a pause between them."""
    validate_every: int
    """Steps between two measurements of the held-out loss."""
    num_validation_examples: int
    """Examples of the last lesson's distribution that it is measured on."""

    def __post_init__(self) -> None:
        if not self.lessons:
            raise ValueError("no lessons: at least one")
        if min(self.num_cycles, self.validate_every, self.num_validation_examples) < 1:
            raise ValueError(f"{self.num_cycles} cycles, validation every {self.validate_every} steps: at least 1 each")
        if not (self.learning_rate > 0 and 0 <= self.num_warmup_steps < self.num_steps and 0 <= self.adam_beta2 < 1):
            raise ValueError(f"learning rate {self.learning_rate}, {self.num_warmup_steps} steps of warm-up, beta2 {self.adam_beta2}")

    @property
    def num_steps(self) -> int:
        """Optimizer steps of all lessons."""
        return sum(lesson.num_steps for lesson in self.lessons)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionLessons:
    """How a small encoder's weights come about: pictures that are drawn once and seen in every epoch."""

    seed: int
    """Seed of the initial weights."""
    pictures_part: str
    """Which endless row of captioned pictures is learned from; no other part shares a picture with it."""
    num_pictures: int
    validation_part: str
    num_validation_pictures: int
    """Pictures with distinct captions that the held-out loss and recall are measured on."""
    recipes: tuple[MatchRecipe, ...]
    """One after the other, each from the weights of the one before: the learning rate starts again."""

    def __post_init__(self) -> None:
        if not self.recipes:
            raise ValueError("no recipes: at least one")

    @property
    def num_steps(self) -> int:
        """Optimizer steps of all recipes."""
        return sum(round(recipe.num_epochs * math.ceil(self.num_pictures / recipe.effective_batch)) for recipe in self.recipes)


_PLAIN = replace(BLOCKS, invented_term_share=0.1, heading_share=0.0, transcription_share=0.0, requests=LISTS[1:2], spare_cells=(0, 0))
LESSONS = (
    Lesson(num_steps=400, num_examples=32, examples=replace(
        _PLAIN, num_facts=(1, 1), font_sizes_pixels=(16, 17), max_shift_pixels=(0, 0), max_noise=2.0),
        is_alike_in_a_step=False, is_spelled=True),
    Lesson(num_steps=350, num_examples=24, examples=replace(
        _PLAIN, num_facts=(1, 2), max_shift_pixels=(3, 1), max_noise=4.0), is_alike_in_a_step=False, is_spelled=True),
    Lesson(num_steps=400, num_examples=18, examples=replace(BLOCKS, num_facts=(1, 4), invented_term_share=0.1),
        is_alike_in_a_step=False, is_spelled=True),
    Lesson(num_steps=1200, num_examples=18, examples=BLOCKS, is_alike_in_a_step=False, is_spelled=True),
    Lesson(num_steps=2290, num_examples=12, examples=LEARNED, is_alike_in_a_step=True, is_spelled=True),
)  # fmt: skip
PRETRAINING: dict[Family, PretrainingRecipe] = {
    "qwen2_5_vl": PretrainingRecipe(
        seed=1, part="pretraining", learning_rate=1.2e-3, num_cycles=2, num_warmup_steps=60, adam_beta2=0.99, weight_decay=0.01,
        max_gradient_norm=1.0, products="bfloat16", lessons=LESSONS, validate_every=200, num_validation_examples=60,
    ),
    "mllama": PretrainingRecipe(
        seed=1, part="pretraining", learning_rate=1.2e-3, num_cycles=1, num_warmup_steps=40, adam_beta2=0.98, weight_decay=0.01,
        max_gradient_norm=1.0, products="float32",
        lessons=(Lesson(
            num_steps=640, num_examples=24, examples=described_pictures.LEARNED, is_alike_in_a_step=False, is_spelled=False),),
        validate_every=160, num_validation_examples=96,
    ),
    "llava_med": PretrainingRecipe(
        seed=1, part="pretraining", learning_rate=1.2e-3, num_cycles=1, num_warmup_steps=30, adam_beta2=0.98, weight_decay=0.01,
        max_gradient_norm=1.0, products="float32",
        lessons=(  # short: 160 and 60 steps left little to fine-tuning (docs/log.md)
            Lesson(num_steps=110, num_examples=16, examples=chest_studies.FRONTAL, is_alike_in_a_step=False, is_spelled=True),
            Lesson(num_steps=30, num_examples=8, examples=chest_studies.LEARNED, is_alike_in_a_step=False, is_spelled=True),
        ),
        validate_every=35, num_validation_examples=32,
    ),
}  # fmt: skip
"""The recipes of the shipped models; what else was tried is in docs/log.md."""
_MATCHING = MatchRecipe(
    learning_rate=1.5e-3, num_epochs=4, max_steps=0, effective_batch=64, warmup_share=0.1, weight_decay=0.01, adam_beta1=0.9,
    adam_beta2=0.95, max_gradient_norm=1.0, lora_rank=0, lora_alpha=1, lora_dropout=0.0, lora_targets=TOWER_TARGETS, seed=1,
    pairs_per_dataset={}, max_training_pairs=0, max_validation_pairs=0, validations_per_epoch=1,
)  # fmt: skip
CAPTIONS: dict[Family, CaptionLessons] = {
    "siglip": CaptionLessons(
        seed=1, pictures_part="pretraining", num_pictures=10_000, validation_part="validation", num_validation_pictures=240,
        recipes=(_MATCHING, replace(_MATCHING, learning_rate=1e-3, seed=2)),
    ),
}  # fmt: skip
"""The recipes of the shipped encoders."""


def course(family: Family) -> PretrainingRecipe | CaptionLessons:
    """A small model's way to its weights."""
    return PRETRAINING[family] if family in PRETRAINING else CAPTIONS[family]
