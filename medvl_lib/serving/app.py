"""The HTTP interface: the endpoints of one resident model, put together.

In: a ``Counter``, which says what is served. Out: the application. Uploads stay in memory, and what a request says stands in no log. What
each endpoint asks and tells is ``endpoints``', answering is ``desk``'s, what may come in ``uploads``', who may come in ``guard``'s.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from starlette.routing import Route

from medvl_lib.errors import MedVLError
from medvl_lib.models.loading import give_memory_back
from medvl_lib.serving import parsing
from medvl_lib.serving.cases import Cases
from medvl_lib.serving.counter import Counter, Now
from medvl_lib.serving.desk import Coming, Desk
from medvl_lib.serving.door import Door
from medvl_lib.serving.endpoints.benchmark import benchmark_router
from medvl_lib.serving.endpoints.cases import cases_router
from medvl_lib.serving.endpoints.chat_completions import chat_router
from medvl_lib.serving.endpoints.documents import documents_router
from medvl_lib.serving.endpoints.health import health_router
from medvl_lib.serving.endpoints.reference import reference_router
from medvl_lib.serving.guard import Guard
from medvl_lib.serving.problems import ProblemDetails, add_problems, place
from medvl_lib.serving.uploads import MAX_FILES, MAX_PROMPT_CHARACTERS

__all__ = ["Counter", "make_app"]

LOG = logging.getLogger(__name__)
FOLLOW_SECONDS = 2.0  # a pointer is one small file
MAX_FIELDS = 40  # of a form, files apart: /similar may name patients


def _no_page(_: FastAPI, __: Now, ___: Desk) -> None:
    """Nothing beside the endpoints."""


def make_app(counter: Counter, add_page: Callable[[FastAPI, Now, Desk], None] = _no_page) -> FastAPI:
    """The application; the model is loaded when it starts up, and another one when the pointer has moved.

    ``add_page`` is the place for what people look at: it is called last, and may mount whatever asks the same desk.
    """
    parsing.install()
    desk = Desk(counter.load, answer_seconds=counter.answer_seconds, give_back=partial(give_memory_back, counter.profile))
    cases, now = Cases(), Now(counter, counter)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        desk.open()
        watching = asyncio.create_task(_follow_the_pointer(now, desk))
        yield
        watching.cancel()
        cases.close()
        desk.close()

    app = FastAPI(
        title="MedVL", summary="Questions about medical pictures, answered by a model that was judged.", lifespan=lifespan,
        docs_url=None, redoc_url=None,  # these pages load scripts from elsewhere; endpoints.reference does not
        form_limits={"max_files": MAX_FILES, "max_fields": MAX_FIELDS, "max_part_size": 4 * MAX_PROMPT_CHARACTERS},
    )  # fmt: skip
    add_problems(app)
    routers = (
        health_router(now, desk), documents_router(now, desk, cases), cases_router(now, cases), benchmark_router(now),
        chat_router(now, desk), reference_router(app),
    )  # fmt: skip
    for router in routers:
        app.include_router(router)
    routes = [route for router in (app.router, *routers) for route in router.routes]
    paths = frozenset(route.path for route in routes if isinstance(route, Route))
    app.add_middleware(Door, require_room=desk.require_room)
    app.add_middleware(Guard, keys=counter.keys, paths=paths)
    _describe(app)
    add_page(app, now, desk)
    return app


def _describe(app: FastAPI) -> None:
    """Let the OpenAPI document say how a refusal looks, which no endpoint returns by itself, and that a form has no other fields."""
    write = app.openapi

    def document() -> dict[str, object]:
        written = write()
        schemas = written.setdefault("components", {}).setdefault("schemas", {})
        for name, schema in schemas.items():
            if name.startswith("Body_"):  # FastAPI's name of a form
                schema["additionalProperties"] = False
        schemas.setdefault(ProblemDetails.__name__, ProblemDetails.model_json_schema())
        return written

    app.openapi = document


async def _follow_the_pointer(now: Now, desk: Desk) -> None:
    """Look every few seconds whether the pointer has moved, and serve what it names; nothing, where that may not be served."""
    while True:
        await asyncio.sleep(FOLLOW_SECONDS)
        try:
            newer = await asyncio.to_thread(now.told.newer)
        except MedVLError as error:  # what was rolled back has its reasons: it does not go on answering
            desk.refuse(error)
            continue
        except Exception as error:  # a disk that is away, or a pointer that is none: the next look is soon
            LOG.error("the pointer could not be read: %s", place(error))
            continue
        desk.refuse(None)
        if newer is not None:
            now.told = newer
            desk.exchange(Coming(load=newer.load, onto=newer.onto, fits=newer.fits, taken=partial(setattr, now, "counter", newer)))
