"""The guard: who may ask, how much may be sent, and what is written down of it.

In: every request before anything else sees it. Out: the request passed on, or a problem; and one line of log with method, path, status and
seconds, never a query, a header or a body. What nobody foresaw is a 500 whose log names its kind and place, not its words: they may
quote a request. A browser shows the key once, in the page's own form (``page.entry``).
"""

import asyncio
import hmac
import logging
import time
import traceback
from collections.abc import Collection
from pathlib import Path

from fastapi.responses import RedirectResponse, Response
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medvl_lib.serving.page import entry
from medvl_lib.serving.problems import problem
from medvl_lib.serving.slack import Slack
from medvl_lib.serving.uploads import MAX_BODY_BYTES

LOG = logging.getLogger(__name__)
FAILED = "the server failed: its log says where"
OPEN_PATHS = ("/health",)  # what a load balancer asks needs no key
MAX_JSON_BYTES = 24 << 20  # pictures in base64 are a third larger than they are
MAX_SILENCE_SECONDS = 8.0  # while a request is sent
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


class Guard:
    """An ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, *, api_key: str | None, paths: Collection[str]) -> None:
        self._app = app
        self._api_key = api_key
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
            status = message["status"] if message["type"] == "http.response.start" else status
            await send(message)

        try:
            answering = self._refusal(scope) or self._app
            await answering(scope, bounded(receive, most_bytes(scope)), noting)
        except Exception as error:  # the log gets its kind and place alone
            LOG.error("%s", place(error))
            if status == 0:
                await problem(scope["path"], 500, FAILED)(scope, receive, noting)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "(unknown path)"
            LOG.log(
                logging.DEBUG if path in OPEN_PATHS else logging.INFO,
                "%s %s %d %.3f s",
                scope["method"],
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
            return problem(scope["path"], 400, "a form whose words are not UTF-8: send them as UTF-8")
        return self._stranger(scope, headers)

    def _stranger(self, scope: Scope, headers: Headers) -> Response | None:
        path: str = scope["path"]
        asked = entry.Asked(scope["method"], path, headers)
        if self._api_key is None:
            if not _is_this_machine(headers.get("host", "")):  # a page elsewhere whose name was pointed here
                return problem(path, 421, "not asked as this machine: use 127.0.0.1 or localhost")
            is_elsewhere = "origin" in headers and not _is_this_machine(headers["origin"].partition("://")[2])
            if is_elsewhere or (entry.is_of_the_page(path) and not entry.is_from_here(asked)):
                return problem(path, 403, "asked by a page of another site: open one of this machine")
            return None
        given = headers.get("authorization", "").removeprefix("Bearer ")
        if path in OPEN_PATHS or hmac.compare_digest(given.encode(), self._api_key.encode()):
            return None
        if entry.is_of_the_page(path):
            return None if entry.admits(asked, self._api_key, time.time()) else RedirectResponse(entry.LOGIN, 303)
        return problem(path, 401, "no or a wrong key: send 'Authorization: Bearer <key>'", {"WWW-Authenticate": "Bearer"})


def _is_this_machine(address: str) -> bool:
    """Whether a name, perhaps with a port, is one of the loopback interface's."""
    return address in LOOPBACK_NAMES or address.rpartition(":")[0] in LOOPBACK_NAMES


def _is_unicode(content_type: str) -> bool:
    """Whether words are read as what they are: a form may name any codec of Python, and some raise, or write half a character."""
    kind, options = parse_options_header(content_type)
    return kind != b"multipart/form-data" or options.get(b"charset", b"utf-8").lower() in (b"utf-8", b"utf8")


def most_bytes(scope: Scope) -> int:
    """What a request may send: JSON is held several times over while it is read, a form once."""
    is_form = Headers(scope=scope).get("content-type", "").strip().lower().startswith("multipart/form-data")
    return MAX_BODY_BYTES if is_form else MAX_JSON_BYTES


def too_much(most: int) -> str:
    """Why a request is refused that sends more."""
    return f"a request of more than {most} bytes: send smaller pictures, or fewer at a time"


def bounded(receive: Receive, most: int) -> Receive:
    """What is received, up to the most that may be sent, and without a long silence before its end; else a refusal."""
    num_bytes, is_whole = 0, False

    async def counting() -> Message:
        nonlocal num_bytes, is_whole
        try:
            message = await asyncio.wait_for(receive(), None if is_whole else MAX_SILENCE_SECONDS)
        except TimeoutError as error:
            raise HTTPException(408, f"no byte for {MAX_SILENCE_SECONDS:g} s: send the request to its end") from error
        num_bytes += len(message.get("body", b""))
        is_whole = not message.get("more_body", False)
        if num_bytes > most:
            raise HTTPException(413, too_much(most))
        return message

    return counting


def place(error: BaseException) -> str:
    """The kind of an error and the lines that it went through, without its words."""
    lines = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    return f"{type(error).__name__} at {' < '.join(reversed(lines))}"
