"""Labels: the classes that publishers sort pictures into, with their names, meanings and sources.

In: nothing. Out: the Kellgren-Lawrence grades and the diagnoses of skin lesions as typed values, and how an
answer may call them. Reading a label from a file is its
dataset's business; comparing labels is a metric's.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class KellgrenLawrence:
    """How far osteoarthritis of a joint has gone, as a radiograph shows it: an ordinal scale."""

    grade: int
    name: str
    """The word that belongs to the grade."""
    findings: str
    """What a radiograph of the grade shows."""


KELLGREN_LAWRENCE: tuple[KellgrenLawrence, ...] = (
    KellgrenLawrence(grade=0, name="normal", findings="no radiographic features of osteoarthritis"),
    KellgrenLawrence(grade=1, name="doubtful", findings="doubtful narrowing of the joint space and possible osteophytic lipping"),
    KellgrenLawrence(grade=2, name="mild", findings="definite osteophytes and possible narrowing of the joint space"),
    KellgrenLawrence(
        grade=3, name="moderate",
        findings="multiple osteophytes, definite narrowing of the joint space, some sclerosis and possible deformity of the bone ends",
    ),
    KellgrenLawrence(
        grade=4, name="severe",
        findings="large osteophytes, marked narrowing of the joint space, severe sclerosis and definite deformity of the bone ends",
    ),
)  # fmt: skip
"""Five grades, by their number. Kellgren and Lawrence 1957, doi.org/10.1136/ard.16.4.494; grade 2 is "minimal" there and "mild" in the knee
sets; the findings as Kohn et al. 2016 quote them, doi.org/10.1007/s11999-016-4732-4. The requirement documents know four grades and call
grade 3 severe: there are five, and 3 is moderate."""


GRADE_LABELS = "|".join(f"KL {grade.grade}=Kellgren-Lawrence grade {grade.grade}=grade {grade.grade}" for grade in KELLGREN_LAWRENCE)
"""The grades as a label set (``datasets.descriptions.ANSWER_LABELS``): what they are called as a category, and in a text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesion:
    """A diagnosis of a skin lesion."""

    code: str
    name: str
    is_cancer: bool


LESIONS: Mapping[str, Lesion] = {
    lesion.code: lesion
    for lesion in (
        Lesion(code="ACK", name="actinic keratosis", is_cancer=False),
        Lesion(code="BCC", name="basal cell carcinoma", is_cancer=True),
        Lesion(code="MEL", name="melanoma", is_cancer=True),
        Lesion(code="NEV", name="nevus", is_cancer=False),
        Lesion(code="SCC", name="squamous cell carcinoma", is_cancer=True),
        Lesion(code="SEK", name="seborrheic keratosis", is_cancer=False),
    )
}
"""The diagnoses of PAD-UFES-20, by code. Pacheco et al. 2020, doi.org/10.1016/j.dib.2020.106221, table 2."""

LESION_SYNONYMS: Mapping[str, str] = {"BOW": "SCC"}
"""Bowen's disease is counted as squamous cell carcinoma: it is one in situ. The maintainers' own check still knows its code."""

LESION_LABELS = "|".join(f"{lesion.code}={lesion.name}" for lesion in LESIONS.values())
"""The diagnoses as a label set."""
