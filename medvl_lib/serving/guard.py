"""The guard: who may ask, how much may be sent, and what is written down of it.

In: every request before anything else sees it. Out: the request passed on, or a problem; and one line of log with method, path, status and
seconds, never a query, a header or a body. What nobody foresaw is a 500 whose log names its kind and place, not its words: they may
quote a request. A browser shows the key once, in the page's own form (``page.entry``).
"""

import hmac
import logging
import time
import traceback
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medvl_lib.serving.page import entry
from medvl_lib.serving.uploads import MAX_BODY_BYTES

LOG = logging.getLogger(__name__)
PATHS = (
    "/health",
    "/analyze",
    "/extract",
    "/openapi.json",
    *entry.PATHS,
)  # a path that nobody serves may hold anything: it is not written down
OPEN_PATHS = ("/health",)  # what a load balancer asks needs no key
TOO_MUCH = f"a request of more than {MAX_BODY_BYTES} bytes: send smaller pictures, or fewer at a time"
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A refusal as RFC 9457 describes it."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(body, status_code=status, headers=dict(headers or {}), media_type="application/problem+json")


class Guard:
    """An ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, *, api_key: str | None) -> None:
        self._app = app
        self._api_key = api_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it; then say what came of it."""
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
            await answering(scope, bounded(receive), noting)
        except Exception as error:  # the log gets its kind and place alone
            LOG.error("%s", place(error))
            if status == 0:
                await problem(500, "the server failed: its log says where")(scope, receive, noting)
        finally:
            path = scope["path"] if scope["path"] in PATHS else "(unknown path)"
            LOG.log(
                logging.DEBUG if path in OPEN_PATHS else logging.INFO,
                "%s %s %d %.3f s",
                scope["method"],
                path,
                status,
                time.perf_counter() - started,
            )

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            return problem(413, TOO_MUCH)
        return self._stranger(scope, headers)

    def _stranger(self, scope: Scope, headers: Headers) -> Response | None:
        if self._api_key is None:
            if not _is_this_machine(headers.get("host", "")):  # a page elsewhere whose name was pointed here
                return problem(421, "not asked as this machine: use 127.0.0.1 or localhost")
            if "origin" in headers and not _is_this_machine(headers["origin"].partition("://")[2]):
                return problem(403, "asked by a page of another site: open one of this machine")
            return None
        given = headers.get("authorization", "").removeprefix("Bearer ")
        if scope["path"] in OPEN_PATHS or hmac.compare_digest(given.encode(), self._api_key.encode()):
            return None
        if entry.admits(entry.Asked(scope["method"], scope["path"], headers), self._api_key, time.time()):
            return None
        if entry.is_of_the_page(scope["path"]):
            return RedirectResponse(entry.LOGIN, 303)
        return problem(401, "no or a wrong key: send 'Authorization: Bearer <key>'", {"WWW-Authenticate": "Bearer"})


def _is_this_machine(address: str) -> bool:
    """Whether a name, perhaps with a port, is one of the loopback interface's."""
    return address in LOOPBACK_NAMES or address.rpartition(":")[0] in LOOPBACK_NAMES


def bounded(receive: Receive) -> Receive:
    """What is received, up to the most that may be sent; then a refusal."""
    num_bytes = 0

    async def counting() -> Message:
        nonlocal num_bytes
        message = await receive()
        num_bytes += len(message.get("body", b""))
        if num_bytes > MAX_BODY_BYTES:
            raise HTTPException(413, TOO_MUCH)
        return message

    return counting


def place(error: BaseException) -> str:
    """The kind of an error and the lines that it went through, without its words."""
    lines = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    return f"{type(error).__name__} at {' < '.join(reversed(lines))}"
