"""The door: who asks the model is sent away at once while there is no room, and is forgotten once gone.

In: requests that the guard let through. Out: a refusal before anything of the request was read, while too many wait; and the end of the
work on a request whose client has hung up: what the desk was asked for it is called off. How many may wait is ``desk``'s to say.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medvl_lib.serving.problems import Problem, refusal
from medvl_lib.serving.uploads import MAX_BODY_BYTES

MAX_READING_BYTES = 1 << 30  # of requests that are being read at the same time, whoever asks for what
ASKING = ("/analyze", "/analyze/batch", "/extract", "/extract/batch", "/describe", "/v1/chat/completions")
"""Paths behind which the model is asked."""


class Door:
    """An ASGI middleware around everything that answers."""

    def __init__(self, app: ASGIApp, *, require_room: Callable[[], None]) -> None:
        self._app, self._require_room = app, require_room
        self._num_bytes = 0  # of requests that are being read

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
        num_bytes = declared(scope)
        if self._num_bytes + num_bytes > MAX_READING_BYTES:
            busy = Problem(429, found=f"more than {MAX_READING_BYTES} bytes that are being read already", do="ask again later")
            await refusal(scope["path"], busy)(scope, receive, send)
            return
        self._num_bytes += num_bytes
        watched = _Watched(receive, send, partial(self._has_read, num_bytes))
        try:
            await watched.run(self._app, scope)
        finally:
            watched.has_read()

    def _has_read(self, num_bytes: int) -> None:
        self._num_bytes -= num_bytes


def declared(scope: Scope) -> int:
    """How many bytes a request will bring: as it says, or as many as it may."""
    length = Headers(scope=scope).get("content-length", "0" if scope["method"] in ("GET", "HEAD") else "")
    return int(length) if length.isascii() and length.isdecimal() else MAX_BODY_BYTES


class _Watched:
    """One request, and whether its client is still there."""

    def __init__(self, receive: Receive, send: Send, told: Callable[[], None]) -> None:
        self._receive, self._send, self._told = receive, send, told
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
            self.has_read()
        return message

    def has_read(self) -> None:
        """Tell the door, once, that nothing more is read."""
        told, self._told = self._told, lambda: None
        told()

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
