"""If these passed wrongly, noise would carry an interval that looks like proof, and five documents could decide what is served."""

import math

import numpy as np
import pytest

from medvl_lib.evaluation.statistics import (
    cluster_sums,
    estimate,
    minimum_detectable_difference,
    paired_difference,
    resampled,
    sign_flip_p,
    smallest_p,
    standard_error,
    student_quantile,
)


def normal_values(num_clusters: int, *, mean: float = 0.0, spread: float = 1.0, seed: int = 7) -> list[tuple[str, float]]:
    draws = np.random.default_rng(seed).normal(mean, spread, num_clusters)
    return [(f"d{number}", float(value)) for number, value in enumerate(draws)]


def test_the_mean_is_over_pairs_and_the_clusters_are_counted():
    found = estimate(cluster_sums([("a", 1.0), ("a", 0.0), ("a", 0.0), ("b", 1.0)]))
    assert (found.mean, found.num_pairs, found.num_clusters) == (0.5, 4, 2)


def test_two_clusters_can_be_resampled_by_hand():
    """Drawn are aa (a quarter), ab (half) or bb: means 1/3, 2/4 and 1."""
    means = resampled(cluster_sums([("a", 1.0), ("a", 0.0), ("a", 0.0), ("b", 1.0)]))
    assert set(np.round(means, 6)) == {0.333333, 0.5, 1.0}
    assert np.mean(means == 0.5) == pytest.approx(0.5, abs=0.03)


def test_one_cluster_has_no_interval():
    found = estimate(cluster_sums([("a", 1.0), ("a", 0.0)]))
    assert (found.ci_low, found.ci_high) == (None, None)


def test_nothing_has_no_mean():
    with pytest.raises(ValueError, match="no mean of nothing"):
        cluster_sums([])


def test_the_order_of_pairs_does_not_matter_and_the_seed_is_fixed():
    values = normal_values(30)
    assert estimate(cluster_sums(values)) == estimate(cluster_sums(values[::-1]))


def test_the_interval_of_many_clusters_is_the_normal_one():
    clusters = cluster_sums(normal_values(2000))
    found = estimate(clusters)
    error = standard_error(clusters)
    assert found.ci_low == pytest.approx(found.mean - 1.96 * error, abs=0.15 * error)
    assert found.ci_high == pytest.approx(found.mean + 1.96 * error, abs=0.15 * error)


def test_pairs_of_one_document_do_not_narrow_the_interval():
    once = estimate(cluster_sums(normal_values(40)))
    repeated = estimate(cluster_sums([value for value in normal_values(40) for _ in range(20)]))
    assert repeated.num_pairs == 20 * once.num_pairs
    assert (repeated.ci_low, repeated.ci_high) == pytest.approx((once.ci_low, once.ci_high))


def test_coverage_is_nearly_nominal_at_fifty_clusters():
    """300 sets of 50 documents: a 95 % interval holds the truth in 91 to 97 % of them (93.7 % of 3,000 sets)."""
    covered = 0
    for seed in range(300):
        found = estimate(cluster_sums(normal_values(50, seed=seed)))
        covered += found.ci_low <= 0 <= found.ci_high
    assert 273 <= covered <= 290


@pytest.mark.parametrize(("num_clusters", "p"), [(4, 0.125), (5, 0.0625), (6, 0.03125), (8, 2 / 2**8), (20, 2 / 2**20)])
def test_the_smallest_exact_p(num_clusters: int, p: float):
    assert sign_flip_p(np.arange(1.0, num_clusters + 1)) == p


@pytest.mark.parametrize("num_clusters", [5, 6, 20, 21, 300])
def test_no_p_is_below_the_smallest_that_is_said(num_clusters: int):
    assert sign_flip_p(np.ones(num_clusters)) == smallest_p(num_clusters)


def test_the_exact_p_by_hand():
    """Of the eight sign patterns of 1, 2, 3 those with an absolute sum of 4 or more: 6, 4 (-1), -4, -6."""
    assert sign_flip_p(np.array([-1.0, 2.0, 3.0])) == 4 / 8
    assert sign_flip_p(np.zeros(6)) == 1.0


def test_the_drawn_p_agrees_with_the_normal_distribution():
    values = np.array([value for _, value in normal_values(200, mean=0.15)])
    z = abs(values.sum()) / math.sqrt((values**2).sum())
    assert sign_flip_p(values) == pytest.approx(math.erfc(z / math.sqrt(2)), abs=0.01)


@pytest.mark.parametrize(
    ("probability", "degrees", "quantile"),
    [(0.975, 4, 2.7764), (0.975, 9, 2.2622), (0.975, 59, 2.0010), (0.8, 4, 0.9410), (0.8, 59, 0.8481)],
)
def test_student_quantiles_of_the_tables(probability: float, degrees: int, quantile: float):
    assert student_quantile(probability, degrees) == pytest.approx(quantile, rel=0.001)


def test_the_minimum_detectable_difference_by_hand():
    """Ten clusters of one pair, SD 1/3 x sqrt(10): standard error 1/3, (2.2622 + 0.8834) / 3."""
    clusters = cluster_sums([(str(number), value) for number, value in enumerate([1.0, -1.0] * 5)])
    assert standard_error(clusters) == pytest.approx(1 / 3)
    assert minimum_detectable_difference(clusters) == pytest.approx((2.2622 + 0.8834) / 3, rel=0.001)


def test_without_spread_no_smallest_difference_is_claimed():
    assert minimum_detectable_difference(cluster_sums([("a", 0.1), ("b", 0.1), ("c", 0.1)])) is None


def test_power_at_the_minimum_detectable_difference_is_eighty_percent():
    """At 60 documents, a true difference of that size gives a positive lower bound in 80 % of 400 draws, within 6 points."""
    smallest = (student_quantile(0.975, 59) + student_quantile(0.8, 59)) / math.sqrt(60)
    hits = 0
    for seed in range(400):
        found = estimate(cluster_sums(normal_values(60, mean=smallest, seed=seed)))
        hits += found.ci_low > 0
    assert hits / 400 == pytest.approx(0.8, abs=0.06)


def test_pairing_keeps_what_two_variants_have_in_common():
    """Documents differ by 1.0 in difficulty, the variants by 0.1 on each: unpaired the difference would drown."""
    pairs = [(cluster, value + 0.1 + noise, value) for (cluster, value), (_, noise) in zip(
        normal_values(60), normal_values(60, spread=0.05, seed=8), strict=True
    )]  # fmt: skip
    found = paired_difference(pairs)
    assert found.difference == pytest.approx(0.1, abs=0.02)
    assert found.ci_low > 0.08
    assert found.p_value < 0.001
    assert (found.num_pairs, found.num_clusters) == (60, 60)
