"""What is asked of every variant: the numbers of an evaluation that bear identity. No torch here."""

from dataclasses import dataclass

from medvl_lib.evaluation.predictions import Condition
from medvl_lib.pairs import Split

REVISION = 1  # first version


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
    """Conditions, beside ``as_is``, under which the adapter answers: what it says without the picture."""
    seed: int
    """Seed of the choice of pairs and of the random floor."""
