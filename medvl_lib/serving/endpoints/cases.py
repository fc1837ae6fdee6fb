"""``/embed`` and ``/similar``: a picture's place in the encoder's space, and the training cases nearest to it."""

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, File, Form, UploadFile
from pydantic import BaseModel, Field

from medvl_lib.case_index import Neighbour
from medvl_lib.datasets import SHOWN_LICENCES
from medvl_lib.serving.cases import Cases
from medvl_lib.serving.counter import Now
from medvl_lib.serving.endpoints.answers import ANSWERING, refusals
from medvl_lib.serving.endpoints.documents import shown_together
from medvl_lib.serving.problems import Problem

MAX_COUNT = 50
MAX_GROUPS = 32
Files = Annotated[list[UploadFile], File(description="One picture.", default_factory=list)]
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
    pair_id: str = Field(examples=["knee_xray/train/9003126L"])
    dataset: str = Field(examples=["knee_xray"])
    language: str = Field(examples=["en"])
    text: str | None = Field(description="What is said of it; null where the dataset's card does not allow it to be shown.")
    licence: str = Field(examples=["CC0-1.0"])


class SimilarCases(BaseModel):
    """The nearest first."""

    cases: list[SimilarCase]
    line: str = Field(examples=["imaging"])


def cases_router(now: Now, cases: Cases) -> APIRouter:
    """The endpoints."""
    router = APIRouter(tags=["similar cases"], responses=refusals(*ANSWERING, 404))

    @router.post("/embed")
    async def embed(image: Files) -> Embedding:
        """The unit vector of a picture, by the encoder that is served."""
        counter = now.counter
        encoder, vector = await cases.vector(counter, await _one(image))
        return Embedding(embedding=vector.tolist(), encoder=encoder.encoder.fingerprint, line=counter.line.name)

    @router.post("/similar")
    async def similar(image: Files, not_of: Groups, count: Count = 5, language: Language = None) -> SimilarCases:
        """The training cases whose pictures are nearest to this one, never one of the same patient, as far as the patient is known."""
        counter = now.counter
        found = await cases.nearest(counter, await _one(image), count, language=language, not_of_groups=not_of)
        return SimilarCases(cases=[_shown(case) for case in found], line=counter.line.name)

    return router


async def _one(files: Sequence[UploadFile]) -> bytes:
    shown = await shown_together(files)
    if len(shown.pages) != 1:
        raise Problem(422, found=f"{len(shown.pages)} pictures", do="send one, in the form field image")
    return shown.pages[0]


def _shown(case: Neighbour) -> SimilarCase:
    may_be_shown = SHOWN_LICENCES.get(case.dataset) == case.licence
    return SimilarCase(
        similarity=case.similarity, pair_id=case.pair_id, dataset=case.dataset, language=case.language,
        text=case.text if may_be_shown else None, licence=case.licence,
    )  # fmt: skip
