"""The index of cases: what an encoder makes of the training pictures, and which of them are nearest to another picture. No torch here.

In: captioned pictures of the training split with their unit vectors, and those of the validation split; later a vector that is looked for.
Out: ``index.parquet``, a floor of similarity, and ``Neighbour`` rows, found by DuckDB in the file itself. A case of a patient who is named
is never a neighbour, and one of another split never stands in an index: its text would be the answer. Making vectors belongs to
``models.embedding``.

**The floor.** Something is always nearest, to a picture of another kind as well. How near a case lies to a picture of the line's own kind
is seen on the validation pictures, which neither the index nor the test set holds: the floor is what 19 of 20 of them reach. So one in
twenty of the line's own pictures is wrongly said to have no similar case; how many of another kind have one depends on the encoder.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medvl_lib.captions import CaptionedImage
from medvl_lib.files import read_json, write_json
from medvl_lib.pairs import Split
from medvl_lib.provenance import Fact, Outcome
from medvl_lib.rules import columns_are_as_declared, no_rows, rule, stream
from medvl_lib.tables import Column, Float32, num_rows, read_column, write_table

REVISION = 2  # a floor of similarity
STEP = "index"  # which writes it
INDEX = "index.parquet"
COUNTS = "counts.json"
HELD_BACK = "held_back.parquet"
BELOW_FLOOR = 0.05  # share of the validation pictures whose nearest case is less similar than the floor
FEWEST_HELD_BACK = 20  # pictures: of fewer the floor would be the smallest of them, or less than that
LONGEST_ERROR = 1e-4  # of a unit vector in 32 bits: its length is 1 to 1e-6
Each = Literal["picture", "pair"]
"""What stands once among the nearest: a pair may have several pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedCase:
    """A training picture with its text and its place in the encoder's space."""

    pair_id: Annotated[str, Column("the pair")]
    dataset: Annotated[str, Column("name of the dataset")]
    split: Annotated[Split, Column("where the pair went: train, or it may not stand here")]
    group_id: Annotated[str, Column("dataset and patient, or document where no patient is known")]
    image_id: Annotated[str, Column("SHA-256 of the picture's stored bytes")]
    text: Annotated[str, Column("what is said of the picture")]
    language: Annotated[str, Column("ISO 639-1 code of the text")]
    licence: Annotated[str, Column("SPDX identifier, or the publisher's words, for this very picture and text")]
    embedding: Annotated[tuple[Float32, ...], Column("unit vector of the picture")]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBackPicture:
    """A validation picture, and how near the nearest case lies to it."""

    image_id: Annotated[str, Column("SHA-256 of the picture's stored bytes")]
    group_id: Annotated[str, Column("dataset and patient, or document where no patient is known")]
    similarity: Annotated[float, Column("largest cosine of the picture and a case of another patient, -1 to 1")]


class Neighbour(NamedTuple):
    """A case, and how similar its picture is to the one that was looked for."""

    similarity: float
    """Cosine, -1 to 1."""
    pair_id: str
    dataset: str
    image_id: str
    text: str
    language: str
    licence: str


class Embedded(NamedTuple):
    """Captioned pictures and their unit vectors (N, D)."""

    captions: Sequence[CaptionedImage]
    vectors: NDArray[np.float32]


def write_index(directory: Path, cases: Embedded, held_back: Embedded) -> dict[str, Fact]:
    """Write a row per captioned picture of the training split (``cases``), and how near one lies to each of the validation split.

    Returns how many there are, of how many numbers a vector has, and the floor.
    """
    captions, vectors = cases
    num_cases = write_table(directory / INDEX, IndexedCase, (_case(item, vector) for item, vector in zip(captions, vectors, strict=True)))
    nearest_ones = list(_held_back(cases, held_back))
    write_table(directory / HELD_BACK, HeldBackPicture, nearest_ones)
    floor = _floor([one.similarity for one in nearest_ones])
    write_json(directory / COUNTS, {"num_captioned_pictures": len(captions), "similarity_floor": floor})
    return {
        "num_cases": num_cases, "num_pictures": len({item.image_id for item in captions}), "width": vectors.shape[1],
        "num_held_back_pictures": len(nearest_ones), "similarity_floor": floor,
    }  # fmt: skip


def _held_back(cases: Embedded, held_back: Embedded) -> Iterator[HeldBackPicture]:
    """Each picture once; none where no case is of another patient and picture."""
    groups, pictures = (np.array([getattr(item, name) for item in cases.captions]) for name in ("group_id", "image_id"))
    once = {item.image_id: (item, vector) for item, vector in zip(*held_back, strict=True)}
    for item, vector in once.values():
        is_other = (groups != item.group_id) & (pictures != item.image_id)
        if is_other.any():
            similarity = float(np.clip((cases.vectors[is_other] @ vector).max(), -1, 1))
            yield HeldBackPicture(image_id=item.image_id, group_id=item.group_id, similarity=similarity)


def _floor(similarities: Sequence[float]) -> float | None:
    """What all but ``BELOW_FLOOR`` of them reach; None of too few."""
    return float(np.quantile(similarities, BELOW_FLOOR, method="lower")) if len(similarities) >= FEWEST_HELD_BACK else None


def similarity_floor(directory: Path) -> float | None:
    """Below which a case is like the picture in nothing; None where too few validation pictures said so, as in an index made before."""
    return read_json(directory / COUNTS).get("similarity_floor")


def is_alike(similarity: float, floor: float | None) -> bool:
    """Whether a case is similar enough to be one; True where the index knows no floor."""
    return floor is None or similarity >= floor


def _case(item: CaptionedImage, vector: NDArray[np.float32]) -> IndexedCase:
    return IndexedCase(
        pair_id=item.pair_id, dataset=item.dataset, split=item.split, group_id=item.group_id, image_id=item.image_id, text=item.text,
        language=item.language, licence=item.licence, embedding=tuple(vector.tolist()),
    )  # fmt: skip


def nearest(
    directory: Path, vector: NDArray[np.float32], count: int, *, not_of_groups: Iterable[str] = (), not_of_images: Iterable[str] = (),
    language: str | None = None, each: Each = "picture",
) -> list[Neighbour]:  # fmt: skip
    """The cases whose pictures are most similar to a unit vector (D,), the best first, each picture once, with its first text.

    ``not_of_groups`` are patients (as in ``group_id``) and ``not_of_images`` pictures that do not count: those of the picture itself, since
    the answer would be copied and not found. With a ``language`` (ISO 639-1) only what is told in it. With ``each`` "pair" a pair
    stands once as well, by the nearest of its pictures. An exact search: every case is looked at.
    """
    question = """
        with found as (
            select list_inner_product(embedding, $vector::float[]) as similarity, pair_id, dataset, image_id, text, language, licence,
                file_row_number
            from read_parquet($index, file_row_number = true)
            where not list_contains($groups::varchar[], group_id) and not list_contains($images::varchar[], image_id)
                and language = coalesce(nullif($language, ''), language)
        ), by_picture as (
            select * from found qualify row_number() over (partition by image_id order by file_row_number) = 1
        )
        select similarity, pair_id, dataset, image_id, text, language, licence from by_picture
        qualify not $is_by_pair or row_number() over (partition by pair_id order by similarity desc, file_row_number) = 1
        order by similarity desc, pair_id limit $count
    """
    rows = stream(
        question, index=directory / INDEX, vector=[float(value) for value in vector], groups=list(not_of_groups),
        images=list(not_of_images), count=count, language=language or "", is_by_pair=each == "pair",
    )  # fmt: skip
    return [Neighbour(*row) for row in rows]


def every_training_picture_has_its_place(directory: Path) -> Outcome:
    """As many rows as the training split has captioned pictures, none of them twice."""
    expected, found = int(read_json(directory / COUNTS)["num_captioned_pictures"]), num_rows(directory / INDEX)
    question = "select image_id from read_parquet($index) group by image_id, text having count(*) > 1 order by 1"
    twice = [str(row[0]) for row in stream(question, index=directory / INDEX)]
    passed = found == expected and expected > 0 and not twice
    return Outcome(passed=passed, found=f"{found} cases of {expected} captioned pictures, {len(twice)} twice", offenders=tuple(twice[:10]))


def no_case_is_held_out(directory: Path) -> Outcome:
    """Every case is of the training split: a held-out one would hand its own answer to who is asked for it."""
    return no_rows(
        "cases are not of the training split", "select pair_id from read_parquet($index) where split <> 'train' order by 1",
        index=directory / INDEX,
    )  # fmt: skip


def every_vector_has_the_length_one(directory: Path) -> Outcome:
    """All vectors have equally many numbers and the length 1: otherwise the most similar would be the longest."""
    question = """
        select pair_id from read_parquet($index), (select max(len(embedding)) as width from read_parquet($index))
        where len(embedding) <> width or not abs(list_inner_product(embedding, embedding) - 1) <= $error order by 1
    """
    return no_rows("vectors have another length than 1", question, index=directory / INDEX, error=LONGEST_ERROR)


def the_floor_is_that_of_validation(directory: Path) -> Outcome:
    """The floor is what the written similarities of the validation pictures give."""
    similarities = list(read_column(directory / HELD_BACK, "similarity"))
    expected, found = _floor(similarities), similarity_floor(directory)
    return Outcome(passed=found == expected, found=f"floor {found}, and {expected} by {len(similarities)} validation pictures")


RULES = (
    columns_are_as_declared({INDEX: IndexedCase, HELD_BACK: HeldBackPicture}),
    rule(every_training_picture_has_its_place, "Every captioned picture of the training split stands in the index, and once."),
    rule(no_case_is_held_out, "No case of the index is of the validation or test split."),
    rule(every_vector_has_the_length_one, "Every embedding has the length 1."),
    rule(the_floor_is_that_of_validation, "The floor of similarity is what 19 of 20 validation pictures reach."),
)
