"""``/embed`` and ``/similar``: a picture's place in the encoder's space, and the training cases nearest to it."""

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, File, Form, UploadFile
from pydantic import BaseModel, Field

from medvl_lib.case_index import Neighbour, is_alike
from medvl_lib.datasets import SHOWN_LICENCES
from medvl_lib.serving.cases import Cases
from medvl_lib.serving.counter import Now
from medvl_lib.serving.endpoints.answers import ANSWERING, refusals
from medvl_lib.serving.endpoints.documents import shown_together
from medvl_lib.serving.parsing import require_known_fields
from medvl_lib.serving.problems import Problem

MAX_COUNT = 50
MAX_GROUPS = 32
ONE = {"maxItems": 1}  # for the document alone: what is wrong is told in words of ours
Pictures = Annotated[
    list[UploadFile], File(description="One picture, or a document of one page.", default_factory=list, json_schema_extra=ONE)
]
Others = Annotated[list[UploadFile], File(description="The same as image.", default_factory=list, json_schema_extra=ONE)]
Count = Annotated[int, Form(description="How many cases.", ge=1, le=MAX_COUNT)]
Groups = Annotated[
    list[str],
    Form(
        description="Patients none of whose cases are wanted, as dataset/patient: the picture's own, where the line cannot know it.",
        default_factory=list, max_length=MAX_GROUPS,
    ),
]  # fmt: skip
Language = Annotated[Literal["en", "zh"] | None, Form(description="Only cases that are told in it; without it, in any.")]


class Embedding(BaseModel):
    """A picture's place."""

    embedding: list[float] = Field(description="A unit vector: the cosine of two is their inner product.")
    encoder: str = Field(description="Fingerprint of the encoder: vectors of two encoders have nothing to do with each other.")
    line: str = Field(examples=["imaging"])


class SimilarCase(BaseModel):
    """A training case."""

    similarity: float = Field(description="Cosine of the two pictures, -1 to 1.", examples=[0.91])
    is_below_floor: bool = Field(description="Whether it is like the picture in nothing, and only the nearest that there is.")
    pair_id: str = Field(examples=["knee_xray/train/9003126L"])
    dataset: str = Field(examples=["knee_xray"])
    language: str = Field(examples=["en"])
    text: str | None = Field(description="What is said of it; null where the dataset's card does not allow it to be shown.")
    licence: str = Field(examples=["CC0-1.0"])


class SimilarCases(BaseModel):
    """The nearest first."""

    cases: list[SimilarCase]
    line: str = Field(examples=["imaging"])
    similarity_floor: float | None = Field(
        description="What the nearest cases of 19 of 20 validation pictures reach; null where the index had too few of these.",
        examples=[0.62],
    )
    not_of_known: list[str] = Field(description="Of the patients that were named in not_of, those that the line knows.")


def cases_router(now: Now, cases: Cases) -> APIRouter:
    """The endpoints."""
    router = APIRouter(tags=["similar cases"], responses=refusals(*ANSWERING, 404), dependencies=[Depends(require_known_fields)])

    @router.post("/embed")
    async def embed(image: Pictures, file: Others) -> Embedding:
        """The unit vector of a picture, by the encoder that is served."""
        counter = now.counter
        encoder, vector = await cases.vector(counter, await _one([*image, *file]))
        return Embedding(embedding=vector.tolist(), encoder=encoder.encoder.fingerprint, line=counter.line.name)

    @router.post("/similar")
    async def similar(image: Pictures, file: Others, not_of: Groups, count: Count = 5, language: Language = None) -> SimilarCases:
        """The training cases whose pictures are nearest to this one, never one of the same patient, as far as the patient is known."""
        counter = now.counter
        picture, named = await _one([*image, *file]), {patient: _groups(patient) for patient in not_of}
        groups = [group for each in named.values() for group in each]
        found = await cases.nearest(counter, [picture], count, language=language, not_of_groups=groups, each="pair")
        known = [patient for patient, each in named.items() if not found.known_groups.isdisjoint(each)]
        shown = [_shown(case, found.floor) for case in found.cases]
        return SimilarCases(cases=shown, line=counter.line.name, similarity_floor=found.floor, not_of_known=known)

    return router


def _groups(patient: str) -> tuple[str, str]:
    """How a patient, or a document where no patient is known, is called in an index."""
    dataset, _, name = patient.partition("/")
    return patient, f"{dataset}/subject:{name}"


async def _one(files: Sequence[UploadFile]) -> bytes:
    if len(files) != 1:
        raise _not_one(f"{len(files)} files")
    shown = await shown_together(files)
    if len(shown.pages) != 1:
        raise _not_one(f"{len(shown.pages)} pages")
    return shown.pages[0]


def _not_one(found: str) -> Problem:
    return Problem(422, found=found, do="send one picture, in the form field image")


def _shown(case: Neighbour, floor: float | None) -> SimilarCase:
    may_be_shown = case.licence in SHOWN_LICENCES.get(case.dataset, ())
    return SimilarCase(
        similarity=case.similarity, is_below_floor=not is_alike(case.similarity, floor), pair_id=case.pair_id, dataset=case.dataset,
        language=case.language, text=case.text if may_be_shown else None, licence=case.licence,
    )  # fmt: skip
