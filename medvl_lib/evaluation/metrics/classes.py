"""Metrics for the class that a description names: a grade, a diagnosis.

In: an answer, the class of the picture, and the classes that there are (their names, each with what else it is called, as ``vqa`` reads
labels). Out: a number from 0 to 1, or what a corpus metric sums. The classes come with the pair, from its dataset by way of ``labels``.

*Ordinal* are classes whose names end in rising whole numbers (KL 0, KL 1, ...): they are as far apart as their places.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from medvl_lib.evaluation.metrics.tokens import UnscorableError
from medvl_lib.evaluation.metrics.vqa import Labels, names, stated_label

Floats = NDArray[np.float64]


def is_ordinal(labels: Labels) -> bool:
    """Whether the classes are grades of a scale.

    >>> is_ordinal(("KL 0=grade 0", "KL 1=grade 1")), is_ordinal(("BCC", "MEL"))
    (True, False)
    """
    ends = [name.rpartition(" ")[2] for name in names(labels)]
    return len(ends) > 1 and all(end.isdecimal() for end in ends) and all(int(first) < int(second) for first, second in pairwise(ends))


def _place(wanted: str, labels: Labels) -> int:
    if wanted not in names(labels):
        raise UnscorableError("the class of the picture is none of its declared classes")
    return names(labels).index(wanted)


def class_agreement(answer: str, wanted: str, labels: Labels) -> float:
    """1 where the answer names the picture's class and no other, exactly; 0 for another one, none, several, and an empty answer.

    >>> class_agreement("Radiograph of a knee, grade 2 (mild).", "KL 2", ("KL 1=grade 1", "KL 2=grade 2"))
    1.0
    >>> class_agreement("grade 1 grade 2", "KL 2", ("KL 1=grade 1", "KL 2=grade 2"))
    0.0
    """
    _place(wanted, labels)
    return float(stated_label(answer, labels) == wanted)


def class_unparsable(answer: str, wanted: str, labels: Labels) -> float:
    """1 where an answer names no class, or several; these are wrong in ``class_agreement`` and counted here.

    >>> class_unparsable("A knee.", "KL 2", ("KL 1=grade 1", "KL 2=grade 2"))
    1.0
    """
    _place(wanted, labels)
    return float(stated_label(answer, labels) is None)


def counts(answer: str, wanted: str, labels: Labels) -> tuple[float, ...]:
    """A pair's cell of the table of wanted (rows) by named classes (columns, the last one for none or several), row by row."""
    found = stated_label(answer, labels)
    columns = len(labels) + 1
    table = np.zeros((len(labels), columns))
    table[_place(wanted, labels), len(labels) if found is None else names(labels).index(found)] = 1.0
    return tuple(table.flatten().tolist())


def _tables(sums: Floats) -> Floats:
    """Sums (..., classes x (classes + 1)) as tables (..., classes, classes + 1)."""
    size = (np.sqrt(1 + 4 * sums.shape[-1]) - 1) / 2
    if size != round(size):
        raise ValueError(f"{sums.shape[-1]} sums are no table of classes")
    return sums.reshape(*sums.shape[:-1], round(size), round(size) + 1)


def macro_f1(sums: Floats) -> Floats:
    """Mean over the classes that are wanted at all of 2 x right / (wanted + named); 0 where nothing is wanted.

    scikit-learn's ``f1_score(average="macro", labels=<the wanted ones>)``: a class of which no picture is there has no F1, and naming it is
    a miss of another one.
    """
    tables = _tables(sums)
    wanted: Floats = tables.sum(axis=-1)
    named: Floats = tables[..., :-1].sum(axis=-2)
    right: Floats = np.diagonal(tables[..., :-1], axis1=-2, axis2=-1)
    each: Floats = np.where(wanted > 0, 2 * right / np.maximum(wanted + named, 1), 0.0)
    return each.sum(axis=-1) / np.maximum((wanted > 0).sum(axis=-1), 1)


def grade_agreement(answer: str, wanted: str, labels: Labels) -> float:
    """What one answer adds to the picture of an ordinal scale: 1 - (distance / the longest distance)^2; 0 for one that names no grade."""
    found = stated_label(answer, labels)
    if found is None:
        _place(wanted, labels)
        return 0.0
    return 1.0 - ((_place(wanted, labels) - names(labels).index(found)) / max(len(labels) - 1, 1)) ** 2


def quadratic_kappa(sums: Floats) -> Floats:
    """Cohen's kappa of wanted and named grades, weighted by the square of the distance (Cohen 1968), and 0 where that is below 0.

    An answer that names no grade is counted as the one furthest from the wanted (of two, the higher), so that silence about hard pictures
    wins nothing. 0 is what chance gives; where all pictures and answers have one grade it is not defined, and 0 here.
    """
    tables = _tables(sums)
    size = tables.shape[-2]
    places = np.arange(size, dtype=np.float64)
    furthest = np.where(places >= size / 2, 0, size - 1)
    squares = tables[..., :-1] + tables[..., -1:] * (furthest[:, None] == places[None, :])
    distances = (places[:, None] - places[None, :]) ** 2
    chance = squares.sum(axis=-1)[..., :, None] * squares.sum(axis=-2)[..., None, :]
    expected: Floats = (chance * distances).sum(axis=(-2, -1))
    observed: Floats = (squares * distances).sum(axis=(-2, -1)) * squares.sum(axis=(-2, -1))
    return np.where(expected > 0, np.maximum(0.0, 1 - observed / np.where(expected > 0, expected, 1.0)), 0.0)


def signature(labels: Sequence[str]) -> str:
    """Which classes there are: results over different ones are never in one number."""
    return "classes: " + ", ".join(names(tuple(labels)))
