"""``/extract``, ``/analyze`` and ``/describe``, each for one question or for a batch of files that are answered apart.

In: a form with files (``image``; ``file`` is another name of the same) and words. Out: answers as JSON. Several files, and the pages of
one, are shown together in one question; a batch asks about each file, or each page, by itself, and one that cannot be read spoils no other.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Annotated, Literal, TypeVar

from fastapi import APIRouter, Depends, File, Form, UploadFile
from pydantic import BaseModel, Field

from medvl_lib.case_index import is_alike
from medvl_lib.datasets.descriptions import DESCRIBE
from medvl_lib.retrieved_cases import before
from medvl_lib.serving.cases import Cases
from medvl_lib.serving.counter import Now
from medvl_lib.serving.describing import before_it, keeps_language
from medvl_lib.serving.desk import Desk
from medvl_lib.serving.endpoints.answers import ANSWERING, Answer, Extraction, fields_of, refusals
from medvl_lib.serving.extraction import stated_facts
from medvl_lib.serving.guard import FAILED
from medvl_lib.serving.identifiers import Identifier, of_text
from medvl_lib.serving.parsing import require_known_fields
from medvl_lib.serving.problems import Problem, ProblemDetails, details, place
from medvl_lib.serving.question import Question
from medvl_lib.serving.reading import beside, read
from medvl_lib.serving.uploads import MAX_BATCH_PIXELS, MAX_FILES, MAX_PICTURES, Document, size_of

LOG = logging.getLogger(__name__)
MAX_BATCH_BYTES = 128 << 20  # of a batch's pages: twice what may be uploaded, since drawn ones may be larger than their file
TOGETHER = f"Pictures, PDFs or DICOM files, in the order in which they are shown: up to {MAX_PICTURES} pages together."
Files = Annotated[list[UploadFile], File(description=TOGETHER, default_factory=list)]
Others = Annotated[list[UploadFile], File(description="The same as image.", default_factory=list)]
Batch = Annotated[list[UploadFile], File(description=f"Up to {MAX_FILES} files, each answered by itself.", max_length=MAX_FILES)]
Prompt = Annotated[str, Form(description="What is asked about them.", examples=["Which medicines are listed?"])]
Language = Annotated[Literal["en", "zh"], Form(description="In which language it is asked.")]
WithCases = Annotated[bool, Form(description="Whether similar training cases stand before the question.")]
Apart = Annotated[Literal["file", "page"], Form(description="Whether each file is asked about by itself, or each page of each file.")]
AnswerT = TypeVar("AnswerT", bound=Answer)


class Description(Answer):
    """What the model said of a picture, and what stood before the question."""

    request: str = Field(description="The question.", examples=["Describe this medical image."])
    num_cases: int = Field(description="Similar training cases before it.", examples=[0])
    is_in_language: bool = Field(
        description="Whether it is told in the language that was asked for; an evaluation counts the others as failed."
    )


class OneOfBatch(BaseModel):
    """What became of one file, or of one page of it: an answer, or a problem."""

    file: int = Field(description="Which file, counted from 1.", examples=[1])
    page: int | None = Field(description="Which page of it, counted from 1; null where all were shown together.", examples=[None])
    problem: ProblemDetails | None


class AnalyzedOne(OneOfBatch):
    """One answer of a batch."""

    answer: Answer | None


class ExtractedOne(OneOfBatch):
    """One answer of a batch."""

    answer: Extraction | None


class Analyzed(BaseModel):
    """A batch, in the order in which it was sent."""

    answers: list[AnalyzedOne]


class Extracted(BaseModel):
    """A batch, in the order in which it was sent."""

    answers: list[ExtractedOne]


def documents_router(now: Now, desk: Desk, cases: Cases) -> APIRouter:  # noqa: C901 (five endpoints of a few lines)
    """The endpoints."""
    router = APIRouter(tags=["documents"], responses=refusals(*ANSWERING), dependencies=[Depends(require_known_fields)])

    async def analyzed(prompt: str, shown: Document) -> Answer:
        resident, said = await desk.ask(Question.of(prompt, shown.pages))
        return Answer(**fields_of(resident, said, _identifying(shown, prompt, said.answer)))

    async def extracted(shown: Document) -> Extraction:
        request = now.counter.line.extraction_request
        resident, said = await desk.ask(Question.of(request, shown.pages))
        fields = fields_of(resident, said, _identifying(shown, "", said.answer))
        return Extraction(**fields, request=request, facts=list(stated_facts(said.answer)))

    @router.post("/analyze")
    async def analyze(prompt: Prompt, image: Files, file: Others) -> Answer:
        """Answer a question about pictures, or without any."""
        return await analyzed(prompt, await shown_together([*image, *file]))

    @router.post("/extract")
    async def extract(image: Files, file: Others) -> Extraction:
        """Ask the line's own question, and take the answer apart into terms, values and units."""
        return await extracted(_some(await shown_together([*image, *file])))

    @router.post("/describe")
    async def describe(image: Files, file: Others, language: Language = "en", with_cases: WithCases = False) -> Description:
        """Ask for a description of a picture, in English or Chinese, perhaps with what is said of similar training cases before it."""
        shown = _some(await shown_together([*image, *file]))
        counter, found, preface, num_cases = now.counter, list[str](), "", 0
        if with_cases:
            count = counter.line.evaluation.num_retrieved_cases
            near = await cases.nearest(counter, shown.pages, count, language=language)
            found = [case.text for case in near.cases if is_alike(case.similarity, near.floor)]
        if found:
            fitting = await beside(partial(before_it, shown.pages, language, found, model=counter.model, line=counter.line))
            preface, num_cases = fitting.preface, fitting.num_cases
        request = before(preface, DESCRIBE[language])
        resident, said = await desk.ask(Question.of(request, shown.pages))
        fields = fields_of(resident, said, _identifying(shown, "", said.answer))
        is_kept = keeps_language(said.answer, language)
        return Description(**fields, request=DESCRIBE[language], num_cases=num_cases, is_in_language=is_kept)

    @router.post("/analyze/batch")
    async def analyze_batch(prompt: Prompt, file: Batch, by: Apart = "file") -> Analyzed:
        """Answer a question about each of several files, or each of their pages."""
        told = await _each(file, by, lambda shown: analyzed(prompt, shown))
        return Analyzed(answers=[AnalyzedOne(file=one, page=page, answer=said, problem=why) for one, page, said, why in told])

    @router.post("/extract/batch")
    async def extract_batch(file: Batch, by: Apart = "file") -> Extracted:
        """Ask the line's own question about each of several files, or each of their pages."""
        told = await _each(file, by, extracted)
        return Extracted(answers=[ExtractedOne(file=one, page=page, answer=said, problem=why) for one, page, said, why in told])

    return router


async def shown_together(files: Sequence[UploadFile]) -> Document:
    """The pages of all files as one document; a Problem where they are too many for one question."""
    pages: list[bytes] = []
    found: list[Identifier] = []
    for file in files:
        document = await _read(file, MAX_PICTURES)
        found += [_at(each, len(pages) + 1) for each in document.identifiers]
        pages += document.pages
        if len(pages) > MAX_PICTURES:
            raise Problem(422, found=f"more than {MAX_PICTURES} pages for one question", do="send fewer, or as a batch by page")
    return Document(pages=tuple(pages), identifiers=tuple(found))


async def _read(file: UploadFile, most_pages: int) -> Document:
    """What was uploaded, read beside the event loop: drawing or decoding takes its time."""
    data = await file.read()
    await file.close()  # or it would be held twice until the answer is there
    return await read(data, most_pages=most_pages)


def _at(found: Identifier, place: int) -> Identifier:
    return Identifier(where=f"picture {place}", kind=found.kind, detail=found.detail)


def _some(shown: Document) -> Document:
    if not shown.pages:
        raise Problem(422, found="no file", do="send one or more in the form field image")
    return shown


def _identifying(shown: Document, prompt: str, answer: str) -> list[Identifier]:
    return [*shown.identifiers, *of_text(prompt, "prompt"), *of_text(answer, "answer")]


Told = tuple[int, int | None, AnswerT | None, ProblemDetails | None]


async def _each(
    files: Sequence[UploadFile], by: Literal["file", "page"], ask: Callable[[Document], Awaitable[AnswerT]]
) -> list[Told[AnswerT]]:
    """What became of each file, or page; all questions wait together, so that they are answered together."""
    parts: list[tuple[int, int | None, Document | Exception]] = []
    for number, file in enumerate(files, start=1):  # what is too much is seen before the next file is read
        parts += await _parts(number, file, by)
        _require_one_batch(parts)

    async def told(file: int, page: int | None, shown: Document | Exception) -> Told[AnswerT]:
        try:
            if isinstance(shown, Exception):
                raise shown
            return file, page, await ask(shown), None
        except Problem as why:
            return file, page, None, details(why.status, why.detail)
        except Exception as error:  # of whatever kind: the others are answered, and the log gets its kind and place alone
            LOG.error("%s", place(error))
            return file, page, None, details(500, FAILED)

    return await asyncio.gather(*(told(*part) for part in parts))


def _require_one_batch(parts: Sequence[tuple[int, int | None, Document | Exception]]) -> None:
    """Refuse more pages, bytes or pixels than are answered in one go."""
    pages = [page for _, _, shown in parts if isinstance(shown, Document) for page in shown.pages]
    if len(parts) > MAX_FILES:
        raise Problem(422, found=f"more than {MAX_FILES} pages in one batch", do="send fewer at a time")
    if sum(map(len, pages)) > MAX_BATCH_BYTES:
        raise Problem(413, found=f"a batch whose pages are more than {MAX_BATCH_BYTES} bytes", do="send fewer files at a time")
    if (num_pixels := sum(size_of(page).num_pixels for page in pages)) > MAX_BATCH_PIXELS:
        found = f"{num_pixels} pixels in the first {len(pages)} pages of a batch"
        raise Problem(413, found=found, do=f"send fewer or smaller ones: at most {MAX_BATCH_PIXELS} in one batch")


async def _parts(number: int, file: UploadFile, by: Literal["file", "page"]) -> list[tuple[int, int | None, Document | Exception]]:
    """What is asked about one file: its pages together, or each of them; or why it cannot be."""
    try:
        document = await _read(file, MAX_PICTURES if by == "file" else MAX_FILES)
    except Exception as why:  # what is no Problem is told as one, and logged, by ``_each``
        return [(number, None, why)]
    if by == "file":
        marked = tuple(_at(each, 1) for each in document.identifiers)
        return [(number, None, Document(pages=document.pages, identifiers=marked))]
    return [
        (number, place, Document(pages=(page,), identifiers=tuple(_at(each, 1) for each in document.identifiers)))
        for place, page in enumerate(document.pages, start=1)
    ]
