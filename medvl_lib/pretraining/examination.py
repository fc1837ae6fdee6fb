"""How a small model is examined: what it says to examples that it never saw, with an interval for every number of its model card.

In: a loaded model, and examples of a part that was never trained on. Out: ``Finding`` rows; a cluster is an example. Answers are made by
``evaluation.predict``, judged by the metrics and floors of every other evaluation. Which examples are shown and what is counted of them is
said by ``reading``, ``described`` and ``studies``, each for one model; how findings are told and drawn belongs to the cards.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from medvl_lib.evaluation.floors import floors_of
from medvl_lib.evaluation.predict import Speaker, shuffled
from medvl_lib.evaluation.predictions import FLOORS, Condition, Reference, Variant
from medvl_lib.evaluation.spec import EvaluationSpec
from medvl_lib.evaluation.statistics import cluster_sums, estimate, paired_difference
from medvl_lib.hardware import Profile
from medvl_lib.models.counting import resident_bytes
from medvl_lib.models.loading import Loaded, load
from medvl_lib.models.preparing import write_quantized
from medvl_lib.models.spec import ModelSpec
from medvl_lib.models.weights import Quantization
from medvl_lib.pretraining.recipe import Example
from medvl_lib.pretraining.route import shelf, to_conversation
from medvl_lib.tables import Column

MAX_ANSWER_TOKENS = 330  # the longest answer has 300 bytes
CONTROLS: tuple[Condition, ...] = ("blank_image", "shuffled_image")
LOSS = "held-out loss"
Measure = Callable[[str, Any], float]
"""(answer, example) -> a number."""
Measures = Mapping[str, Measure]
"""What is counted of the examples of one kind, by the metric's name."""
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


# -- what is asked -----------------------------------------------------------------------------------------------------
def quantize(weights: Path, quantization: Quantization, spec: ModelSpec, profile: Profile, directory: Path) -> Examinee:
    """The same weights packed, in a directory that is made for them."""
    directory.mkdir(parents=True)
    write_quantized(directory, weights, quantization, spec, profile)
    return Examinee(variant=quantization, loaded=load(directory, spec, profile), spec=spec, profile=profile)


def with_controls(name: str, examinee: Examinee, examples: Sequence[Example], as_is: Answers, measures: Measures) -> Iterator[Finding]:
    """What was said to a set as it is, and what is said to it with gray pictures and with those of other examples."""
    yield from findings(name, examinee, examples, as_is, measures)
    for condition in CONTROLS:
        said = examinee.answers(examples, condition)
        answered = [each for each in examples if each.example_id in said]  # one with as many pictures as no other is not shuffled
        yield from findings(name, examinee, answered, said, measures, condition=condition)


def of_floors(
    name: str, examples: Sequence[Example], known: Sequence[Example], reference: Callable[[Any], Reference], measures: Measures
) -> Iterator[Finding]:
    """The floors, which need no model and have seen the wanted answers of ``known`` others."""
    floors = floors_of([reference(example) for example in known], seed=0)
    for variant in FLOORS:
        answers = {example.example_id: floors[variant](reference(example)) for example in examples}
        yield from rows(name, variant, examples, answers, measures)


def of_losses(losses: Callable[[bool], Mapping[str, float]]) -> Iterator[Finding]:
    """The held-out loss with each example's own pictures, and with another's: what they are worth, in nats per token.

    ``losses(is_shuffled)`` -> id of the example -> its loss.
    """
    conditions: tuple[Condition, Condition] = ("as_is", "shuffled_image")
    for condition in conditions:
        values = losses(condition == "shuffled_image")
        found = estimate(cluster_sums(values.items()))
        yield Finding(
            pages=LOSS, variant="base", condition=condition, metric="loss", glyph_height_pixels=None, num_pages=len(values),
            mean=found.mean, ci_low=found.ci_low, ci_high=found.ci_high, minus_base=None, minus_base_ci_low=None, minus_base_ci_high=None,
            memory_bytes=None,
        )  # fmt: skip


# -- what is counted ---------------------------------------------------------------------------------------------------
def findings(
    name: str, examinee: Examinee, examples: Sequence[Example], answers: Answers, measures: Measures, *,
    condition: Condition = "as_is", height: float | None = None, against: Answers | None = None,
) -> Iterator[Finding]:  # fmt: skip
    """What a model said, measured; with ``against`` also held against what another one said to the same examples."""
    memory = resident_bytes(examinee.loaded.model)
    for finding in rows(name, examinee.variant, examples, answers, measures, condition=condition, against=against):
        yield replace(finding, glyph_height_pixels=height, memory_bytes=memory)


def rows(
    name: str, variant: Variant, examples: Sequence[Example], answers: Answers, measures: Measures, *, condition: Condition = "as_is",
    against: Answers | None = None,
) -> Iterator[Finding]:  # fmt: skip
    """A finding for each measure; every example is a cluster of its own."""
    for metric, measure in measures.items():
        values = {example.example_id: measure(answers[example.example_id], example) for example in examples}
        found = estimate(cluster_sums(values.items()))
        difference = None
        if against is not None:
            rival = {example.example_id: measure(against[example.example_id], example) for example in examples}
            difference = paired_difference([(key, value, rival[key]) for key, value in values.items()])
        yield Finding(
            pages=name, variant=variant, condition=condition, metric=metric, glyph_height_pixels=None, num_pages=len(examples),
            mean=found.mean, ci_low=found.ci_low, ci_high=found.ci_high,
            minus_base=None if difference is None else difference.difference,
            minus_base_ci_low=None if difference is None else difference.ci_low,
            minus_base_ci_high=None if difference is None else difference.ci_high, memory_bytes=None,
        )  # fmt: skip
