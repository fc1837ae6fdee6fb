"""Problems: what cannot be answered, in the shape that whoever asked can read.

In: a status, what was found, and what to do. Out: a response as RFC 9457 describes it (``application/problem+json``); below ``/v1`` one as
OpenAI's clients expect it. What was sent is never said back.
"""

import traceback
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from medvl_lib.images import UnreadableImage, Unshowable

OPENAI_PATHS = "/v1/"
RETRY_SECONDS = "5"
RETRIED = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
"""What passes by itself: a full queue, and weights that are being loaded."""


class Problem(Exception):
    """A request that cannot be answered, as RFC 9457 describes problems: the status, what was found, and what to do about it."""

    def __init__(self, status: int, *, found: str, do: str, retry_after_seconds: int | None = None) -> None:
        self.status, self.found = status, found
        self.retry_after_seconds = retry_after_seconds
        self.detail = f"{found}: {do}"
        super().__init__(status, found)


def undecodable(error: UnreadableImage) -> Problem:
    """What an ``UnreadableImage`` is to who sent it: cut short or damaged, unless it says why a whole picture cannot be shown."""
    if isinstance(error, Unshowable):
        return Problem(415, found=f"a picture that cannot be shown: {error}", do="send another one")
    return Problem(415, found="a picture that cannot be decoded to its end", do="send it whole")


class ProblemDetails(BaseModel):
    """A refusal, as RFC 9457 describes it."""

    type: str = Field(description="Always about:blank: the status says what kind of problem it is.", examples=["about:blank"])
    title: str = Field(description="The status in words.", examples=["Unsupported Media Type"])
    status: int = Field(examples=[415])
    detail: str = Field(description="What was found, and what to do.", examples=["22 bytes that are no picture: send one of PNG, ..."])


class OpenAIError(BaseModel):
    """What OpenAI's clients read of a refusal."""

    message: str
    type: str = Field(description="invalid_request_error, authentication_error, rate_limit_error or server_error.")
    param: str | None
    code: str | None


class OpenAIRefusal(BaseModel):
    """A refusal, as OpenAI's clients expect it."""

    error: OpenAIError


def problem(path: str, status: int, detail: str, headers: Mapping[str, str] | None = None, *, param: str | None = None) -> JSONResponse:
    """A refusal of a request to this path, perhaps because of one parameter."""
    said = dict(headers or {})
    if status in RETRIED:
        said.setdefault("Retry-After", RETRY_SECONDS)
    if path.startswith(OPENAI_PATHS):
        return JSONResponse(openai_error(status, detail, param).model_dump(), status_code=status, headers=said)
    return JSONResponse(details(status, detail).model_dump(), status_code=status, headers=said, media_type="application/problem+json")


def details(status: int, detail: str) -> ProblemDetails:
    """A refusal as RFC 9457 describes it."""
    return ProblemDetails(type="about:blank", title=HTTPStatus(status).phrase, status=status, detail=detail)


def refusal(path: str, error: Problem) -> JSONResponse:
    """A problem as it goes out, with the seconds after which to try again where somebody knows them."""
    seconds = error.retry_after_seconds
    return problem(path, error.status, error.detail, None if seconds is None else {"Retry-After": str(seconds)})


def openai_error(status: int, detail: str, param: str | None = None) -> OpenAIRefusal:
    """The same refusal in the words of OpenAI's clients."""
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    code = "model_not_found" if status == HTTPStatus.NOT_FOUND else None
    return OpenAIRefusal(error=OpenAIError(message=detail, type=kind, param=param, code=code))


def add_problems(app: FastAPI) -> None:
    """Every refusal of the application in one of the two shapes."""

    @app.exception_handler(Problem)
    async def refused(request: Request, error: Problem) -> JSONResponse:
        return refusal(request.url.path, error)

    @app.exception_handler(UnreadableImage)
    async def undecoded(request: Request, error: UnreadableImage) -> JSONResponse:
        return refusal(request.url.path, undecodable(error))

    @app.exception_handler(HTTPException)
    async def failed(request: Request, error: HTTPException) -> JSONResponse:
        return problem(request.url.path, error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = error.errors()[:MOST_ERRORS]
        said = [f"{_place(found['loc'])}: {found['msg'].removeprefix('Value error, ')}" for found in errors]
        return problem(request.url.path, 422, "; ".join(said), param=_place(errors[0]["loc"][1:]) or None)


MOST_ERRORS = 8  # a list of a million wrong parts is told by its first ones


def _place(parts: tuple[str | int, ...]) -> str:
    """Where in a request: names that we know and numbers; a key that was sent may say anything."""
    return ".".join(str(part) if isinstance(part, int) else named(part) for part in parts)


def named(key: str) -> str:
    """A key that was sent, where it looks like a name."""
    return key if key.isidentifier() and len(key) <= 32 else "?"


def place(error: BaseException) -> str:
    """The kind of an error and the lines that it went through, without its words."""
    lines = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    return f"{type(error).__name__} at {' < '.join(reversed(lines))}"
