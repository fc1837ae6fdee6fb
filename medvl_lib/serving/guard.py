"""The guard: who may ask, how much may be sent, and what is written down of it.

In: every request before anything else sees it. Out: the request passed on, or a problem; every answer with the headers that keep other
sites' pages from reading it; and one line of log with method, path, status and seconds, never a query, a header or a body. What nobody
foresaw is a 500 whose log names its kind and place, not its words: they may quote a request. A browser shows the key once, in the page's
own form (``page.entry``).
"""

import asyncio
import logging
import time
from collections.abc import Collection

from fastapi.responses import RedirectResponse, Response
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medvl_lib.serving.keys import Keys
from medvl_lib.serving.page import entry
from medvl_lib.serving.parsing import NOT_UNICODE
from medvl_lib.serving.problems import Problem, place, problem, refusal
from medvl_lib.serving.slack import Slack
from medvl_lib.serving.uploads import MAX_BODY_BYTES, MAX_JSON_BYTES

LOG = logging.getLogger(__name__)
FAILED = "the server failed: its log says where"
OPEN_PATHS = ("/health",)  # what a load balancer asks needs no key
MAX_WORDS_BYTES = 128 << 10  # of a form of the page that takes no file
MAX_JSON_MARKS = 100_000  # commas and opening brackets of a body: an empty object takes 3 bytes there, and 64 once it is read
MAX_SILENCE_SECONDS = 8.0  # while a request is sent
MIN_BYTES_PER_SECOND, PATIENCE_SECONDS = 8 << 10, 10.0  # of a request that is sent, once so many seconds are over
METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])  # any other may be a word
KEPT_APART = {"x-content-type-options": "nosniff", "cross-origin-resource-policy": "same-origin", "cache-control": "no-store"}
"""Headers of every answer that does not say otherwise."""
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


class Guard:
    """An ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, *, keys: Keys | None, paths: Collection[str]) -> None:
        self._app = app
        self._keys = keys
        self._slack = Slack()
        self._paths = frozenset([*paths, *entry.PATHS])  # a path that nobody serves may hold anything: it is not written down

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it; then say what came of it."""
        if scope["type"] == "websocket":  # nothing here speaks it, and nobody would ask for a key
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status, headers = message["status"], MutableHeaders(raw=message["headers"])
                for name, value in KEPT_APART.items():
                    headers.setdefault(name, value)
                message = {**message, "headers": headers.raw}
            await send(message)

        try:
            answering = self._refusal(scope) or self._app
            await answering(scope, bounded(receive, most_bytes(scope), has_marks=is_json(scope)), noting)
        except Exception as error:  # the log gets its kind and place alone
            LOG.error("%s", place(error))
            if status == 0:
                await problem(scope["path"], 500, FAILED)(scope, receive, noting)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "(unknown path)"
            method = scope["method"] if scope["method"] in METHODS else "(unknown method)"
            LOG.log(
                logging.DEBUG if path in OPEN_PATHS else logging.INFO,
                "%s %s %d %.3f s",
                method,
                path,
                status,
                time.perf_counter() - started,
            )
            await self._slack.give_back()

    def _refusal(self, scope: Scope) -> Response | None:
        headers, most = Headers(scope=scope), most_bytes(scope)
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal()) or int(length[:20]) > most:
            return problem(scope["path"], 413, too_much(most))
        if not _is_unicode(headers.get("content-type", "")):
            return problem(scope["path"], 400, NOT_UNICODE)
        return self._stranger(scope, headers)

    def _stranger(self, scope: Scope, headers: Headers) -> Response | None:
        path: str = scope["path"]
        asked = entry.Asked(scope["method"], path, headers)
        if self._keys is None:
            if not _is_this_machine(headers.get("host", "")):  # a page elsewhere whose name was pointed here
                return problem(path, 421, "not asked as this machine: use 127.0.0.1 or localhost")
            if _is_elsewhere(headers) or (entry.is_of_the_page(path) and not entry.is_from_here(asked)):
                return problem(path, 403, "asked by a page of another site: open one of this machine")
            return None
        if path in OPEN_PATHS:
            return None
        try:
            holder = self._holder(scope, headers, asked, self._keys)
        except Problem as error:
            return refusal(path, error)
        if holder is not None:
            scope[entry.HOLDER] = holder
            return None
        if entry.is_of_the_page(path):
            return RedirectResponse(entry.LOGIN, 303)
        return problem(path, 401, "no or a wrong key: send 'Authorization: Bearer <key>'", {"WWW-Authenticate": "Bearer"})

    def _holder(self, scope: Scope, headers: Headers, asked: entry.Asked, keys: Keys) -> str | None:
        """Whose key was shown: by a cookie, for the page, or in the header; raises a Problem for who guesses.

        A header of another kind is none of ours: a proxy before the server may ask for a password of its own.
        """
        holder = entry.admitted(asked, keys, time.time())
        kind, _, given = headers.get("authorization", "").partition(" ")
        if holder is None and kind.lower() == "bearer":
            return keys.holder(given.strip(), entry.address_of(scope))
        return holder


def _is_elsewhere(headers: Headers) -> bool:
    """Whether a page of another site asks, as browsers say: by its origin, or, where they send none, unless somebody goes there."""
    if "origin" in headers:
        return not _is_this_machine(headers["origin"].partition("://")[2])
    return headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"


def _is_this_machine(address: str) -> bool:
    """Whether a name, perhaps with a port, is one of the loopback interface's."""
    return address in LOOPBACK_NAMES or address.rpartition(":")[0] in LOOPBACK_NAMES


def _is_unicode(content_type: str) -> bool:
    """Whether words are read as what they are: a form may name any codec of Python, and some raise, or write half a character."""
    kind, options = parse_options_header(content_type)
    return kind != b"multipart/form-data" or options.get(b"charset", b"utf-8").lower() in (b"utf-8", b"utf8")


def most_bytes(scope: Scope) -> int:
    """What a request may send: JSON is held several times over while it is read, a form once, and some forms hold words alone."""
    if scope["path"] in entry.WORDS_PATHS:
        return MAX_WORDS_BYTES
    return MAX_JSON_BYTES if is_json(scope) else MAX_BODY_BYTES


def is_json(scope: Scope) -> bool:
    """Whether a body is none of files."""
    return not Headers(scope=scope).get("content-type", "").strip().lower().startswith("multipart/form-data")


def too_much(most: int) -> str:
    """Why a request is refused that sends more."""
    return f"a request of more than {most} bytes: send smaller pictures, or fewer at a time"


def bounded(receive: Receive, most: int, *, has_marks: bool) -> Receive:
    """What is received, up to the most that may be sent, and neither silently nor drop by drop before its end; else a refusal.

    ``has_marks``: whether what it is made of is counted as well, as that of JSON is.
    """
    num_bytes, num_marks, is_whole, started = 0, 0, False, time.monotonic()

    async def counting() -> Message:
        nonlocal num_bytes, num_marks, is_whole
        try:
            message = await asyncio.wait_for(receive(), None if is_whole else MAX_SILENCE_SECONDS)
        except TimeoutError as error:
            raise HTTPException(408, f"no byte for {MAX_SILENCE_SECONDS:g} s: send the request to its end") from error
        body: bytes = message.get("body", b"")
        num_bytes += len(body)
        is_whole = not message.get("more_body", False)
        if num_bytes > most:
            raise HTTPException(413, too_much(most))
        if has_marks and (num_marks := num_marks + sum(map(body.count, (b",", b"[", b"{")))) > MAX_JSON_MARKS:
            raise HTTPException(413, f"JSON of more than {MAX_JSON_MARKS} parts: send less, and files as base64")
        if not is_whole and num_bytes < MIN_BYTES_PER_SECOND * (time.monotonic() - started - PATIENCE_SECONDS):
            raise HTTPException(408, f"less than {MIN_BYTES_PER_SECOND} bytes a second: send the request faster, or less")
        return message

    return counting
