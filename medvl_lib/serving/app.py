"""The HTTP interface: ``/health``, ``/analyze`` and ``/extract`` on one resident model.

In: requests. Out: answers as JSON, and problems as RFC 9457 wants them (``application/problem+json``). Uploads stay in memory, and what a
request says stands in no log. Answering is ``desk``'s, what may come in ``uploads``', who may come in ``guard``'s.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

from fastapi import FastAPI, File, Form, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser

from medvl_lib.errors import MedVLError
from medvl_lib.evaluation.predictions import Prediction, Variant
from medvl_lib.serving.desk import Desk, Status
from medvl_lib.serving.extraction import StatedFact, stated_facts
from medvl_lib.serving.guard import Guard, problem
from medvl_lib.serving.resident import Resident
from medvl_lib.serving.served import ServedModel
from medvl_lib.serving.uploads import MAX_BODY_BYTES, MAX_PICTURES, MAX_PROMPT_CHARACTERS, Problem

LOG = logging.getLogger(__name__)
FOLLOW_SECONDS = 2.0  # a pointer is one small file
MultiPartParser.spool_max_size = MAX_BODY_BYTES  # an upload stays in memory: nothing of a patient is written to disk

Pictures = Annotated[list[UploadFile], File(description=f"One to {MAX_PICTURES} pictures, in the order in which they are shown.")]
MaybePictures = Annotated[
    list[UploadFile], File(description=f"Up to {MAX_PICTURES} pictures, in the order in which they are shown.", default_factory=list)
]
Prompt = Annotated[str, Form(description="What is asked about them.")]


class Part(BaseModel):
    """A directory that is served."""

    step: str = Field(description="The step that wrote it.")
    fingerprint: str = Field(description="Its name.")


class Health(BaseModel):
    """Whether the server can be asked, and what answers."""

    status: Status
    reason: str | None = Field(description="Why it cannot be asked; null when it can.")
    line: str
    variant: Variant = Field(description="base, nf4, affine4, int8, adapter or merged.")
    says: str = Field(description="What is served and why, in words.")
    compared: str = Field(description="How its answers were compared with those that were judged, in words.")
    is_promoted: bool = Field(description="False where nothing was promoted yet: then the base model answers.")
    is_current: bool = Field(description="Whether the pointer still names this; if not, the server takes what it names within seconds.")
    data_version: str = Field(description="Identity of weights and adapter: weights_data_version of the evaluation.")
    weights: Part
    adapter: Part | None
    decision: Part | None = Field(description="The decision that the pointer moved on.")
    device: str
    precision: str | None = Field(description="What the weights really are, such as nf4+bfloat16; null before they are loaded.")


class Answer(BaseModel):
    """What the model said."""

    text: str
    num_prompt_tokens: int = Field(description="Tokens in, picture tokens included.")
    num_answer_tokens: int = Field(description="Tokens out, the end token included.")
    is_cut: bool = Field(description="Whether the answer reached the token limit without an end.")
    batch_size: int = Field(description="Requests that were answered together, this one included.")
    latency_seconds: float = Field(description="From the pictures' bytes to the last token, without the wait for one's turn.")
    line: str
    variant: Variant
    data_version: str = Field(description="Identity of the weights and adapter that answered.")


class Extraction(Answer):
    """What the model said to the line's own question, taken apart."""

    request: str = Field(description="The question.")
    facts: list[StatedFact] = Field(description="Terms, values and units in the text, with their places in it in characters.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """What the application serves, and on which terms."""

    model: ServedModel
    compared: str
    """How its answers were compared with those that were judged, in words."""
    device: str
    extraction_request: str
    """What ``/extract`` asks."""
    load: Callable[[], Resident]
    is_current: Callable[[], bool]
    """Whether the pointer still names ``model``."""
    newer: Callable[[], "Counter | None"] = lambda: None
    """What the pointer names since, where it is another model; raises MedVLError where that may not be served."""
    api_key: str | None
    """What every request but ``/health`` must show; None on the loopback interface."""


def make_app(counter: Counter) -> FastAPI:
    """The application; the model is loaded when it starts up, and another one when the pointer has moved."""
    desk, now = Desk(counter.load), _Now(counter)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        desk.open()
        watching = asyncio.create_task(_follow_the_pointer(now, desk))
        yield
        watching.cancel()
        desk.close()

    app = FastAPI(
        title="MedVL", summary="Questions about medical pictures, answered by a model that was judged.", lifespan=lifespan,
        docs_url=None, redoc_url=None,  # these pages load scripts from elsewhere
        form_limits={"max_files": MAX_PICTURES, "max_fields": 4, "max_part_size": 4 * MAX_PROMPT_CHARACTERS},
    )  # fmt: skip
    app.add_middleware(Guard, api_key=counter.api_key)
    _add_problems(app)

    @app.get("/health", responses={503: {"model": Health}})
    def health(response: Response) -> Health:
        """Whether the server can be asked, and what answers."""
        found = _health(now.counter, desk)
        response.status_code = 200 if found.status == "ready" else 503
        return found

    @app.post("/analyze")
    async def analyze(prompt: Prompt, image: MaybePictures) -> Answer:
        """Answer a question about pictures."""
        return _answer(*await desk.ask(prompt, await _contents(image)))

    @app.post("/extract")
    async def extract(image: Pictures) -> Extraction:
        """Ask the line's own question, and take the answer apart into terms, values and units."""
        resident, said = await desk.ask(counter.extraction_request, await _contents(image))
        answer = _answer(resident, said).model_dump()
        return Extraction(**answer, request=counter.extraction_request, facts=list(stated_facts(said.answer)))

    return app


@dataclass(slots=True)
class _Now:
    """What is served now."""

    counter: Counter


async def _follow_the_pointer(now: _Now, desk: Desk) -> None:
    """Look every few seconds whether the pointer has moved, and serve what it names; nothing, where that may not be served."""
    while True:
        await asyncio.sleep(FOLLOW_SECONDS)
        try:
            newer = await asyncio.to_thread(now.counter.newer)
        except MedVLError as error:  # what was rolled back has its reasons: it does not go on answering
            desk.refuse(error)
            continue
        except (OSError, ValueError) as error:  # a disk that is away for a moment; the next look is soon
            LOG.warning("the pointer could not be read: %s", type(error).__name__)
            continue
        desk.refuse(None)
        if newer is not None:
            now.counter = newer
            desk.exchange(newer.load)


async def _contents(files: Sequence[UploadFile]) -> list[bytes]:
    return [await file.read() for file in files]


def _health(counter: Counter, desk: Desk) -> Health:
    model, status, pointer = counter.model, desk.status, counter.model.pointer
    return Health(
        status=status, reason=desk.reason, line=model.line, variant=model.variant, says=model.sentence, compared=counter.compared,
        is_promoted=pointer is not None, is_current=counter.is_current(), data_version=model.data_version,
        weights=Part(step=model.weights.step, fingerprint=model.weights.fingerprint),
        adapter=None if model.adapter is None else Part(step=model.adapter.step, fingerprint=model.adapter.fingerprint),
        decision=None if pointer is None else Part(step=pointer.decision_step, fingerprint=pointer.decision), device=counter.device,
        precision=desk.resident.precision if status == "ready" else None,
    )  # fmt: skip


def _answer(resident: Resident, said: Prediction) -> Answer:
    if said.latency_seconds is None:
        raise TypeError(f"{said.variant} answered without a latency, as only floors do")
    return Answer(
        text=said.answer, num_prompt_tokens=said.num_prompt_tokens, num_answer_tokens=said.num_answer_tokens, is_cut=said.is_cut,
        batch_size=said.batch_size, latency_seconds=said.latency_seconds, line=resident.model.line, variant=said.variant,
        data_version=resident.model.data_version,
    )  # fmt: skip


def _add_problems(app: FastAPI) -> None:
    """Every refusal in one shape; what was sent is never said back."""

    @app.exception_handler(Problem)
    async def refused(_: Request, error: Problem) -> JSONResponse:
        return problem(error.status, error.detail, {"Retry-After": "5"} if error.status == HTTPStatus.SERVICE_UNAVAILABLE else None)

    @app.exception_handler(HTTPException)
    async def failed(_: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        said = [f"{'.'.join(str(part) for part in found['loc'])}: {found['msg']}" for found in error.errors()]
        return problem(422, "; ".join(said))
