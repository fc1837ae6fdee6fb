"""The model card of a small model: its findings in words, tables and two figures.

In: findings, training steps, the recipe and the fingerprint. Out: ``README.md`` (a model card as the hub reads it), ``reading.svg`` and
``loss.svg``. Every number in it is read from what was measured; nothing is judged or computed here but sums.
Layout: huggingface.co/docs/hub/model-cards; contents after Mitchell et al. 2019, arXiv 1810.03993.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from medvl_lib.files import write_bytes
from medvl_lib.models.spec import ModelSpec
from medvl_lib.pages import GRID_PIXELS
from medvl_lib.pretraining.examination import Finding
from medvl_lib.pretraining.figures import draw_loss, draw_reading
from medvl_lib.pretraining.recipe import PretrainingRecipe
from medvl_lib.sample_data.reading_pages import LEARNED, SHIFTED, SHIFTS, Arrangement, Distribution
from medvl_lib.training.steps import TrainingStep

ARRANGEMENTS: Mapping[Arrangement, str] = {"joined": "after the term", "columns": "in a column", "right": "in a column, flush right"}
CARD, READING, LOSS = "README.md", "reading.svg", "loss.svg"
PRIMARY = "pair_accuracy"

TEXT = """---
license: apache-2.0
language: en
pipeline_tag: image-text-to-text
tags: [medvl, tiny, not-for-clinical-use]
---

# {hub_id}

A Qwen2.5-VL of {num_parameters} parameters that reads invented clinical forms. It was trained from random weights by
`medvl pretrain-tiny {family}`, and comes with MedVL so that its graph shows true numbers on any laptop, without a download.
**It is a test object.** It has seen no real document, knows no medicine and must not be used on patients' data.

* Fingerprint of the files: `{contents}`
* Licence: that of MedVL (Apache-2.0); every page it learned from was drawn by `medvl_lib/sample_data/reading_pages.py`.
* Architecture: `medvl_lib/models/qwen2_5_vl.py`; a token per byte, at most {max_tokens} image tokens of 28 x 28 pixels.

## What it was trained on

| | learned | shifted (never trained on) |
|---|---|---|
{distributions}

Up to {invented_share:.0%} of a lesson's terms were made of syllables. In training, not in the held-out loss, image tokens were also asked
for the character in the middle of their cell. Lessons: {lessons}; {num_pages} pages in
{num_steps} steps, AdamW, peak learning rate {learning_rate:g} after {num_warmup_steps} steps of warm-up, {num_cycles} cosines to 0.
Training took {hours:.1f} hours on {made_on}. Held-out loss at the end: {validation_loss:.3f} nats per byte.

![loss](loss.svg)

## What it can read

Pages are the unit of every interval (95 %, bootstrap over pages). `pair_accuracy` is the share of a page's facts whose term, value and
unit are all right; the metrics are defined in `medvl_lib/evaluation/metrics/documents.py`. Here alone `hallucinated_pair_rate` is a mean
over pages, in which one about which nothing is stated counts 0.

{reading}

## Does it look at the picture?

The same {num_held_out} learned pages with other pictures, and the floors: answers that need no model.

{controls}

## What quantization costs

{quantization}

## How small may the letters be?

Clean pages of one to four lines, one font size at a time (a lower-case x in a font of n pixels is about n / 2 pixels tall). The grey band
is what training showed; the dashed line is the audit's legibility floor, {floor:g} pixels: what lies below it is refused, and at it hardly
anything is read. Letters taller than the trained ones are read badly too, which no floor can say. Neighbouring font sizes can have letters
of one height; each row is a size.

{heights}

![pair accuracy by the height of a lower-case x](reading.svg)
"""


def write_card(
    directory: Path, *, findings: Sequence[Finding], steps: Sequence[TrainingStep], recipe: PretrainingRecipe, spec: ModelSpec,
    contents: str, num_parameters: int, floor_pixels: float, made_on: str,
) -> None:  # fmt: skip
    """Write the card and its figures into ``directory``; ``floor_pixels`` is the audit's legibility floor."""
    draw_loss(directory / LOSS, steps, recipe, trained="answers and image cells", held="last lesson's pages", unit="byte")
    draw_reading(directory / READING, pick(findings, pages="one_size", metric=PRIMARY), floor_pixels)
    last = [step.validation_loss for step in steps if step.validation_loss is not None][-1]
    write_bytes(directory / CARD, TEXT.format(
        hub_id=spec.hub_id, family=spec.family, num_parameters=f"{num_parameters:,}", contents=contents,
        max_tokens=spec.max_pixels // (28 * 28), distributions=_distributions(), lessons=_lessons(recipe),
        num_pages=f"{sum(lesson.num_steps * lesson.num_examples for lesson in recipe.lessons):,}", num_steps=f"{recipe.num_steps:,}",
        learning_rate=recipe.learning_rate, num_warmup_steps=recipe.num_warmup_steps, num_cycles=recipe.num_cycles,
        hours=hours(steps), validation_loss=last,
        reading=_reading(findings), controls=_controls(findings), quantization=_quantization(findings),
        num_held_out=next(row.num_pages for row in findings if row.pages == "learned"), floor=floor_pixels,
        heights=_heights(findings), made_on=made_on,
        invented_share=max(item.invented_term_share for lesson in recipe.lessons if isinstance(item := lesson.examples, Distribution)),
    ).encode())  # fmt: skip


def hours(steps: Sequence[TrainingStep]) -> float:
    """Wall time of every run that took part: the clock of a resumed run starts again."""
    ends = [step.elapsed_seconds for step, after in zip(steps, [*steps[1:], None], strict=True)
            if after is None or after.elapsed_seconds < step.elapsed_seconds]  # fmt: skip
    return sum(ends) / 3600


def _lessons(recipe: PretrainingRecipe) -> str:
    return ", then ".join(
        f"{lesson.num_steps} steps of {lesson.num_examples} pages with {lesson.examples.name}" for lesson in recipe.lessons
    )


def _distributions() -> str:
    def row(name: str, both_told: Iterable[str]) -> str:
        return f"| {name} | {' | '.join(both_told)} |"

    both: tuple[Distribution, ...] = (LEARNED, SHIFTED)
    return "\n".join((
        row("fonts", (", ".join(item.fonts) for item in both)),
        row("font size in pixels", (f"{item.font_sizes_pixels[0]} to {item.font_sizes_pixels[1]}" for item in both)),
        row("facts on a page", (f"{item.num_facts[0]} to {item.num_facts[1]}" for item in both)),
        row("page", (f"up to {item.max_width_cells * GRID_PIXELS} pixels wide, a row of {GRID_PIXELS} for each line" for item in both)),
        row("empty cells beside and below", (f"up to {item.spare_cells[0]} and {item.spare_cells[1]}" for item in both)),
        row("amounts", (", ".join(ARRANGEMENTS[name] for name in item.arrangements) for item in both)),
        row("pages with a title", (f"{item.heading_share:.0%}" for item in both)),
        row("kinds of form", (", ".join(kind.replace("_", " ") for kind in item.kinds) for item in both)),
        row("terms made of syllables", (f"{item.invented_term_share:.0%} of draws" for item in both)),
        row("noise, fading, blur", (f"standard deviation up to {item.max_noise:g} of 255" for item in both)),
    ))  # fmt: skip


def pick(findings: Iterable[Finding], **wanted: object) -> list[Finding]:
    """The findings with these values."""
    return [row for row in findings if all(getattr(row, key) == value for key, value in wanted.items())]


def interval(mean: float, low: float | None, high: float | None) -> str:
    """A mean with its interval."""
    return f"{mean:.3f}" if low is None or high is None else f"{mean:.3f} ({low:.3f} to {high:.3f})"


def told(row: Finding) -> str:
    """A finding's mean with its interval."""
    return interval(row.mean, row.ci_low, row.ci_high)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as Markdown has it."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def learned_table(findings: Sequence[Finding], sets: Iterable[str], kind: str) -> str:
    """Every metric of each set of unseen examples, in 16 bit; ``kind``: what the examples are called."""
    rows = [row for name in sets for row in pick(findings, pages=name, variant="base", condition="as_is")]
    return table(
        [f"unseen {kind}", "metric", "16 bit weights"], ([f"{row.pages} ({row.num_pages})", row.metric, told(row)] for row in rows)
    )


def controls_table(findings: Sequence[Finding], sets: Iterable[str], kind: str, *, first_alone: bool = False) -> str:
    """Each metric of each set under each condition, and its best floor; with ``first_alone`` the first metric of each."""
    cells: list[list[str]] = []
    for name in sets:
        own = pick(findings, pages=name)
        for metric in [*dict.fromkeys(row.metric for row in own)][: 1 if first_alone else None]:
            rows = pick(own, metric=metric)
            best = max((row for row in rows if row.variant.startswith("floor_")), key=lambda row: row.mean)
            controlled = [told(row) for row in rows if row.variant == "base"]
            cells.append([f"{name}: {metric}", *controlled, f"{told(best)} {best.variant}"])
    return table([kind, "as they are", "gray", "another's", "best floor"], cells)


def losses_table(findings: Sequence[Finding], held_out: str) -> str:
    """The held-out loss with its own and with other pictures."""
    return table(["pictures", "loss"], ([row.condition, told(row)] for row in pick(findings, pages=held_out)))


def quantization_table(findings: Sequence[Finding], kind: str, kinds: str, *, without: str = "") -> str:
    """What four and eight bits cost by each metric but ``without``, and their memory; ``kind``: what one example is called."""
    cells: list[list[str]] = []
    for row in findings:
        if row.minus_base is not None and row.memory_bytes is not None and row.metric != without:
            cost = f"{row.minus_base:.3f} ({row.minus_base_ci_low:.3f} to {row.minus_base_ci_high:.3f})"
            cells.append([row.variant, f"{row.pages}: {row.metric}", told(row), cost, f"{row.memory_bytes / 1e6:.2f}"])
    return table(["weights", kinds, "value", f"minus 16 bit, paired by {kind}", "memory in MB"], cells)


def _reading(findings: Sequence[Finding]) -> str:
    metrics = list(dict.fromkeys(row.metric for row in findings))
    rows: list[list[str]] = []
    for name in ("learned", *SHIFTS, "shifted"):
        found = {row.metric: row for row in pick(findings, pages=name, variant="base", condition="as_is")}
        called = "shifted: all three" if name == "shifted" else name
        rows.append([f"{called}, {found[PRIMARY].num_pages} unseen pages", *(told(found[metric]) for metric in metrics)])
    return table(["16 bit weights on", *metrics], rows)


def _controls(findings: Sequence[Finding]) -> str:
    rows = pick(findings, pages="learned", metric=PRIMARY)
    base = [[row.condition, told(row)] for row in rows if row.variant == "base"]
    floors = [[row.variant, told(row)] for row in rows if row.variant.startswith("floor_")]
    return table(["pictures", PRIMARY], [*base, *floors])


def _quantization(findings: Sequence[Finding]) -> str:
    rows = pick(findings, pages="learned", metric=PRIMARY, condition="as_is")
    wide = next(row.memory_bytes or 0 for row in rows if row.variant == "base")
    cells: list[list[str]] = []
    for row in rows:
        if row.memory_bytes is None:
            continue
        cost = "" if row.minus_base is None else interval(row.minus_base, row.minus_base_ci_low, row.minus_base_ci_high)
        cells.append([row.variant, told(row), cost, f"{row.memory_bytes / 1e6:.2f}", f"{row.memory_bytes / wide:.2f}"])
    return table(["weights", PRIMARY, "minus 16 bit, paired by page", "memory in MB", "of 16 bit"], cells)


def _heights(findings: Sequence[Finding]) -> str:
    rows = pick(findings, pages="one_size", metric=PRIMARY)
    return table(
        ["x height in pixels", PRIMARY, "pages"], ([f"{row.glyph_height_pixels or 0:.1f}", told(row), str(row.num_pages)] for row in rows)
    )
