"""``/benchmark``: the leaderboard of the published store, with its intervals."""

import asyncio
import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from medvl_lib.benchmark.publish import ask
from medvl_lib.errors import InputMissing, InputRefused
from medvl_lib.serving.counter import Now
from medvl_lib.serving.endpoints.answers import AT_THE_DOOR, refusals
from medvl_lib.serving.problems import Problem
from medvl_lib.workspace import Workspace

MAX_NAME_CHARACTERS = 100
Name = Annotated[str | None, Query(max_length=MAX_NAME_CHARACTERS)]


class Row(BaseModel):
    """One row of the view ``leaderboard``; its columns are commented in ``medvl_lib/benchmark/schema.sql``."""

    line: str = Field(examples=["documents"])
    dataset: str = Field(examples=["clinical_documents"])
    metric: str = Field(examples=["pair_accuracy"])
    slice: str = Field(examples=["all"])
    stage: str | None = Field(description="The stage whose answers these all are; null where they are of several, or of none.")
    condition: str = Field(examples=["as_is"])
    variant: str = Field(examples=["adapter"])
    precision: str | None
    n: int = Field(description="Test pairs behind the mean.")
    num_clusters: int = Field(description="Patients or documents: the unit of the interval.")
    mean: float | None
    ci_low: float | None = Field(description="Lower end of the 95 % interval.")
    ci_high: float | None
    interval_note: str | None
    p50_seconds_per_answer: float | None
    batch_size: int | None
    memory_mb: float | None
    is_higher_better: bool
    highest: float | None
    signature: str | None
    evaluated_at: dt.datetime
    evaluation_id: str


class Benchmark(BaseModel):
    """What the store says of a line."""

    line: str
    rows: list[Row]


def benchmark_router(now: Now) -> APIRouter:
    """The endpoint."""
    router = APIRouter(tags=["benchmark"], responses=refusals(*AT_THE_DOOR, 404, 422, 503))

    @router.get("/benchmark")
    async def benchmark(line: Name = None, metric: Name = None, variant: Name = None, condition: Name = None) -> Benchmark:
        """The newest scores of a line (without one, of the served line), every mean with its n and interval."""
        wanted = {"line": line or now.counter.line.name, "metric": metric, "variant": variant, "condition": condition}
        rows = await asyncio.to_thread(_leaderboard, now.counter.workspace)
        kept = [row for row in rows if all(value is None or row[name] == value for name, value in wanted.items())]
        if not kept:
            raise Problem(404, found="no row of the leaderboard", do="ask without filters, or for another line")
        return Benchmark(line=str(wanted["line"]), rows=[Row(**row) for row in kept])

    return router


def _leaderboard(workspace: Workspace) -> list[dict[str, Any]]:
    """Read-only, from a connection of its own: a new store that is put in place meanwhile disturbs nobody."""
    try:
        answer = ask(workspace, "leaderboard")
    except InputMissing as error:
        raise Problem(404, found=error.found, do=error.do) from error
    except InputRefused as error:
        raise Problem(503, found="a benchmark store that cannot be read", do="publish it again") from error
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
