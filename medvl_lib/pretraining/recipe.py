"""How the small models learn to read: lessons of ever longer pages, as literal values. No torch here.

In: nothing. Out: ``PRETRAINING``, a recipe per family. What a page looks like is decided in ``sample_data.reading_pages``.

A model that is shown four lines from the start stays at the entropy of the answers for thousands of steps: it never finds out where to
look. One line first, then two, four and six (Bengio et al. 2009, "Curriculum learning"; our own runs in docs/log.md).
"""

from dataclasses import dataclass, replace

from medvl_lib.models.spec import Family
from medvl_lib.sample_data.reading_pages import LEARNED, LISTS, Distribution

REVISION = 1  # first version


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """Some steps on pages of one distribution."""

    num_steps: int
    num_pages: int
    """Pages per optimizer step."""
    pages: Distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainingRecipe:
    """How a small model's weights come about."""

    seed: int
    """Seed of the initial weights."""
    pages_part: str
    """Which endless row of pages is read; no other part shares a page with it."""
    learning_rate: float
    """Peak learning rate of AdamW; a cosine takes it to 0."""
    num_warmup_steps: int
    adam_beta2: float
    weight_decay: float
    max_gradient_norm: float
    lessons: tuple[Lesson, ...]
    """In their order, without a pause between them."""
    validate_every: int
    """Steps between two measurements of the held-out loss."""
    num_validation_pages: int
    """Pages of the last lesson's distribution that it is measured on."""

    @property
    def num_steps(self) -> int:
        """Optimizer steps of all lessons."""
        return sum(lesson.num_steps for lesson in self.lessons)


_PLAIN = replace(LEARNED, invented_term_share=0.1, heading_share=0.0, transcription_share=0.0, requests=LISTS[1:2], spare_cells=0)
LESSONS = (
    Lesson(num_steps=400, num_pages=32, pages=replace(
        _PLAIN, num_facts=(1, 1), font_sizes_pixels=(16, 17), max_shift_pixels=(0, 0), max_noise=2.0)),
    Lesson(num_steps=350, num_pages=24, pages=replace(_PLAIN, num_facts=(1, 2), max_shift_pixels=(3, 1), max_noise=4.0)),
    Lesson(num_steps=400, num_pages=18, pages=replace(LEARNED, num_facts=(1, 4), invented_term_share=0.1)),
    Lesson(num_steps=1200, num_pages=18, pages=LEARNED),
)  # fmt: skip
PRETRAINING: dict[Family, PretrainingRecipe] = {
    "qwen2_5_vl": PretrainingRecipe(
        seed=1, pages_part="pretraining", learning_rate=1.2e-3, num_warmup_steps=60, adam_beta2=0.99, weight_decay=0.01,
        max_gradient_norm=1.0, lessons=LESSONS, validate_every=200, num_validation_pages=60,
    ),
}  # fmt: skip
"""The recipes of the shipped models; what else was tried is in docs/log.md."""
