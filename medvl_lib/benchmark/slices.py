"""Slices: the labels by which test pairs are reported, and guarded, separately.

In: evaluated pairs. Out: for each pair the names of its slices. Means of slices are ``rows``'s, their guardrails ``findings``'s.
"""

from collections.abc import Iterable

from medvl_lib.evaluation.scores import EvaluatedPair

ALL = "all"
LANGUAGE = "language="  # what the slices of languages begin with
WAY = "way="  # and those of pairs whose texts are cut, or whose classes are told apart, in one way: a metric's signature follows


def slices_of(pairs: Iterable[EvaluatedPair], *, across_datasets: bool = False) -> dict[str, list[str]]:
    """The slices that each pair is in, each once: all, each of its labels, and its language where its dataset has several.

    ``across_datasets``: also where its dataset has one, and another dataset another.
    """
    pairs = list(pairs)
    languages: dict[str, set[str]] = {pair.dataset: set() for pair in pairs}
    for pair in pairs:
        for dataset in languages if across_datasets else (pair.dataset,):
            languages[dataset].add(pair.language)
    return {
        pair.pair_id: list(dict.fromkeys([  # a pair may have its language among its labels, too
            ALL,
            *(f"{label}={value}" for label, value in sorted(pair.slices.items())),
            *([f"{LANGUAGE}{pair.language}"] if len(languages[pair.dataset]) > 1 else []),
        ]))
        for pair in pairs
    }  # fmt: skip
