"""What a metric is: how an answer is scored, to which pairs that applies, and how one number comes of many. No metric stands here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medvl_lib.evaluation.predictions import Reference
from medvl_lib.pairs import AnswerKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One label of a corpus metric over several: the same sums, another function of them."""

    value: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    """Sums, (..., statistics) -> the metric of the label alone, (...)."""
    num_wanted: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    """Sums -> how many pairs want the label: where none does, it has no value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """How a metric comes about that is no mean over pairs."""

    statistics: Callable[[str, Reference], tuple[float, ...]]
    """(answer, reference) -> what is summed over pairs."""
    value: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    """Sums, (..., statistics) -> the metric, (...): of many sets of pairs at once; not a number where it is not defined of them."""
    is_always_defined: bool = True
    """Whether any pairs at all have a value: a share of what answers hold has none where they hold nothing."""
    parts: Mapping[str, Part] = field(default_factory=dict[str, Part])
    """Slice (``label=edema``) -> the metric of one label, over the same pairs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric as it is scored, shown and compared."""

    name: str
    score: Callable[[str, Reference], float | None]
    """(answer, reference) -> 0 to ``highest``; of a corpus metric None where the pair alone has none: what it adds to the sums counts."""
    applies_to: Callable[[Reference], bool]
    """Whether a reference has what the metric needs."""
    definition: str
    source: str
    """Paper, or implementation at a commit or version."""
    version: int
    """Raised, with the reason beside it, whenever an answer would get another number, also because of tokens, units or dates."""
    highest: float = 1.0
    """The upper end of its range; the lower one is 0."""
    needs: AnswerKind | None = None
    """What a pair must want to hear for ``applies_to`` to be true of it; None: something else is asked of it."""
    is_higher_better: bool = True
    is_gateable: bool = True
    """Whether a gate may decide by it: not where an answer that says nothing, or everything, does well."""
    corpus: Corpus | None = None
    """None: the result is the mean of the scores."""
    signature: Callable[[Reference], str] | None = None
    """How the pair's texts are cut and counted, where that depends on the pair: results of two signatures are never in one number."""

    @property
    def parts(self) -> Mapping[str, Part]:
        """Its labels by the slice that each is reported and guarded in (``label=edema``); none where it is of one thing."""
        return self.corpus.parts if self.corpus else {}
