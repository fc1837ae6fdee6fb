"""If these passed wrongly, noise would carry an interval that looks like proof, and five documents could decide what is served."""

import math
from itertools import product

import numpy as np
import pytest

from medvl_lib.evaluation.metrics.documents import hallucinated_share
from medvl_lib.evaluation.metrics.reports import bleu_statistics, corpus_bleu
from medvl_lib.evaluation.statistics import (
    MAX_EXACT_CLUSTERS,
    cluster_sums,
    estimate,
    interval_note,
    is_too_few,
    mean,
    minimum_detectable_difference,
    paired_difference,
    resampled,
    sign_flip_p,
    smallest_p,
    standard_error,
    student_quantile,
    swap_p,
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


def test_a_share_of_what_is_stated_is_not_defined_of_silence_and_silent_clusters_carry_no_interval():
    """Sixty pages, on five of which a value is stated: an interval over sixty clusters would claim what five cannot show."""
    silent = [(f"d{number}", (0.0, 0.0)) for number in range(5, 60)]
    said = cluster_sums([*((f"d{number}", (float(number < 4), 1.0)) for number in range(5)), *silent], hallucinated_share)
    assert (said.value, said.num_clusters, said.num_informative) == (0.8, 60, 5)
    assert interval_note(said) == "too few clusters (5) for an interval"
    nothing = estimate(cluster_sums(silent, hallucinated_share))
    assert (math.isnan(nothing.mean), nothing.ci_low, nothing.ci_high) == (True, None, None)
    pairs = [(cluster, (0.0, 0.0), (1.0, 2.0)) for cluster, _ in silent]
    undefined = paired_difference(pairs, functional=hallucinated_share)
    assert (math.isnan(undefined.difference), undefined.ci_low, undefined.p_value) == (True, None, 1.0)


def test_below_six_clusters_no_permutation_reaches_five_percent():
    assert [is_too_few(number, 0.95) for number in (2, 5, 6, 60)] == [True, True, False, False]
    assert is_too_few(6, 1 - 0.0304)  # the first look of a gate wants seven
    assert interval_note(cluster_sums([(f"d{number}", 0.0) for number in range(60)])) == "the clusters show no spread"


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


def test_means_are_what_they_were_before_other_functionals_came():
    """Golden numbers of the version that knew means alone; in between they are equal to the last bit."""
    values = [(f"d{n % 37}", ((n * 7919) % 101) / 101) for n in range(200)]
    found = estimate(cluster_sums(values))
    assert (found.mean, found.ci_low, found.ci_high) == pytest.approx(
        (0.4960891089108911, 0.4125773603202696, 0.5812517071614467), rel=1e-12
    )
    pairs = [(cluster, value, ((n * 104_729) % 97) / 97) for n, (cluster, value) in enumerate(values)]
    many, few = paired_difference(pairs, confidence=0.97), paired_difference([(f"d{n % 9}", *pairs[n][1:]) for n in range(40)])
    assert (many.difference, many.ci_low, many.ci_high, many.p_value, many.minimum_detectable_difference) == pytest.approx(
        (0.005058181075839555, -0.09281136532072498, 0.10666406873956519, 0.9139, 0.14885106303631923), rel=1e-12
    )
    assert (few.difference, few.ci_low, few.ci_high, few.p_value, few.minimum_detectable_difference) == pytest.approx(
        (0.022800347045013793, -0.0907446811294928, 0.13307311129340238, 0.71484375, 0.1971619467252106), rel=1e-12
    )


def f1(sums: np.ndarray) -> np.ndarray:
    """Of true positives, false positives and false negatives: no mean, and not linear."""
    return 2 * sums[..., 0] / (2 * sums[..., 0] + sums[..., 1] + sums[..., 2])


def test_a_functional_is_taken_of_the_sums_and_resampled_with_them():
    """Two clusters of (2, 1, 1) and (6, 1, 3): drawn are aa (a quarter), ab (half) or bb, with F1 4/6, 16/22 and 12/16."""
    clusters = cluster_sums([("a", (1, 1, 0)), ("a", (1, 0, 1)), ("b", (6, 1, 3))], f1)
    values = resampled(clusters)
    assert set(values) == {4 / 6, 16 / 22, 12 / 16}
    assert np.mean(values == 16 / 22) == pytest.approx(0.5, abs=0.03)
    found = estimate(clusters)
    assert (found.mean, found.num_pairs, found.num_clusters) == (16 / 22, 3, 2)


def test_the_standard_error_of_a_functional_is_the_jackknifes():
    """By hand: each of three clusters left out once, sqrt((n - 1) / n x sum of squares)."""
    clusters = cluster_sums([("a", (4, 1, 1)), ("b", (2, 3, 0)), ("c", (9, 0, 4))], f1)
    without = [2 * 11 / (22 + 3 + 4), 2 * 13 / (26 + 1 + 5), 2 * 6 / (12 + 4 + 1)]
    middle = sum(without) / 3
    assert standard_error(clusters) == pytest.approx(math.sqrt(2 / 3 * sum((value - middle) ** 2 for value in without)))


def test_the_jackknife_of_a_mean_is_nearly_the_linearised_error():
    values = [(cluster, value) for cluster, value in normal_values(60) for _ in range(1 + int(cluster[1:]) % 3)]
    other = cluster_sums([(cluster, (value, 1.0)) for cluster, value in values], lambda sums: sums[..., 0] / sums[..., 1])
    assert standard_error(other) == pytest.approx(standard_error(cluster_sums(values)), rel=0.02)


def draws(num_clusters: int, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Counts of two variants, by (statistics, clusters)."""
    source = np.random.default_rng(seed)
    return source.integers(1, 9, (3, num_clusters)).astype(float), source.integers(1, 9, (3, num_clusters)).astype(float)


@pytest.mark.parametrize("num_clusters", [2, 5, 9])
def test_the_exact_p_of_a_functional_counts_every_way_to_swap(num_clusters: int):
    first, second = draws(num_clusters)
    reached = abs(f1(first.sum(axis=1)) - f1(second.sum(axis=1)))
    ways = []
    for is_swapped in product([False, True], repeat=num_clusters):
        one, other = np.where(is_swapped, second, first), np.where(is_swapped, first, second)
        ways.append(abs(f1(one.sum(axis=1)) - f1(other.sum(axis=1))) >= reached - 1e-12)
    assert swap_p(first, second, f1) == np.mean(ways)


@pytest.mark.parametrize("num_clusters", [3, 7, MAX_EXACT_CLUSTERS, MAX_EXACT_CLUSTERS + 1, 80])
def test_swapping_the_values_of_a_mean_is_turning_signs(num_clusters: int):
    values = np.random.default_rng(6).normal(size=(2, num_clusters))
    first, second = (np.stack([row, np.ones(num_clusters)]) for row in values)
    assert swap_p(first, second, mean) == sign_flip_p(values[0] - values[1])


@pytest.mark.parametrize("num_clusters", [5, 6, 21])
def test_no_p_of_a_functional_is_below_the_smallest_that_is_said(num_clusters: int):
    first = np.stack([np.arange(1.0, num_clusters + 1) + 10, np.ones(num_clusters), np.ones(num_clusters)])
    second = np.stack([np.ones(num_clusters), np.ones(num_clusters) * 5, np.ones(num_clusters)])
    assert swap_p(first, second, f1) == smallest_p(num_clusters)


def test_a_paired_difference_of_a_functional_keeps_what_is_shared():
    first, second = draws(60)
    second = np.concatenate([first[:1] - 0.3, first[1:]])  # the same clusters, a little fewer hits in each
    pairs = [(f"d{place}", tuple(first[:, place]), tuple(second[:, place])) for place in range(60)]
    found = paired_difference(pairs, functional=f1)
    assert found.difference == pytest.approx(f1(first.sum(axis=1)) - f1(second.sum(axis=1)))
    assert 0 < found.ci_low < found.difference < found.ci_high < 0.05
    assert (found.p_value, found.num_pairs, found.num_clusters, found.num_informative) == (smallest_p(60), 60, 60, 60)
    with_silent = paired_difference([*pairs, *((f"s{place}", (0.0,) * 3, (0.0,) * 3) for place in range(25))], functional=f1)
    assert (with_silent.num_clusters, with_silent.num_informative) == (85, 60)
    assert with_silent.difference == pytest.approx(found.difference)
    assert found.minimum_detectable_difference < found.difference
    same = paired_difference([(cluster, one, one) for cluster, one, _ in pairs], functional=f1)
    assert (same.difference, same.ci_low, same.ci_high, same.p_value, same.minimum_detectable_difference) == (0, 0, 0, 1, None)


def test_values_and_statistics_are_not_taken_for_each_other():
    with pytest.raises(TypeError, match="2 statistics of a pair where a mean has one value"):
        paired_difference([("a", (1.0, 2.0), (1.0, 2.0))])
    with pytest.raises(TypeError, match="one value of a pair where the functional wants its statistics"):
        paired_difference([("a", 1.0, 2.0)], functional=f1)


def test_the_interval_of_corpus_bleu_holds_the_truth_as_often_as_it_says():
    """200 sets of 60 documents drawn from 3,000: a 95 % interval holds the BLEU of all in 180 to 199 of them."""
    source = np.random.default_rng(8)
    words = [f"w{number}" for number in range(30)]

    def document() -> tuple[float, ...]:
        wanted = list(source.choice(words, size=source.integers(6, 30)))
        said = [word if source.random() < 0.7 else str(source.choice(words)) for word in wanted]
        return bleu_statistics(" ".join(said), " ".join(wanted), "13a")

    documents = [document() for _ in range(3000)]
    truth = float(corpus_bleu(np.array(documents).sum(axis=0)))
    covered = 0
    for number in range(200):
        drawn = source.integers(0, len(documents), 60)
        found = estimate(cluster_sums([(f"d{number}-{place}", documents[one]) for place, one in enumerate(drawn)], corpus_bleu))
        covered += found.ci_low <= truth <= found.ci_high
    assert 180 <= covered <= 199
