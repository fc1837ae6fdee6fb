"""Slack: memory that was freed, and whether the allocator keeps it or gives it back to the system.

In: nothing. Out: nothing. What a model's step frees is wanted again by the next: it is kept. glibc keeps what many threads have freed in
heaps of their own; after a large picture that is a hundred megabytes, which the next large thing comes on top of: it is given back when
a request has ended. Where there is no glibc nothing is done.
"""

import asyncio
import ctypes
import os

import psutil

SLACK_BYTES = 64 << 20  # less is not worth the milliseconds that it takes
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # numbers of mallopt(3)
SMALL_BYTES = 32 << 20  # the most that glibc lets the second one be: a picture of 11 million pixels is larger, and goes back at once


def keep_small() -> None:
    """Let the allocator keep blocks of up to ``SMALL_BYTES`` instead of asking the system anew for each tensor of each token."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(M_MMAP_THRESHOLD, SMALL_BYTES)
        set_option(M_TRIM_THRESHOLD, 2 * SMALL_BYTES)


class Slack:
    """How much a process held when it last gave back what it could."""

    def __init__(self) -> None:
        self._process = psutil.Process(os.getpid())
        self._held = 0
        self._is_giving = False

    async def give_back(self) -> None:
        """Give back what was freed, where the process has grown since; beside the event loop."""
        if self._is_giving or self._process.memory_info().rss < self._held + SLACK_BYTES:
            return
        self._is_giving = True
        try:
            await asyncio.to_thread(_trim)
        finally:
            self._held, self._is_giving = self._process.memory_info().rss, False


def _trim() -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
