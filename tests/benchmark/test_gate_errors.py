"""``benchmarks/gate_errors.py`` with a tenth of its seeds and fewer settings.

If these passed wrongly, the gate could promote useless models more often than it says, and the log's figures would describe another gate.
"""

import numpy as np
import pytest

from benchmarks.gate_errors import (
    GAIN,
    NUM_DOCUMENTS,
    NUM_PAIRS,
    SD,
    SETTINGS,
    Answers,
    Draw,
    all_equal,
    dependent,
    four_bits,
    is_same_on_all_pairs,
    is_within_bounds,
    power,
    right_or_wrong,
    simulated,
)

NUM_SEEDS = 100


def num_promoted(draw: Draw, gain: float) -> int:
    return sum(simulated(draw, gain, seed).verdict == "promote" for seed in range(NUM_SEEDS))


def test_a_model_that_is_no_better_is_hardly_ever_promoted():
    assert num_promoted(dependent, 0.0) <= 6  # 2.5 expected at most; 7 or more have a chance of 0.01


def test_ten_points_are_seen_as_often_as_the_closed_form_says():
    assert num_promoted(right_or_wrong, GAIN) == pytest.approx(NUM_SEEDS * power(GAIN), abs=5)


def test_the_documents_means_decide_as_all_their_pairs_do():
    assert is_same_on_all_pairs(right_or_wrong, GAIN, 0)


@pytest.mark.parametrize("draw", SETTINGS)
@pytest.mark.parametrize("gain", [0.0, GAIN])
def test_every_setting_has_the_stated_spread_and_gain(draw: Draw, gain: float):
    answers = [draw(np.random.default_rng(seed), gain) for seed in range(60)]
    differences = np.concatenate([(one.adapter - one.base).mean(axis=1) for one in answers])
    assert len(differences) == 60 * NUM_DOCUMENTS
    assert differences.std() == pytest.approx(SD, abs=0.008)
    assert differences.mean() == pytest.approx(gain, abs=0.01)
    assert isinstance(answers[0], Answers)
    assert answers[0].base.shape == (NUM_DOCUMENTS, NUM_PAIRS)


def test_four_bits_that_are_worse_by_the_margin_hardly_ever_pass_for_no_worse():
    assert sum(four_bits(seed, -0.05).verdict == "promote" for seed in range(NUM_SEEDS)) <= 6
    assert sum(four_bits(seed, 0.0).verdict == "promote" for seed in range(20)) >= 12


@pytest.mark.parametrize("num_documents", range(6, 21))
def test_a_few_documents_that_all_differ_by_as_much_are_inconclusive(num_documents: int):
    decision = all_equal(num_documents)
    assert (decision.verdict, decision.difference) == ("inconclusive", pytest.approx(GAIN))


@pytest.mark.parametrize(
    ("gain", "num_promoted", "holds"),
    [(0.0, 40, True), (0.0, 41, False), (GAIN, 980, True), (GAIN, 949, False), (GAIN, 960, False)],  # 960: too far from the closed form
)
def test_the_bounds_are_those_of_a_thousand_seeds(gain: float, num_promoted: int, holds: bool):
    assert is_within_bounds(gain, num_promoted, 1_000) is holds
