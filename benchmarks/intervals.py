"""What intervals cost: time and memory of every metric's interval and of the gate's comparisons, as ratios.

In: nothing. Out: a table on the terminal, and exit status 1 where a bound is broken.

    python benchmarks/intervals.py

Invented scores of every metric for six variants: of 5,000 pairs in as many clusters (the most that there can be), of 500 pairs, and of
5,000 pairs in 500 clusters. No text is read: what is summed per pair was written when it was scored. Times are seconds of the processor;
what they are compared with stands in each row: a busy machine changes both. Memory is the peak by ``tracemalloc``, which counts NumPy's
arrays.
"""

import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medvl_lib.benchmark.terminal import render_table
from medvl_lib.datasets.descriptions import CATEGORY, STAGE
from medvl_lib.evaluation import statistics
from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.evaluation.predictions import Reference
from medvl_lib.evaluation.statistics import Statistics, cluster_sums, estimate, paired_difference
from medvl_lib.labels import GRADE_LABELS

NUM_PAIRS, NUM_VARIANTS = 5_000, 6
MAX_SECONDS = 60.0  # for all intervals and comparisons together, on a slow machine
MAX_GROWTH = 15.0  # of time and memory, for ten times the pairs and clusters
MAX_CORPUS = 5.0  # an interval of BLEU, ten sums a pair, by one of a mean, two
BYTES_A_CELL = 2  # of the table that all metrics share: how often each cluster is drawn in each of 2,000 resamples

Pairs = list[tuple[str, Statistics]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What some work took."""

    seconds: float
    peak_bytes: int


def measured(work: Callable[[], object]) -> Cost:
    """Time without the memory's accounting, then memory with it."""
    for cached in (statistics._multiplicities, statistics._flips):  # pyright: ignore[reportPrivateUsage]
        cached.cache_clear()
    start = time.process_time()
    work()
    seconds = time.process_time() - start
    for cached in (statistics._multiplicities, statistics._flips):  # pyright: ignore[reportPrivateUsage]
        cached.cache_clear()
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return Cost(seconds=seconds, peak_bytes=peak)


def example(response: str, **slices: str) -> Reference:
    """What a pair wants to hear."""
    return Reference(
        pair_id="1", dataset="d", split="test", group_id="1", language="en", licence="CC0-1.0", request="?", response=response, expected=(),
        slices=slices, glyph_height_pixels=None, labels=tuple(GRADE_LABELS.split("|")),
    )  # fmt: skip


EXAMPLES = (
    example("Grade 2 (mild).", **{CATEGORY: "KL 2"}),
    example("Small effusion. No edema.", **{STAGE: "impression"}),
    example("Diagnoses:\n- ICD-10 I509: Heart failure\n- ICD-10 J189: Pneumonia", **{STAGE: "reasoning"}),
)


def exemplary(metric: str, num_pairs: int, source: np.random.Generator) -> list[tuple[float, ...]]:
    """What a corpus metric sums of a right answer or of another one, at random."""
    corpus = METRICS[metric].corpus
    reference = next(one for one in EXAMPLES if METRICS[metric].applies_to(one))
    if corpus is None:
        raise ValueError(f"{metric} is a mean: it sums its values")
    both = [corpus.statistics(answer, reference) for answer in (reference.response, "Nothing of this.")]
    return [both[place] for place in source.integers(0, 2, num_pairs)]


def invented(metric: str, num_pairs: int, num_clusters: int, seed: int) -> Pairs:
    """Scores, or of a corpus metric what it sums; of BLEU lengths of reports of 60 words, and n-grams of which 40, 20, 10 and 5 % match."""
    source = np.random.default_rng(seed)
    clusters = [f"d{number % num_clusters}" for number in range(num_pairs)]
    if METRICS[metric].corpus is None:
        return list(zip(clusters, source.random(num_pairs).tolist(), strict=True))
    if metric != "bleu_4":
        return list(zip(clusters, exemplary(metric, num_pairs, source), strict=True))
    lengths = source.integers(30, 90, num_pairs)
    orders = [np.maximum(lengths - order, 0) for order in range(4)]
    matches = [source.binomial(count, share) for count, share in zip(orders, (0.4, 0.2, 0.1, 0.05), strict=True)]
    rows = np.stack([lengths, source.integers(30, 90, num_pairs), *matches, *orders], axis=1).astype(float)
    return list(zip(clusters, map(tuple, rows.tolist()), strict=True))


def scores(num_pairs: int, num_clusters: int) -> Mapping[tuple[str, int], Pairs]:
    """(metric, variant) -> what its pairs add up."""
    return {
        (metric, variant): invented(metric, num_pairs, num_clusters, seed=100 * place + variant)
        for place, metric in enumerate(METRICS)
        for variant in range(NUM_VARIANTS)
    }


def functional(metric: str) -> statistics.Functional:
    """How a metric comes of its sums."""
    corpus = METRICS[metric].corpus
    return corpus.value if corpus else statistics.mean


def intervals(found: Mapping[tuple[str, int], Pairs]) -> None:
    """The interval of every metric and variant."""
    for (metric, _), pairs in found.items():
        estimate(cluster_sums(pairs, functional(metric)))


def comparisons(found: Mapping[tuple[str, int], Pairs], metrics: Sequence[str] = tuple(METRICS)) -> None:
    """Every variant against the first, by every metric: interval, permutation and smallest difference."""
    for metric in metrics:
        first = found[metric, 0]
        for variant in range(1, NUM_VARIANTS):
            others = found[metric, variant]
            pairs = [(cluster, one, other) for (cluster, one), (_, other) in zip(first, others, strict=True)]
            paired_difference(pairs, functional=functional(metric))


def main() -> int:
    """Measure, print and judge."""
    large, small, shared = scores(NUM_PAIRS, NUM_PAIRS), scores(NUM_PAIRS // 10, NUM_PAIRS // 10), scores(NUM_PAIRS, NUM_PAIRS // 10)
    mean_only = {key: pairs for key, pairs in large.items() if key[0] == "pair_accuracy"}
    bleu_only = {key: pairs for key, pairs in large.items() if key[0] == "bleu_4"}
    all_of_it, ten_times_less, few_clusters = (measured(lambda found=found: intervals(found)) for found in (large, small, shared))
    compared, compared_less = (measured(lambda found=found: comparisons(found)) for found in (large, small))
    mean, bleu = (measured(lambda found=found: intervals(found)) for found in (mean_only, bleu_only))
    drawn = NUM_PAIRS * statistics.NUM_RESAMPLES * BYTES_A_CELL
    work = f"{len(METRICS)} metrics x {NUM_VARIANTS} variants"
    rows = [
        ("intervals", work, "500 pairs", all_of_it.seconds, all_of_it.seconds / ten_times_less.seconds, all_of_it.peak_bytes / drawn),
        ("intervals, 500 clusters", work, "5,000 clusters", few_clusters.seconds, few_clusters.seconds / all_of_it.seconds,
         few_clusters.peak_bytes / drawn),
        ("comparisons", work, "500 pairs", compared.seconds, compared.seconds / compared_less.seconds, compared.peak_bytes / drawn),
        ("interval of bleu_4", f"{NUM_VARIANTS} variants", "a mean", bleu.seconds, bleu.seconds / mean.seconds, bleu.peak_bytes / drawn),
    ]  # fmt: skip
    print(render_table(("work on 5,000 pairs", "of", "time by that of", "seconds", "time_ratio", "peak_by_draws"), rows))
    broken = [
        name for name, is_kept in (
            (f"everything within {MAX_SECONDS:g} s", all_of_it.seconds + compared.seconds < MAX_SECONDS),
            (f"ten times the pairs within {MAX_GROWTH:g} times the time", all_of_it.seconds < MAX_GROWTH * ten_times_less.seconds),
            (f"bleu_4 within {MAX_CORPUS:g} times a mean", bleu.seconds < MAX_CORPUS * mean.seconds),
            ("memory within three times the table of draws", max(all_of_it.peak_bytes, compared.peak_bytes) < 3 * drawn),
        ) if not is_kept
    ]  # fmt: skip
    print(f"peak_by_draws: peak memory by the {drawn / 1e6:.0f} MB that say how often each cluster is drawn in 2,000 resamples")
    print("broken: " + "; ".join(broken) if broken else "all bounds kept")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
