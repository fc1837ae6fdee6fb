"""What an answer looks like, whoever asked; and the refusals that any endpoint may give.

In: who answered, and a prediction. Out: the models of the responses.
"""

from typing import Any

from pydantic import BaseModel, Field

from medvl_lib.evaluation.predictions import Prediction, Variant
from medvl_lib.serving.extraction import StatedFact
from medvl_lib.serving.identifiers import Identifier
from medvl_lib.serving.problems import OpenAIRefusal, ProblemDetails
from medvl_lib.serving.resident import Resident

IDENTIFYING = "What in the request or the answer may say who the patient is; a tripwire, and no proof where it is empty."


class Answer(BaseModel):
    """What the model said."""

    text: str = Field(examples=["Potassium: 4.1 mmol/L"])
    num_prompt_tokens: int = Field(description="Tokens in, picture tokens included.", examples=[412])
    num_answer_tokens: int = Field(description="Tokens out, the end token included.", examples=[14])
    is_cut: bool = Field(description="Whether the answer reached the token limit without an end.")
    batch_size: int = Field(description="Requests that were answered together, this one included.", examples=[1])
    latency_seconds: float = Field(
        description="From the pictures' bytes to the last token, without the wait for one's turn.", examples=[0.8]
    )
    line: str = Field(examples=["documents"])
    variant: Variant = Field(examples=["adapter"])
    data_version: str = Field(description="Identity of the weights and adapter that answered.", examples=["3f0c5d1b7a9e2468"])
    identifying: list[Identifier] = Field(description=IDENTIFYING)


class Extraction(Answer):
    """What the model said to the line's own question, taken apart."""

    request: str = Field(description="The question.", examples=["List every term with its value and unit."])
    facts: list[StatedFact] = Field(description="Terms, values and units in the text, with their places in it in characters.")


def fields_of(resident: Resident, said: Prediction, identifying: list[Identifier]) -> dict[str, Any]:
    """The fields of an ``Answer``."""
    if said.latency_seconds is None:
        raise TypeError(f"{said.variant} answered without a latency, as only floors do")
    return {
        "text": said.answer, "num_prompt_tokens": said.num_prompt_tokens, "num_answer_tokens": said.num_answer_tokens,
        "is_cut": said.is_cut, "batch_size": said.batch_size, "latency_seconds": said.latency_seconds, "line": resident.model.line,
        "variant": said.variant, "data_version": resident.model.data_version, "identifying": identifying,
    }  # fmt: skip


REASONS = {
    400: "The request cannot be read.",
    401: "No or a wrong key.",
    403: "Asked by a page of another site.",
    404: "There is no such thing here.",
    408: "The request was not sent to its end in time.",
    413: "Too large: in bytes, or a picture in pixels.",
    415: "A file that is none of the formats that are taken, or is damaged.",
    421: "Not asked as this machine, where no key is needed.",
    422: "Something in the request cannot be meant.",
    429: "Too many requests wait already; Retry-After says when to come again.",
    503: "Nobody can answer yet; Retry-After says when to come again.",
    504: "It took too long.",
}
"""What each refusal means."""
AT_THE_DOOR = (400, 401, 403, 408, 413, 421)
ANSWERING = (*AT_THE_DOOR, 415, 422, 429, 503, 504)


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """How these refusals are told, for the OpenAPI document."""
    schema = {"schema": {"$ref": f"#/components/schemas/{ProblemDetails.__name__}"}}
    return {status: {"description": REASONS[status], "content": {"application/problem+json": schema}} for status in statuses}


def openai_refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The same, as OpenAI's clients expect it."""
    return {status: {"description": REASONS[status], "model": OpenAIRefusal} for status in statuses}
