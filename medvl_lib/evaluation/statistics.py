"""Error bars and comparisons whose unit is the cluster: the patient, document or image that pairs belong to.

In: what each pair adds up, and the cluster it belongs to. Out: the metric over all pairs with its interval, or the paired difference of two
variants with interval, p and the smallest difference that the data could have shown. No metric and no gate is known here; NumPy only.

* **Metric**: a *functional* of sums over the pairs. A mean is the sum of the values by their number. A corpus metric such as BLEU has more
  sums and another function of them; both take the same way, and no text is read again.
* **Resamples**: clusters have unequal sizes, so each resample is the functional of sums over the drawn clusters (cluster bootstrap: Field
  and Welsh 2007, JRSS B 69; Davison and Hinkley 1997, section 3.8; of BLEU, Koehn 2004, EMNLP). Pooling pairs as if independent covers 0.75
  where 0.95 is claimed (5 documents of 20 terms, measured).
* **Interval**: percentiles of 2,000 seeded resamples, computed from per-cluster sums, never from the metric again. It is *too narrow for
  few clusters*: a nominal 95 % covers 84 % at 5 clusters, 91 % at 10, 94 % at 20, 95 % at 100 (measured). One cluster has no interval;
  rows and decisions have none below six (``is_too_few``), of which no permutation could give p below 0.05.
  Where fewer than ten resamples lie beyond an end, as in the later looks of a gate, the wider of percentile and Student's t counts.
* **p**: permutation, two-sided: in each cluster the two variants may be swapped; all 2^n patterns up to 20 clusters, so 5 documents can
  never give less than 2/2^5 = 0.0625; above, 9,999 seeded draws with (1 + hits) / (1 + draws) (Phipson and Smyth 2010, SAGMB 9). For a mean
  over the same pairs a swap turns the sign of the cluster's difference. Of BLEU: Riezler and Maxwell 2005, ACL workshop W05-09.
* **Minimum detectable difference** at 80 % power: (t(1 - alpha/2) + t(0.8)) x standard error, with clusters - 1 degrees of freedom (Bloom
  1995, Evaluation Review 19); the error of a mean by linearisation of the ratio (Cochran 1977, section 6.4), that of any other functional
  by the delete-one-cluster jackknife (Efron and Stein 1981, Annals of Statistics 9).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

REVISION = 2  # far percentiles are held against Student's t; rows.REVISIONS and promotion.REVISIONS carry it on
SEED = 20_250_601  # one fixed seed: the same scores always get the same interval
NUM_RESAMPLES = 2_000
NUM_SIGN_FLIPS = 9_999
MAX_EXACT_CLUSTERS = 20  # 2^19 sums of 20 numbers: 4 MB and some milliseconds
EXACT_CHUNK = 2**14  # of these patterns, how many are looked at at once where each of them has several sums
MAX_UNDEFINED_SHARE = 0.05  # of the resamples: with more, the percentiles would be those of a chosen few
MIN_BEYOND = 10  # resamples beyond an end that a percentile needs: at look 5 of a gate only 1 of 2,000 is left
NO_SPREAD = 1e-12  # a standard error below it is none but for rounding
POWER = 0.8
CHUNK = 250  # resamples multiplied at once: memory stays at a few MB for thousands of clusters

Floats = NDArray[np.float64]
Statistics = float | Sequence[float]
"""What a pair adds up: its value where the metric is a mean, or else everything that the metric sums."""
Functional = Callable[[Floats], Floats]
"""Sums, (..., statistics) -> the metric, (...): of all resamples at once; not a number where it is not defined of the sums."""


def mean(sums: Floats) -> Floats:
    """The functional of a mean: the sum of the values by the number of pairs."""
    return sums[..., 0] / sums[..., 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSums:
    """All that an interval needs of a set of pairs, per cluster, in the order of the clusters' names."""

    sums: Floats
    """(statistics, clusters): of a mean the sum of the values, and the number of pairs."""
    counts: Floats
    """Pairs of each cluster."""
    functional: Functional

    @property
    def num_clusters(self) -> int:
        """How many patients, documents or images there are."""
        return len(self.counts)

    @property
    def num_informative(self) -> int:
        """How many of them add anything: a page about which nothing is stated adds nothing to a share of what is."""
        return int(np.count_nonzero(self.sums.any(axis=0)))

    @property
    def value(self) -> float:
        """The metric over all pairs; not a number where it is not defined of them."""
        return float(self.functional(self.sums.sum(axis=1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A metric over pairs with its interval."""

    mean: float
    """Over pairs; of a corpus metric its value over all pairs together, not a number where it is not defined of them."""
    ci_low: float | None
    """None where fewer than two clusters were seen, or where the metric is not defined of these pairs or of too many resamples."""
    ci_high: float | None
    num_pairs: int
    num_clusters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One variant minus another on the same pairs."""

    difference: float
    """Not a number where the metric is not defined of one of them."""
    ci_low: float | None
    """None where fewer than two clusters were seen, or where the difference is not defined of these pairs or of too many resamples."""
    ci_high: float | None
    p_value: float
    """Two-sided, by swapping the variants in clusters."""
    minimum_detectable_difference: float | None
    """At 80 % power; None where no spread between clusters was seen, from which it could be computed."""
    num_pairs: int
    num_clusters: int
    num_informative: int
    """Clusters that add anything to one of the two: of the others nothing is wanted and nothing said, so that swapping them changes no sum.
    What so many clusters can show at all is told by this number."""


def cluster_sums(pairs: Iterable[tuple[str, Statistics]], functional: Functional = mean) -> ClusterSums:
    """Add up (cluster, statistics) by cluster; raises ValueError when there is nothing to add up."""
    found = list(pairs)
    if not found:
        raise ValueError("no values to sum up: there is no mean of nothing")
    names = {name: place for place, name in enumerate(sorted({cluster for cluster, _ in found}))}
    index = np.array([names[cluster] for cluster, _ in found])
    added = np.array([statistics for _, statistics in found], dtype=np.float64).reshape(len(found), -1)
    if functional is mean:
        added = np.column_stack([added, np.ones(len(found))])
    sums = np.zeros((added.shape[1], len(names)))
    for row, column in zip(sums, added.T, strict=True):
        np.add.at(row, index, column)  # one by one, in the order of the pairs
    return ClusterSums(sums=sums, counts=np.bincount(index).astype(np.float64), functional=functional)


@lru_cache(maxsize=8)
def _multiplicities(num_clusters: int, num_resamples: int, seed: int) -> NDArray[np.uint16]:
    """How often each cluster (column) is drawn in each resample (row). Cached: all metrics and variants of a test set share it."""
    draws = np.random.default_rng(seed)
    rows = np.empty((num_resamples, num_clusters), dtype=np.uint16)
    for row in range(num_resamples):
        rows[row] = np.bincount(draws.integers(0, num_clusters, num_clusters), minlength=num_clusters)
    return rows


def resampled_totals(columns: Floats, *, num_resamples: int = NUM_RESAMPLES, seed: int = SEED) -> Floats:
    """The sum of each column in each resample of the clusters, which are the rows."""
    drawn = _multiplicities(len(columns), num_resamples, seed)
    return np.concatenate([drawn[start : start + CHUNK].astype(np.float64) @ columns for start in range(0, num_resamples, CHUNK)])


def resampled(clusters: ClusterSums, *, num_resamples: int = NUM_RESAMPLES, seed: int = SEED) -> Floats:
    """The metric over pairs in each resample of the clusters."""
    return clusters.functional(resampled_totals(np.ascontiguousarray(clusters.sums.T), num_resamples=num_resamples, seed=seed))


def _interval(clusters: ClusterSums, confidence: float) -> tuple[float, float] | tuple[None, None]:
    if clusters.num_clusters < 2:
        return None, None
    tail = (1 - confidence) / 2
    found = resampled(clusters)
    defined = found[np.isfinite(found)]
    if not math.isfinite(clusters.value) or len(defined) < (1 - MAX_UNDEFINED_SHARE) * len(found):
        return None, None
    low, high = map(float, np.quantile(defined, [tail, 1 - tail]))
    if tail * NUM_RESAMPLES >= MIN_BEYOND:
        return low, high
    reach = (standard_error(clusters) or 0.0) * student_quantile(1 - tail, clusters.num_clusters - 1)
    return min(low, clusters.value - reach), max(high, clusters.value + reach)


def estimate(clusters: ClusterSums, *, confidence: float = 0.95) -> Estimate:
    """The metric over pairs with its percentile interval over clusters."""
    low, high = _interval(clusters, confidence)
    num_pairs = int(clusters.counts.sum())
    return Estimate(mean=clusters.value, ci_low=low, ci_high=high, num_pairs=num_pairs, num_clusters=clusters.num_clusters)


def smallest_p(num_clusters: int) -> float:
    """What ``sign_flip_p`` and ``swap_p`` of so many clusters can at least be."""
    return 2 / 2**num_clusters if num_clusters <= MAX_EXACT_CLUSTERS else 1 / (1 + NUM_SIGN_FLIPS)


def interval_note(clusters: ClusterSums, *, confidence: float = 0.95) -> str | None:
    """What has to be known of an interval of these clusters: that they are too few for one, or all alike; None where nothing has."""
    if is_too_few(clusters.num_informative, confidence):
        return f"too few clusters ({clusters.num_informative}) for an interval"
    error = standard_error(clusters)
    return "the clusters show no spread" if error is not None and error < NO_SPREAD else None


def is_too_few(num_clusters: int, confidence: float) -> bool:
    """Whether no permutation of so many clusters could reach significance: a bootstrap interval of them claims what none can show."""
    return smallest_p(num_clusters) > 1 - confidence + 1e-12


def sign_flip_p(sums: Floats, *, seed: int = SEED) -> float:
    """How often the clusters' differences would add up to as much, either way, if each had either sign: exact for 20 clusters or fewer."""
    tolerance = 1e-9 * float(np.abs(sums).sum())  # equal patterns add up in another order
    reached = abs(float(sums.sum())) - tolerance
    if len(sums) <= MAX_EXACT_CLUSTERS:
        totals = sums[:1]  # by symmetry the first sign can stay
        for value in sums[1:]:
            totals = np.concatenate([totals + value, totals - value])
        return float(np.mean(np.abs(totals) >= reached))
    hits = 0
    for packed in _flips(len(sums), seed):
        signs = np.unpackbits(packed, axis=1, count=len(sums)).view(np.int8) * 2 - 1
        hits += int(np.count_nonzero(np.abs(signs @ sums) >= reached))
    return (1 + hits) / (1 + NUM_SIGN_FLIPS)


def swap_p(first: Floats, second: Floats, functional: Functional, *, seed: int = SEED) -> float:
    """How often two variants would differ as much, either way, if in each cluster it were open which of them said what.

    Both are sums by (statistics, clusters). Exact for 20 clusters or fewer; the same as ``sign_flip_p`` for means over the same pairs. A
    pattern of which the metric is not defined counts as one that differs as much; 1 where it is not defined of what was seen.
    """
    apart, of_second, of_both = first - second, second.sum(axis=1), (first + second).sum(axis=1)
    ends = functional(np.stack([first.sum(axis=1), of_second]))
    if not np.isfinite(ends).all():
        return 1.0
    reached = abs(float(ends[0] - ends[1])) - 1e-9 * float(np.abs(ends).sum())  # equal patterns add up in another order
    hits = num_patterns = 0
    for is_kept in _swaps(first.shape[1], seed):
        totals = of_second + is_kept.astype(np.float64) @ apart.T
        hits += int(np.count_nonzero(~(np.abs(functional(totals) - functional(of_both - totals)) < reached)))
        num_patterns += len(is_kept)
    return hits / num_patterns if first.shape[1] <= MAX_EXACT_CLUSTERS else (1 + hits) / (1 + num_patterns)


def _swaps(num_clusters: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Which clusters (column) keep their variants in each pattern (row), in chunks: every pattern once, or seeded draws."""
    if num_clusters > MAX_EXACT_CLUSTERS:
        yield from (np.unpackbits(packed, axis=1, count=num_clusters) for packed in _flips(num_clusters, seed))
        return
    num_patterns = 2 ** (num_clusters - 1)  # by symmetry the last cluster can stay
    for start in range(0, num_patterns, EXACT_CHUNK):
        number = np.arange(start, min(start + EXACT_CHUNK, num_patterns)) + num_patterns
        yield (number[:, None] >> np.arange(num_clusters) & 1).astype(np.uint8)


@lru_cache(maxsize=8)
def _flips(num_clusters: int, seed: int) -> tuple[NDArray[np.uint8], ...]:
    """Which clusters (column) change their sign in each draw (row), a bit each, in chunks. Cached: a test set's comparisons share it."""
    draws = np.random.default_rng(seed)
    sizes = (min(CHUNK, NUM_SIGN_FLIPS - start) for start in range(0, NUM_SIGN_FLIPS, CHUNK))
    return tuple(np.packbits(draws.integers(0, 2, (size, num_clusters), dtype=np.int8).view(np.uint8), axis=1) for size in sizes)


def standard_error(clusters: ClusterSums) -> float | None:
    """Standard error of the metric over pairs, from the spread between clusters; None for fewer than two, or where it is not defined.

    For a mean over clusters of one size it is SD of the clusters' means / sqrt(clusters).
    """
    number = clusters.num_clusters
    if number < 2:
        return None
    if clusters.functional is mean:
        residuals = clusters.sums[0] - clusters.value * clusters.counts
        return math.sqrt(number / (number - 1) * float((residuals**2).sum())) / float(clusters.counts.sum())
    without = clusters.functional(clusters.sums.sum(axis=1) - clusters.sums.T)  # each cluster left out once
    if not np.isfinite(without).all():
        return None
    return math.sqrt((number - 1) / number * float(((without - without.mean()) ** 2).sum()))


def student_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t by its expansion around the normal one (Abramowitz and Stegun 26.7.5): within 1 % from 4 degrees on."""
    z = NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160,
    )
    return sum(term / degrees**power for power, term in enumerate(terms))


def minimum_detectable_difference(clusters: ClusterSums, *, confidence: float = 0.95, power: float = POWER) -> float | None:
    """The true difference that would be shown with probability ``power``; None where the clusters show no spread."""
    error = standard_error(clusters)
    if error is None or error < NO_SPREAD:  # all clusters differ by the same amount: their spread is unknown, not zero
        return None
    degrees = clusters.num_clusters - 1
    return error * (student_quantile((1 + confidence) / 2, degrees) + student_quantile(power, degrees))


def paired_difference(
    pairs: Iterable[tuple[str, Statistics, Statistics]], *, functional: Functional = mean, confidence: float = 0.95
) -> Difference:
    """First minus second over (cluster, first, second): both variants' statistics of a pair are always drawn together.

    For a mean the statistics of a pair are one value; for any other ``functional`` they are all that it sums.
    """
    if functional is mean:
        clusters = cluster_sums((cluster, _value(first) - _value(second)) for cluster, first, second in pairs)
        p_value = sign_flip_p(clusters.sums[0])
    else:
        clusters = cluster_sums(((cluster, (*_several(first), *_several(second))) for cluster, first, second in pairs), _minus(functional))
        p_value = swap_p(*_halves(clusters.sums, axis=0), functional)
    found = estimate(clusters, confidence=confidence)
    return Difference(
        difference=found.mean, ci_low=found.ci_low, ci_high=found.ci_high, p_value=p_value,
        minimum_detectable_difference=minimum_detectable_difference(clusters, confidence=confidence),
        num_pairs=found.num_pairs, num_clusters=found.num_clusters, num_informative=clusters.num_informative,
    )  # fmt: skip


def _value(statistics: Statistics) -> float:
    if isinstance(statistics, Sequence):
        raise TypeError(f"{len(statistics)} statistics of a pair where a mean has one value: name the functional that they belong to")
    return statistics


def _several(statistics: Statistics) -> Sequence[float]:
    if not isinstance(statistics, Sequence):
        raise TypeError("one value of a pair where the functional wants its statistics")
    return statistics


def _minus(functional: Functional) -> Functional:
    """The functional of a difference: the first half of the statistics is the one variant's, the second the other's."""

    def minus(sums: Floats) -> Floats:
        first, second = _halves(sums, axis=-1)
        return functional(first) - functional(second)

    return minus


def _halves(sums: Floats, *, axis: int) -> tuple[Floats, Floats]:
    first, second = np.split(sums, 2, axis=axis)
    return first, second


def holm_alphas(p_values: Mapping[str, float], alpha: float) -> dict[str, float]:
    """The error that each of several tests is held to so that all together err in ``alpha``, by name, the smallest p first.

    The i-th smallest of m is held to alpha / (m - i + 1); from the first that does not keep it on, all are held to that one's share, and
    none is shown (Holm 1979, Scand J Stat 6, 65).
    """
    alphas: dict[str, float] = {}
    share, has_failed = alpha, False
    for number, name in enumerate(sorted(p_values, key=lambda name: (p_values[name], name))):
        if not has_failed:
            share = alpha / (len(p_values) - number)
            has_failed = p_values[name] > share
        alphas[name] = share
    return alphas
