"""``/v1/chat/completions`` and ``/v1/models``: what OpenAI's clients ask, answered by the served model as it was judged.

In: messages of users and the model, pictures as data URLs (no address is ever fetched). Out: a completion, whole or as server-sent events.
The model answers greedily and by its own chat template, as in its evaluation: a parameter that would change that is refused, unless it
names what happens anyway (``temperature`` 0, ``n`` 1, no ``tools``). Without a ``temperature`` nothing is sampled either. A parameter
that changes no answer (``user``, ``seed``) is taken and means nothing.

Source of the shapes: the OpenAI Python client 3.57, ``openai/types/chat``.
"""

import base64
import binascii
import json
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Path
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from starlette.types import Receive, Scope, Send

from medvl_lib.chat import Content, Message
from medvl_lib.evaluation.predictions import Prediction
from medvl_lib.serving.counter import Now
from medvl_lib.serving.desk import Desk, Pieces
from medvl_lib.serving.endpoints.answers import ANSWERING, IDENTIFYING, openai_refusals
from medvl_lib.serving.identifiers import Identifier, of_text
from medvl_lib.serving.problems import Problem, openai_error
from medvl_lib.serving.question import Question, assistant
from medvl_lib.serving.reading import beside, read
from medvl_lib.serving.resident import Resident
from medvl_lib.serving.uploads import MAX_PICTURES

MAX_MESSAGES = 64
MAX_PARTS = 64  # of a message
MAX_KEYS = 64  # of an object
Name = Annotated[str, Path(description="The served line, as /v1/models names it.", max_length=100)]
STREAMED: dict[str, Any] = {
    "description": "The completion; with stream: its pieces as server-sent events, the last of them [DONE].",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}


def _as_judged(value: float, told: float) -> float:
    if value != told:
        raise ValueError(f"the model answers as it was judged, greedily and once: send {told:g}, or leave it out")
    return value


Greedy = Annotated[float, AfterValidator(partial(_as_judged, told=0)), WithJsonSchema({"type": "number", "const": 0})]
One = Annotated[float, AfterValidator(partial(_as_judged, told=1)), WithJsonSchema({"type": "number", "const": 1})]


def _nothing(value: object) -> object:
    if value not in (None, [], {}):
        raise ValueError("it would change the answer, and the model answers as it was judged: send null, or leave it out")
    return value


NOTHING = {"anyOf": [{"type": "null"}, {"type": "array", "maxItems": 0}, {"type": "object", "maxProperties": 0}]}
Nothing = Annotated[Any, BeforeValidator(_nothing), WithJsonSchema(NOTHING)]
"""What a client may name, as long as it says nothing."""


def _of_a_turn(role: object) -> object:
    if role in ("system", "developer"):
        raise ValueError(f"a {role} message is refused, since the model was judged without one: say it in the first turn of the user")
    return role


Role = Annotated[Literal["user", "assistant"], BeforeValidator(_of_a_turn)]


class Strict(BaseModel):
    """A part of a request: what it does not know is refused, since it may mean something."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def has_few_keys(cls, value: object) -> object:
        """Refuse an object of thousands of keys at once, and not each of them."""
        num_keys = len(cast("dict[str, object]", value)) if isinstance(value, dict) else 0
        if num_keys > MAX_KEYS:
            raise ValueError(f"an object of {num_keys} keys, at most {MAX_KEYS} are read")
        return cast("object", value)


class ImageUrl(Strict):
    """A picture."""

    url: str = Field(description="A data URL in base64, data:image/png;base64,...; no address is fetched.")
    detail: Literal["auto", "low", "high"] | None = Field(default=None, description="Means nothing: the model sees what it was judged on.")


class FileData(Strict):
    """A file."""

    file_data: str = Field(description="A data URL in base64, data:application/pdf;base64,...")
    filename: str | None = Field(default=None, description="Means nothing: a file is known by its contents.")


class TextPart(Strict):
    """A part of a message in words."""

    type: Literal["text"]
    text: str


class ImagePart(Strict):
    """A part of a message that is a picture; a PDF is as many pictures as it has pages."""

    type: Literal["image_url"]
    image_url: ImageUrl


class FilePart(Strict):
    """A part of a message that is a file; a PDF is as many pictures as it has pages."""

    type: Literal["file"]
    file: FileData


Part = Annotated[TextPart | ImagePart | FilePart, Field(discriminator="type")]


class ChatMessage(Strict):
    """One turn. A system message is refused: the model was judged without one."""

    role: Role
    content: str | Annotated[list[Part], Field(max_length=MAX_PARTS)]
    name: str | None = Field(default=None, description="Means nothing.")
    refusal: None = Field(default=None, description="As an answer has it when it is sent back.")
    annotations: Nothing = None
    audio: Nothing = None
    function_call: Nothing = None
    tool_calls: Nothing = None


class StreamOptions(Strict):
    """What a stream tells beside its pieces."""

    include_usage: bool = Field(default=False, description="Whether the last event has the tokens in and out.")
    include_obfuscation: bool | None = Field(default=None, description="Means nothing.")


class ResponseFormat(Strict):
    """What an answer is: words."""

    type: Literal["text"]


class ChatRequest(Strict):
    """What is asked."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"model": "documents", "messages": [{"role": "user", "content": "Which organ is below the diaphragm?"}]}]
        },
    )

    model: str = Field(description="The served line, as /v1/models names it.")
    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=2**31, description="Of the answer; never more than in the evaluation.")
    max_completion_tokens: int | None = Field(default=None, ge=1, le=2**31, description="The same.")
    temperature: Greedy | None = Field(default=None, description="0, or left out: nothing is sampled, as in the evaluation.")
    top_p: One | None = Field(default=None, description="1, or left out.")
    n: One | None = Field(default=None, description="1, or left out.")
    frequency_penalty: Greedy | None = Field(default=None, description="0, or left out.")
    presence_penalty: Greedy | None = Field(default=None, description="0, or left out.")
    logprobs: Literal[False] | None = None
    top_logprobs: None = None
    stop: Nothing = Field(default=None, description="The model ends where it ended in the evaluation.")
    logit_bias: Nothing = None
    tools: Nothing = Field(default=None, description="The model calls none.")
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = Field(default=None, description="Means nothing: no tool is called.")
    functions: Nothing = None
    function_call: Literal["none", "auto"] | None = None
    response_format: ResponseFormat | None = Field(default=None, description="An answer is text.")
    modalities: list[Literal["text"]] | None = Field(default=None, max_length=1, description="An answer is text.")
    audio: Nothing = None
    prediction: Nothing = None
    web_search_options: None = None
    reasoning_effort: Literal["none"] | None = None
    verbosity: None = None
    service_tier: Literal["auto", "default"] | None = Field(default=None, description="Means nothing: there is one.")
    metadata: dict[str, str] | None = Field(default=None, max_length=16, description="Means nothing, and is not logged.")
    seed: int | None = Field(default=None, description="Means nothing: nothing is sampled.")
    user: str | None = Field(default=None, description="Means nothing, and is not logged.")
    safety_identifier: str | None = Field(default=None, description="Means nothing, and is not logged.")
    prompt_cache_key: str | None = Field(default=None, description="Means nothing, and is not logged.")
    store: Literal[False] | None = Field(default=None, description="Nothing is stored.")


class Usage(BaseModel):
    """Tokens in and out."""

    prompt_tokens: int = Field(description="Picture tokens included.")
    completion_tokens: int
    total_tokens: int


class Said(BaseModel):
    """The model's turn."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(BaseModel):
    """The one answer."""

    index: Literal[0] = 0
    message: Said
    finish_reason: Literal["stop", "length"]
    logprobs: None = None


class Served(BaseModel):
    """What OpenAI's shape has no place for."""

    variant: str
    data_version: str
    identifying: list[Identifier] = Field(description=IDENTIFYING)


class Completion(BaseModel):
    """An answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str = Field(description="Identity of the weights and adapter that answered.")
    choices: list[Choice]
    usage: Usage
    medvl: Served


class Model(BaseModel):
    """What can be asked."""

    id: str
    object: Literal["model"] = "model"
    created: Literal[0] = 0
    owned_by: Literal["medvl"] = "medvl"


class Models(BaseModel):
    """The one model that is served."""

    object: Literal["list"] = "list"
    data: list[Model]


def chat_router(now: Now, desk: Desk) -> APIRouter:
    """The endpoints."""
    router = APIRouter(prefix="/v1", tags=["OpenAI's clients"], responses=openai_refusals(*ANSWERING, 404))

    @router.get("/models")
    def models() -> Models:
        """The one model that is served: its line."""
        return Models(data=[Model(id=now.counter.line.name)])

    @router.get("/models/{model}")
    def one_model(model: Name) -> Model:
        """The one model that is served, by its name."""
        _require_served(model, now.counter.line.name)
        return Model(id=model)

    @router.post("/chat/completions", response_model=Completion, responses={200: STREAMED})
    async def complete(asked: ChatRequest) -> Any:
        """Answer the last turn of a chat, whole or, with ``stream``, as server-sent events."""
        line = now.counter.line.name
        _require_served(asked.model, line)
        question, in_files = await _question(asked)
        if asked.stream:
            wants_usage = asked.stream_options is not None and asked.stream_options.include_usage
            async with AsyncExitStack() as stack:
                pieces = await stack.enter_async_context(desk.stream(question))
                first = await anext(pieces, "")  # what cannot be answered has its own status: nothing was sent yet
                return Events(_events(first, pieces, line, _identifying(question, in_files), wants_usage=wants_usage), stack.pop_all())
        resident, said = await desk.ask(question)
        completion = Completion(
            **_head(resident, line), choices=[Choice(message=Said(content=said.answer), finish_reason=_finish(said))], usage=_usage(said),
            medvl=_served(resident, said, _identifying(question, in_files)),
        )  # fmt: skip
        return JSONResponse(completion.model_dump(mode="json"))

    return router


def _require_served(model: str, line: str) -> None:
    if model != line:
        raise Problem(404, found="a model that is not served here", do=f"ask for {line}, as /v1/models says")


# -- what is asked -----------------------------------------------------------------------------------------------------
def _identifying(question: Question, in_files: Sequence[Identifier]) -> list[Identifier]:
    """What in a question may say who the patient is; asked once it was taken: then no text of it is endless."""
    turns = [found for number, text in enumerate(question.texts, start=1) for found in of_text(text, f"turn {number}")]
    return [*in_files, *turns]


async def _question(asked: ChatRequest) -> tuple[Question, list[Identifier]]:
    """The chat as the desk takes it, and what in its files may say who the patient is."""
    turns: list[Message] = []
    pictures: list[bytes] = []
    identifiers: list[Identifier] = []
    for message in asked.messages:
        parts = [TextPart(type="text", text=message.content)] if isinstance(message.content, str) else message.content
        content: list[Content] = []
        for part in parts:
            if isinstance(part, TextPart):
                content.append({"type": "text", "text": part.text.strip()})
                continue
            url = part.image_url.url if isinstance(part, ImagePart) else part.file.file_data
            document = await read(await beside(partial(_decoded, url)))
            place = len(pictures) + 1
            identifiers += [Identifier(where=f"picture {place}", kind=each.kind, detail=each.detail) for each in document.identifiers]
            pictures += document.pages
            places: list[Content] = [{"type": "image"} for _ in document.pages]
            content += places
            if len(pictures) > MAX_PICTURES:
                raise Problem(422, found=f"more than {MAX_PICTURES} pages in one chat", do="send fewer")
        turns.append(_turn(message.role, content))
    most = min((number for number in (asked.max_tokens, asked.max_completion_tokens) if number is not None), default=None)
    return Question(turns=tuple(turns), pictures=tuple(pictures), max_answer_tokens=most), identifiers


def _turn(role: Literal["user", "assistant"], content: Sequence[Content]) -> Message:
    """One turn: texts that follow one another stand on lines of their own, and not in one word."""
    if role == "assistant" and all(part["type"] == "text" for part in content):
        return assistant("\n".join(part.get("text", "") for part in content))
    joined: list[Content] = []
    for part in content:
        if part["type"] == "text" and joined and joined[-1]["type"] == "text":
            together: Content = {"type": "text", "text": f"{joined[-1].get('text', '')}\n{part.get('text', '')}"}
            joined[-1] = together
        else:
            joined.append(part)
    return {"role": role, "content": joined}


def _decoded(url: str) -> bytes:
    """What a data URL holds; its media type is not looked at: contents are."""
    head, comma, written = url.partition(",")
    if not head.startswith("data:") or not head.endswith(";base64") or not comma:
        raise Problem(422, found="a picture that is no data URL", do="send data:image/png;base64,...: no address is fetched")
    try:
        return base64.b64decode(written, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Problem(422, found="a data URL that is not base64", do="encode the file as base64 without line breaks") from error


# -- what is answered --------------------------------------------------------------------------------------------------
def _head(resident: Resident, line: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": line,
        "system_fingerprint": resident.model.data_version,
    }  # fmt: skip


def _finish(said: Prediction) -> Literal["stop", "length"]:
    return "length" if said.is_cut else "stop"


def _usage(said: Prediction) -> Usage:
    total = said.num_prompt_tokens + said.num_answer_tokens
    return Usage(prompt_tokens=said.num_prompt_tokens, completion_tokens=said.num_answer_tokens, total_tokens=total)


def _served(resident: Resident, said: Prediction, identifiers: Sequence[Identifier]) -> Served:
    found = [*identifiers, *of_text(said.answer, "answer")]
    return Served(variant=said.variant, data_version=resident.model.data_version, identifying=found)


class Events(StreamingResponse):
    """Server-sent events of an answer; whatever ends them, its place at the desk is free again."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str], stack: AsyncExitStack) -> None:
        super().__init__(events, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them, or notice that nobody listens any more."""
        async with self._stack:
            await super().__call__(scope, receive, send)


async def _events(first: str, pieces: Pieces, line: str, identifiers: Sequence[Identifier], *, wants_usage: bool) -> AsyncIterator[str]:
    head = {**_head(pieces.resident, line), "object": "chat.completion.chunk"}

    def event(delta: dict[str, Any] | None, *, finish: str | None = None, **more: Any) -> str:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]
        return _event({**head, "choices": choices, **more})

    yield event({"role": "assistant", "content": first})
    try:
        async for piece in pieces:
            yield event({"content": piece})
    except Problem as why:  # the status was sent long ago: clients look for an error in the events
        yield _event(openai_error(why.status, why.detail).model_dump())
        return
    said = pieces.prediction
    yield event({}, finish=_finish(said), medvl=_served(pieces.resident, said, identifiers).model_dump(mode="json"))
    if wants_usage:
        yield event(None, usage=_usage(said).model_dump())
    yield "data: [DONE]\n\n"


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
