"""Retrieval: how often the right text is found for a picture, and the right picture for a text. No torch here.

In: a matrix of similarities, and which candidates are right. Out: ranks, recall at k, and what chance or knowing the class alone would
reach. Pure functions; whose embeddings they are, and what is done with the numbers, is not known here.

A picture may have several texts, and a text several pictures. A candidate is ranked once, wherever it stands: a wrong text of six pictures
would else take six places. A picture asks once, however many texts it has; a text asks with every picture that it stands with, as in the
galleries of captions (Karpathy and Fei-Fei 2015, arXiv 1412.2306).

Legend: N pairs, Q queries, G candidates (the gallery).
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

REVISION = 2  # candidates that are equal are one, and a picture asks once
CUTOFFS = (1, 5, 10)
Direction = Literal["image_to_text", "text_to_image"]
DIRECTIONS: tuple[Direction, ...] = ("image_to_text", "text_to_image")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """What one gallery says of one direction."""

    direction: Direction
    queries: NDArray[np.int64]
    """Which pair each query is (Q,): the first one of every picture, or every pair's text."""
    ranks: NDArray[np.int64]
    """Of each query's best right candidate (Q,), from 1."""
    gallery_size: int
    """Different candidates."""
    chances: tuple[float, ...]
    """Expected recall of a random order, at each of ``CUTOFFS``."""

    @property
    def recalls(self) -> tuple[float, ...]:
        """Recall at each of ``CUTOFFS``."""
        return tuple(recall_at(self.ranks, cutoff) for cutoff in CUTOFFS)

    @property
    def median_rank(self) -> float:
        """The median over queries."""
        return float(np.median(self.ranks))


def right_candidates(texts: Sequence[Hashable], pictures: Sequence[Hashable] | None = None) -> NDArray[np.bool_]:
    """(N, N): whether text j is right for picture i: it stands with it, word for word, somewhere in the gallery.

    A caption that stands there several times is right wherever it stands, and so is every caption of a picture that has several.
    ``pictures`` says which rows have the same one; without it they are all different.
    """
    same_text = _equal(texts)
    return same_text if pictures is None else _equal(pictures).astype(np.float32) @ same_text.astype(np.float32) > 0


def _equal(values: Sequence[Hashable]) -> NDArray[np.bool_]:
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    keys = np.array([numbers[value] for value in values], dtype=np.int64)
    return keys[:, None] == keys[None, :]


class _Gallery(NamedTuple):
    """Rows and columns of a matrix (N, N) of pairs: who asks, and what is ranked."""

    queries: NDArray[np.int64]
    candidates: NDArray[np.int64]


def _gallery(texts: Sequence[Hashable], pictures: Sequence[Hashable] | None, direction: Direction) -> _Gallery:
    shown = range(len(texts)) if pictures is None else pictures
    if direction == "image_to_text":
        return _Gallery(queries=_first(shown), candidates=_first(texts))
    return _Gallery(queries=np.arange(len(texts)), candidates=_first(shown))


def _first(values: Sequence[Hashable]) -> NDArray[np.int64]:
    """Where each different value stands first."""
    places = {value: place for place, value in reversed(list(enumerate(values)))}
    return np.array(sorted(places.values()), dtype=np.int64)


def ranks(similarity: NDArray[np.floating], is_right: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The rank of each query's best right candidate, from 1: ``similarity`` and ``is_right`` are (Q, G), the result is (Q,).

    1 + the number of wrong candidates that are at least as similar: a tie counts against the model, so one that says the same of everything
    ranks last; and what is no number is the largest where it is wrong and the smallest where it is right. Raises ValueError for a query
    without a right candidate.
    """
    if not is_right.any(axis=1).all():
        raise ValueError(f"query {int(np.argmin(is_right.any(axis=1)))} has no right candidate in the gallery")
    right = np.where(is_right & ~np.isnan(similarity), similarity, -np.inf).max(axis=1)
    beaten = np.isfinite(right)[:, None] & (similarity < right[:, None])  # NaN is not smaller than anything
    return 1 + (~is_right & ~beaten).sum(axis=1, dtype=np.int64)


def recall_at(found: NDArray[np.int64], cutoff: int) -> float:
    """The share of queries whose best right candidate is among the first ``cutoff``."""
    return float((found <= cutoff).mean())


def chance_at(num_right: int, num_candidates: int, cutoff: int) -> float:
    """How probable it is that one of ``num_right`` is among the first ``cutoff`` of a random order: 1 - C(G - r, k) / C(G, k)."""
    drawn = min(cutoff, num_candidates)
    return 1.0 - math.comb(num_candidates - num_right, drawn) / math.comb(num_candidates, drawn)


def retrieval(
    similarity: NDArray[np.floating], texts: Sequence[Hashable], pictures: Sequence[Hashable] | None = None
) -> tuple[Retrieval, Retrieval]:
    """Both directions of a gallery of N pairs, ``similarity[i, j]`` that of picture i and text j (N, N)."""
    is_right = right_candidates(texts, pictures)
    return (
        _one_way(similarity, is_right, "image_to_text", _gallery(texts, pictures, "image_to_text")),
        _one_way(similarity.T, is_right.T, "text_to_image", _gallery(texts, pictures, "text_to_image")),
    )


def _one_way(
    similarity: NDArray[np.floating], is_right: NDArray[np.bool_], direction: Direction, gallery: _Gallery
) -> Retrieval:  # fmt: skip
    shown = np.ix_(gallery.queries, gallery.candidates)
    return Retrieval(
        direction=direction, queries=gallery.queries, ranks=ranks(similarity[shown], is_right[shown]),
        gallery_size=len(gallery.candidates), chances=_chances(is_right[shown]),
    )  # fmt: skip


def _chances(is_right: NDArray[np.bool_]) -> tuple[float, ...]:
    counts: list[int] = is_right.sum(axis=1).tolist()
    return tuple(float(np.mean([chance_at(count, is_right.shape[1], cutoff) for count in counts])) for cutoff in CUTOFFS)


def class_only_at(
    texts: Sequence[Hashable], classes: Sequence[Hashable], cutoff: int, pictures: Sequence[Hashable] | None = None,
    direction: Direction = "image_to_text",
) -> float:  # fmt: skip
    """Expected recall of who knows the class of every picture and text and nothing else: those of the right class first, by chance.

    Mean over queries of 1 - C(n - r, k) / C(n, k), of n candidates in the query's class, r of them right; 1 where k >= n. A candidate is in
    every class that it stands in somewhere.
    """
    is_to_text, gallery = direction == "image_to_text", _gallery(texts, pictures, direction)
    standing = texts if is_to_text else range(len(texts)) if pictures is None else pictures
    shown = np.ix_(gallery.queries, gallery.candidates)
    class_of, place_of = _numbered(classes), _numbered(standing)
    stands = np.zeros((class_of.max() + 1, place_of.max() + 1), dtype=np.bool_)
    stands[class_of, place_of] = True
    of_class = stands[np.ix_(class_of[gallery.queries], place_of[gallery.candidates])]
    right = right_candidates(texts, pictures)
    is_right = of_class & (right if is_to_text else right.T)[shown]
    counts: list[tuple[int, int]] = list(zip(is_right.sum(axis=1).tolist(), of_class.sum(axis=1).tolist(), strict=True))
    return sum(chance_at(right, size, cutoff) for right, size in counts) / len(counts)


def _numbered(values: Sequence[Hashable]) -> NDArray[np.intp]:
    """Each as a number, equal ones as the same, in the order in which they come."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], dtype=np.intp)


def mean_similarities(
    similarity: NDArray[np.floating], texts: Sequence[Hashable], pictures: Sequence[Hashable] | None = None
) -> tuple[float, float]:
    """(of right pairs, of wrong ones); NaN where there are no wrong ones."""
    is_right = right_candidates(texts, pictures)
    wrong = similarity[~is_right]
    return float(similarity[is_right].mean()), float(wrong.mean()) if wrong.size else math.nan
