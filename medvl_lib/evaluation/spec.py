"""What is asked of every variant: the numbers of an evaluation that bear identity. No torch here."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

from medvl_lib.evaluation.predictions import Condition
from medvl_lib.pairs import Split
from medvl_lib.provenance import digest

REVISION = 3  # shuffled pictures are never a pair's own, of another patient where possible, and every pair is asked with some

FurtherVariant = Literal["int8", "merged"]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSpec:
    """How predictions come about. Every field bears identity."""

    splits: tuple[Split, ...]
    """The splits that are predicted; the gate and the leaderboard read ``test`` alone."""
    max_pairs_per_dataset: int
    """Most pairs of one dataset and split (the first by a seeded hash of their ids); 0 for all."""
    max_answer_tokens: int
    """Tokens after which an answer is cut."""
    controls: tuple[Condition, ...]
    """Conditions, beside ``as_is``, under which whoever may be served answers: what it says without the picture, and with similar cases."""
    seed: int
    """Seed of the choice of pairs and of the random floor."""
    datasets: tuple[str, ...]
    """Whose pairs are predicted; empty for all of the line's, also those that only help in training."""
    further_variants: tuple[FurtherVariant, ...]
    """Who answers beside base, nf4 and adapter: ``int8``, the base in eight bits; ``merged``, the adapter added into the 16-bit base."""
    num_retrieved_cases: int = 3
    """Similar training cases that stand before a question under ``retrieved_cases``; of a line without an encoder it says nothing."""

    def __post_init__(self) -> None:
        """Refuse an evaluation that says nothing, or asks twice."""
        if "test" not in self.splits or len(set(self.splits)) < len(self.splits):
            raise ValueError(f"splits = {list(self.splits)!r} must name test, and none twice: gate and leaderboard read test alone")
        if self.max_pairs_per_dataset < 0:
            raise ValueError(f"max_pairs_per_dataset = {self.max_pairs_per_dataset!r} must be 1 or more, or 0 for all")
        if self.num_retrieved_cases < 1:
            raise ValueError(f"num_retrieved_cases = {self.num_retrieved_cases!r} must be 1 or more")
        if self.max_answer_tokens < 1:
            raise ValueError(f"max_answer_tokens = {self.max_answer_tokens!r} must be 1 or more")
        if len(set(self.datasets)) < len(self.datasets):
            raise ValueError(f"datasets = {list(self.datasets)!r} must name none twice")
        if len(set(self.further_variants)) < len(self.further_variants):
            raise ValueError(f"further_variants = {list(self.further_variants)!r} must name none twice")
        if "as_is" in self.controls or len(set(self.controls)) < len(self.controls):
            raise ValueError(f"controls = {list(self.controls)!r} must not name as_is, which is always asked, and none twice")


def first_asked(items: Iterable[Item], evaluation: EvaluationSpec, pair_id: Callable[[Item], str]) -> list[Item]:
    """Of what one dataset and split has, what is asked: the first by a seeded hash of their ids, in this order."""
    ordered = sorted(items, key=lambda item: digest([evaluation.seed, pair_id(item)]))
    return ordered[: evaluation.max_pairs_per_dataset or None]
