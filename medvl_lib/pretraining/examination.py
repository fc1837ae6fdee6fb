"""What a small model can read, and what it cannot: every number of its model card, with its interval.

In: a directory of weights and a profile. Out: ``Finding`` rows. Pages come from parts of ``reading_pages`` that were never trained on; a
cluster is a page. Answers are made by ``evaluation.predict``, judged by the metrics and floors of every other evaluation. How findings are
told and drawn belongs to ``card``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Annotated, Any

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
from medvl_lib.pretraining.recipe import Example
from medvl_lib.pretraining.route import shelf, to_conversation
from medvl_lib.sample_data.reading_pages import BLOCKS, LEARNED, SHIFTED, SHIFTS, Distribution, ReadingPage, draw_page
from medvl_lib.tables import Column

NUM_PAGES = 200  # of each set: an interval of about +-0.05
NUM_PAGES_PER_SHIFT = 100
NUM_FLOOR_PAGES = 400  # what the floors may learn the commonest answers from
NUM_PAGES_PER_SIZE = 24
FONT_SIZES_PIXELS = tuple(range(6, 21))
MAX_ANSWER_TOKENS = 330  # the longest answer has 300 bytes
Measure = Callable[[str, Any], float]
"""(answer, example) -> a number: what is counted of the examples of one kind."""
METRICS: Mapping[str, Measure] = {
    "pair_accuracy": lambda answer, page: pair_accuracy(answer, page.facts),
    "term_recall": lambda answer, page: term_recall(answer, page.facts),
    "value_recall": lambda answer, page: value_recall(answer, page.facts),
    "hallucinated_pair_rate": lambda answer, page: hallucinated_pair_rate(answer, page.facts) or 0.0,  # a mean over pages, in these cards
}
Answers = Mapping[str, str]
"""Id of the example -> what was said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One number of a model card."""

    pages: Annotated[
        str, Column("which examples; of pages: learned, one shift by its name, all of them (shifted), or one font size (one_size)")
    ]
    variant: Annotated[Variant, Column("who answered")]
    condition: Annotated[Condition, Column("as_is, or what was done to the questions")]
    metric: Annotated[str, Column("the metric")]
    glyph_height_pixels: Annotated[float | None, Column("height of a lower-case x; null where it varies", unit="pixels")]
    num_pages: Annotated[int, Column("examples, each a cluster of its own")]
    mean: Annotated[float, Column("mean over examples")]
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

    def answers(self, pages: Sequence[Example], condition: Condition = "as_is") -> Answers:
        """What it says to each example; shorter answers are asked for together, so that no batch waits for one long one."""
        [asked] = groups = [[to_conversation(page) for page in pages]]
        if condition == "shuffled_image":  # before they are ordered: what is as long is often the same answer
            [asked] = shuffled(groups)
        lengths = {page.example_id: len(page.response) for page in pages}
        ordered = [sorted(asked, key=lambda item: (lengths[item.pair_id], item.pair_id))]
        spec = EvaluationSpec(
            splits=("test",), max_pairs_per_dataset=0, max_answer_tokens=MAX_ANSWER_TOKENS, controls=(), seed=0,
            datasets=(), further_variants=(),
        )  # fmt: skip
        speaker = Speaker(
            variant=self.variant, condition=condition, loaded=self.loaded, evaluation=spec,
            images=shelf(pages), profile=self.profile,
        )  # fmt: skip
        return {prediction.pair_id: prediction.answer for prediction in speaker.answers(ordered)}


def draw(distribution: Distribution, part: str, num_pages: int) -> list[ReadingPage]:
    """Pages of a part that was never trained on, all of them asked for their facts."""
    return [draw_page(replace(distribution, transcription_share=0.0), part, number) for number in range(num_pages)]


def examine(weights: Path, spec: ModelSpec, profile: Profile, scratch: Path) -> Iterator[Finding]:
    """Every finding of one directory of weights; quantized copies are written below ``scratch``."""
    learned, shifted = draw(LEARNED, "held_out", NUM_PAGES), draw(SHIFTED, "shifted", NUM_PAGES)
    narrow = replace(profile, weights_dtype="bfloat16")  # what 16 bit means: the profile's own may be wider
    base = Examinee(variant="base", loaded=load(weights, spec, narrow), spec=spec, profile=narrow)
    as_is = base.answers(learned)
    yield from findings("learned", base, learned, as_is)
    yield from findings("shifted", base, shifted, base.answers(shifted))
    for name, distribution in SHIFTS.items():
        changed = draw(distribution, name, NUM_PAGES_PER_SHIFT)
        yield from findings(name, base, changed, base.answers(changed))
    for condition in ("blank_image", "noise_image", "shuffled_image"):
        yield from findings("learned", base, learned, base.answers(learned, condition), condition=condition)
    yield from _floor_findings(learned)
    for size in FONT_SIZES_PIXELS:
        yield from _at_size(base, size)
    for quantization in ("nf4", "int8"):
        quantized = quantize(weights, quantization, spec, narrow, scratch / quantization)
        yield from findings("learned", quantized, learned, quantized.answers(learned), against=as_is)


def quantize(weights: Path, quantization: Quantization, spec: ModelSpec, profile: Profile, directory: Path) -> Examinee:
    """The same weights packed, in a directory that is made for them."""
    directory.mkdir(parents=True)
    write_quantized(directory, weights, quantization, spec, profile)
    return Examinee(variant=quantization, loaded=load(directory, spec, profile), spec=spec, profile=profile)


def _at_size(base: Examinee, size: int) -> Iterator[Finding]:
    """The same clean pages in one size: only the letters differ between these findings."""
    pages = list(islice(pages_in_size(size), NUM_PAGES_PER_SIZE))
    height = sum(drawn_pages.x_height_pixels(page.style) for page in pages) / len(pages)
    yield from findings("one_size", base, pages, base.answers(pages), height=height)


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
        yield from rows("learned", variant, held_out, answers)


def _reference(page: ReadingPage) -> Reference:
    return Reference(
        pair_id=page.page_id, dataset="reading_pages", split="test", group_id=page.page_id, language="en", licence="CC0-1.0",
        request=page.request, response=page.response,
        expected=page.facts, slices={}, glyph_height_pixels=drawn_pages.x_height_pixels(page.style),
    )  # fmt: skip


def findings(
    name: str, examinee: Examinee, pages: Sequence[Example], answers: Answers, *, condition: Condition = "as_is",
    height: float | None = None, against: Answers | None = None, measures: Mapping[str, Measure] = METRICS,
) -> Iterator[Finding]:  # fmt: skip
    """What a model said, measured; with ``against`` also held against what another one said to the same examples."""
    memory = resident_bytes(examinee.loaded.model)
    for finding in rows(name, examinee.variant, pages, answers, condition=condition, against=against, measures=measures):
        yield replace(finding, glyph_height_pixels=height, memory_bytes=memory)


def rows(
    name: str, variant: Variant, pages: Sequence[Example], answers: Answers, *, condition: Condition = "as_is",
    against: Answers | None = None, measures: Mapping[str, Measure] = METRICS,
) -> Iterator[Finding]:  # fmt: skip
    """A finding for each measure; every example is a cluster of its own."""
    for metric, measure in measures.items():
        values = {page.example_id: measure(answers[page.example_id], page) for page in pages}
        found = estimate(cluster_sums(values.items()))
        difference = None
        if against is not None:
            rival = {page.example_id: measure(against[page.example_id], page) for page in pages}
            difference = paired_difference([(key, value, rival[key]) for key, value in values.items()])
        yield Finding(
            pages=name, variant=variant, condition=condition, metric=metric, glyph_height_pixels=None, num_pages=len(pages),
            mean=found.mean, ci_low=found.ci_low, ci_high=found.ci_high,
            minus_base=None if difference is None else difference.difference,
            minus_base_ci_low=None if difference is None else difference.ci_low,
            minus_base_ci_high=None if difference is None else difference.ci_high, memory_bytes=None,
        )  # fmt: skip
