"""Slack: memory that a request has freed and the allocator keeps, given back to the system.

In: nothing. Out: nothing. glibc keeps what many threads have freed in heaps of their own; after a large picture that is a hundred
megabytes, which the next large thing comes on top of. So what is large never lies in a heap, there are few heaps, and what they keep is
given back when a request has ended. Where there is no glibc nothing is done.
"""

import asyncio
import ctypes
import os

import psutil

SLACK_BYTES = 64 << 20  # less is not worth the milliseconds that it takes


M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # numbers of mallopt(3)
LARGE_BYTES = 4 << 20  # goes back as soon as it is freed; glibc alone would raise that up to 32 MiB by itself
MAX_HEAPS = 2


def keep_little() -> None:
    """Let the allocator have few heaps, and nothing large in them; before threads have theirs."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(M_MMAP_THRESHOLD, LARGE_BYTES)
        set_option(M_ARENA_MAX, MAX_HEAPS)


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
