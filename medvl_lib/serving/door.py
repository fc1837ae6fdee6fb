"""The door: who asks the model is sent away at once while there is no room, and is forgotten once gone.

In: requests that the guard let through. Out: a refusal before anything of the request was read, while too many wait or too much is held;
and the end of the work on a request whose client has hung up: what the desk was asked for it is called off. How many may wait is
``desk``'s to say.
"""

import asyncio
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medvl_lib.serving.guard import is_json, most_bytes
from medvl_lib.serving.page import entry
from medvl_lib.serving.problems import Problem, refusal

MAX_HELD_BYTES = 256 << 20  # of requests that are read or answered at the same time, whoever asks for what
MAX_INSIDE = 128  # requests that are read or answered at the same time: twice as many as may wait for the model
JSON_TIMES = 4  # that a body of JSON is held: as it came, as text, as its strings, and as the files in these
ASKING = ("/analyze", "/analyze/batch", "/extract", "/extract/batch", "/describe", "/v1/chat/completions")
"""Paths behind which the model is asked."""


class Door:
    """An ASGI middleware around everything that answers."""

    def __init__(self, app: ASGIApp, *, require_room: Callable[[], None]) -> None:
        self._app, self._require_room = app, require_room
        self._num_bytes = self._num_inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through where there is room, and end it when its client goes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "POST" and scope["path"] in ASKING:
            try:
                self._require_room()
            except Problem as error:
                await refusal(scope["path"], error)(scope, receive, send)
                return
        num_bytes, is_counted = held(scope), scope["method"] not in READING and scope["path"] not in entry.WORDS_PATHS
        if self._num_bytes + num_bytes > MAX_HELD_BYTES or (is_counted and self._num_inside >= MAX_INSIDE):
            found = f"{self._num_inside} requests of {self._num_bytes} bytes inside, at most {MAX_INSIDE} of {MAX_HELD_BYTES}"
            await refusal(scope["path"], Problem(429, found=found, do="ask again later"))(scope, receive, send)
            return
        self._num_bytes, self._num_inside = self._num_bytes + num_bytes, self._num_inside + is_counted
        try:
            await _Watched(receive, send).run(self._app, scope)
        finally:
            self._num_bytes, self._num_inside = self._num_bytes - num_bytes, self._num_inside - is_counted


READING = ("GET", "HEAD")


def held(scope: Scope) -> int:
    """How many bytes a request will take: what it says that it brings, or as many as it may."""
    length = Headers(scope=scope).get("content-length", "0" if scope["method"] in READING else "")
    num_bytes = int(length) if length.isascii() and length.isdecimal() else most_bytes(scope)
    return JSON_TIMES * num_bytes if is_json(scope) else num_bytes


class _Watched:
    """One request, and whether its client is still there."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._is_read, self._is_gone = asyncio.Event(), asyncio.Event()
        self._is_told = False

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Answer it, until there is nobody to answer."""
        answering = asyncio.ensure_future(app(scope, self.receive, self.send))
        watching = asyncio.create_task(self._watch(answering))
        try:
            await answering
        except asyncio.CancelledError:
            if not self._is_gone.is_set():  # it is the server that ends
                answering.cancel()
                raise
        finally:
            watching.cancel()

    async def receive(self) -> Message:
        """The body from the wire; what comes behind it is the watch's to see."""
        if self._is_read.is_set():
            await self._is_gone.wait()
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._is_read.set()
        return message

    async def send(self, message: Message) -> None:
        """Pass it on, and note the end."""
        await self._send(message)
        self._is_told = self._is_told or (message["type"] == "http.response.body" and not message.get("more_body", False))

    async def _watch(self, answering: asyncio.Future[None]) -> None:
        await self._is_read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._is_gone.set()
        if not self._is_told:
            answering.cancel()
