"""The page's addresses: what is shown at each, whoever asked without a script or with one.

In: an application, and what the page shows. Out: the same application with ``/page`` on it. A form is answered with the whole page; the
script takes the result out of it. Every answer forbids the browser to load anything from elsewhere, and to keep anything.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from jinja2 import Environment
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from medvl_lib.errors import MedVLError
from medvl_lib.report.blocks import Section
from medvl_lib.report.html import environment
from medvl_lib.report.pictures import STYLE
from medvl_lib.reviews.sheet import COMMENT, CORRECTNESS, HARMFUL, ITEM, RATER
from medvl_lib.reviews.tables import HARM, SCALE
from medvl_lib.serving.counter import Now
from medvl_lib.serving.desk import Desk
from medvl_lib.serving.keys import NAMELESS
from medvl_lib.serving.page import asking, entry, rating
from medvl_lib.serving.page.entry import address_of
from medvl_lib.serving.page.measured import deciding, measured
from medvl_lib.serving.page.samples import samples
from medvl_lib.serving.problems import Problem
from medvl_lib.serving.question import Question
from medvl_lib.serving.reading import beside
from medvl_lib.serving.uploads import MAX_PICTURES, MAX_PROMPT_CHARACTERS, TAKEN

FOLDER = Path(__file__).parent
HEADERS = {
    # nothing from elsewhere, and no page of another site around this one
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",  # with no-referrer a form would be sent from the origin 'null'
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
MAX_FIELDS = 8
MAX_FIELD_BYTES = 4 * MAX_PROMPT_CHARACTERS
LIMITS = {"max_files": MAX_PICTURES, "max_fields": MAX_FIELDS, "max_part_size": MAX_FIELD_BYTES}
SHEET = "sheet"  # the field that names it

Shown = Mapping[str, Any]
Handler = Callable[[Request], Awaitable[Response]]


def add_page(app: FastAPI, now: Now, desk: Desk) -> None:
    """Put the page below ``/page``, and lead there from ``/``."""
    shown = _Rooms(now=now, desk=desk)
    routes = [
        *(Route(f"/{name}", tab, methods=["GET", "POST"]) for name, tab in shown.tabs.items()),
        Route("/status", shown.status), Route("/login", shown.login, methods=["GET", "POST"]),
        Route("/logout", shown.logout, methods=["POST"]), Route("/", _home),
        *(Route(f"/{name}", _file(name)) for name in entry.FILES),
    ]  # fmt: skip
    app.mount(entry.PREFIX, Starlette(routes=routes, exception_handlers={HTTPException: shown.failed, Exception: shown.failed}))
    app.add_route(entry.HOME, _home, include_in_schema=False)


async def _home(_: Request) -> Response:
    return RedirectResponse(f"{entry.PREFIX}/{entry.TABS[0]}", 303)


def _file(name: str) -> Handler:
    data, kind = _contents(name), entry.FILES[name]

    async def send(_: Request) -> Response:
        return Response(data, media_type=kind, headers=HEADERS)

    return send


@cache
def _contents(name: str) -> bytes:
    data = (FOLDER / name).read_bytes()
    return data + STYLE.encode() if name == "page.css" else data


@cache
def _templates() -> Environment:
    return environment(FOLDER)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rooms:
    """What is shown at each address."""

    now: Now
    desk: Desk

    @property
    def tabs(self) -> dict[str, Handler]:
        """Each tab by its name, in the order in which they stand."""
        return {
            "extract": self.extract, "analyze": self.analyze, "compare": self.compare, "benchmark": self.benchmark, "review": self.review,
        }  # fmt: skip

    async def _render(self, tab: str, shown: Shown, status: int = 200, retry_after_seconds: int | None = None) -> Response:
        """A whole page; what takes time to write is written beside the event loop."""

        def write() -> str:
            return _templates().get_template(f"{tab}.html.jinja").render(
                tab=tab, tabs=entry.TABS, model=self.now.counter.model, status=self.desk.status, reason=self.desk.reason,
                has_key=self.now.counter.keys is not None, **{"problem": None, **shown},
            )  # fmt: skip

        waiting = {} if retry_after_seconds is None else {"Retry-After": str(retry_after_seconds)}
        return HTMLResponse(await asyncio.to_thread(write), status, {**HEADERS, **waiting})

    async def failed(self, request: Request, error: Exception) -> Response:
        """What the wire refused: an address that is not there, or a form that is too large."""
        status, said = (error.status_code, str(error.detail)) if isinstance(error, HTTPException) else (500, "the server failed")
        return await self._render("failed", {"problem": said}, status)

    async def status(self, _: Request) -> Response:
        """The line that says what is served, for a page that waits until it can be asked."""
        return await self._render("status", {})

    # -- the model -----------------------------------------------------------------------------------------------------
    async def extract(self, request: Request) -> Response:
        """The line's own question, and the answer taken apart."""
        return await self._asking(request, "extract", [self.now.counter.line.extraction_request])

    async def analyze(self, request: Request) -> Response:
        """Any question about a document, or about nothing."""
        return await self._asking(request, "analyze", [])

    async def compare(self, request: Request) -> Response:
        """One question to the served adapter, and to the same weights without it."""
        return await self._asking(request, "compare", [])

    async def _asking(self, request: Request, tab: str, prompts: list[str]) -> Response:
        """A form, and below it what was answered; ``prompts`` are the tab's own where the form has none."""
        line = self.now.counter.line
        offered = await asyncio.to_thread(samples, line.datasets)
        shown: dict[str, Any] = {
            "samples": offered, "taken": TAKEN, "max_pictures": MAX_PICTURES, "max_characters": MAX_PROMPT_CHARACTERS, "answered": None,
            "own": line.extraction_request, "prompt": line.extraction_request if tab == "compare" else "", "sample": "",
        }  # fmt: skip
        if tab == "compare" and self.now.counter.model.adapter is None:  # what the page says instead of comparing
            shown["measured"] = await self._deciding()
        if request.method != "POST":
            return await self._render(tab, shown)
        try:
            async with request.form(**LIMITS) as form:
                sent = await asking.sent(form)
            shown.update(prompt=sent.prompt, sample=sent.sample)
            document = asking.document_of(sent, offered)
            if tab != "analyze":
                asking.require_some(document)
            question = Question.of(prompts[0] if prompts else sent.prompt, document.pages)
            said = await asking.answered(self.desk, self._questions(tab, question))
        except Problem as problem:
            return await self._render(tab, {**shown, "problem": problem.detail}, problem.status, problem.retry_after_seconds)
        return await self._render(tab, {**shown, "answered": await beside(partial(asking.shown, question, document, said))})

    def _questions(self, tab: str, question: Question) -> list[Question]:
        if tab != "compare":
            return [question]
        if self.now.counter.model.adapter is None:
            raise Problem(
                409,
                found=f"{self.now.counter.model.variant} is served, without an adapter",
                do="look at the benchmark",
            )
        return [asking.without_adapter(question), question]

    async def _deciding(self) -> Section | None:
        """What was measured of the line's forms by the deciding metric; where it cannot be read, the benchmark tab says why."""
        counter = self.now.counter
        try:
            found = await asyncio.to_thread(measured, counter.workspace, counter.line.name)
        except MedVLError:
            return None
        return deciding(found)

    # -- the store -----------------------------------------------------------------------------------------------------
    async def benchmark(self, request: Request) -> Response:
        """What was measured of a line."""
        counter = self.now.counter
        line = request.query_params.get("line") or counter.line.name
        try:
            found = await asyncio.to_thread(measured, counter.workspace, line)
        except MedVLError as error:
            return await self._render("failed", {"problem": f"{error.found}: {error.do}"}, 503)
        return await self._render("benchmark", {"measured": found})

    async def review(self, request: Request) -> Response:
        """The sheets of the line; from there one answer after the other."""
        workspace, line = self.now.counter.workspace, self.now.counter.line.name
        holder = request.scope.get(entry.HOLDER, NAMELESS)
        shown: dict[str, Any] = {"seat": None, "saved": "", "missing": "", "scale": SCALE, "harm": HARM, "holder": holder}
        said = dict.fromkeys((SHEET, RATER, ITEM, CORRECTNESS, HARMFUL, COMMENT, "doing"), "")
        try:
            if request.method == "POST":
                async with request.form(**LIMITS) as form:
                    said = {name: asking.text(form, name) for name in said}
                said[RATER] = holder or self._own_name(said[RATER])
                shown.update(await asyncio.to_thread(self._rated, said))
        except MedVLError as error:
            shown["problem"] = f"{error.found}: {error.do}"
        status = 422 if shown.get("problem") else 200
        shown["sheets"] = () if shown["seat"] else await asyncio.to_thread(rating.sheets, workspace, line)
        return await self._render("review", {**shown, "said": said, "max_comment": rating.MAX_COMMENT_CHARACTERS}, status)

    def _own_name(self, typed: str) -> str:
        """The name that was typed by who has none of their own; raises MedVLError for that of somebody who has a key."""
        keys = self.now.counter.keys
        if keys is not None and keys.is_taken(typed):
            raise MedVLError(found="a name that belongs to a key of its own", where="the page", do="show that key, or write your own name")
        return typed

    def _rated(self, said: Mapping[str, str]) -> Shown:
        """Take what was said of an item, where something was, and go on to the next one, or to the one that was asked for."""
        workspace, line = self.now.counter.workspace, self.now.counter.line.name
        if said["doing"] != "save":
            return {"seat": rating.seat(workspace, line, said[SHEET], said[RATER], said[ITEM])}
        seat = rating.seat(workspace, line, said[SHEET], said[RATER], said[ITEM])
        try:
            missing = rating.take(workspace, line, said[SHEET], {**said, RATER: seat.rater}, self.now.counter.benchmark_url)
        except MedVLError as error:  # the item stays, with what was said of it
            return {"seat": seat, "problem": f"{error.found}: {error.do}"}
        return {"seat": rating.seat(workspace, line, said[SHEET], seat.rater), "saved": said[ITEM], "missing": missing}

    # -- the key -------------------------------------------------------------------------------------------------------
    async def login(self, request: Request) -> Response:
        """The form that takes the server's key; who has shown it gets a cookie."""
        keys = self.now.counter.keys
        if keys is None:
            return await _home(request)
        if request.method != "POST":
            return await self._render("login", {})
        async with request.form(**LIMITS) as form:
            key = asking.text(form, "key")
        try:
            holder = keys.holder(key, address_of(request.scope))
        except Problem as problem:
            return await self._render("login", {"problem": problem.detail}, problem.status, problem.retry_after_seconds)
        if holder is None:
            return await self._render("login", {"problem": "not a key of the server: ask who runs it"}, 401)
        response = await _home(request)
        response.set_cookie(
            entry.COOKIE, entry.session(keys, holder, time.time()), max_age=entry.SESSION_SECONDS, path="/", httponly=True,
            samesite="strict", secure=request.url.scheme == "https",
        )  # fmt: skip
        return response

    async def logout(self, _: Request) -> Response:
        """Forget the cookie."""
        response = RedirectResponse(entry.LOGIN, 303)
        response.delete_cookie(entry.COOKIE, path="/", httponly=True, samesite="strict")
        return response
