"""Reading beside the event loop: what was uploaded is looked at, drawn and decoded by threads that do nothing else.

In: bytes, or work that decodes some. Out: what came of it, in an ``await``. PDFs have a thread of their own: one that takes its nine
seconds holds up other PDFs, and neither pictures nor whatever else the server does on threads.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from medvl_lib.serving.uploads import MAX_PICTURES, Document, is_pdf, read_document

READERS = ThreadPoolExecutor(2, thread_name_prefix="reader")
"""Who looks at pictures, takes them apart and decodes them."""
DRAWERS = ThreadPoolExecutor(1, thread_name_prefix="drawer")
"""Who waits for the process that draws a PDF; it takes half of the ``room``, and one at a time leaves the other half to the model."""
Value = TypeVar("Value")


async def read(data: bytes, *, most_pages: int = MAX_PICTURES) -> Document:
    """The pages of a file; a Problem where it is none that is taken, is too large, or has more than ``most_pages``."""
    pool = DRAWERS if is_pdf(data) else READERS
    return await asyncio.get_running_loop().run_in_executor(pool, partial(read_document, data, most_pages=most_pages))


async def beside(work: Callable[[], Value]) -> Value:
    """What some work comes to that decodes pictures, or looks through megabytes."""
    return await asyncio.get_running_loop().run_in_executor(READERS, work)
