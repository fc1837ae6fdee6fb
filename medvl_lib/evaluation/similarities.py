"""Similarities: how near what was said of a picture lies to that picture, by the line's own encoder. No torch here.

In: a predictions directory with its answers, the pictures of each pair, and unit vectors of pictures and texts. Out:
``similarities.parquet`` beside the predictions, one row per answer that says anything. A number that takes a model is measured here, once;
what it is worth is ``metrics``' to say, and ``scores`` reads it. Vectors are ``models.embedding``'s.

The encoder was trained on this line's own texts: an answer in their words is near to many pictures. It tells a text of another picture from
a text of this one, not a true text from a false one, so nothing is decided by it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from medvl_lib.evaluation.predictions import PREDICTIONS, Condition, Prediction, Variant
from medvl_lib.provenance import Fact
from medvl_lib.tables import Column, read_table, write_table

REVISION = 1  # first version
SIMILARITIES = "similarities.parquet"
Vectors = Mapping[str, NDArray[np.float32]]
"""Picture id, or text -> unit vector (D,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Similarity:
    """How near an answer lies to what it is about. Key: (pair_id, variant, condition)."""

    pair_id: Annotated[str, Column("the pair")]
    variant: Annotated[Variant, Column("who answered")]
    condition: Annotated[Condition, Column("as_is, or what was done to the question")]
    similarity: Annotated[float, Column("cosine of the answer and the pair's own pictures, the mean over these, -1 to 1")]


def said(directory: Path) -> list[str]:
    """Every text that was answered, each once, in the order of the answers; what is empty lies nowhere."""
    return list(dict.fromkeys(row.answer for row in read_table(directory / PREDICTIONS, Prediction) if row.answer.strip()))


def write_similarities(directory: Path, shown: Mapping[str, Sequence[str]], pictures: Vectors, texts: Vectors) -> dict[str, Fact]:
    """Write a row for each answer of ``directory`` that says anything; ``shown`` are the picture ids of each pair.

    The pair's own pictures, whatever was shown in their place: a text that was written without seeing them shows what they are worth.
    """
    means = {pair_id: np.mean([pictures[image_id] for image_id in ids], axis=0) for pair_id, ids in shown.items() if ids}
    num_similarities = write_table(directory / SIMILARITIES, Similarity, (
        Similarity(
            pair_id=row.pair_id, variant=row.variant, condition=row.condition,
            similarity=float(np.clip(means[row.pair_id] @ texts[row.answer], -1, 1)),
        ) for row in read_table(directory / PREDICTIONS, Prediction) if row.answer.strip() and row.pair_id in means
    ))  # fmt: skip
    return {"num_similarities": num_similarities}


def read_similarities(directory: Path) -> dict[tuple[str, Variant, Condition], float]:
    """(pair, variant, condition) -> similarity; empty where the line has no encoder."""
    path = directory / SIMILARITIES
    rows = read_table(path, Similarity) if path.is_file() else ()
    return {(row.pair_id, row.variant, row.condition): row.similarity for row in rows}
