"""Weights that are trained in full: how far each has moved. No torch here.

In: norms, as the trainer measured them. Out: a row per tensor. How far one may move is the stage's business (``recipe.Handover``).
"""

from dataclasses import dataclass
from typing import Annotated

from medvl_lib.tables import Column

MOVED_TENSORS = "moved_tensors.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedTensor:
    """One tensor of the model that a stage trains as it is, not by a low-rank update."""

    name: Annotated[str, Column("the tensor's name in the model")]
    norm_before: Annotated[float, Column("Euclidean norm before the first step")]
    norm_of_change: Annotated[float, Column("Euclidean norm of what was added to it by the kept step; not a number where it is broken")]
