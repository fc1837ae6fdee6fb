"""What a small model can read, and what it cannot: every number of its model card, with its interval.

In: a directory of weights and a profile. Out: ``Finding`` rows. Pages come from parts of ``reading_pages`` that were never trained on; a
cluster is a page. Answers are made by ``evaluation.predict``, judged by the metrics and floors of every other evaluation. How findings are
told and drawn belongs to ``card``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Annotated

from medvl_lib import pages as drawn_pages
from medvl_lib.evaluation.floors import floors_of
from medvl_lib.evaluation.metrics.documents import hallucinated_pair_rate, pair_accuracy, term_recall, value_recall
from medvl_lib.evaluation.predict import Speaker, shuffled
from medvl_lib.evaluation.predictions import FLOORS, Condition, Reference, Variant
from medvl_lib.evaluation.spec import EvaluationSpec
from medvl_lib.evaluation.statistics import cluster_sums, estimate, paired_difference
from medvl_lib.hardware import Profile
from medvl_lib.models.loading import Loaded, Quantization, load, resident_bytes, write_quantized
from medvl_lib.models.spec import ModelSpec
from medvl_lib.pairs import Triple
from medvl_lib.pretraining.route import shelf, to_conversation
from medvl_lib.sample_data.reading_pages import BLOCKS, LEARNED, SHIFTED, SHIFTS, Distribution, ReadingPage, draw_page
from medvl_lib.tables import Column

NUM_PAGES = 200  # of each set: an interval of about +-0.05
NUM_PAGES_PER_SHIFT = 100
NUM_FLOOR_PAGES = 400  # what the floors may learn the commonest answers from
NUM_PAGES_PER_SIZE = 24
FONT_SIZES_PIXELS = tuple(range(6, 21))
MAX_ANSWER_TOKENS = 330  # the longest answer has 300 bytes
METRICS: Mapping[str, Callable[[str, Sequence[Triple]], float]] = {
    "pair_accuracy": pair_accuracy, "term_recall": term_recall, "value_recall": value_recall,
    "hallucinated_pair_rate": hallucinated_pair_rate,
}  # fmt: skip
Answers = Mapping[str, str]
"""Page id -> what was said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One number of the model card."""

    pages: Annotated[str, Column("which pages: learned, one shift by its name, all of them (shifted), or one font size (one_size)")]
    variant: Annotated[Variant, Column("who answered")]
    condition: Annotated[Condition, Column("as_is, or what was done to the pictures")]
    metric: Annotated[str, Column("the metric")]
    glyph_height_pixels: Annotated[float | None, Column("height of a lower-case x; null where it varies", unit="pixels")]
    num_pages: Annotated[int, Column("pages, each a cluster of its own")]
    mean: Annotated[float, Column("mean over pages")]
    ci_low: Annotated[float | None, Column("lower end of the 95 % interval")]
    ci_high: Annotated[float | None, Column("upper end of the 95 % interval")]
    minus_base: Annotated[float | None, Column("paired difference to the 16-bit weights; null for these and where not compared")]
    minus_base_ci_low: Annotated[float | None, Column("lower end of its 95 % interval")]
    minus_base_ci_high: Annotated[float | None, Column("upper end of its 95 % interval")]
    memory_bytes: Annotated[int | None, Column("bytes of parameters and buffers; null for a floor", unit="bytes")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examinee:
    """A loaded model under its variant's name."""

    variant: Variant
    loaded: Loaded
    spec: ModelSpec
    profile: Profile

    def answers(self, pages: Sequence[ReadingPage], condition: Condition = "as_is") -> Answers:
        """What it says to each page; shorter answers are asked for together, so that no batch waits for one long page."""
        ordered = [[to_conversation(page) for page in sorted(pages, key=lambda page: (len(page.facts), page.page_id))]]
        spec = EvaluationSpec(
            splits=("test",), max_pairs_per_dataset=0, max_answer_tokens=MAX_ANSWER_TOKENS, controls=(), seed=0,
            datasets=(), further_variants=(),
        )  # fmt: skip
        speaker = Speaker(
            variant=self.variant, condition=condition, loaded=self.loaded, evaluation=spec,
            images=shelf(pages), profile=self.profile,
        )  # fmt: skip
        groups = shuffled(ordered) if condition == "shuffled_image" else ordered
        return {prediction.pair_id: prediction.answer for prediction in speaker.answers(groups)}


def draw(distribution: Distribution, part: str, num_pages: int) -> list[ReadingPage]:
    """Pages of a part that was never trained on, all of them asked for their facts."""
    return [draw_page(replace(distribution, transcription_share=0.0), part, number) for number in range(num_pages)]


def examine(weights: Path, spec: ModelSpec, profile: Profile, scratch: Path) -> Iterator[Finding]:
    """Every finding of one directory of weights; quantized copies are written below ``scratch``."""
    learned, shifted = draw(LEARNED, "held_out", NUM_PAGES), draw(SHIFTED, "shifted", NUM_PAGES)
    narrow = replace(profile, weights_dtype="bfloat16")  # what 16 bit means: the profile's own may be wider
    base = Examinee(variant="base", loaded=load(weights, spec, narrow), spec=spec, profile=narrow)
    as_is = base.answers(learned)
    yield from _findings("learned", base, learned, as_is)
    yield from _findings("shifted", base, shifted, base.answers(shifted))
    for name, distribution in SHIFTS.items():
        changed = draw(distribution, name, NUM_PAGES_PER_SHIFT)
        yield from _findings(name, base, changed, base.answers(changed))
    for condition in ("blank_image", "noise_image", "shuffled_image"):
        yield from _findings("learned", base, learned, base.answers(learned, condition), condition=condition)
    yield from _floor_findings(learned)
    for size in FONT_SIZES_PIXELS:
        yield from _at_size(base, size)
    for quantization in ("nf4", "int8"):
        quantized = _quantized(weights, quantization, spec, narrow, scratch / quantization)
        yield from _findings("learned", quantized, learned, quantized.answers(learned), against=as_is)


def _quantized(weights: Path, quantization: Quantization, spec: ModelSpec, profile: Profile, directory: Path) -> Examinee:
    directory.mkdir(parents=True)
    write_quantized(directory, weights, quantization, spec, profile)
    return Examinee(variant=quantization, loaded=load(directory, spec, profile), spec=spec, profile=profile)


def _at_size(base: Examinee, size: int) -> Iterator[Finding]:
    """The same clean pages in one size: only the letters differ between these findings."""
    pages = list(islice(pages_in_size(size), NUM_PAGES_PER_SIZE))
    height = sum(drawn_pages.x_height_pixels(page.style) for page in pages) / len(pages)
    yield from _findings("one_size", base, pages, base.answers(pages), height=height)


def pages_in_size(size: int) -> Iterator[ReadingPage]:
    """Endless clean pages in one font size; those whose lines would not fit in the largest are left out of every size."""
    plain = replace(
        BLOCKS, num_facts=(1, 4), heading_share=0.0, transcription_share=0.0, max_noise=0.0, max_shift_pixels=(0, 0), spare_cells=(0, 0)
    )
    largest = FONT_SIZES_PIXELS[-1]
    for number in count():
        if draw_page(replace(plain, font_sizes_pixels=(largest, largest)), "one_size", number).style.font_size_pixels == largest:
            yield draw_page(replace(plain, font_sizes_pixels=(size, size)), "one_size", number)


def _floor_findings(held_out: Sequence[ReadingPage]) -> Iterator[Finding]:
    floors = floors_of([_reference(page) for page in draw(LEARNED, "floors", NUM_FLOOR_PAGES)], seed=0)
    for variant in FLOORS:
        answers = {page.page_id: floors[variant](_reference(page)) for page in held_out}
        yield from _rows("learned", variant, held_out, answers)


def _reference(page: ReadingPage) -> Reference:
    return Reference(
        pair_id=page.page_id, dataset="reading_pages", split="test", group_id=page.page_id, language="en", licence="CC0-1.0",
        request=page.request, response=page.response,
        expected=page.facts, slices={}, glyph_height_pixels=drawn_pages.x_height_pixels(page.style),
    )  # fmt: skip


def _findings(
    name: str, examinee: Examinee, pages: Sequence[ReadingPage], answers: Answers, *, condition: Condition = "as_is",
    height: float | None = None, against: Answers | None = None,
) -> Iterator[Finding]:  # fmt: skip
    memory = resident_bytes(examinee.loaded.model)
    for finding in _rows(name, examinee.variant, pages, answers, condition=condition, against=against):
        yield replace(finding, glyph_height_pixels=height, memory_bytes=memory)


def _rows(
    name: str, variant: Variant, pages: Sequence[ReadingPage], answers: Answers, *, condition: Condition = "as_is",
    against: Answers | None = None,
) -> Iterator[Finding]:  # fmt: skip
    for metric, measure in METRICS.items():
        values = {page.page_id: measure(answers[page.page_id], page.facts) for page in pages}
        found = estimate(cluster_sums(values.items()))
        difference = None
        if against is not None:
            rival = {page.page_id: measure(against[page.page_id], page.facts) for page in pages}
            difference = paired_difference([(key, value, rival[key]) for key, value in values.items()])
        yield Finding(
            pages=name, variant=variant, condition=condition, metric=metric, glyph_height_pixels=None, num_pages=len(pages),
            mean=found.mean, ci_low=found.ci_low, ci_high=found.ci_high,
            minus_base=None if difference is None else difference.difference,
            minus_base_ci_low=None if difference is None else difference.ci_low,
            minus_base_ci_high=None if difference is None else difference.ci_high, memory_bytes=None,
        )  # fmt: skip
