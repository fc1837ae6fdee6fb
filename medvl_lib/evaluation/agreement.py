"""Agreement of raters who judged the same answers: a coefficient that takes chance out, with its interval.

In: who gave which item which category, and the cluster (patient or document) that the item belongs to. Out: one ``Agreement``. What was
rated, and on which scale, is not known here; NumPy only.

* **Two raters**: Cohen's kappa over the items that both rated (Cohen 1960, Educational and Psychological Measurement 20); on an ordered
  scale weighted by the square of the distance (Cohen 1968, Psychological Bulletin 70).
* **More**: Krippendorff's alpha, nominal or ordinal, which takes items that only some of them rated as they are (Krippendorff 2011,
  Computing Krippendorff's Alpha-Reliability, repository.upenn.edu/asc_papers/43). For two raters it is not the same number as kappa.
* 1 is full agreement, 0 what chance gives, below 0 less than that. **Where everybody always gave the same category neither is defined**:
  there was nothing to agree on. That is None, not 1. Where one category is rare both are low although nearly all ratings agree (Feinstein
  and Cicchetti 1990, J Clin Epidemiol 43), so the plain share of equal ratings always stands beside.
* **Interval**: percentiles of the resamples of ``statistics``, over clusters, from one matrix of counts for each. Too narrow for few
  clusters: a nominal 95 % covers 90 % at 10 of two items, 91 to 93 % at 20, 93 to 94 % at 50 (measured; kappa and alpha, an ordered scale
  of five). Raters are taken as given: it says nothing about others. A resample whose ratings are all of one category has no
  coefficient; where more than 5 % are such there is no interval.

The package ``krippendorff`` was not taken: it is GPL-3.0, and computes no interval. It gives the same alpha, scikit-learn the same kappa,
to 1e-15 on 1,596 random tables.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Literal, NamedTuple

import numpy as np

from medvl_lib.evaluation.statistics import MAX_UNDEFINED_SHARE, Floats, is_too_few, resampled_totals

REVISION = 2  # no interval below six clusters
CONFIDENCE = 0.95

Coefficient = Literal["cohen_kappa", "quadratic_kappa", "krippendorff_nominal", "krippendorff_ordinal"]


class Rated(NamedTuple):
    """One rater's category for one item."""

    cluster: str
    item: str
    rater: str
    category: int
    """Its place on the scale, from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far raters agree on the items that two or more of them rated."""

    coefficient: Coefficient
    value: float | None
    """None where all ratings are of one category."""
    ci_low: float | None
    """None where ``value`` is, below six clusters, or where too many resamples have no coefficient."""
    ci_high: float | None
    exact_share: float
    """Share of the ratings of an item that are the same, over all pairs of its raters."""
    num_items: int
    num_raters: int


Given = Mapping[str, int]
"""Rater -> category, for one item."""


def agreement(ratings: Iterable[Rated], *, num_categories: int, is_ordered: bool) -> Agreement | None:
    """The agreement on a scale of ``num_categories``; None where no item was rated by two."""
    items: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for rating in ratings:
        items[rating.cluster, rating.item][rating.rater] = rating.category
    shared = {place: given for place, given in items.items() if len(given) >= 2}
    if not shared:
        return None
    raters = sorted({rater for given in shared.values() for rater in given})
    if len(raters) == 2:
        name: Coefficient = "quadratic_kappa" if is_ordered else "cohen_kappa"
        counts = _by_cluster(shared, num_categories, lambda given: [(given[raters[0]], given[raters[1]], 1.0)])
        coefficient = kappas
    else:
        name = "krippendorff_ordinal" if is_ordered else "krippendorff_nominal"
        counts = _by_cluster(shared, num_categories, _coincidences)
        coefficient = alphas
    total = counts.sum(axis=0, keepdims=True)
    [value] = coefficient(total, is_ordered=is_ordered)
    low, high = _interval(counts, lambda resampled: coefficient(resampled, is_ordered=is_ordered))
    is_defined = bool(np.isfinite(value))
    has_interval = is_defined and not is_too_few(len(counts), 0.95)
    return Agreement(
        coefficient=name, value=float(value) if is_defined else None, ci_low=low if has_interval else None,
        ci_high=high if has_interval else None, exact_share=float(np.trace(total[0]) / total.sum()), num_items=len(shared),
        num_raters=len(raters),
    )  # fmt: skip


def _by_cluster(
    items: Mapping[tuple[str, str], Given], num_categories: int, entries: Callable[[Given], Iterable[tuple[int, int, float]]]
) -> Floats:
    """A matrix of counts for each cluster, in the order of their names: all that a coefficient needs of the ratings."""
    clusters = sorted({cluster for cluster, _ in items})
    place = {cluster: number for number, cluster in enumerate(clusters)}
    counts = np.zeros((len(clusters), num_categories, num_categories))
    for (cluster, _), given in items.items():
        for first, second, weight in entries(given):
            counts[place[cluster], first, second] += weight
    return counts


def _coincidences(given: Given) -> Iterable[tuple[int, int, float]]:
    """Every ordered pair of an item's ratings, so weighted that the item counts as often as it was rated."""
    return ((first, second, 1 / (len(given) - 1)) for first, second in permutations(given.values(), 2))


def kappas(counts: Floats, *, is_ordered: bool) -> Floats:
    """Cohen's kappa of each matrix (first rater down, second across); NaN where it is not defined.

    1 - observed / expected disagreement; the expected one is that of two raters who keep their own shares and do not look.
    """
    places = np.arange(counts.shape[1], dtype=np.float64)
    apart = np.abs(places[:, None] - places[None, :])
    distances = apart**2 if is_ordered else (apart > 0).astype(np.float64)
    first, second = counts.sum(axis=2), counts.sum(axis=1)
    expected = (first[:, :, None] * second[:, None, :] * distances).sum(axis=(1, 2))
    observed = (counts * distances).sum(axis=(1, 2)) * counts.sum(axis=(1, 2))
    return _one_minus(observed, expected)


def alphas(counts: Floats, *, is_ordered: bool) -> Floats:
    """Krippendorff's alpha of each matrix of coincidences; NaN where it is not defined.

    1 - observed / expected disagreement; the expected one is that of two ratings drawn from all. Two ordered categories are as far apart as
    there are ratings between their middles.
    """
    shares = counts.sum(axis=2)
    categories = np.arange(shares.shape[1], dtype=np.float64)
    middles = shares.cumsum(axis=1) - shares / 2 if is_ordered else shares * 0 + categories
    apart = np.abs(middles[:, :, None] - middles[:, None, :])
    distances = apart**2 if is_ordered else (apart > 0).astype(np.float64)
    expected = (shares[:, :, None] * shares[:, None, :] * distances).sum(axis=(1, 2))
    observed = (counts * distances).sum(axis=(1, 2)) * (shares.sum(axis=1) - 1)
    return _one_minus(observed, expected)


def _one_minus(observed: Floats, expected: Floats) -> Floats:
    return 1 - np.divide(observed, expected, out=np.full_like(observed, np.nan), where=expected > 0)


def _interval(counts: Floats, coefficient: Callable[[Floats], Floats]) -> tuple[float, float] | tuple[None, None]:
    """The coefficient's percentiles over resamples of the clusters, where nearly all of them have one."""
    if len(counts) < 2:
        return None, None
    found = coefficient(resampled_totals(counts.reshape(len(counts), -1)).reshape(-1, *counts.shape[1:]))
    defined = found[np.isfinite(found)]
    if len(defined) < (1 - MAX_UNDEFINED_SHARE) * len(found):
        return None, None
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
