"""Room: how much may be decoded at a time, by all threads of a server together. No pictures and no wire here.

In: numbers of pixels. Out: a ``Place`` for as many, once it is free; who came first is first. A decoded picture takes many times the bytes
of its file: without a bound some requests at once would fill a machine that each of them alone fits into. What a picture costs is
``uploads``'.
"""

from collections import deque
from threading import Condition

MAX_PIXELS = 40_000_000
"""Decoded at a time, the largest picture counted twice: 5 to 7 bytes a pixel of it, as measured (docs/log.md, 2026-11-29)."""


class Place:
    """So much of the room; left once, whoever says so first."""

    def __init__(self, room: "Room", num_pixels: int) -> None:
        self._room, self._num_pixels = room, num_pixels

    def __enter__(self) -> "Place":
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Nothing of it is needed any more."""
        num_pixels, self._num_pixels = self._num_pixels, 0
        self._room.give_back(num_pixels)


class Room:
    """A number of pixels that threads share."""

    def __init__(self, num_pixels: int = MAX_PIXELS) -> None:
        self._num_pixels = self._num_free = num_pixels
        self._changed = Condition()
        self._line = deque[object]()

    @property
    def num_free(self) -> int:
        """What nobody has; whoever asks for no more waits for nobody, if nobody comes between."""
        return 0 if self._line else self._num_free

    def take(self, num_pixels: int) -> Place:
        """Wait for this much, behind whoever waits already; for more than there is, for all of it."""
        me, wanted = object(), min(num_pixels, self._num_pixels)
        with self._changed:
            self._line.append(me)
            try:
                self._changed.wait_for(lambda: self._line[0] is me and self._num_free >= wanted)
                self._num_free -= wanted
            finally:
                self._line.remove(me)
                self._changed.notify_all()
        return Place(self, wanted)

    def give_back(self, num_pixels: int) -> None:
        """Somebody has left."""
        with self._changed:
            self._num_free += num_pixels
            self._changed.notify_all()


ROOM = Room()
"""The room of this process."""
