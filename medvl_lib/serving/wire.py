"""The wire: what a connection may take before anybody is asked, and after everybody has answered.

In: connections. Out: requests whose heads are whole, or connections that are gone. uvicorn waits for a head as long as its client likes,
and so does it for whoever never reads what it was answered: some hundred such clients would be all that a process can have. What a request
says is ``guard``'s, how fast its body comes too.
"""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

CLIENT_SECONDS = 10.0  # for a head, or to read on what was answered; 5 less where a connection was used before (uvicorn's keep-alive)
MAX_HEAD_BYTES = 32 << 10  # of a request line and its headers; uvicorn's other reader of HTTP, httptools, has no such bound
PIECE_BYTES = 16 << 10  # that are read at once: h11 takes a head of any length that comes as a whole
MAX_CONNECTIONS = 512  # at a time; a process may have 1,024 files open where nobody said otherwise


NO_REQUEST = (h11.IDLE, h11.ERROR, h11.CLOSED)  # states of a client whose head is not whole, was none, or will not come


class Wire(H11Protocol):
    """One connection, with a clock that runs while it is its client's turn."""

    _clock: asyncio.TimerHandle | None = None
    _num_unsent = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self._look()

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        for start in range(0, len(data), PIECE_BYTES):
            if self.transport.is_closing():  # what came before was refused
                return
            super().data_received(data[start : start + PIECE_BYTES])
        self._look()

    def on_response_complete(self) -> None:
        """It is answered; perhaps not all of what was asked was read."""
        super().on_response_complete()
        self._look()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is written to."""
        super().pause_writing()
        self._look()

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        self._look()

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing here speaks websockets: who asks for one is answered as who did not, and no operator is told to install a library."""

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._stop()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Let the clock run while it is the client's turn, from when it became so."""
        if self.conn.their_state in NO_REQUEST or self.cycle.response_complete or self.flow.write_paused:
            if self._clock is None:
                self._start()
        else:
            self._stop()

    def _start(self) -> None:
        self._num_unsent = self.transport.get_write_buffer_size()
        self._clock = self.loop.call_later(CLIENT_SECONDS, self._ring)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _ring(self) -> None:
        """Give up, unless some of what was answered was read meanwhile."""
        if 0 < self.transport.get_write_buffer_size() < self._num_unsent:
            self._start()
        else:
            self._clock = None
            self.transport.abort()
