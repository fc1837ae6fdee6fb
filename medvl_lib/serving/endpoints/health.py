"""``/health``: whether the server can be asked, and what answers."""

import logging
import os
from typing import Any

import psutil
from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from medvl_lib.evaluation.predictions import Variant
from medvl_lib.serving.counter import Now
from medvl_lib.serving.desk import Desk, Status
from medvl_lib.serving.endpoints.answers import refusals
from medvl_lib.serving.guard import place

LOG = logging.getLogger(__name__)


class Part(BaseModel):
    """A directory that is served."""

    step: str = Field(description="The step that wrote it.", examples=["nf4_model"])
    fingerprint: str = Field(description="Its name.", examples=["0123456789abcdef"])


class Memory(BaseModel):
    """What the server takes."""

    resident_bytes: int = Field(description="Of the machine's memory, by this process.", examples=[1_400_000_000])
    device_bytes: int | None = Field(description="Of a GPU's own memory, by tensors; null where the device is the processor.")


class Health(BaseModel):
    """Whether the server can be asked, and what answers."""

    status: Status
    reason: str | None = Field(description="Why it cannot be asked; null when it can.")
    line: str = Field(examples=["documents"])
    model: str = Field(description="The model that the line stands on.", examples=["Qwen/Qwen2.5-VL-7B-Instruct"])
    variant: Variant = Field(description="base, nf4, affine4, int8, adapter or merged.")
    says: str = Field(description="What is served and why, in words.")
    compared: str = Field(description="How its answers were compared with those that were judged, in words.")
    is_promoted: bool = Field(description="False where nothing was promoted yet: then the base model answers.")
    is_current: bool = Field(description="Whether the pointer still names this; if not, the server takes what it names within seconds.")
    data_version: str = Field(description="Identity of weights and adapter: weights_data_version of the evaluation.")
    weights: Part
    adapter: Part | None
    decision: Part | None = Field(description="The decision that the pointer moved on.")
    device: str = Field(examples=["cuda"])
    precision: str | None = Field(description="What the weights really are, such as nf4+bfloat16; null before they are loaded.")
    memory: Memory


def health_router(now: Now, desk: Desk) -> APIRouter:
    """The endpoint."""
    router = APIRouter(tags=["health"])

    @router.head("/health", include_in_schema=False)  # what some load balancers ask; the server sends no body with it
    @router.get("/health", responses={503: {"model": Health, "description": "It cannot be asked."}, **refusals(421, 403)})
    def health(response: Response) -> Health:
        """Whether the server can be asked, and what answers."""
        found = _health(now, desk)
        response.status_code = 200 if found.status == "ready" else 503
        return found

    return router


def _health(now: Now, desk: Desk) -> Health:
    counter = now.counter
    try:
        now.was_current = counter.is_current()
    except Exception as error:  # a pointer that cannot be read changes nothing of what answers
        LOG.error("the pointer could not be read: %s", place(error))
    model, status, pointer = counter.model, desk.status, counter.model.pointer
    return Health(
        status=status, reason=desk.reason, line=model.line, model=counter.line.model.hub_id, variant=model.variant, says=model.sentence,
        compared=counter.compared, is_promoted=pointer is not None, is_current=now.was_current, data_version=model.data_version,
        weights=Part(step=model.weights.step, fingerprint=model.weights.fingerprint),
        adapter=None if model.adapter is None else Part(step=model.adapter.step, fingerprint=model.adapter.fingerprint),
        decision=None if pointer is None else Part(step=pointer.decision_step, fingerprint=pointer.decision), device=counter.profile.device,
        precision=desk.resident.precision if status == "ready" else None, memory=_memory(counter.profile.device),
    )  # fmt: skip


def _memory(device: str) -> Memory:
    return Memory(resident_bytes=psutil.Process(os.getpid()).memory_info().rss, device_bytes=_device_bytes(device))


def _device_bytes(device: str) -> int | None:
    import torch

    held: dict[str, Any] = {"cuda": torch.cuda.memory_allocated, "mps": torch.mps.current_allocated_memory}
    return held[device]() if device in held else None
