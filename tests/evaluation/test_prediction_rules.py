"""What must be true of predictions. If these passed wrongly, a variant that left out the hard pairs would be compared with one that did
not, or a latency that nobody measured would be published.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from medvl_lib.evaluation.prediction_rules import RULES, repeats_itself
from medvl_lib.evaluation.predictions import FLOORS, PREDICTIONS, REFERENCES, VARIANTS, Prediction, Reference, Variant, VariantMeasurement
from medvl_lib.tables import read_table, write_table
from tests.broken import offenders

PAIRS = ("labs/1", "labs/2")
ADAPTER_SIZE, NOT_DEGENERATE = "an_adapter_takes_its_own_size", "outputs_are_not_degenerate"
ANSWERS_EACH_PAIR, HAS_LATENCY = "every_variant_answers_every_pair_once", "latencies_are_measured"


def reference(pair_id: str) -> Reference:
    return Reference(
        pair_id=pair_id, dataset="labs", split="test", group_id=pair_id, language="en", licence="CC0-1.0",
        request="?", response=f"answer {pair_id}",
        expected=(), slices={}, glyph_height_pixels=None,
    )  # fmt: skip


def prediction(variant: Variant, pair_id: str) -> Prediction:
    is_floor = variant in FLOORS
    return Prediction(
        pair_id=pair_id, variant=variant, condition="as_is", answer=f"answer {pair_id}", num_prompt_tokens=0 if is_floor else 120,
        num_answer_tokens=0 if is_floor else 1, is_cut=False, batch_id=None if is_floor else 0, batch_size=0 if is_floor else 2,
        latency_seconds=None if is_floor else 0.5,
    )  # fmt: skip


def measurement(variant: Variant) -> VariantMeasurement:
    return VariantMeasurement(
        variant=variant, model="tiny", weights_data_version="x", precision="float32", num_parameters=1, num_quantized_parameters=0,
        load_seconds=0.1, memory_after_load_bytes=100_000 if variant != "adapter" else 104_100, memory_peak_bytes=8,
        adapter_bytes=4_000 if variant == "adapter" else None, stands_on="base" if variant == "adapter" else None, round=0,
    )  # fmt: skip


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    write_table(tmp_path / REFERENCES, Reference, [reference(pair_id) for pair_id in PAIRS])
    write_table(tmp_path / VARIANTS, VariantMeasurement, [measurement("base"), measurement("adapter")])
    rows = [prediction(variant, pair_id) for variant in (*FLOORS, "base", "adapter") for pair_id in PAIRS]
    blank = [replace(prediction("adapter", pair_id), condition="blank_image") for pair_id in PAIRS]
    write_table(tmp_path / PREDICTIONS, Prediction, [*rows, *blank])
    return tmp_path


def rewrite(change: Callable[[Sequence[Prediction]], Sequence[Prediction]]) -> Callable[[Path], None]:
    def damage(directory: Path):
        write_table(directory / PREDICTIONS, Prediction, change(list(read_table(directory / PREDICTIONS, Prediction))))

    return damage


def on_one(variant: Variant, **changes: object) -> Callable[[Path], None]:
    """Change a variant's answer as_is to the first pair."""
    hit = prediction(variant, PAIRS[0])
    return rewrite(lambda rows: [replace(row, **changes) if row == hit else row for row in rows])


def no_references(directory: Path):
    write_table(directory / REFERENCES, Reference, [])


def one_variant_more(directory: Path):
    write_table(directory / VARIANTS, VariantMeasurement, [measurement(name) for name in ("base", "nf4", "adapter")])


failing = partial(offenders, RULES)


def measured(**changes: object) -> Callable[[Path], None]:
    """Change what was measured of the adapter."""

    def damage(directory: Path):
        write_table(directory / VARIANTS, VariantMeasurement, [measurement("base"), replace(measurement("adapter"), **changes)])

    return damage


def without(variant: Variant) -> Callable[[Path], None]:
    return rewrite(lambda rows: [row for row in rows if row != prediction(variant, PAIRS[1])])


@pytest.mark.parametrize(
    ("damage", "breaks"),
    [
        (without("adapter"), {ANSWERS_EACH_PAIR: ("adapter labs/2",)}),
        (without("floor_random"), {ANSWERS_EACH_PAIR: ("floor_random labs/2",)}),
        (rewrite(lambda rows: [*rows, rows[-3]]), {ANSWERS_EACH_PAIR: ("adapter labs/2",)}),
        (rewrite(lambda rows: [*rows, prediction("base", "labs/3")]), {ANSWERS_EACH_PAIR: ("base labs/3",)}),
        (rewrite(lambda rows: [*rows, prediction("champion", "labs/1")]), {ANSWERS_EACH_PAIR: ("champion labs/1",)}),
        (one_variant_more, {ANSWERS_EACH_PAIR: ("nf4 labs/1", "nf4 labs/2")}),
        (on_one("base", latency_seconds=None), {HAS_LATENCY: ("base labs/1",)}),
        (on_one("base", latency_seconds=0.0), {HAS_LATENCY: ("base labs/1",)}),
        (on_one("base", latency_seconds=math.nan), {HAS_LATENCY: ("base labs/1",)}),
        (on_one("base", latency_seconds=math.inf), {HAS_LATENCY: ("base labs/1",)}),
        (on_one("base", num_prompt_tokens=0), {HAS_LATENCY: ("base labs/1",)}),
        (on_one("base", num_answer_tokens=0), {HAS_LATENCY: ("base labs/1",)}),
        (on_one("floor_empty", latency_seconds=0.1), {HAS_LATENCY: ("floor_empty labs/1",)}),
        (on_one("floor_empty", num_answer_tokens=3), {HAS_LATENCY: ("floor_empty labs/1",)}),
        (measured(memory_after_load_bytes=204_000), {ADAPTER_SIZE: ("adapter",)}),  # a second model lingers
        (measured(memory_after_load_bytes=103_500), {ADAPTER_SIZE: ("adapter",)}),
        (measured(memory_after_load_bytes=104_500), {ADAPTER_SIZE: ("adapter",)}),
        (on_one("base", answer=" "), {NOT_DEGENERATE: ("base",)}),
        (on_one("base", answer="the patient has a mild fever. " * 20), {NOT_DEGENERATE: ("base",)}),
        (on_one("base", answer="answer labs/2"), {NOT_DEGENERATE: ("base",)}),
    ],
)
def test_damage_breaks_exactly_its_rule(sound: Path, damage: Callable[[Path], None], breaks: dict[str, tuple[str, ...]]):
    assert failing(sound) == {}
    damage(sound)
    assert failing(sound) == breaks


def test_predictions_of_nothing_are_no_predictions(sound: Path):
    no_references(sound)
    assert ANSWERS_EACH_PAIR in failing(sound)
    write_table(sound / PREDICTIONS, Prediction, [])
    assert set(failing(sound)) == {ANSWERS_EACH_PAIR, NOT_DEGENERATE}


def test_an_answer_without_its_picture_is_no_answer_to_the_pair(sound: Path):
    on_one("adapter", condition="blank_image")(sound)
    assert failing(sound) == {ANSWERS_EACH_PAIR: ("adapter labs/1",)}


def test_an_adapter_within_a_tenth_of_its_size_passes_and_one_whose_weights_do_not_answer_is_not_judged(sound: Path):
    for added in (3_600, 4_400):
        measured(memory_after_load_bytes=100_000 + added)(sound)
        assert failing(sound) == {}
    measured(memory_after_load_bytes=1, stands_on=None)(sound)
    assert failing(sound) == {}


@pytest.mark.parametrize(
    ("text", "repeats"),
    [
        ("Sodium: 139 mmol/L\nPotassium: 4.1 mmol/L\nGlucose: 92 mg/dL\nLactate: 1.3 mmol/L\nCreatinine: 1.02 mg/dL\nUrea: 5.1 mmol/L\n"
         "Calcium: 2.31 mmol/L\nMagnesium: 0.82 mmol/L\nAlbumin: 41 g/L\nBilirubin: 9 umol/L\nHaemoglobin: 132 g/L\n", False),
        ("Sodium: 139 mmol/L\n" * 30, True), ("Sodium: 139 mmol/L\n" * 10, False), ("a" * 200, True), ("", False),
        (" ".join(str(number * 7919 % 1000) for number in range(200)) + " and so on" * 60, True),  # it began well
    ],
)  # fmt: skip
def test_a_text_that_ends_in_a_loop_repeats_itself(text: str, repeats: bool):
    assert repeats_itself(text) is repeats


def test_one_answer_to_everything_is_what_the_references_may_say_too(sound: Path):
    same = [replace(reference(pair_id), response="no") for pair_id in PAIRS]
    write_table(sound / REFERENCES, Reference, same)
    rewrite(lambda rows: [replace(row, answer="no") for row in rows])(sound)
    assert failing(sound) == {}
