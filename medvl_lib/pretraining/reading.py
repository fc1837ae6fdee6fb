"""What the small model of pages can read, and what it cannot: every number of its model card, with its interval.

In: a directory of weights and a profile. Out: ``Finding`` rows. Pages come from parts of ``reading_pages`` that were never trained on; a
cluster is a page. How findings are told and drawn belongs to ``card``.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

from medvl_lib import pages as drawn_pages
from medvl_lib.evaluation.metrics.documents import hallucinated_pair_rate, pair_accuracy, term_recall, value_recall
from medvl_lib.evaluation.predictions import Reference
from medvl_lib.hardware import Profile
from medvl_lib.models.loading import load
from medvl_lib.models.spec import ModelSpec
from medvl_lib.pretraining.examination import Examinee, Finding, Measures, findings, of_floors, quantize
from medvl_lib.sample_data.reading_pages import BLOCKS, LEARNED, SHIFTED, SHIFTS, Distribution, ReadingPage, draw_page

NUM_PAGES = 200  # of each set: an interval of about +-0.05
NUM_PAGES_PER_SHIFT = 100
NUM_FLOOR_PAGES = 400  # what the floors may learn the commonest answers from
NUM_PAGES_PER_SIZE = 24
FONT_SIZES_PIXELS = tuple(range(6, 21))
METRICS: Measures = {
    "pair_accuracy": lambda answer, page: pair_accuracy(answer, page.facts),
    "term_recall": lambda answer, page: term_recall(answer, page.facts),
    "value_recall": lambda answer, page: value_recall(answer, page.facts),
    "hallucinated_pair_rate": lambda answer, page: hallucinated_pair_rate(answer, page.facts) or 0.0,  # a mean over pages, in these cards
}


def draw(distribution: Distribution, part: str, num_pages: int) -> list[ReadingPage]:
    """Pages of a part that was never trained on, all of them asked for their facts."""
    return [draw_page(replace(distribution, transcription_share=0.0), part, number) for number in range(num_pages)]


def examine(weights: Path, spec: ModelSpec, profile: Profile, scratch: Path) -> Iterator[Finding]:
    """Every finding of one directory of weights; quantized copies are written below ``scratch``."""
    learned, shifted = draw(LEARNED, "held_out", NUM_PAGES), draw(SHIFTED, "shifted", NUM_PAGES)
    narrow = replace(profile, weights_dtype="bfloat16")  # what 16 bit means: the profile's own may be wider
    base = Examinee(variant="base", loaded=load(weights, spec, narrow), spec=spec, profile=narrow)
    as_is = base.answers(learned)
    yield from findings("learned", base, learned, as_is, METRICS)
    yield from findings("shifted", base, shifted, base.answers(shifted), METRICS)
    for name, distribution in SHIFTS.items():
        changed = draw(distribution, name, NUM_PAGES_PER_SHIFT)
        yield from findings(name, base, changed, base.answers(changed), METRICS)
    for condition in ("blank_image", "noise_image", "shuffled_image"):
        yield from findings("learned", base, learned, base.answers(learned, condition), METRICS, condition=condition)
    yield from of_floors("learned", learned, draw(LEARNED, "floors", NUM_FLOOR_PAGES), _reference, METRICS)
    for size in FONT_SIZES_PIXELS:
        yield from _at_size(base, size)
    for quantization in ("nf4", "int8"):
        quantized = quantize(weights, quantization, spec, narrow, scratch / quantization)
        yield from findings("learned", quantized, learned, quantized.answers(learned), METRICS, against=as_is)


def _at_size(base: Examinee, size: int) -> Iterator[Finding]:
    """The same clean pages in one size: only the letters differ between these findings."""
    pages = list(islice(pages_in_size(size), NUM_PAGES_PER_SIZE))
    height = sum(drawn_pages.x_height_pixels(page.style) for page in pages) / len(pages)
    yield from findings("one_size", base, pages, base.answers(pages), METRICS, height=height)


def pages_in_size(size: int) -> Iterator[ReadingPage]:
    """Endless clean pages in one font size; those whose lines would not fit in the largest are left out of every size."""
    plain = replace(
        BLOCKS, num_facts=(1, 4), heading_share=0.0, transcription_share=0.0, max_noise=0.0, max_shift_pixels=(0, 0), spare_cells=(0, 0)
    )
    largest = FONT_SIZES_PIXELS[-1]
    for number in count():
        if draw_page(replace(plain, font_sizes_pixels=(largest, largest)), "one_size", number).style.font_size_pixels == largest:
            yield draw_page(replace(plain, font_sizes_pixels=(size, size)), "one_size", number)


def _reference(page: ReadingPage) -> Reference:
    return Reference(
        pair_id=page.page_id, dataset="reading_pages", split="test", group_id=page.page_id, language="en", licence="CC0-1.0",
        request=page.request, response=page.response,
        expected=page.facts, slices={}, glyph_height_pixels=drawn_pages.x_height_pixels(page.style),
    )  # fmt: skip
